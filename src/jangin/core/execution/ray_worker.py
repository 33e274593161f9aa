"""Calls on a node of a Ray cluster: what its processes do."""

import pickle
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from jangin.core.errors import MachineError
from jangin.core.execution.node_files import CallFolder, NodeFiles
from jangin.core.execution.nodes import differences, set_numba_cache, software
from jangin.core.execution.transfer import Packed
from jangin.core.execution.worker import pack_error
from jangin.core.executor import opened


@dataclass(frozen=True, slots=True)
class Raised:
    """In place of a result: the work raised an error."""

    packed: bytes
    host: str


class Work(NamedTuple):
    """What is called; as bytes, so that a worker prepares itself before it imports the work."""

    work: bytes
    is_packed: bool
    """Whether it is a `Packed`."""
    versions: tuple[tuple[str, str], ...]
    """Those of the driver, which every worker must have as well."""
    access: bytes
    """A pickled `FolderAccess`, or empty where none was asked for."""


class _Prepared(NamedTuple):
    work: Callable[..., Any]
    files: NodeFiles | None
    folder: CallFolder | None

    def called(self, call: Callable[[Any], Any], item: Any) -> Any:
        """The result of a call, with the files that belong to it."""
        return call(item) if self.files is None else self.files.called(call, item, self.folder)


@cache
def _prepared(work: Work) -> _Prepared:
    """The work, in a process that was checked and prepared for it."""
    different = differences(dict(work.versions), software())
    if different:
        raise MachineError(
            f"node {platform.node()} has {', '.join(different)}. Install the same versions on all "
            "nodes and run again to resume."
        )
    set_numba_cache()
    if not work.access:
        return _Prepared(pickle.loads(work.work), None, None)  # noqa: S301  from the driver
    files = _files(work.access)
    content = Packed(work.work) if work.is_packed else pickle.loads(work.work)  # noqa: S301  as above
    loaded, folder = files.loaded(content)
    return _Prepared(loaded, files, folder)


@cache
def _files(access: bytes) -> NodeFiles:
    return NodeFiles(pickle.loads(access), node_id())  # noqa: S301  from the driver


def node_id() -> str:
    """Id of the node that this process works on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _attempt(act: Callable[[], Any]) -> Any:
    """What `act` returns, or its error packed: not every error can be pickled as it is."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001  it is raised again by the driver
        return Raised(pack_error(error), platform.node())


def call_once(work: Work, item: Any) -> Any:
    """A task: one item in, its result out."""

    def call() -> Any:
        prepared = _prepared(work)
        return prepared.called(prepared.work, item)

    return _attempt(call)


class Opened:
    """An actor: an object of the work's class, opened once."""

    _failure: Raised | None = None

    def open(self, work: Work) -> Any:
        """Open it; returns the id of the node."""
        outcome = _attempt(lambda: self._open(work))
        if isinstance(outcome, Raised):
            self._failure = outcome
        return outcome

    def _open(self, work: Work) -> str:
        self._prepared = _prepared(work)
        self._opened = opened(self._prepared.work)
        return node_id()

    def call(self, item: Any) -> Any:
        """One item in, its result out; what opening raised, if it did."""
        return self._failure or _attempt(lambda: self._prepared.called(self._opened, item))
