"""The union of all transforms, in the order they apply: row steps, then table steps."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from jangin.core.errors import SettingsError
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.balance import Balance
from jangin.prepare.transforms.columns import (
    CleanText,
    Columns,
    Filter,
    Flatten,
    Join,
    Labels,
    LengthWindow,
    Number,
    as_text,
)
from jangin.prepare.transforms.deduplicate import KEY, PROMPT, Deduplicate, Match, NearDuplicates
from jangin.prepare.transforms.scrub import (
    Extract,
    MaskPersonal,
    Scrub,
    StripControlTokens,
    Trim,
)

if TYPE_CHECKING:
    import polars as pl

TextStep = (
    CleanText | Number | Flatten | Join | Extract | Scrub | MaskPersonal | StripControlTokens | Trim
)
RowStep = TextStep | Filter | Labels | LengthWindow
"""Decides on each row by itself."""
TableStep = Deduplicate | NearDuplicates | Balance
"""Decides on a row by looking at all rows."""
Step = Annotated[RowStep | TableStep, Field(discriminator="type")]
TABLE_STEPS = (Deduplicate, NearDuplicates, Balance)
_LETTER = r"[\p{L}\p{N}--[\x{1100}-\x{11ff}\x{3131}-\x{318e}]]"
"""A letter or digit; single jamo, as in ㅋㅋㅋ, are none."""
_NO_SIGN = r"[\s\u200d\ufe0e\ufe0f]"
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def fill_template(template: str, columns: Columns, setting: str) -> "pl.Expr":
    r"""A template with each `{column}` replaced by the cell; `{{` and `}}` are literal braces.

    Raises `SettingsError` if the template names a column that does not exist, or none where that
    can only be a mistake; `setting` is named in it.
    """
    import polars as pl

    _refuse_without_column(template, columns.names, setting)
    parts: list[pl.Expr] = []
    text = template.replace("{{", "\x01").replace("}}", "\x02")
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        columns.require(setting, match[1])
        parts += [*_literal(text[end : match.start()]), _cell(columns, match[1])]
        end = match.end()
    parts += _literal(text[end:])
    return pl.concat_str(parts) if len(parts) > 1 else parts[0] if parts else pl.lit("")


def _refuse_without_column(template: str, names: Sequence[str], setting: str) -> None:
    """Raise `SettingsError` for a name without braces, or an answer that is the same everywhere."""
    if not template or columns_in(template):
        return
    name = template.strip("{} ")
    if name in names or setting == "completion":
        example = name if name in names else names[0] if names else "answer"
        raise SettingsError(
            f"{setting}: {template!r} names no column, so every row would have this text. Write "
            f"the column in braces, as in '{{{example}}}'."
        )


def _literal(text: str) -> "list[pl.Expr]":
    import polars as pl

    return [pl.lit(text.replace("\x01", "{").replace("\x02", "}"))] if text else []


def columns_in(template: str) -> list[str]:
    """Names of the columns in a template, in order."""
    return _PLACEHOLDER.findall(template.replace("{{", "").replace("}}", ""))


def _cell(columns: Columns, name: str) -> "pl.Expr":
    import polars as pl

    kind = columns.frame.collect_schema()[name]
    column = as_text(pl.col(name)) if kind.is_numeric() else pl.col(name)
    return column.fill_null("")


def key_of(prompt: str, match: Match) -> "pl.Expr":
    """Hash of a prompt (uint64), named `KEY`; `match` decides which prompts count as the same.

    Among ten million different prompts a collision of 64 bits has a chance of about 3 in a million.
    """
    import polars as pl

    text = pl.col(prompt)
    if match == "loose":
        text = text.str.to_lowercase().str.replace_all(r"[\s\p{P}\p{S}]+", "")
        few = pl.when(~text.str.contains(_LETTER)).then(prompt)
        signs = few.map_batches(_distinct_signs, return_dtype=pl.String, is_elementwise=True)
        text = pl.coalesce(signs, text)
    return text.hash(7).alias(KEY)


def _distinct_signs(texts: "pl.Series") -> "pl.Series":
    """The different characters of texts without a letter or digit, so that 👍 and 👍👍 are one."""
    import polars as pl

    signs = [
        None if text is None else "".join(sorted(set(re.sub(_NO_SIGN, "", text)))) for text in texts
    ]
    return pl.Series(texts.name, signs, dtype=pl.String)


def match_mode(steps: Sequence[object]) -> Match:
    """The match mode of the first `deduplicate`; `loose` if there is none."""
    return next((step.match for step in steps if isinstance(step, Deduplicate)), "loose")


def split_steps(steps: Sequence[RowStep | TableStep]) -> tuple[list[RowStep], list[TableStep]]:
    """(row steps, table steps).

    Raises `SettingsError` if a row step follows a table step.
    """
    row_steps = [step for step in steps if not isinstance(step, TABLE_STEPS)]
    table_steps = [step for step in steps if isinstance(step, TABLE_STEPS)]
    if [*row_steps, *table_steps] != list(steps):
        raise SettingsError(
            f"steps: {table_steps[0].type} needs all rows, but a step that works row by row "
            "follows it. Move deduplicate, near_duplicates and balance to the end."
        )
    return row_steps, table_steps


def required_columns(step: TableStep) -> tuple[str, ...]:
    """Columns that a table step reads besides `KEY` and `ANSWER`."""
    if isinstance(step, NearDuplicates):
        return (PROMPT,)
    if isinstance(step, Balance):
        return tuple(filter(None, (step.column, step.weight_column)))
    return ()


def update_reasons(step: TableStep, rows: "pl.DataFrame") -> "pl.Series":
    """The column `REASON` (Categorical, one value per row) after a table step.

    Rows that already have a reason keep it and are hidden from the step. `rows` has `REASON` and
    the columns that the step requires.
    """
    import polars as pl

    reasons = rows[REASON].cast(pl.Categorical)
    kept = reasons.is_null()
    if kept.all():
        return step.drop_reasons(rows).alias(REASON)
    added = step.drop_reasons(rows.filter(kept))
    codes = reasons.to_physical().scatter(kept.arg_true(), added.to_physical())
    return codes.cat.to(pl.Categorical).alias(REASON)
