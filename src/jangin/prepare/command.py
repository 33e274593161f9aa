"""`jangin prepare`: inspect a table, suggest fixes, write train, validation and test files.

The checks and their order follow the data-preparation tool of OpenAI's former command line
(openai-python up to 2.34, `lib/_validators.py`), extended for chats and for Korean.
"""

import json
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
from jangin.prepare.engine.plan import Plan
from jangin.prepare.engine.stratified_split import SPLITS
from jangin.prepare.suggestions.rows import suggestions
from jangin.prepare.suggestions.suggestion import Suggestion
from jangin.prepare.tables.readers import Table, TableSettings, open_table

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns

PAIRS = (
    *(("prompt", "completion"), ("question", "answer"), ("instruction", "output")),
    *(("input", "output"), ("review", "rating"), ("review_text", "star_rating")),
    *(("document", "label"), ("text", "label"), ("review", "star"), ("user", "assistant")),
)
"""Names of columns that are recognised as question and answer, in order of preference."""
ID_NAMES = re.compile(
    r"(.*[ _-])?(id|ids|uuid|guid|no|num|index|idx|key)|unnamed: \d+|column_\d+"
    r"|#|.*(번호|아이디|순번|일련번호|식별자)|연번|순서",
)
_CAMEL_ID = re.compile(r".*[a-z](Id|ID|No|Idx)")
SAMPLED = 1000
"""Number of rows from which id columns are recognised."""


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
    plan: Plan
    remedies: tuple[SuggestionRecord, ...]
    rows: dict[str, int]
    sha256: dict[str, str]
    """{file: sha256} of the files that were written."""


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Options of the command line on columns and splits."""

    format: Literal["chat", "completion", "preference"] = "chat"
    prompt: str = ""
    completion: str = ""
    rejected: str = ""
    system: str = ""
    validation: float = 0.1
    test: float = 0.1
    group: str = ""
    seed: int = 42
    order: Literal["as_given", "shuffled", "sorted"] = "as_given"
    tokenizer: Path | None = None
    context: int = 0
    """Maximum number of tokens of a row; 0: at most 10,000 characters."""
    balance: int = 0
    """Maximum number of rows per answer; 0: no limit."""


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


def first_plan(table: Table, options: PrepareOptions, source: Path) -> Plan:
    """A plan without steps: question, answer, format and splits.

    Raises `DataError` if the columns of question and answer are neither named nor recognised, and
    `ConfigError` for options that do not fit the table.
    """
    known = {name.lower(): name for name in table.columns}
    fields: dict[str, Any] = {
        "format": options.format,
        "validation": options.validation,
        "test": options.test,
        "group": options.group,
        "seed": options.seed,
        "order": {"type": options.order},
    }
    named = options.prompt or options.completion
    if not named and "messages" in known and options.format != "preference":
        if options.system:
            raise DataError(
                f"the chats of {source} have their own system messages. Remove --system."
            )
        fields |= {"source": "messages", "system": "{system}"}
        return Plan.model_validate_json(json.dumps(fields))
    pairs = [("prompt", "chosen")] if options.format == "preference" else list(PAIRS)
    question, answer = next(((q, a) for q, a in pairs if q in known and a in known), ("", ""))
    prompt = options.prompt or known.get(question, "")
    completion = options.completion or known.get(answer, "")
    if not prompt or not completion:
        raise DataError(
            f"{source}: the columns of question and answer are not recognised among "
            f"{', '.join(table.columns)}. Name them, for example: "
            f"{_suggested(table, options)}"
        )
    fields |= {"prompt": _template(prompt, "--prompt")}
    fields |= {"completion": _template(completion, "--completion"), "system": options.system}
    if fields["prompt"] == fields["completion"]:
        raise ConfigError(
            f"{prompt} is used as both question and answer. Name different columns with --prompt "
            "and --completion."
        )
    if options.format == "preference":
        rejected = options.rejected or known.get("rejected", "")
        if not rejected:
            raise DataError(
                f"{source}: --format preference needs a rejected answer, but there is no column "
                f"rejected among {', '.join(table.columns)}. Name it with --rejected."
            )
        fields["rejected"] = _template(rejected, "--rejected")
    return Plan.model_validate_json(json.dumps(fields))


def _suggested(table: Table, options: PrepareOptions) -> str:
    """Options that would work; those of preference pairs if both answers have a column."""
    known = {name.lower(): name for name in table.columns}
    chosen, rejected = known.get("chosen"), options.rejected or known.get("rejected")
    if not chosen or not rejected or options.completion or len(table.columns) < 3:
        first, last = _question_and_answer(table, options, ())
        return f"--prompt {_quoted(first)} --completion {_quoted(last)}"
    named = next((known[name] for name, _ in PAIRS if name in known), "")
    prompt = options.prompt or named or _question_and_answer(table, options, (chosen, rejected))[0]
    return (
        f"--format preference --prompt {_quoted(prompt)} --completion {_quoted(chosen)} "
        f"--rejected {_quoted(rejected)}"
    )


def _question_and_answer(
    table: Table, options: PrepareOptions, without: tuple[str, ...]
) -> tuple[str, str]:
    """Columns that could be question and answer: those named, else the first and the last.

    Ids are used only if there is no other column.
    """
    rows = table.frame.select(table.columns).head(SAMPLED).collect(engine="streaming")
    texts = [column.name for column in rows if not _is_id(column)]
    used = {named.strip("{}") for named in (options.prompt, options.completion)} | {*without}
    ordered = texts + [name for name in table.columns if name not in texts]
    free = [name for name in ordered if name not in used] or ordered
    prompt = options.prompt or free[0]
    others = [name for name in free if name != prompt and name in texts]
    others = others or [name for name in free if name != prompt] or free
    return prompt, options.completion or others[-1]


def _is_id(cells: "pl.Series") -> bool:
    """True if all cells are different and the column is named like an id or counts upwards."""
    import polars as pl

    if not cells.is_unique().all():
        return False
    name = cells.name.strip()
    if ID_NAMES.fullmatch(name.lower()) or _CAMEL_ID.fullmatch(name):
        return True
    digits = cells.str.contains(r"^\s*[0-9]+\s*$").fill_null(value=False)
    numbers = cells.str.strip_chars().cast(pl.Int64, strict=False)
    rising = numbers.diff().drop_nulls() > 0
    return bool(len(cells) and digits.all() and not numbers.has_nulls() and rising.all())


def _quoted(name: str) -> str:
    """Quoted for a shell where necessary."""
    return shlex.quote(name) if not name.isidentifier() else name


def _template(name: str, option: str) -> str:
    """A column as a template; raises `ConfigError` for a template with unbalanced braces."""
    if "{" not in name:
        return f"{{{name}}}"
    bare = name.replace("{{", "").replace("}}", "")
    if bare.count("{") != bare.count("}"):
        raise ConfigError(
            f"{option} {name!r} has unbalanced braces. Write columns as {{column}}, and literal "
            "braces twice, as {{ or }}."
        )
    return name


def propose(
    source: Path,
    options: PrepareOptions,
    accept: Callable[[Suggestion], bool],
    notify: Callable[[str], None],
) -> tuple[Plan, list[SuggestionRecord]]:
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

        def transform(plan: Plan) -> "Columns":
            return apply_row_steps(table, plan, Path())

        generator = suggestions(
            transform, plan, options.tokenizer, options.context, options.balance, notify
        )
        current: Plan | None = None
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
    plan: Plan,
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
