"""An executor whose work is done as in other processes, but in this one."""

import pickle
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from jangin.core.executor import ONE_CPU, InProcess


@dataclass(frozen=True)
class Elsewhere(InProcess):
    """Does the work as another process would: all that goes there and comes back is pickled."""

    groups: tuple = ()
    """Gets the number of items of each call."""
    most: int = 1000
    """Number of results after which the run is interrupted."""

    nodes: int = 2

    @property
    def has_nodes(self):
        return True

    @contextmanager
    def actors(self, work, resources=ONE_CPU, *, per_node=False):
        with ExitStack() as stack:
            each = (
                super(Elsewhere, self).actors(copied(work), resources) for _ in range(self.nodes)
            )
            yield [actor for one in each for actor in stack.enter_context(one)]

    def map(self, work, items, resources=ONE_CPU):
        def sent():
            for item in items:
                self.groups.append(len(item))
                yield copied(item)

        for count, (index, result) in enumerate(super().map(copied(work), sent())):
            if count == self.most:
                raise KeyboardInterrupt
            yield index, copied(result)


def copied(value):
    """What another process gets."""
    return pickle.loads(pickle.dumps(value))
