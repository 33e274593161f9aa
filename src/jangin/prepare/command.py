"""`jangin prepare`: look at a file, explain each remedy, ask, write files and how to repeat it.

The order of the looks is that of the data-preparation tool OpenAI's command line used to have
(openai-python up to 2.34, `lib/_validators.py`), for chats and with Korean in mind.
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
from jangin.prepare.engine.build import ASIDE, Outcome, draft, prepare
from jangin.prepare.engine.plan import Plan
from jangin.prepare.engine.stratified_split import SPLITS
from jangin.prepare.suggestions.rows import remedies
from jangin.prepare.suggestions.suggestion import Remedy
from jangin.prepare.tables.readers import Table, TableSettings, open_table

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns

Ask = Callable[[Remedy], bool]
Say = Callable[[str], None]

PAIRS = (
    *(("prompt", "completion"), ("question", "answer"), ("instruction", "output")),
    *(("input", "output"), ("review", "rating"), ("review_text", "star_rating")),
    *(("document", "label"), ("text", "label"), ("review", "star"), ("user", "assistant")),
)
"""Columns that are taken for question and answer, by name."""
ID_NAMES = re.compile(
    r"(.*[ _-])?(id|ids|uuid|guid|no|num|index|idx|key)|unnamed: \d+|column_\d+"
    r"|#|.*(번호|아이디|순번|일련번호|식별자)|연번|순서",
)
_CAMEL_ID = re.compile(r".*[a-z](Id|ID|No|Idx)")
SAMPLED = 1000
"""Rows that are looked at to tell ids from texts."""


class Answer(Config):
    """A remedy that was offered, and whether it was taken."""

    name: str
    taken: bool
    rows: int


class Manifest(Config):
    """All it takes to do the same again."""

    jangin: str
    polars: str
    source: str
    source_sha256: str
    plan: Plan
    remedies: tuple[Answer, ...]
    rows: dict[str, int]
    sha256: dict[str, str]
    """Of every file that was written."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line was told about the columns and the splits."""

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
    """Longest row in tokens; 0 for 10,000 characters."""
    balance: int = 0
    """Most rows of one answer; 0 for no limit."""


def output_files(source: Path, folder: Path) -> dict[str, Path]:
    """Where each file goes."""
    stem = folder / f"{source.stem}_prepared"
    files = {name: Path(f"{stem}_{name}.jsonl") for name in (*SPLITS, ASIDE)}
    return files | {name: Path(f"{stem}_{name}.json") for name in ("manifest", "report")}


def refuse_overwriting(source: Path, folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Where each file goes; raises `DataError` where one is there, best before anybody is asked."""
    files = output_files(source, folder)
    there = [path.name for path in files.values() if path.exists()]
    if there and not overwrite:
        raise DataError(
            f"{', '.join(there)} is in {folder} already. Add --overwrite, or name another folder "
            "with --output."
        )
    return files


def refuse_options(wanted: Wanted) -> None:
    """Raise `ConfigError` for what does not go together, before anything is read."""
    together = wanted.validation + wanted.test
    if not together < 1:  # as nothing is below or above what is no number
        raise ConfigError(
            f"--validation {wanted.validation:g} and --test {wanted.test:g} come to {together:g}, "
            "which leaves nothing to train on. Together they must be below 1."
        )
    if wanted.context and wanted.tokenizer is None:
        raise ConfigError(
            f"--context {wanted.context} is in tokens, and nothing is there to count them. Name "
            "the folder of the model with --tokenizer, or leave --context out."
        )
    if wanted.tokenizer is not None and not wanted.context and wanted.format != "completion":
        raise ConfigError(
            "--tokenizer counts tokens to find rows that are too long, and no limit is named. Add "
            "--context with the longest row in tokens, or leave --tokenizer out."
        )
    if wanted.rejected and wanted.format != "preference":
        raise ConfigError(
            f"--rejected belongs to --format preference, not to {wanted.format}. Add that format, "
            "or leave --rejected out."
        )


def first_plan(table: Table, wanted: Wanted, source: Path) -> Plan:
    """A plan that only takes question and answer; raises `DataError` where none are found."""
    known = {name.lower(): name for name in table.columns}
    fields: dict[str, Any] = {
        "format": wanted.format,
        "validation": wanted.validation,
        "test": wanted.test,
        "group": wanted.group,
        "seed": wanted.seed,
        "order": {"type": wanted.order},
    }
    named = wanted.prompt or wanted.completion
    if not named and "messages" in known and wanted.format != "preference":
        if wanted.system:
            raise DataError(
                f"{source} holds chats, which bring their own system messages. Leave --system out."
            )
        fields |= {"source": "messages", "system": "{system}"}
        return Plan.model_validate_json(json.dumps(fields))
    pairs = [("prompt", "chosen")] if wanted.format == "preference" else list(PAIRS)
    found = next(((q, a) for q, a in pairs if q in known and a in known), ("", ""))
    prompt = wanted.prompt or known.get(found[0], "")
    completion = wanted.completion or known.get(found[1], "")
    if not prompt or not completion:
        raise DataError(
            f"{source}: no column is known to be the question and none the answer. There is: "
            f"{', '.join(table.columns)}. Name them with --prompt and --completion, as in: "
            f"{_suggested(table, wanted)}"
        )
    fields |= {"prompt": _pattern(prompt, "--prompt")}
    fields |= {"completion": _pattern(completion, "--completion"), "system": wanted.system}
    if fields["prompt"] == fields["completion"]:
        raise ConfigError(
            f"{prompt} is both question and answer. Name one column with --prompt and another "
            "with --completion."
        )
    if wanted.format == "preference":
        rejected = wanted.rejected or known.get("rejected", "")
        if not rejected:
            raise DataError(
                f"{source}: --format preference takes a worse answer beside the better one, and "
                f"there is no column rejected. There is: {', '.join(table.columns)}. Name the "
                "column with --rejected."
            )
        fields["rejected"] = _pattern(rejected, "--rejected")
    return Plan.model_validate_json(json.dumps(fields))


def _suggested(table: Table, wanted: Wanted) -> str:
    """Options that could be meant: pairs where a better and a worse answer are there."""
    known = {name.lower(): name for name in table.columns}
    chosen, rejected = known.get("chosen"), wanted.rejected or known.get("rejected")
    if not chosen or not rejected or wanted.completion or len(table.columns) < 3:
        first, last = _question_and_answer(table, wanted, ())
        return f"--prompt {_quoted(first)} --completion {_quoted(last)}"
    named = next((known[name] for name, _ in PAIRS if name in known), "")
    prompt = wanted.prompt or named or _question_and_answer(table, wanted, (chosen, rejected))[0]
    return (
        f"--format preference --prompt {_quoted(prompt)} --completion {_quoted(chosen)} "
        f"--rejected {_quoted(rejected)}"
    )


def _question_and_answer(table: Table, wanted: Wanted, without: tuple[str, ...]) -> tuple[str, str]:
    """Columns that could be question and answer: what was named, else the first and the last.

    Ids are named only where there is nothing else.
    """
    rows = table.frame.select(table.columns).head(SAMPLED).collect(engine="streaming")
    texts = [column.name for column in rows if not _is_id(column)]
    given = {named.strip("{}") for named in (wanted.prompt, wanted.completion)} | {*without}
    ordered = texts + [name for name in table.columns if name not in texts]
    free = [name for name in ordered if name not in given] or ordered
    prompt = wanted.prompt or free[0]
    others = [name for name in free if name != prompt and name in texts]
    others = others or [name for name in free if name != prompt] or free
    return prompt, wanted.completion or others[-1]


def _is_id(cells: "pl.Series") -> bool:
    """True where every cell is another one, and they are named an id or count upwards."""
    import polars as pl

    if not cells.is_unique().all():
        return False
    name = cells.name.strip()
    if ID_NAMES.fullmatch(name.lower()) or _CAMEL_ID.fullmatch(name):
        return True
    whole = cells.str.contains(r"^\s*[0-9]+\s*$").fill_null(value=False)
    numbers = cells.str.strip_chars().cast(pl.Int64, strict=False)
    rising = numbers.diff().drop_nulls() > 0
    return bool(len(cells) and whole.all() and not numbers.has_nulls() and rising.all())


def _quoted(name: str) -> str:
    """As a shell takes it for one word."""
    return shlex.quote(name) if not name.isidentifier() else name


def _pattern(name: str, option: str) -> str:
    """A column as a pattern; raises `ConfigError` where a brace of a pattern has no other."""
    if "{" not in name:
        return f"{{{name}}}"
    bare = name.replace("{{", "").replace("}}", "")
    if bare.count("{") != bare.count("}"):
        raise ConfigError(
            f"{option} {name!r} has a brace without its other one. Write columns as {{column}}, "
            "and a brace that is text twice, as {{ or }}."
        )
    return name


def propose(source: Path, wanted: Wanted, ask: Ask, say: Say) -> tuple[Plan, list[Answer]]:
    """Look, explain and ask; the plan with every remedy that was taken, and all answers."""
    refuse_options(wanted)
    answers: list[Answer] = []
    with tempfile.TemporaryDirectory() as name:
        table = open_table(source, TableSettings(), Path(name))
        plan = first_plan(table, wanted, source)
        say(f"{source.name}: read as {table.read_as}; columns {', '.join(table.columns)}")

        def columns(of: Plan) -> "Columns":
            return draft(table, of, Path())

        offers = remedies(columns, plan, wanted.tokenizer, wanted.context, wanted.balance, say)
        taken: Plan | None = None
        while True:
            try:
                remedy = offers.send(taken) if taken is not None else next(offers)
            except StopIteration as end:
                return end.value or plan, answers
            agreed = ask(remedy)
            answers.append(Answer(name=remedy.name, taken=agreed, rows=remedy.rows))
            plan = remedy.change(plan) if agreed else plan
            taken = plan


def write(
    source: Path, plan: Plan, answers: list[Answer], folder: Path, *, overwrite: bool = False
) -> tuple[Outcome, Manifest]:
    """Write all files or none; raises `DataError` where one is there already."""
    import polars as pl

    files = refuse_overwriting(source, folder, overwrite=overwrite)
    with output_errors(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".prepare") as name:
        work = Path(name)
        drafts = {kind: work / path.name for kind, path in files.items()}
        outcome = prepare(source, plan, drafts, work)
        manifest = Manifest(
            jangin=__version__,
            polars=pl.__version__,
            source=source.name,
            source_sha256=digest_file(source),
            plan=plan,
            remedies=tuple(answers),
            rows={**outcome.splits, ASIDE: outcome.rows - sum(outcome.splits.values())},
            sha256=outcome.digests,
        )
        drafts["manifest"].write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        drafts["report"].write_text(report_json(outcome, answers), encoding="utf-8")
        for kind, path in files.items():
            if drafts[kind].exists():
                drafts[kind].replace(path)
            else:
                path.unlink(missing_ok=True)
    return outcome, manifest


def report_json(outcome: Outcome, answers: list[Answer]) -> str:
    """All counts, for programs."""
    report = {
        "rows": outcome.rows,
        "read_as": outcome.read_as,
        "splits": outcome.splits,
        "changed": outcome.changed,
        "set_aside": [asdict(reason) for reason in outcome.reasons],
        "answers": outcome.answers,
        "remedies": [answer.model_dump() for answer in answers],
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def read_manifest(path: Path) -> Manifest:
    """A manifest; raises `ConfigError` where it is none."""
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Name the manifest that "
            "`jangin prepare` wrote."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: {where}: {first['msg']}. Name a manifest that `jangin prepare` of this "
            "version wrote."
        ) from error


def differences(old: Manifest, new: Manifest) -> Iterator[str]:
    """What is not the same as when the manifest was written."""
    if old.source_sha256 != new.source_sha256:
        yield f"the file is another one than {old.source} was when the manifest was written"
        return
    for name, digest in old.sha256.items():
        if new.sha256.get(name) != digest:
            yield (
                f"{name} is not byte for byte what it was (polars {old.polars} then, "
                f"{new.polars} now)"
            )
