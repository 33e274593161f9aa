"""Columns and values of tables as people read them, in one language."""

import re
from typing import Any

from jangin.metrics.scores.table import METRICS
from jangin.project.tables.rows import is_id
from jangin.report.i18n.translate import Words

TECHNICAL = frozenset(
    ("template", "temperature", "sample", "weights", "seed_word", "start", "end", "teacher")
)
NAMED = {
    "split": "set", "evidence_set": "name", "dimension": "slice", "rule": "rule",
    "scorer": "scorer",
}  # fmt: skip
"""{column: first part of the keys of its values}."""
SYSTEMS = frozenset(("system", "against", "a", "b"))
HOLDING_IDS = frozenset(("family", "request", "document"))
"""Columns that may hold an id, without being called one."""
_LONG_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")
"""People tell rows apart by its beginning."""
_SCORE = re.compile(r"([a-z_]+) (\d[\d.]*)")
"""Of a cell with all scores of a row."""
LONGEST_CELL = 180
"""Characters of a value in a table; all of it is on the page of the row."""


def column_name(words: Words, column: str) -> str:
    """What a column is called."""
    return words.known(f"column_{column}", column.replace("_", " "))


def is_technical(column: str) -> bool:
    """True for fields that say how a row came about and not what it says."""
    return is_id(column) or column in TECHNICAL


def value_text(words: Words, column: str, value: Any) -> str:
    """A value as text; what stages write in English in the language of the page."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return words(f"data_{'yes' if value else 'no'}")
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return _text(words, column, str(value))


def _text(words: Words, column: str, text: str) -> str:
    """A text by the names of its column."""
    if column in ("reason", "remedy", "place"):
        return words.known(f"reason_{text}", "") or words.reason_without_ids(text)
    if is_id(column) or column in HOLDING_IDS:
        return _LONG_DIGEST.sub(r"\1", text)
    if column in NAMED:
        return words.known(f"{NAMED[column]}_{text}", text)
    if column in SYSTEMS:
        return words.system(text)
    if column == "measure" and text in METRICS:
        return words.metric(text)
    if column == "template":
        stage, _, language = text.partition("@")[0].partition("/")
        said = words.known(f"stage_{stage}", stage)
        spoken = words.known(f"value_language_{language}", language)
        return f"{said} ({spoken})" if language else said
    if column == "scores":
        return _SCORE.sub(lambda s: f"{words.known(f'scorer_{s[1]}', s[1])} {s[2]}", text)
    return words.known(f"value_{column}_{text}", text) if len(text) < 30 else text


def cell_text(words: Words, column: str, value: Any) -> str:
    """A value as text of bounded length on one line."""
    text = " ".join(value_text(words, column, value).split())
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
