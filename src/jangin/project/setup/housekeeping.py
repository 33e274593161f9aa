"""What a store holds that no variant uses any more, and how to delete it safely."""

import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jangin.core.errors import ConfigError, JanginError
from jangin.core.ledger import RUN_PROJECT, Ledger
from jangin.core.store import MANIFEST, TABLES, Artifact, Store, disk_errors
from jangin.project.file import LoadedProject, open_project
from jangin.project.plan import open_step, stages_until
from jangin.project.release.trained import last_trained
from jangin.project.session import Session, open_session
from jangin.project.stages import STAGES
from jangin.project.tracking.outbox import unsent
from jangin.project.tracking.table import config_of
from jangin.project.yaml_source import load_yaml

TRASH = ".trash"
"""Folder in the store to which what is deleted is moved first, whole."""
PICTURES = "pictures"
"""Folder in the store in which the pages keep pictures of documents; made again when needed."""
_FOLDER = re.compile(r"([0-9a-f]{16})(\.old)?(\.partial)?")
DAY = 86400.0
"""Seconds."""
User = tuple[Path, str]
"""(project file, variant)."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a stage: an artifact, or unfinished work."""

    path: Path
    stage: str
    key: str
    """First 16 characters."""
    finished: bool
    bytes: int
    age: float
    """Seconds since something in it changed."""


@dataclass(frozen=True, slots=True)
class VariantSize:
    """What the artifacts and the unfinished work of one variant take."""

    project: Path
    variant: str
    bytes: int
    own_bytes: int
    """Without what other variants use too."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """A store, divided into what is used and what is not."""

    store: Store
    projects: tuple[Path, ...]
    """Project files that were named."""
    others: tuple[Path, ...]
    """Further project files of the same store; what they use is kept too."""
    variants: tuple[VariantSize, ...]
    used_bytes: int
    """Of all variants together; what they share counts once."""
    unused: tuple[Folder, ...]
    """What may be deleted, largest first."""
    waiting: tuple[Folder, ...] = ()
    """Unfinished work that nothing uses and that is too young to be deleted."""
    gone: tuple[Path, ...] = ()
    """Project files that ran in this store and are not there any more."""
    trash_bytes: int = 0
    """What an interrupted call left to be deleted."""
    cache_bytes: int = 0
    """What the pages keep, which is deleted with the rest."""

    @property
    def unused_bytes(self) -> int:
        """Size of what may be deleted."""
        return sum(folder.bytes for folder in self.unused)

    @property
    def freed_bytes(self) -> int:
        """Size of all that `clean` deletes."""
        return self.unused_bytes + self.trash_bytes + self.cache_bytes


def take_inventory(
    projects: Sequence[Path], store: Path | None = None, keep_days: float = 14.0
) -> Inventory:
    """Look at the store of these project files; changes nothing.

    An artifact is used if a variant of a project file reaches it. Where a variant is out of date,
    what its last runs made for the stages that wait is used too. Project files beside the named
    ones that have the same store, and those that ran in it, count as well. Unfinished work that
    no variant would resume is unused once it is `keep_days` old.

    Raises:
        ConfigError: The named files have different stores, or one that counts cannot be planned.

    """
    named = [open_project(path) for path in projects]
    roots = {(store or project.folder / "store").resolve() for project in named}
    if len(roots) > 1:
        listed = " and ".join(str(root) for root in sorted(roots))
        raise ConfigError(
            f"these project files have different stores: {listed}. Clean one store at a time."
        )
    root = store or named[0].folder / "store"
    if not root.is_dir():
        raise ConfigError(f"there is no store {root}. Name one with --store.")
    others, gone = _neighbours(named, root)
    users: dict[User, set[tuple[str, str]]] = {}
    for project in (*named, *others):
        users |= _find_users(project, root)
    used = {name for names in users.values() for name in names}
    folders = list(_folders(root))
    spare = [folder for folder in folders if not _is_used(folder, used)]
    old = [f for f in spare if f.finished or f.age >= keep_days * DAY or _is_replaced(f)]
    return Inventory(
        Store(root),
        tuple(project.path for project in named),
        tuple(project.path for project in others),
        tuple(_variant_sizes(users, folders)),
        sum(folder.bytes for folder in folders if _is_used(folder, used)),
        tuple(sorted(old, key=lambda folder: -folder.bytes)),
        tuple(folder for folder in spare if folder not in old),
        tuple(gone),
        _size(root / TRASH),
        _size(root / PICTURES) + _size(root / TABLES),
    )


def _size(folder: Path) -> int:
    return sum(each.st_size for each in _stats(folder) if stat.S_ISREG(each.st_mode))


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Of all below a folder but symbolic links, and but what a run deletes meanwhile."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                status = (Path(parent) / name).lstat()
                if not stat.S_ISLNK(status.st_mode):
                    yield status


def clean(inventory: Inventory) -> list[Folder]:
    """Delete what is unused; returns what was deleted.

    Each folder is renamed into the store's trash before its files are deleted, so a kill leaves
    whole artifacts and trash, which the next call empties. The ledger is not touched.

    Raises:
        StoreError: A run works in this store.

    """
    store = inventory.store
    trash = store.root / TRASH
    deleted = []
    with disk_errors(trash):
        for path in sorted(store.root.glob("*/*.lock")):
            with store.lock(path.parent.name, path.stem):
                pass  # A run of changed settings may still read what nothing uses now.
        trash.mkdir(exist_ok=True)
        for folder in inventory.unused:
            with store.lock(folder.stage, folder.key):
                if folder.path.is_dir():
                    name = f"{folder.stage}-{folder.path.name}-{time.time_ns()}"
                    folder.path.rename(trash / name)
                    deleted.append(folder)
        for cache in (PICTURES, TABLES):
            if (store.root / cache).is_dir():
                (store.root / cache).rename(trash / f"{cache}-{time.time_ns()}")
        shutil.rmtree(trash)
    return deleted


def _neighbours(
    named: Sequence[LoadedProject], root: Path
) -> tuple[list[LoadedProject], list[Path]]:
    """The other project files that use this store, and those that used it and were deleted."""
    known = {project.path.resolve() for project in named}
    matching: dict[Path, None] = {}
    gone = []
    for relative in _projects_of_runs(root):
        path = (root.resolve() / relative).resolve()
        if path.is_file():
            matching[path] = None
        elif path not in gone:
            gone.append(path)
    for folder in {project.folder.resolve() for project in named}:
        if root.resolve() == folder / "store":
            beside = (*folder.glob("*.yaml"), *folder.glob("*.yml"))
            matching |= dict.fromkeys(path for path in sorted(beside) if _is_project(path))
    others = []
    for path in matching:
        if path in known:
            continue
        try:
            others.append(open_project(path))
        except JanginError as error:
            raise _unknown(path, error) from error
    return others, gone


def _is_project(path: Path) -> bool:
    """Whether a YAML file has the keys of a project file."""
    try:
        data, _ = load_yaml(path)
    except JanginError:
        return False
    return isinstance(data, dict) and "name" in data and bool({"documents", "examples"} & {*data})


def _unknown(path: Path, error: JanginError) -> ConfigError:
    return ConfigError(
        f"{error}\n{path} uses this store, so it is unknown which parts of it are needed. "
        "Correct the file, or move it elsewhere. Nothing was deleted."
    )


def _find_users(project: LoadedProject, root: Path) -> dict[User, set[tuple[str, str]]]:
    """What each variant of a project file uses: names of stages and folders."""
    with open_session(project, root, creates_store=False) as session:
        try:
            return {
                (project.path, variant): set(_used_names(session, variant))
                for variant in project.variants
            }
        except JanginError as error:
            raise _unknown(project.path, error) from error


def _used_names(session: Session, variant: str) -> Iterator[tuple[str, str]]:
    """(stage, folder) of what a variant reaches, would resume, or had when it was up to date."""
    services, project = session.services(variant), session.project.variants[variant]
    by_kind: dict[str, Artifact] = {}
    waiting: set[str] = set()
    for stage, config in stages_until(project, None):
        artifact = None
        if not waiting & {*stage.inputs(config)}:
            step = open_step(variant, stage, config, by_kind, session.store, services)
            artifact = step.artifact
            yield stage.name, step.key[:16]
            yield stage.name, f"{step.key[:16]}.partial"
        if artifact is not None:
            by_kind |= dict.fromkeys(stage.makes, artifact)
            waiting -= {*stage.makes}
            continue
        waiting |= {*stage.makes}
        keys = session.ledger.last_keys(stage.name, services.project, variant)
        keys += session.ledger.last_keys_unnamed(stage.name, variant)
        kept = (key for key in keys if session.store.find(stage.name, key) is not None)
        yield from ((stage.name, key[:16]) for key in islice(kept, 1))
    trained = last_trained(session, variant)
    for stage_name, artifact in trained.artifacts.items() if trained else ():
        yield stage_name, artifact.folder.name
    for tracker in project.track:
        for folder in unsent(session.store.root, config_of(tracker)):
            stage_name, _, key16 = folder.name.rpartition("-")
            yield stage_name, key16


def _projects_of_runs(root: Path) -> list[str]:
    """Project files that ran in this store, as paths from it."""
    path = root / "ledger.sqlite"
    if not path.exists():
        return []
    ledger = Ledger(path)
    try:
        return list(dict.fromkeys(ledger.get_all(RUN_PROJECT).values()))
    finally:
        ledger.close()


def _folders(root: Path) -> Iterator[Folder]:
    """Every artifact of a store, and all unfinished work."""
    for stage in STAGES:
        for path in sorted((root / stage.name).glob("*")):
            name = _FOLDER.fullmatch(path.name)
            if name is not None and path.is_dir():
                finished = name[0] == name[1] and (path / MANIFEST).exists()
                yield Folder(path, stage.name, name[1], finished, *_measure(path))


def _measure(path: Path) -> tuple[int, float]:
    """(bytes, seconds since the last change) of a folder."""
    entries = [*_stats(path)]
    with suppress(FileNotFoundError):
        entries.append(path.stat())
    changed = max((entry.st_mtime for entry in entries), default=time.time())
    size = sum(entry.st_size for entry in entries if stat.S_ISREG(entry.st_mode))
    return size, max(time.time() - changed, 0.0)


def _is_used(folder: Folder, used: set[tuple[str, str]]) -> bool:
    return (folder.stage, folder.path.name) in used


def _is_replaced(folder: Folder) -> bool:
    """Whether it is an old artifact whose successor is complete."""
    successor = folder.path.with_name(folder.key)
    return folder.path.name.endswith(".old.partial") and (successor / MANIFEST).exists()


def _variant_sizes(
    users: dict[User, set[tuple[str, str]]], folders: Iterable[Folder]
) -> Iterator[VariantSize]:
    sizes = {(folder.stage, folder.path.name): folder.bytes for folder in folders}
    counts = Counter(name for names in users.values() for name in names)
    for (project, variant), names in users.items():
        own = sum(sizes.get(name, 0) for name in names if counts[name] == 1)
        yield VariantSize(project, variant, sum(sizes.get(n, 0) for n in names), own)
