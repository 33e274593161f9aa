"""What a node of a cluster has, and whether it sees the files of the driver.

Sent to nodes by value, so that one without jangin, or with another version, answers too: hence
only the standard library is imported, and nothing of jangin.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ABSENT = "absent"
PACKAGES = ("numpy", "torch", "kiwipiepy")
"""Packages whose version may change what a stage gives."""
_PROBE, _LOCK, _SEEN = "seen-from-nodes", "lock", "seen-by-"


@dataclass(frozen=True, slots=True)
class StoreProbe:
    """Files that the driver wrote into the store for the nodes to look at, while it has them."""

    folder: str
    content: str
    lock: str
    """A file that the driver has locked."""
    project: str
    """The project file."""
    project_digest: str


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What a node says about itself."""

    software: Mapping[str, str]
    """{program or package: version}"""
    fault: str
    """Why it cannot work on the files of the driver, as a sentence without subject; else empty."""
    is_apart: bool
    """True where the fault is that it does not see them."""
    is_guarded: bool
    """True if its Ray asks for a token."""


def software() -> dict[str, str]:
    """Versions of all that may change what a stage gives, on the machine that it is called on."""
    versions = {"jangin": _jangin(), "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            # Without the build, such as +cpu: nodes with a GPU have another one.
            versions[package] = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            versions[package] = ABSENT
    return versions | {"tesseract": _tesseract()}


def own_address() -> str:
    """The address of the node that this process works on; 127.0.0.1 outside a cluster."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return "127.0.0.1"
    return str(ray.util.get_node_ip_address())


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """`numpy 2.1.0 instead of 2.3.1` for each version that a node has otherwise than the driver."""
    return [
        f"{name} {theirs.get(name, ABSENT)} instead of {version}"
        for name, version in ours.items()
        if theirs.get(name, ABSENT) != version
    ]


def _jangin() -> str:
    """Version and digest of the code: an installation from a clone keeps its number."""
    spec = importlib.util.find_spec("jangin")
    if spec is None or not spec.submodule_search_locations:
        return ABSENT
    root = Path(next(iter(spec.submodule_search_locations)))
    code = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    try:
        version = metadata.version("jangin")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return f"{version} ({code.hexdigest()[:8]})"


def _tesseract() -> str:
    program = shutil.which("tesseract")
    if program is None:
        return ABSENT
    first, *_ = _output([program, "--version"])
    _, *languages = _output([program, "--list-langs"])
    return f"{first.removeprefix('tesseract ')} ({'+'.join(sorted(languages))})"


def _output(command: list[str]) -> list[str]:
    result = subprocess.run(  # noqa: S603  a fixed program of PATH
        command, capture_output=True, text=True, timeout=60, check=False
    )
    return (result.stdout or result.stderr).strip().split("\n")


@contextmanager
def store_probe(store: Path, project: Path) -> Iterator[StoreProbe]:
    """Files in the store that nodes look at with `answer`, deleted at the end.

    Raises `OSError` where the store cannot be written.
    """
    store.mkdir(parents=True, exist_ok=True)
    for left in store.glob(f".{_PROBE}-*"):  # by a run that was killed
        if _is_free(left / _LOCK):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{_PROBE}-", dir=store.resolve()))
    try:
        content = os.urandom(16).hex()
        (folder / "content").write_text(content)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path = project.resolve()
            yield StoreProbe(str(folder), content, str(folder / _LOCK), str(path), _digest(path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answer(probe: StoreProbe, node: str) -> NodeAnswer:
    """What the node with id `node`, on which this is called, has and sees."""
    apart = _unseen(probe, node)
    fault = apart or _lockless(probe)
    return NodeAnswer(software(), fault, bool(apart), os.environ.get("RAY_AUTH_MODE") == "token")


def sees(probe: StoreProbe) -> bool:
    """True if this machine sees the store and the project file of the driver."""
    try:
        content = (Path(probe.folder) / "content").read_text()
    except OSError:
        return False
    return content == probe.content and _digest(Path(probe.project)) == probe.project_digest


def sees_back(probe: StoreProbe, node: str) -> bool:
    """True if the driver sees the file that a node wrote."""
    return (Path(probe.folder) / f"{_SEEN}{node}").exists()


def _unseen(probe: StoreProbe, node: str) -> str:
    """What of the driver's files is not seen here, as a sentence; empty if all are."""
    folder = Path(probe.folder)
    try:
        if (folder / "content").read_text() != probe.content:
            return f"has another store at {folder.parent}."
    except OSError:
        return f"does not see the store {folder.parent}."
    try:
        (folder / f"{_SEEN}{node}").write_text(node)
    except OSError as error:
        return f"cannot write into the store {folder.parent} ({error.strerror})."
    if _digest(Path(probe.project)) != probe.project_digest:
        return f"does not see the project file {probe.project}."
    return ""


def _lockless(probe: StoreProbe) -> str:
    """Whether locks of the driver are not noticed here, as a sentence; empty if they are."""
    if not _is_free(Path(probe.lock)):
        return ""
    return (
        f"does not notice locks on the store {Path(probe.folder).parent}: two runs could work on "
        "the same artifact. Use a file system with flock (Lustre: mount it with `-o flock`)."
    )


def _is_free(path: Path) -> bool:
    """True if a file that the driver has locked can be locked here."""
    try:
        with path.open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def set_numba_cache() -> None:
    """Have numba keep machine code on this machine.

    By default it does so beside the sources, where nodes with other processors would share it, or
    nowhere if these are read-only, so that every process compiles.
    """
    folder = Path(tempfile.gettempdir()) / f"jangin-numba-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))
