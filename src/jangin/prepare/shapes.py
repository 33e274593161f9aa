"""Recognise by their columns what rows are: questions with answers, chats, preference pairs."""

import json
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.errors import ConfigError, DataError
from jangin.prepare.engine.plan import PreparePlan
from jangin.prepare.options import PrepareOptions
from jangin.prepare.tables.readers import OpenTable
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.chats import CHAT_NAMES, chat_column
from jangin.prepare.transforms.columns import Filter, Flatten, Join
from jangin.prepare.transforms.pairs import LABELS, holds_messages, is_transcript, pair_columns
from jangin.prepare.transforms.steps import columns_in

if TYPE_CHECKING:
    import polars as pl

PAIRS = (
    *(("prompt", "completion"), ("question", "answer"), ("instruction", "output")),
    *(("input", "output"), ("review", "rating"), ("review_text", "star_rating")),
    *(("document", "label"), ("text", "label"), ("review", "star"), ("user", "assistant")),
    *(("질문", "답변"), ("질문", "정답"), ("질문", "답"), ("질의", "회신"), ("질의", "답변")),
    *(("문의", "답변"), ("문의", "회신"), ("문의", "답"), ("문의사항", "답변"), ("문제", "정답")),
    *(("지시", "응답"), ("q", "a")),
)
"""Names of columns that are recognised as question and answer, in order of preference."""
ID_NAMES = re.compile(
    r"(.*[ _-])?(id|ids|uuid|guid|no|num|index|idx|key)|unnamed: \d+|column_\d+"
    r"|#|.*(번호|아이디|순번|일련번호|식별자)|연번|순서",
)
_CAMEL_ID = re.compile(r".*[a-z](Id|ID|No|Idx)")
QUESTION_NAMES = frozenset(
    (
        *("prompt", "question", "instruction", "query", "input", "user", "document", "text"),
        *("review", "review_text", "content", "sentence", "title", "질문", "지시", "내용", "본문"),
        *("문장", "리뷰", "제목"),
    )
)
"""Columns that an example in a message may call the question."""
ANSWER_NAMES = frozenset(
    (
        *("completion", "answer", "output", "response", "reply", "chosen", "label", "class"),
        *("category", "rating", "star", "stars", "score", "sentiment", "답변", "답", "정답"),
        *("별점", "평점", "분류", "라벨", "레이블", "요약"),
    )
)
"""Columns that an example in a message may call the answer."""
REJECTED_NAMES = frozenset(
    ("rejected", "non_preferred_output", "worse", "bad", "negative", "loser", "wrong")
)
"""Columns that are never suggested as the answer."""
SYSTEM_NAMES = ("system", "system_prompt")
"""Names of a column beside question and answer that holds the system message."""
_PUBLIC = re.compile(
    r"(?:공개|게시|노출|사용)(?:여부|유무|상태|구분)?|(?:is)?(?:public|published|visible|active)",
)
"""Names, without spaces and underscores, of columns that say which rows are for use."""
_NO = frozenset(
    (
        *("아니요", "아니오", "비공개", "미공개", "미게시", "게시안함", "비노출", "미노출"),
        *("미사용", "사용안함", "n", "no", "false", "0", "0.0", "x", "private", "hidden"),
        *("unpublished", "inactive"),
    )
)
"""Cells of such a column in rows that are not for use, in lower case and without spaces."""
MOST_STATES = 20
"""Different cells from which a column is no mark of the rows."""
SAMPLED = 1000
"""Number of rows from which id columns are recognised."""


def first_plan(table: OpenTable, options: PrepareOptions, source: Path) -> PreparePlan:
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
        "near_copies": options.near_copies,
        "seed": options.seed,
        "order": {"type": options.order},
    }
    shaped = {} if options.prompt or options.completion else _by_shape(table, options, source)
    if shaped:
        if options.system:
            raise DataError(
                f"the chats of {source} have their own system messages. Remove --system."
            )
        return PreparePlan.model_validate_json(json.dumps(fields | shaped))
    fields |= _pair_of_columns(table, options, known, source)
    if options.format == "preference":
        rejected = options.rejected or known.get("rejected", "")
        if not rejected:
            raise DataError(
                f"{source}: --format preference needs a rejected answer, but there is no column "
                f"rejected among {', '.join(table.columns)}. Name it with --rejected."
            )
        fields["rejected"] = _template(rejected, "--rejected")
    return PreparePlan.model_validate_json(json.dumps(fields))


def _by_shape(table: OpenTable, options: PrepareOptions, source: Path) -> dict[str, Any]:
    """Fields of the plan for chats, pairs with messages and labelled answers; else empty.

    Raises `DataError` for preference pairs where another format is wanted.
    """
    from_chat = {"prompt": "{prompt}", "completion": "{completion}", "system": "{system}"}
    pair = pair_columns(table.columns)
    if pair is not None:
        prompt, chosen, _ = pair
        cells = _sample(table, (chosen, *((prompt,) if prompt else ())))
        texts = [cell for row in cells for cell in row]
        unpacked = any(map(holds_messages, texts)) or any(map(is_transcript, texts))
        if options.format != "preference":
            raise DataError(
                f"{source} holds preference pairs: a chosen and a rejected answer to each prompt. "
                f"Prepare them with: --format preference{'' if unpacked else _names(table, pair)}"
            )
        if not unpacked:
            return {}
        return {"source": "pairs", **from_chat, "rejected": "{rejected}"}
    known = {name.lower(): name for name in table.columns}
    chats = chat_column(table.columns)
    has_chats = chats in table.columns and (
        chats.lower() == CHAT_NAMES[0]
        or any(holds_messages(cell) for (cell,) in _sample(table, (chats,)))
    )
    if "label" in known and (has_chats or {"prompt", "completion"} <= known.keys()):
        labels = {(row[0] or "").strip().lower() for row in _sample(table, (known["label"],))}
        if labels and labels <= LABELS.keys():
            if options.format == "preference":
                return {"source": "labels", **from_chat, "rejected": "{rejected}"}
            values = [
                value for text, good in LABELS.items() if good for value in (text, text.title())
            ]
            kept = Filter(type="filter", column=known["label"], values=tuple(dict.fromkeys(values)))
            shape = {"source": "messages", **from_chat} if has_chats else {}
            return {**shape, "steps": [kept.model_dump()]}
    if has_chats and options.format != "preference":
        return {"source": "messages", **from_chat}
    return {}


def _names(table: OpenTable, pair: tuple[str, str, str]) -> str:
    """Options that name the columns of pairs; empty where their prompt is not known."""
    others = [name for name in table.columns if name not in pair]
    prompt = pair[0] or (others[0] if len(others) == 1 else "")
    if not prompt:
        return ""
    first, chosen, rejected = map(_quoted, (prompt, *pair[1:]))
    return f" --prompt {first} --completion {chosen} --rejected {rejected}"


def _sample(table: OpenTable, names: Sequence[str]) -> list[tuple[str | None, ...]]:
    """The cells of some columns in the first rows that can be read."""
    import polars as pl

    rows = table.frame.filter(pl.col(REASON).is_null()).select(names).head(SAMPLED)
    return rows.collect(engine="streaming").rows()


def _pair_of_columns(
    table: OpenTable, options: PrepareOptions, known: dict[str, str], source: Path
) -> dict[str, Any]:
    """Fields of the plan for a question and an answer that are made of columns."""
    fields: dict[str, Any] = {}
    named = options.prompt or options.completion
    pairs = list(PAIRS)
    if options.format == "preference":
        pairs = [("prompt", "chosen")]
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
            f"{', '.join(table.columns)}. {_how_to_name(table, options)}"
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
    return fields


def left_out(table: OpenTable, plan: PreparePlan) -> tuple[str, ...]:
    """The columns of a table that a plan does not use, in order."""
    templates = (plan.prompt, plan.completion, plan.rejected, plan.system)
    used = {plan.group, *(name for template in templates for name in columns_in(template))}
    if plan.source in ("messages", "labels"):
        used = {plan.group, chat_column(table.columns)}
        names = {"label", *SYSTEM_NAMES} if plan.source == "messages" else {"label"}
        if chat_column(table.columns) not in table.columns:
            names |= {"prompt", "completion"}
        used |= {name for name in table.columns if name.lower() in names}
    elif plan.source == "pairs":
        used = {plan.group, *(pair_columns(table.columns) or ())}
    for step in plan.steps:
        if isinstance(step, Flatten | Join) and step.into in used:
            used.update(step.columns)
        elif isinstance(step, Filter):
            used.add(step.column)
    return tuple(name for name in table.columns if name not in used)


@dataclass(frozen=True, slots=True)
class NotPublic:
    """Rows that a column such as `공개` or `public` marks as not for use."""

    column: str
    values: tuple[str, ...]
    """Cells of these rows."""
    count: int
    """Number of these rows."""
    cells: tuple[str, ...]
    """All cells of the column, each once."""


def not_public(table: OpenTable, filtered: Collection[str] = ()) -> NotPublic | None:
    """Rows that are marked as not for use; None where there are none.

    `filtered` are columns of which is decided already which rows to use.
    """
    import polars as pl

    for name in table.columns:
        if name in filtered or not _PUBLIC.fullmatch(re.sub(r"[\s_]", "", name).lower()):
            continue
        cells = pl.col(name).fill_null("").str.strip_chars()
        rows = table.frame.filter(pl.col(REASON).is_null()).group_by(cells).len()
        counts = dict(rows.collect(engine="streaming").rows())
        no = [cell for cell in counts if re.sub(r"\s", "", cell).lower() in _NO]
        if no and len(counts) <= MOST_STATES:
            count = sum(counts[cell] for cell in no)
            return NotPublic(name, tuple(sorted(no)), count, tuple(sorted(counts)))
    return None


def _free_name(name: str, table: OpenTable) -> str:
    """The name, or with a suffix if a column has it already."""
    while name in table.columns:
        name += "_"
    return name


def _how_to_name(table: OpenTable, options: PrepareOptions) -> str:
    """What to do about unknown columns; an example only if one of its two columns is known."""
    columns = _question_and_answer(table, options)
    if len(table.columns) == 1:
        return (
            "A model learns an answer from a question, and this is one text a row. Add the column "
            "that is missing; to learn from texts alone, put the file into the folder of "
            "documents and use pretrain."
        )
    options_of = "--prompt and --completion"
    if options.format == "preference":
        pair = pair_columns(table.columns)
        if pair is not None and (names := _names(table, pair)):
            return f"Name them, for example: --format preference{names}"
        options_of = "--prompt, --completion (the chosen answer) and --rejected"
    if columns is None:
        return f"Name them with {options_of}."
    first, last = map(_quoted, columns)
    rejected = f" --rejected {_quoted(options.rejected)}" if options.rejected else ""
    return f"Name them, for example: --prompt {first} --completion {last}{rejected}"


def _question_and_answer(table: OpenTable, options: PrepareOptions) -> tuple[str, str] | None:
    """Columns that could be question and answer, if one of them is named or known.

    The other must then be known, too, or the only column that is no id and no rejected answer.
    """
    rows = table.frame.select(table.columns).head(SAMPLED).collect(engine="streaming")
    bad = {options.rejected.strip("{}").lower(), *REJECTED_NAMES}
    free = [c.name for c in rows if not _is_id(c) and c.name.lower() not in bad]
    prompt = options.prompt or next((n for n in free if n.lower() in QUESTION_NAMES), "")
    completion = options.completion or next((n for n in free if n.lower() in ANSWER_NAMES), "")
    if not prompt and not completion:
        return None
    others = [name for name in free if name not in (prompt.strip("{}"), completion.strip("{}"))]
    if not (prompt and completion) and len(others) != 1:
        return None
    return prompt or others[0], completion or others[0]


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
