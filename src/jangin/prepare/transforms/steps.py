"""The union of all transforms, in the order they apply: row steps, then table steps."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jangin.core.config import Advanced, Config
from jangin.core.errors import SettingsError
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.chats import rewritten
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
from jangin.text.pii import masked

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns


# Cap the rows per value of a column, by weighted sampling.


class Balance(Config):
    """Group rows by a value and sample a group above the cap, without replacement."""

    type: Literal["balance"]
    column: str
    """Column whose values are the groups; a number belongs to the group of its rounded value."""
    most: int = Field(ge=1)
    """Maximum number of rows of a group."""
    all_from: float | None = None
    """Groups of numbers from this value on keep all of their rows."""
    weight_column: str = ""
    """Column whose values have weights, such as a category."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Sampling weight of each value: a row of weight 5 is usually drawn before one of weight 1."""
    other_weight: float = Field(default=1, gt=0)
    """Weight of values that are not in `weights`."""
    seed: int = Field(default=42, ge=0)

    def drop_reasons(self, rows: "pl.DataFrame") -> "pl.Series":
        """The drop reason of each row (Categorical), null for kept rows.

        Weighted sampling without replacement takes the largest u ** (1 / weight), u uniform in
        [0, 1): Efraimidis and Spirakis (2006), algorithm A-Res.

        Raises `SettingsError` if a weight is not above 0.
        """
        import numpy as np
        import polars as pl

        from jangin.prepare.transforms.columns import as_text, round_half_up

        for value, weight in self.weights.items():
            if weight <= 0:
                raise SettingsError(
                    f"balance: the weight {weight:g} of {value!r} is not above 0. Raise it, or "
                    "drop such rows with filter."
                )
        text = pl.col(self.column).fill_null("").cast(pl.String)
        number = text.cast(pl.Float64, strict=False)
        slot = pl.coalesce(as_text(round_half_up(number)), text)
        weights = pl.lit(self.other_weight)
        if self.weight_column:
            weights = pl.col(self.weight_column).replace_strict(
                self.weights, default=self.other_weight, return_dtype=pl.Float64
            )
        uniform = np.random.default_rng(self.seed).random(len(rows))
        frame = rows.select(slot=slot, number=number, weight=weights).with_columns(
            priority=pl.Series(uniform).log() / pl.col("weight")
        )
        over = pl.col("priority").rank("ordinal", descending=True).over("slot") > self.most
        if self.all_from is not None:
            over &= (pl.col("number") < self.all_from).fill_null(value=True)
        reason = pl.format(f"slot {{}} of {self.column} is full", pl.col("slot"))
        reasons = frame.select(reason=pl.when(over).then(reason))
        return reasons["reason"].cast(pl.Categorical)


# Remove part numbers, boilerplate and personal data from text columns, or extract a part.


CONTROL_MARK = (
    r"(?:<\|[A-Za-z0-9_]+\|>|</s>|<s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>"
    r"|\[/?INST\]|<</?SYS>>|\[\|[a-z]+\|\])"
)
"""Tokens that mark turns and ends in chat templates of common models."""


class Scrub(Config):
    """Remove substrings, brackets and part numbers from columns, in this order."""

    type: Literal["scrub"]
    columns: tuple[str, ...] = Field(min_length=1)
    remove: tuple[str, ...] = ()
    """Substrings that are removed, one after another."""
    collapse: Advanced[str] = ':[]"{}【】'
    """A run of these characters, spaces and line ends becomes one space."""
    replace: tuple[tuple[str, str], ...] = ((" ,", ","), (",,,", ","), (",,", ","))
    """[old, new] substrings, replaced one after another."""
    part_number_characters: Advanced[int] = Field(default=7, ge=0)
    """Words with a digit and at least this number of characters are removed; 0 keeps them."""

    def apply(self, table: "Columns") -> None:
        """Rewrite the columns of a table."""
        table.require(self.type, *self.columns)
        table.rewrite(self.type, {name: self._scrubbed(name) for name in self.columns})

    def _scrubbed(self, column: str) -> "pl.Expr":
        import polars as pl

        text = pl.col(column).fill_null("")
        for part in self.remove:
            text = text.str.replace_all(part, "", literal=True)
        marks = "".join(f"\\{mark}" if mark.isascii() else mark for mark in self.collapse)
        text = text.str.replace_all(rf"[{marks}\s]+", " ").str.strip_chars()
        for old, new in self.replace:
            text = text.str.replace_all(old, new, literal=True)
        if self.part_number_characters:
            word = pl.element()
            short = word.str.len_chars() < self.part_number_characters
            kept = word.filter(short | ~word.str.contains(r"\d"))
            text = text.str.split(" ").list.eval(kept).list.join(" ")
        return text


class MaskPersonal(Config):
    """Replace what looks like personal data by `[email]`, `[phone]` and so on."""

    type: Literal["mask_personal"]
    columns: tuple[str, ...] = Field(min_length=1)
    kinds: tuple[Literal["email", "resident_number", "phone", "card", "ip_address"], ...] = (
        *("email", "resident_number", "phone", "card", "ip_address"),
    )

    def apply(self, table: "Columns") -> None:
        """Rewrite the columns of a table."""
        import polars as pl

        table.require(self.type, *self.columns)

        def mask(text: "pl.Expr") -> "pl.Expr":
            for kind in self.kinds:
                text = masked(text, kind)
            return text

        new = {name: mask(pl.col(name).fill_null("")) for name in self.columns}
        if table.turns in new:
            new[table.turns] = rewritten(
                table.turns,
                lambda texts: texts.to_frame("text").select(mask(pl.col("text")))["text"],
            )
        table.rewrite(self.type, new)


class StripControlTokens(Config):
    """Remove control tokens of models, such as `<|endoftext|>`, from the ends of texts."""

    type: Literal["strip_control_tokens"]
    columns: tuple[str, ...] = Field(min_length=1)

    def apply(self, table: "Columns") -> None:
        """Rewrite the columns of a table."""
        import polars as pl

        table.require(self.type, *self.columns)
        ends = rf"^(?:\s*{CONTROL_MARK})+\s*|\s*(?:{CONTROL_MARK}\s*)+$"

        def strip(text: "pl.Expr") -> "pl.Expr":
            return text.str.replace_all(ends, "")

        new = {name: strip(pl.col(name).fill_null("")) for name in self.columns}
        if table.turns in new:
            new[table.turns] = rewritten(
                table.turns,
                lambda texts: texts.to_frame("text").select(strip(pl.col("text")))["text"],
            )
        table.rewrite(self.type, new)


class Trim(Config):
    """Remove a prefix from the texts of a column, or add a prefix or suffix."""

    type: Literal["trim"]
    column: str
    beginning: str = ""
    """Prefix that is removed from every text that has it."""
    lower_case: bool = False
    prefix: str = ""
    """Prefix that is added to every text that lacks it."""
    suffix: str = ""
    """Suffix that is added to every text that lacks it."""

    def apply(self, table: "Columns") -> None:
        """Rewrite the column of a table."""
        import polars as pl

        table.require(self.type, self.column)
        text = pl.col(self.column).fill_null("")
        if self.beginning:
            text = text.str.strip_prefix(self.beginning)
        if self.lower_case:
            text = text.str.to_lowercase()
        if self.prefix:
            text = (
                pl.when(text.str.starts_with(self.prefix)).then(text).otherwise(self.prefix + text)
            )
        if self.suffix:
            text = pl.when(text.str.ends_with(self.suffix)).then(text).otherwise(text + self.suffix)
        table.rewrite(self.type, {self.column: text})


class Extract(Config):
    """Copy a part of a text to a column, such as the category of a product description."""

    type: Literal["extract"]
    column: str
    pattern: str = Field(min_length=1)
    """Regular expression (Rust) whose first group is the part; with `(?s)`, `.` matches lines."""
    into: str
    """Target column; it is created or replaced."""
    missing: Literal["set_aside", "empty"] = "set_aside"
    """Rows without a match: drop them with a reason (`set_aside`), or leave the column empty."""

    def apply(self, table: "Columns") -> None:
        """Add the column and mark the dropped rows.

        Raises `SettingsError` if `column` does not exist, or `pattern` is invalid or has no group.
        """
        import polars as pl

        table.require(self.type, self.column)
        text = pl.col(self.column).fill_null("")
        try:
            groups = pl.select(pl.lit("").str.extract_groups(self.pattern)).to_series().struct
        except pl.exceptions.ComputeError as error:
            why = str(error).splitlines()[-1].removeprefix("error: ")
            raise SettingsError(
                f"extract: pattern {self.pattern!r} is not a valid regular expression: {why}. "
                "Correct it."
            ) from error
        if not groups.fields:
            raise SettingsError(
                f"extract: pattern {self.pattern!r} has no group. "
                "Enclose the part to extract in ( )."
            )
        part = text.str.extract(self.pattern, 1)
        if self.missing == "set_aside":
            fits = text.str.contains(self.pattern)
            table.mark_dropped(~fits, f"the pattern for {self.into} does not fit {self.column}")
        table.rewrite(self.type, {self.into: part.fill_null("").str.strip_chars()})


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
