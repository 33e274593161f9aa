"""Stage `read`: examples from existing files, in one of several common formats."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.errors import DataError, SettingsError, counted
from jangin.core.records import Example, Record
from jangin.core.stage import Stage, StageContext
from jangin.examples.formats.rows import (
    AutoRows,
    Chats,
    HubRows,
    PromptCompletion,
    ReadRows,
    Squad,
    TableRows,
    Template,
    Unusable,
    hub_folder,
    read_rows,
    read_squad,
    tokenizers_of,
)
from jangin.prepare.transforms.columns import Filter

SQUAD_START = 1 << 16
"""Bytes at the beginning of a JSON file in which SQuAD's keys occur."""


Format = Annotated[
    Squad | TableRows | Chats | PromptCompletion | HubRows | AutoRows,
    Field(discriminator="type"),
]


class FurtherFile(Config):
    """One more file of examples."""

    path: Runtime[Path] = Path()
    """The file, relative to the project file. Its bytes are identity, its path is not."""
    format: Format
    """As of the first file."""
    first: int = Field(default=0, ge=0)
    """Number of examples to take from the beginning; 0 takes all."""


class ReadConfig(StageConfig):
    """Which files, in which format, and how much of them."""

    path: Runtime[Path] = Path()
    """The file, relative to the project file. Its bytes are identity, its path is not. The format
    `hub` has none."""
    format: Format
    """`squad`: the JSON of SQuAD and KorQuAD. `table`: any rows, through a template. `chat`:
    lines of messages. `prompt_completion`: those two columns. `hub`: a Hugging Face data set.
    `auto`: chats, Alpaca, SQuAD or any rows whose columns have usual names."""
    first: int = Field(default=0, ge=0)
    """Number of examples to take from the beginning; 0 takes all."""
    further: Added[tuple[FurtherFile, ...]] = ()
    """More files with a path and a format each, whose examples follow those of the first one."""

    @property
    def files(self) -> "tuple[ReadConfig | FurtherFile, ...]":
        """The first file and the further ones."""
        return (self, *self.further)


class Unread(Record):
    """A row of the file that could not be read as an example."""

    source: str
    place: str
    reason: str
    text: str


def run(context: StageContext[ReadConfig]) -> None:
    """Write the tables `examples` and `unread`.

    Raises `DataError` where a file cannot be read or contains no example.
    """
    taken: list[Example] = []
    unread: list[Unread] = []
    in_file = 0
    shares: dict[str, int] = {}
    for number, file in enumerate(context.config.files):
        source, examples, unusable = _read_file(file, context, _keys(number))
        in_file += len(examples)
        examples = examples[: file.first] if file.first else examples
        taken += examples
        shares[source] = shares.get(source, 0) + len(examples)
        unread += [
            Unread(source=source, place=u.path, reason=u.reason, text=u.text) for u in unusable
        ]
    context.write("examples", Example, taken)
    context.write("unread", Unread, unread)
    context.summary.update(
        examples=len(taken),
        in_file=in_file,
        several_answers=sum(bool(example.answers) for example in taken),
        unread=len(unread),
    )
    if len(shares) > 1:
        context.summary["by_source"] = shares
        listed = ", ".join(f"{n:,} of {s} ({n / len(taken):.0%})" for s, n in shares.items())
        context.services.progress.message(f"read: {counted(len(taken), 'example')}, {listed}")


def _read_file(
    config: ReadConfig | FurtherFile, context: StageContext[ReadConfig], keys: tuple[str, ...]
) -> tuple[str, list[Example], list[Unusable]]:
    """(name, examples, rows that gave none) of the file which these keys set.

    Raises `DataError` where it cannot be read or contains no example, `SettingsError` for a column
    that it has not.
    """
    path = context.services.project_folder / config.path
    source = config.format.id if isinstance(config.format, HubRows) else path.name
    format = _squad_or(config.format, path)
    if isinstance(format, Squad):
        rows = ReadRows(*read_squad(_text(path), source, format))
    else:
        try:
            rows = read_rows(path, format, context.services.project_folder)
        except SettingsError as error:
            step, _, text = str(error).partition(": ")
            name = step if step in type(config.format).model_fields else "steps"
            where = context.services.locate("read", (*keys, "format", name))
            said = text if name == step else str(error)
            raise SettingsError(f"{where}: {source}: {said}") from error
    examples, unusable = rows.examples, rows.unusable
    if rows.left_out:
        context.services.progress.message(
            f"read: these columns of {source} are not used: {', '.join(rows.left_out)}"
        )
    most = Counter(row.reason for row in unusable).most_common(1)
    if not examples:
        why = f" ({counted(most[0][1], 'row')}: {most[0][0]})" if most else ""
        raise DataError(
            f"{context.services.locate('read', (*keys, 'path'))}: {source} contains no question "
            f"with an answer{why}. Name another file."
        )
    if most:
        first = next(row.path for row in unusable if row.reason == most[0][0])
        if len(unusable) == 1:
            message = (
                f"read: 1 row of {source} gave no example, because {most[0][0]} ({first}). "
                "See it with: jangin show unread, with the same --project"
            )
        else:
            message = (
                f"read: {counted(len(unusable), 'row')} of {source} gave no example, most often "
                f"because {most[0][0]} ({first}). List them with: jangin show unread, with the "
                "same --project"
            )
        context.services.progress.message(message)
    if rows.not_public:
        column, cells = rows.not_public
        step = Filter(type="filter", column=column, values=cells).model_dump_json(
            exclude_defaults=True
        )
        context.services.progress.message(
            f"read: rows of {source} whose column {column} says that they are not for use are left "
            f"out. To use them, add to steps of its format: {step}"
        )
    return source, examples, unusable


def _squad_or(
    format: Squad | TableRows | Chats | PromptCompletion | HubRows | AutoRows, path: Path
) -> Squad | TableRows | Chats | PromptCompletion | HubRows | AutoRows:
    """The configured format; SQuAD if it is `auto` and the file is SQuAD's JSON."""
    if not isinstance(format, AutoRows) or path.suffix.lower() != ".json":
        return format
    with path.open("rb") as stream:
        start = stream.read(SQUAD_START).removeprefix(b"\xef\xbb\xbf").lstrip()
    is_squad = start.startswith(b"{") and b'"paragraphs"' in start
    return Squad(type="squad") if is_squad else format


def prompt_pattern(config: ReadConfig) -> str:
    """Pattern that questions are filled into; empty for formats that take them unchanged."""
    return config.format.prompt if isinstance(config.format, Template) else ""


def _text(path: Path) -> str:
    """The file as text, without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte {error.start} cannot be read. Save it as UTF-8."
        ) from error


def _sources(config: ReadConfig, project_folder: Path) -> Mapping[str, Path]:
    files: dict[str, Path] = {}
    for number, file in enumerate(config.files, start=1):
        # The names of the first file are those from before there were further ones.
        prefix = "" if number == 1 else f"{number}/"
        for name, path in _files_of(file, project_folder, _keys(number - 1)).items():
            files[prefix + name] = path
    return files


def _keys(number: int) -> tuple[str, ...]:
    """Keys of a file inside `read`, by its number from 0."""
    return ("further", str(number - 1)) if number else ()


def _files_of(
    config: ReadConfig | FurtherFile, project_folder: Path, keys: tuple[str, ...]
) -> Mapping[str, Path]:
    beside = {
        f"tokenizer{index}": project_folder / tokenizer
        for index, tokenizer in enumerate(tokenizers_of(config.format), start=1)
    }
    if isinstance(config.format, HubRows):
        folder = hub_folder(config.format, project_folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
        return beside | {f"rows/{p.relative_to(folder)}": p for p in files if folder}
    path = project_folder / config.path
    if not path.is_file():
        where = ".".join(("read", *keys, "path"))
        raise DataError(f"{where}: {path} is not a file. Name one, relative to the project file.")
    return {"examples": path, **beside}


def _machine(config: ReadConfig) -> Mapping[str, str]:
    """The version of tables, of the steps that read numbers or compare rows, and of chats."""
    if any(isinstance(file.format, TableRows | AutoRows) for file in config.files):
        return {"rows": "3"}
    for file in config.files:
        template = file.format if isinstance(file.format, Template) else Template()
        changed = any(step.type in ("number", "deduplicate") for step in template.steps)
        if changed or isinstance(file.format, Chats) or template.source == "messages":
            return {"rows": "2"}
    return {}


STAGE = Stage(
    name="read",
    version=1,
    reads=(),
    makes=("examples",),
    run=run,
    sources=_sources,
    machine=_machine,
)
