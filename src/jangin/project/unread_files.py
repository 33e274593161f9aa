"""Files of a project's folder that are not read: named after every run, in plans and in reports."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from jangin.core.digest import digest_file
from jangin.core.errors import ConfigError, DataError, StoreError, counted
from jangin.core.parquet import read_table
from jangin.core.store import Artifact, add_output
from jangin.documents.load import LoadConfig, find_files, left_out
from jangin.documents.readers.folder import UnreadableFile, copies_of, lines_of
from jangin.project.file import LoadedProject, open_project


def unread_files(
    loaded: LoadedProject,
    variant: str,
    artifacts: Mapping[str, Artifact],
    digest: Callable[[Path], str] = digest_file,
) -> list[UnreadableFile]:
    """Files that could not be read, copies of others, and files that are left out of the folder.

    `artifacts` are those of the variant by stage; before `load` has run, copies are found by the
    `digest` of files of one size. Files that the project uses are not among them.
    """
    config = loaded.variants[variant].stage_config("load")
    if not isinstance(config, LoadConfig):
        return []
    rows: list[UnreadableFile] = []
    if "load" in artifacts:
        try:
            rows += read_table(artifacts["load"].path / "unreadable.parquet", UnreadableFile)
        except StoreError:
            rows = []
        copies = artifacts["load"].manifest.summary.get("copies", {})
    else:
        copies = _copies(config, loaded.folder, digest)
    rows += copies_of(copies.items())
    known = {row.source for row in rows}
    others = left_out(config, loaded.folder, loaded.named_files)
    return [*rows, *(row for row in others if row.source not in known)]


def _copies(
    config: LoadConfig, project_folder: Path, digest: Callable[[Path], str]
) -> dict[str, str]:
    """{name of a file: first file with the same bytes}, for files in this folder."""
    try:
        files = find_files(config, project_folder)
    except DataError:
        return {}  # a run says what is wrong with the folder
    sizes: dict[int, list[str]] = {}
    copies: dict[str, str] = {}
    for name, path in files.items():
        with suppress(OSError):  # `load` reports files that cannot be read
            sizes.setdefault(path.stat().st_size, []).append(name)
    for size, names in sizes.items():
        first: dict[str, str] = {}
        for name in names if size and len(names) > 1 else ():
            with suppress(OSError):
                original = first.setdefault(digest(files[name]), name)
                if original != name:
                    copies[name] = original
    return dict(sorted(copies.items()))


def note_output(loaded: LoadedProject, path: Path) -> None:
    """Keep a file or folder that a command wrote from being read as a document of a project.

    Raises: DataError: the note cannot be written into the folder of the documents.
    """
    for project in loaded.variants.values():
        config = project.stage_config("load")
        if isinstance(config, LoadConfig):
            add_output(loaded.folder / config.folder, path)


def note_outputs(paths: Iterable[Path]) -> None:
    """The same for files of a command that has no project: that of the nearest `project.yaml`.

    It is looked for in the folder of each file and above. One that is wrong is left to `plan`.
    """
    for path in paths:
        above = (folder / "project.yaml" for folder in path.resolve().parents)
        nearest = next((file for file in above if file.is_file()), None)
        if nearest is not None:
            with suppress(ConfigError):  # a project that cannot be opened reads no documents
                note_output(open_project(nearest), path)


def unread_lines(rows: Iterable[UnreadableFile]) -> list[str]:
    """`not read: 3 files of the folder`, then a line for each reason with the names."""
    different = list(dict.fromkeys(rows))
    if not different:
        return []
    files = counted(len(different), "file")
    return [f"not read: {files} of the folder", *(f"  {line}" for line in lines_of(different))]
