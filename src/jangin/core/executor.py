"""Interface of an executor: `map` over pieces of work, on this machine or on others.

Work is a function at the top of a module, or a class there, whose object is opened once in each
worker and then called: a tokenizer or a model, for example. A `functools.partial` of either binds
settings that are the same for every item. One item goes in, one small result comes out; what is
large, the work writes to the store itself and returns a receipt, with the lines to be printed, as
workers never print. Work is pure but for that: an item may be done twice, but its result is yielded
once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

from jangin.core.errors import PortableError, StageError
from jangin.core.records import Record

TRIES = 3
"""How often an item is given to a process before it is blamed for the end of the process."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one call needs while it runs."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0


ONE_CPU = Resources()
ONE_GPU = Resources(gpus=1)


class Died(Record):
    """In place of a result: the process that worked on this item ended, each of `tries` times."""

    why: str
    """A sentence without subject, such as `was killed by SIGSEGV`."""
    tries: int


@dataclass(frozen=True, slots=True)
class Last:
    """A result after which its process ends: work in it cannot be interrupted."""

    result: Any


class LostActorError(PortableError):
    """The process of an actor, or its node, ended during a call."""


class Actor(Protocol):
    """An object of a class in a process that stays open between calls."""

    def call(self, item: Any) -> "Future[Any]":
        """The result of a call with this item; calls are worked on in order.

        The future raises `LostActorError`, or the error of the work.
        """
        ...


class Executor(Protocol):
    """Does the work of a stage."""

    @property
    def workers(self) -> int:
        """Number of calls that run at the same time; also of threads, where threads are enough."""
        ...

    def for_stage(self, stage: str) -> "Executor":
        """This executor, with what the project file says about the calls of a stage."""
        ...

    @property
    def has_nodes(self) -> bool:
        """True if calls run on the nodes of a cluster, which may have GPUs that are not here."""
        ...

    def map(
        self, work: Callable[..., Any], items: Iterable[Any], resources: Resources = ONE_CPU
    ) -> Iterator[tuple[int, Any]]:
        """(index of the item, its result) as they are done, each index exactly once.

        A result is a `Died` where the item ended its process; of a `Last`, it is what that holds.
        Few items are taken before they can be worked on. Closing the iterator ends the workers.

        Raises: StageError: workers cannot start. Any error of the work itself: the first one, and
        the workers are ended.
        """
        ...

    def actors(
        self, work: Callable[..., Any], resources: Resources = ONE_CPU, *, per_node: bool = False
    ) -> AbstractContextManager[Sequence[Actor]]:
        """Actors of a class: as many as fit the resources, or with `per_node` one on each node.

        They are ended at the end of the block, those in this process by `close` of the object if it
        has one. An error of its constructor is raised by its calls.

        Raises: MachineError: the resources do not suffice for one.
        """
        ...


class OneMachine:
    """What executors of one machine have in common: no nodes, and actors in this process."""

    __slots__ = ()

    def for_stage(self, stage: str) -> Self:  # noqa: ARG002  the interface's name
        """Itself: on one machine nothing differs between stages."""
        return self

    @property
    def has_nodes(self) -> bool:
        """Never."""
        return False

    @contextmanager
    def actors(
        self,
        work: Callable[..., Any],
        resources: Resources = ONE_CPU,  # noqa: ARG002  the interface's name
        *,
        per_node: bool = False,  # noqa: ARG002  the interface's name
    ) -> Iterator[Sequence[Actor]]:
        """As `Executor.actors`: one, in a thread of this process."""
        with ThreadPoolExecutor(1) as thread:
            actor = _ActorHere(thread, work)
            try:
                yield [actor]
            finally:
                actor.close()


@dataclass(frozen=True, slots=True)
class InProcess(OneMachine):
    """Does the work in this process, item by item; one that ends the process ends it."""

    workers: int = 1

    def map(
        self,
        work: Callable[..., Any],
        items: Iterable[Any],
        resources: Resources = ONE_CPU,  # noqa: ARG002  the interface's name
    ) -> Iterator[tuple[int, Any]]:
        """As `Executor.map`, in order."""
        call = opened(work)
        for index, item in enumerate(items):
            yield index, call(item)


class _ActorHere:
    """An object that a thread of this process opens and calls."""

    def __init__(self, thread: ThreadPoolExecutor, work: Callable[..., Any]) -> None:
        self._thread = thread
        self._opened = thread.submit(opened, work)

    def call(self, item: Any) -> "Future[Any]":
        """As `Actor.call`."""
        return self._thread.submit(lambda: self._opened.result()(item))

    def close(self) -> None:
        """What the end of a process would do: close the object if it was opened."""
        if not self._opened.cancel() and self._opened.exception() is None:
            getattr(self._opened.result(), "close", _nothing)()


def _nothing() -> None:
    """`close` of an object without one."""


def opened(work: Callable[..., Any]) -> Callable[[Any], Any]:
    """What is called with the items: an object of a class, or the function itself."""
    return work() if opens(work) else work


def opens(work: Callable[..., Any]) -> bool:
    """True if the work is a class, or a `partial` of one, and so is opened once in each worker."""
    return isinstance(work.func if isinstance(work, partial) else work, type)


def map_all(
    executor: Executor,
    work: Callable[..., Any],
    items: Iterable[Any],
    what: str,
    resources: Resources = ONE_CPU,
) -> Iterator[tuple[int, Any]]:
    """As `Executor.map`, for work that is worth nothing unless every item is done.

    `what` the work does completes the sentence "the process that ...".

    Raises: StageError: an item ended its process each time. All that `Executor.map` raises.
    """
    for index, result in executor.map(work, items, resources):
        if isinstance(result, Died):
            raise StageError(
                f"the process that {what} {result.why}. Run again with more memory, or with: "
                "--workers 1"
            )
        yield index, result
