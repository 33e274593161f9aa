"""Recognise by their columns what rows are: questions with answers, chats, preference pairs."""

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.errors import ConfigError, DataError
from jangin.prepare.engine.plan import Plan
from jangin.prepare.options import PrepareOptions
from jangin.prepare.tables.readers import Table
from jangin.prepare.transforms.columns import Flatten, Join
from jangin.prepare.transforms.steps import columns_in

if TYPE_CHECKING:
    import polars as pl

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
SYSTEM_NAMES = ("system", "system_prompt")
"""Names of a column beside question and answer that holds the system message."""
SAMPLED = 1000
"""Number of rows from which id columns are recognised."""


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
    if not named and question == "instruction" and "input" in known:
        prompt = _free_name("instruction_and_input", table)
        pair = (known["instruction"], known["input"])
        fields["steps"] = [Join(type="join", columns=pair, into=prompt).model_dump()]
    if not prompt or not completion:
        raise DataError(
            f"{source}: the columns of question and answer are not recognised among "
            f"{', '.join(table.columns)}. Name them, for example: "
            f"{_suggested(table, options)}"
        )
    fields |= {"prompt": _template(prompt, "--prompt")}
    fields |= {"completion": _template(completion, "--completion"), "system": options.system}
    if not named and not options.system:
        system = next((known[name] for name in SYSTEM_NAMES if name in known), "")
        fields["system"] = f"{{{system}}}" if system else ""
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


def left_out(table: Table, plan: Plan) -> tuple[str, ...]:
    """The columns of a table that a plan does not use, in order."""
    templates = (plan.prompt, plan.completion, plan.rejected, plan.system)
    used = {plan.group, *(name for template in templates for name in columns_in(template))}
    if plan.source == "messages":
        used = {plan.group, next(name for name in table.columns if name.lower() == "messages")}
    for step in plan.steps:
        if isinstance(step, Flatten | Join) and step.into in used:
            used.update(step.columns)
    return tuple(name for name in table.columns if name not in used)


def _free_name(name: str, table: Table) -> str:
    """The name, or one like it that is no column yet."""
    while name in table.columns:
        name += "_"
    return name


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
