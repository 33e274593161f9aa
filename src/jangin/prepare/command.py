"""`jangin prepare`: inspect a table, suggest fixes, write train, validation and test files.

The checks and their order follow the data-preparation tool of OpenAI's former command line
(openai-python up to 2.34, `lib/_validators.py`), extended for chats and for Korean.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from jangin import __version__
from jangin.core.config import Config
from jangin.core.digest import digest_file
from jangin.core.errors import ConfigError, DataError
from jangin.core.store import output_errors
from jangin.prepare.engine.build import (
    DROPPED_FILE,
    PreparedData,
    apply_row_steps,
    build_files,
)
from jangin.prepare.engine.plan import PreparePlan
from jangin.prepare.engine.stratified_split import SPLITS
from jangin.prepare.options import PrepareOptions
from jangin.prepare.shapes import first_plan, left_out
from jangin.prepare.suggestions import Suggestion, suggestions
from jangin.prepare.tables.readers import TableSettings, open_table

if TYPE_CHECKING:
    from jangin.prepare.transforms.columns import Columns


class SuggestionRecord(Config):
    """A suggestion, and whether it was accepted."""

    name: str
    taken: bool
    rows: int


class PreparationRecord(Config):
    """Everything needed to repeat a run with `--apply`."""

    jangin: str
    polars: str
    source: str
    source_sha256: str
    plan: PreparePlan
    remedies: tuple[SuggestionRecord, ...]
    rows: dict[str, int]
    sha256: dict[str, str]
    """{file: sha256} of the files that were written."""


def output_files(source: Path, folder: Path) -> dict[str, Path]:
    """{split, `DROPPED_FILE`, manifest or report: path}."""
    stem = folder / f"{source.stem}_prepared"
    files = {name: Path(f"{stem}_{name}.jsonl") for name in (*SPLITS, DROPPED_FILE)}
    return files | {name: Path(f"{stem}_{name}.json") for name in ("manifest", "report")}


def refuse_overwriting(source: Path, folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """The output files; raises `DataError` if one exists. To be called before any question."""
    files = output_files(source, folder)
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not overwrite:
        raise DataError(
            f"{folder} already contains {', '.join(existing)}. Add --overwrite, or choose another "
            "folder with --output."
        )
    return files


def refuse_options(options: PrepareOptions) -> None:
    """Raise `ConfigError` for options that contradict each other, before anything is read."""
    together = options.validation + options.test
    if not together < 1:  # also refuses NaN
        raise ConfigError(
            f"--validation {options.validation:g} and --test {options.test:g} add up to "
            f"{together:g}. Their sum must be below 1, to leave rows for training."
        )
    if options.context and options.tokenizer is None:
        raise ConfigError(
            f"--context {options.context} is in tokens and needs a tokenizer. Add --tokenizer with "
            "the folder of the model, or remove --context."
        )
    if options.tokenizer is not None and not options.context and options.format != "completion":
        raise ConfigError(
            "--tokenizer counts tokens to find rows that are too long, but there is no limit. Add "
            "--context with the maximum number of tokens, or remove --tokenizer."
        )
    if options.rejected and options.format != "preference":
        raise ConfigError(
            f"--rejected needs --format preference, not {options.format}. Add that format, or "
            "remove --rejected."
        )


def propose(
    source: Path,
    options: PrepareOptions,
    accept: Callable[[Suggestion], bool],
    notify: Callable[[str], None],
) -> tuple[PreparePlan, list[SuggestionRecord]]:
    """(the plan with all accepted suggestions, a record of every suggestion).

    `accept` decides on each suggestion, `notify` shows a line to the user. Raises `DataError` for
    a file that is not a table, `ConfigError` for options that contradict each other.
    """
    refuse_options(options)
    records: list[SuggestionRecord] = []
    with tempfile.TemporaryDirectory() as name:
        table = open_table(source, TableSettings(), Path(name))
        plan = first_plan(table, options, source)
        notify(f"{source.name}: read as {table.read_as}; columns {', '.join(table.columns)}")
        unused = left_out(table, plan)
        if unused:
            notify(
                f"left out: {', '.join(unused)}. To use a column, name it in a template of "
                "--prompt, --completion or --system"
            )

        def transform(plan: PreparePlan) -> "Columns":
            return apply_row_steps(table, plan, Path())

        generator = suggestions(
            transform, plan, options.tokenizer, options.context, options.balance, notify
        )
        current: PreparePlan | None = None
        while True:
            try:
                suggestion = generator.send(current) if current is not None else next(generator)
            except StopIteration as end:
                return end.value or plan, records
            accepted = accept(suggestion)
            records.append(
                SuggestionRecord(name=suggestion.name, taken=accepted, rows=suggestion.rows)
            )
            plan = suggestion.change(plan) if accepted else plan
            current = plan


def write_files(
    source: Path,
    plan: PreparePlan,
    records: list[SuggestionRecord],
    folder: Path,
    *,
    overwrite: bool = False,
) -> tuple[PreparedData, PreparationRecord]:
    """Write all output files, or none of them if an error occurs.

    Raises `DataError` if a file exists or no training data is left, `SettingsError` if the plan
    does not fit the table.
    """
    import polars as pl

    files = refuse_overwriting(source, folder, overwrite=overwrite)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with output_errors(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".prepare") as name:
        work = Path(name)
        drafts = {kind: work / path.name for kind, path in files.items()}
        result = build_files(source, plan, drafts, work)
        manifest = PreparationRecord(
            jangin=__version__,
            polars=pl.__version__,
            source=source.name,
            source_sha256=digest_file(source),
            plan=plan,
            remedies=tuple(records),
            rows={**result.splits, DROPPED_FILE: result.rows - sum(result.splits.values())},
            sha256=result.digests,
        )
        drafts["manifest"].write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        drafts["report"].write_text(report_json(result, records), encoding="utf-8")
        for kind, path in files.items():
            if drafts[kind].exists():
                drafts[kind].replace(path)
            else:
                path.unlink(missing_ok=True)
    return result, manifest


def report_json(result: PreparedData, records: list[SuggestionRecord]) -> str:
    """All counts of a run as JSON; its keys are a file format and do not change."""
    report = {
        "rows": result.rows,
        "read_as": result.read_as,
        "splits": result.splits,
        "changed": result.changed,
        "set_aside": [asdict(reason) for reason in result.reasons],
        "answers": result.answers,
        "remedies": [record.model_dump() for record in records],
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def read_manifest(path: Path) -> PreparationRecord:
    """The manifest in a file; raises `ConfigError` if it cannot be read or is not one."""
    try:
        return PreparationRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Name the manifest that "
            "`jangin prepare` wrote."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: {where}: {first['msg']}. Name a manifest that this version of "
            "`jangin prepare` wrote."
        ) from error


def differences(old: PreparationRecord, new: PreparationRecord) -> Iterator[str]:
    """Sentences on what differs from the run that wrote the old manifest."""
    if old.source_sha256 != new.source_sha256:
        yield f"{new.source} is not the file that the manifest was written for, {old.source}"
        return
    for name, digest in old.sha256.items():
        if new.sha256.get(name) != digest:
            yield (
                f"{name} differs from the one that the manifest was written with (polars "
                f"{old.polars} then, {new.polars} now)"
            )
