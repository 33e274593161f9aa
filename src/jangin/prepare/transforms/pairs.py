"""Read preference pairs in their common forms, and pair answers that are labelled good or bad.

Forms: `input`, `preferred_output`, `non_preferred_output` (OpenAI); `prompt`, `chosen`, `rejected`
as texts or lists of messages, or without a prompt where both lists begin alike (TRL);
`conversations`, `chosen`, `rejected` (ShareGPT); two transcripts of a human and an assistant
(hh-rlhf).
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jangin.prepare.tables.schema import REASON, ROW
from jangin.prepare.transforms.chats import (
    CHAT_COLUMNS,
    CHAT_NAMES,
    Turn,
    read_turns,
    turns_of,
    unpack,
    unpack_messages,
)

if TYPE_CHECKING:
    import polars as pl

PAIR_COLUMNS = (*CHAT_COLUMNS, "rejected")
"""Columns that `unpack_pairs` adds; `completion` is the chosen answer."""
LABELS = {"true": True, "false": False, "1": True, "0": False}
"""Labels of good and bad answers, in lower case, also with a decimal point."""
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def pair_columns(columns: Sequence[str]) -> tuple[str, str, str] | None:
    """The columns (prompt or "", chosen, rejected) of pairs, or None."""
    known = {name.lower(): name for name in columns}
    if {"input", "preferred_output", "non_preferred_output"} <= known.keys():
        return known["input"], known["preferred_output"], known["non_preferred_output"]
    if not {"chosen", "rejected"} <= known.keys():
        return None
    prompt = next((known[n] for n in ("prompt", "question", *CHAT_NAMES) if n in known), "")
    return prompt, known["chosen"], known["rejected"]


def unpack_pairs(frame: "pl.LazyFrame", columns: Sequence[str]) -> "pl.LazyFrame":
    """Add `PAIR_COLUMNS` from the columns of pairs; rows that are not usable are dropped."""
    names = pair_columns(columns)
    if names is None:
        raise ValueError(f"{columns} are no columns of pairs")
    prompt, chosen, rejected = names
    if not prompt:
        return unpack(frame, (chosen, rejected), PAIR_COLUMNS, lambda cells: _pair("", *cells))
    return unpack(frame, (prompt, chosen, rejected), PAIR_COLUMNS, lambda cells: _pair(*cells))


def holds_messages(cell: str | None) -> bool:
    """True for a cell that is a message or a list of them."""
    return isinstance(_messages(cell), list)


def is_transcript(cell: str | None) -> bool:
    """True for a transcript of a human and an assistant."""
    return cell is not None and re.match(r"\s*Human:", cell) is not None


def _pair(prompt: str | None, chosen: str | None, rejected: str | None) -> dict[str, str] | str:
    """{column: text} of a pair, or the reason why it is not usable."""
    context = _messages(prompt)
    if isinstance(context, str):
        return context
    if context is None:
        context = [{"role": "user", "content": prompt}] if (prompt or "").strip() else []
    better, worse = _conversation(context, chosen), _conversation(context, rejected)
    for turns in (better, worse):
        if isinstance(turns, str):
            return turns
    if better[:-1] != worse[:-1]:
        return "chosen and rejected differ before their last answer"
    if len(better) < 2:
        return "there is no prompt"
    texts = turns_of([turn for turn in better if isinstance(turn, dict)])
    return texts if isinstance(texts, str) else {**texts, "rejected": worse[-1]["content"]}


def _conversation(context: list[Turn], cell: str | None) -> Any:
    """The whole conversation that ends with an answer, or the reason why it is not usable."""
    if cell is None:
        return "an answer is missing"
    turns = _messages(cell)
    if isinstance(turns, str):
        return turns
    if turns is None and not context and is_transcript(cell):
        turns = _transcript(cell)
    if turns is None:
        turns = [{"role": "assistant", "content": cell}]
    if turns[-1]["role"] != "assistant":
        return "the last message is not the assistant's"
    whole = turns if turns[: len(context)] == context else [*context, *turns]
    return [{name: turn[name] for name in ("role", "content")} for turn in whole]


def _messages(cell: str | None) -> list[Turn] | str | None:
    """The messages in a cell of JSON, a fault, or None for a text that is none."""
    if cell is None or not cell.lstrip().startswith(("[", "{")):
        return None
    try:
        value = json.loads(cell)
    except ValueError:
        return None
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    value = value if isinstance(value, list) else [value]
    if not value or not all(isinstance(m, dict) and ("role" in m or "from" in m) for m in value):
        return None
    return read_turns(value)


def _transcript(text: str) -> list[Turn]:
    roles = {"Human": "user", "Assistant": "assistant"}
    _, *parts = _SPEAKER.split(text)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": roles[speaker], "content": said.removeprefix(" ")} for speaker, said in pairs]


def pair_by_label(frame: "pl.LazyFrame", columns: Sequence[str]) -> "pl.LazyFrame":
    """Add `PAIR_COLUMNS` from answers with a label: each good one with a bad one to its prompt.

    The row of the good answer becomes the pair. The rows of bad answers, and good ones without a
    bad one, are dropped with the reason.
    """
    import polars as pl

    known = {name.lower(): name for name in columns}
    chats = next((known[name] for name in CHAT_NAMES if name in known), "")
    if chats:
        frame = unpack_messages(frame, chats)
    else:
        names = (known["prompt"], known["completion"])
        frame = unpack(frame, names, CHAT_COLUMNS, lambda cells: _labelled(*cells))
    good = is_good(known["label"])
    turns = ["system", "history", "prompt"]
    usable = pl.col(REASON).is_null() & good.is_not_null()
    rows = frame.with_columns(usable.alias("__usable"), good.alias("__good")).collect()
    nth = pl.int_range(pl.len()).over(*turns, "__good").alias("__nth")
    usable_rows = rows.filter("__usable").with_columns(nth)
    bad = usable_rows.filter(~pl.col("__good"))
    bad = bad.select(*turns, "__nth", rejected="completion", __bad=ROW)
    pairs = usable_rows.filter("__good").join(bad, on=[*turns, "__nth"], how="inner")
    rows = rows.join(pairs.select(ROW, "rejected", "__bad"), on=ROW, how="left")
    reason = (
        pl.when(~pl.col("__usable"))
        .then(pl.lit("the label is neither true nor false"))
        .when(pl.col(ROW).is_in(pairs["__bad"].implode()))
        .then(pl.lit("it is the rejected answer of another row's pair"))
        .when(pl.col("__good") & pl.col("rejected").is_null())
        .then(pl.lit("there is no bad answer to its prompt"))
        .when(~pl.col("__good"))
        .then(pl.lit("there is no good answer to its prompt"))
    )
    rows = rows.with_columns(pl.coalesce(REASON, reason).alias(REASON))
    return rows.drop("__usable", "__good", "__bad").lazy()


def is_good(label: str) -> "pl.Expr":
    """Boolean expression: the label of an answer is true; null where it is neither."""
    import polars as pl

    text = pl.col(label).str.strip_chars().str.to_lowercase().str.strip_suffix(".0")
    return text.replace_strict(LABELS, default=None, return_dtype=pl.Boolean)


def _labelled(prompt: str | None, completion: str | None) -> dict[str, str] | str:
    """{column: text} of a prompt and an answer, each a text or a list of messages."""
    pair = _pair(prompt, completion, completion)
    return pair if isinstance(pair, str) else {n: pair[n] for n in CHAT_COLUMNS}
