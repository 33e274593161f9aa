"""Every step that rows can take on their way to examples, in the order the settings give."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from jangin.core.errors import SettingsError
from jangin.prepare.tables.readers import Table
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.balance import Balance
from jangin.prepare.transforms.columns import (
    CleanText,
    Columns,
    Filter,
    Flatten,
    Labels,
    LengthWindow,
    Number,
    as_text,
)
from jangin.prepare.transforms.deduplicate import KEY, PROMPT, Deduplicate, Match, NearDuplicates
from jangin.prepare.transforms.scrub import Extract, MaskPersonal, Scrub, Trim

if TYPE_CHECKING:
    import polars as pl

TextStep = CleanText | Number | Flatten | Extract | Scrub | MaskPersonal | Trim
RowStep = TextStep | Filter | Labels | LengthWindow
WholeStep = Deduplicate | NearDuplicates | Balance
Step = Annotated[RowStep | WholeStep, Field(discriminator="type")]
WHOLE = (Deduplicate, NearDuplicates, Balance)
_PLACE = re.compile(r"\{([^{}]+)\}")


def begin(table: Table, project_folder: Path) -> Columns:
    """A table before its first step."""
    return Columns(table.frame, list(table.columns), project_folder)


def fill(pattern: str, columns: Columns, what: str) -> "pl.Expr":
    r"""A pattern with `{column}` filled in; `{{` and `}}` are braces. Raises `SettingsError`."""
    import polars as pl

    parts: list[pl.Expr] = []
    texts = pattern.replace("{{", "\x01").replace("}}", "\x02")
    end = 0
    for place in _PLACE.finditer(texts):
        columns.need(what, place[1])
        parts += [*_literal(texts[end : place.start()]), _cell(columns, place[1])]
        end = place.end()
    parts += _literal(texts[end:])
    return pl.concat_str(parts) if len(parts) > 1 else parts[0] if parts else pl.lit("")


def _literal(text: str) -> "list[pl.Expr]":
    import polars as pl

    return [pl.lit(_braces(text))] if text else []


def named_in(pattern: str) -> list[str]:
    """Columns that a pattern names."""
    return _PLACE.findall(pattern.replace("{{", "").replace("}}", ""))


def _braces(text: str) -> str:
    return text.replace("\x01", "{").replace("\x02", "}")


def _cell(columns: Columns, name: str) -> "pl.Expr":
    import polars as pl

    kind = columns.frame.collect_schema()[name]
    column = as_text(pl.col(name)) if kind.is_numeric() else pl.col(name)
    return column.fill_null("")


def key_of(prompt: str, match: Match) -> "pl.Expr":
    """Hash of a prompt: what has the same one is the same text.

    64 bits: of ten million different texts two meet with a chance of about 3 in a million.
    """
    import polars as pl

    text = pl.col(prompt)
    if match == "loose":
        text = text.str.to_lowercase().str.replace_all(r"[\s\p{P}\p{S}]+", "")
        text = pl.when(text == "").then(prompt).otherwise(text)
    return text.hash(7).alias(KEY)


def matching(steps: Sequence[object]) -> Match:
    """How prompts are held against each other."""
    return next((step.match for step in steps if isinstance(step, Deduplicate)), "loose")


def split_steps(steps: Sequence[RowStep | WholeStep]) -> tuple[list[RowStep], list[WholeStep]]:
    """(steps by row, steps over all rows); raises `SettingsError` where they are mixed."""
    by_row = [step for step in steps if not isinstance(step, WHOLE)]
    whole = [step for step in steps if isinstance(step, WHOLE)]
    if [*by_row, *whole] != list(steps):
        first = whole[0].type
        raise SettingsError(
            f"steps: {first} looks at all rows, and a step by row stands behind it. Put "
            f"deduplicate, near_duplicates and balance last."
        )
    return by_row, whole


def needed(step: WholeStep) -> tuple[str, ...]:
    """Columns that a step over all rows looks at, beside the hashes."""
    if isinstance(step, NearDuplicates):
        return (PROMPT,)
    if isinstance(step, Balance):
        return tuple(filter(None, (step.column, step.weight_column)))
    return ()


def decide(step: WholeStep, rows: "pl.DataFrame") -> "pl.Series":
    """Reasons of all rows after a step, as categories; `rows` has `REASON` and what it needs."""
    import polars as pl

    reasons = rows[REASON].cast(pl.Categorical)
    kept = reasons.is_null()
    if kept.all():
        return step.decide(rows).alias(REASON)
    found = step.decide(rows.filter(kept))
    codes = reasons.to_physical().scatter(kept.arg_true(), found.to_physical())
    return codes.cat.to(pl.Categorical).alias(REASON)
