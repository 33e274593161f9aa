"""Column transforms: clean, parse numbers, flatten, filter, check labels, limit the length.

A row is never lost: a step that drops it writes the reason into `REASON`, and later steps leave
the row as it is. All steps are lazy expressions, so a file of any length takes one pass.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Advanced, Config, Runtime
from jangin.core.errors import SettingsError
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.chats import rewritten
from jangin.text.numbers import (
    LONGEST_ALONE,
    DecimalMark,
    count_numbers,
    is_number_alone,
    numbers,
    value_of,
)

if TYPE_CHECKING:
    import polars as pl


# Clean texts: NFC, no invisible characters, one space between words, none at the ends.
#
# Spaces at the beginning of a line stay: they are the indentation of code.


INVISIBLE = "\u200b\u2060\ufeff\u00ad\u180e\u200e\u200f\u202a-\u202e"
"""Zero-width characters that no script needs; joiners, which emoji are built with, stay."""
COMPOSED = (
    r"\p{M}\u0374\u037e\u0387\u0958-\u09df\u0a33-\u0a5e\u0b5c\u0b5d\u0f43-\u0fb9\u1100-\u11ff"
    r"\u1f00-\u1fff\u2000\u2001\u2126\u212a\u212b\u2329\u232a\u2adc\ua960-\ua97f\ud7b0-\ud7ff"
    r"\uf900-\ufaff\ufb1d-\ufb4e\U0001d15e-\U0001d1c0\U0002f800-\U0002fa1d"
)
"""Every character that NFC may change, alone or beside another, and some that it does not."""
_TAB = "\t"
_OTHER = "\x0b\x0c\r\x1c-\x1f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""White space other than the space, the tab and the line end."""
_SPACES = _TAB + _OTHER


def odd(join_lines: bool) -> str:
    """A pattern that matches every text that `tidy` changes, and few others."""
    # A tab or a second space is odd only after a letter: before it, it is indentation.
    spaces = rf"  |\n|{_TAB}" if join_lines else rf"\S  |\S *{_TAB}|[ {_TAB}]\n"
    composed = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", COMPOSED)
    composed = re.sub(r"\\U([0-9a-f]{8})", r"\\x{\1}", composed)
    return rf"^\s|\s$|{spaces}|[{composed}{INVISIBLE}{_OTHER}]"


def tidy(texts: "pl.Series", join_lines: bool = False) -> "pl.Series":
    """Clean texts. Nearly all are clean already, so only those that need it are rewritten."""
    texts = texts.fill_null("")
    needs_cleaning = texts.str.contains(odd(join_lines))
    if not needs_cleaning.any():
        return texts
    rows = needs_cleaning.arg_true()
    return texts.scatter(rows, _clean(texts.gather(rows), join_lines))


def _clean(texts: "pl.Series", join_lines: bool) -> "pl.Series":
    texts = texts.str.normalize("NFC").str.replace_all(f"[{INVISIBLE}]", "")
    if join_lines:
        return texts.str.replace_all(f"[ \n{_SPACES}]+", " ").str.strip_chars()
    texts = texts.str.replace_all(f"([^ \n{_SPACES}])[ {_SPACES}]+", "$1 ")
    texts = texts.str.replace_all(f"[{_OTHER}]", " ")  # those that begin a line
    return texts.str.replace_all(f"[ {_TAB}]+\n", "\n").str.strip_chars()


# Parse numeric cells: is it a number, how many numbers does it hold, which is the first.


_SIGNS = r"[-+]?[$₩￦€£¥]?\s*"
_POINT = (
    rf"^\s*{_SIGNS}((?:[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+|[0-9]{{1,15}})(?:\.[0-9]{{1,15}})?)\s*$"
)
"""A plain number, which needs no Python code."""
_WHOLE = rf"^\s*{_SIGNS}([0-9]{{1,15}})\s*$"
_NAME = rf"^\s*{_SIGNS}0[0-9]"
_MAYBE = r"\p{Nd}|[십백천만억조].*(?:원|달러|유로)"
"""Every text in which a number can be read."""


def is_number(text: "pl.Expr", decimal: DecimalMark = "point") -> "pl.Expr":
    """Boolean expression: the text is one number with at most its currency or 억, 만, 천.

    False for a range, for `3층` and for `00123`, which is a name made of digits.
    """
    import polars as pl

    plain = text.str.contains(_plain(decimal))
    maybe = ~plain & (text.str.len_chars() <= LONGEST_ALONE) & text.str.contains(_MAYBE)
    others = _of_each(text, maybe, lambda one: float(is_number_alone(one, decimal))) == 1
    return pl.when(plain).then(~text.str.contains(_NAME)).otherwise(others.fill_null(value=False))


def number_of(column: str, decimal: DecimalMark = "point") -> "pl.Expr":
    """The first number of a text column as Float64, null if there is none or it is not understood.

    Python code runs for cells that are more than a plain number only.
    """
    import polars as pl

    text = pl.col(column).fill_null("")
    digits = text.str.extract(_plain(decimal)).str.replace_all(",", "", literal=True)
    value = digits.cast(pl.Float64)
    value = pl.when(text.str.starts_with("-") | text.str.contains(r"^\s+-")).then(-value)
    value = value.otherwise(digits.cast(pl.Float64))
    maybe = digits.is_null() & text.str.contains(_MAYBE)
    others = _of_each(text, maybe, lambda one: value_of(numbers(one, decimal)))
    return pl.when(digits.is_not_null()).then(value).otherwise(others).alias(column)


def counts_of(column: str, decimal: DecimalMark = "point") -> "pl.Expr":
    """`count_numbers` of a text column as Float64."""
    import polars as pl

    text = pl.col(column).fill_null("")
    plain = text.str.contains(_plain(decimal))
    maybe = ~plain & text.str.contains(_MAYBE)
    others = _of_each(text, maybe, lambda one: float(count_numbers(one, decimal)))
    return pl.when(plain).then(1.0).otherwise(others.fill_null(0.0)).alias(column)


def _plain(decimal: DecimalMark) -> str:
    return _POINT if decimal == "point" else _WHOLE


def _of_each(
    text: "pl.Expr", chosen: "pl.Expr", read: "Callable[[str], float | None]"
) -> "pl.Expr":
    """`read` applied once per distinct selected text; Float64, null for other rows."""
    import polars as pl

    def read_each(texts: "pl.Series") -> "pl.Series":
        distinct = texts.drop_nulls().unique()
        if not len(distinct):
            return pl.Series(texts.name, [None] * len(texts), dtype=pl.Float64)
        values = pl.Series([read(one) for one in distinct], dtype=pl.Float64)
        return texts.replace_strict(distinct, values, default=None, return_dtype=pl.Float64)

    few = pl.when(chosen).then(text)
    return few.map_batches(read_each, return_dtype=pl.Float64, is_elementwise=True)


@dataclass(slots=True)
class Columns:
    """A table between two row steps."""

    frame: "pl.LazyFrame"
    names: list[str]
    """Columns that steps and templates may name."""
    project_folder: Path = field(default_factory=Path)
    turns: str = ""
    """Column that holds the earlier turns of chats as JSON; empty if there is none."""
    changes: list[str] = field(default_factory=list)
    """Internal boolean columns, one for each rewrite: the rows that it changed."""

    def require(self, step: str, *names: str) -> None:
        """Raise `SettingsError` for the first of `names` that is not a column."""
        for name in names:
            if name not in self.names:
                raise SettingsError(
                    f"{step}: there is no column {name!r}. The columns are: "
                    f"{', '.join(self.names)}."
                )

    def mark_dropped(self, condition: "pl.Expr", reason: str, value: str = "") -> None:
        """Write a drop reason into the kept rows that meet `condition`.

        `{}` in the reason is replaced by the cell of the column `value`. Few batches have such a
        row, and for all others the reasons are returned as they are.
        """
        import polars as pl

        def mark(given: "Sequence[pl.Series]") -> "pl.Series":
            reasons, meets, *cells = given
            dropped = meets.fill_null(value=False) & reasons.is_null()
            if not dropped.any():
                return reasons
            text = pl.format(reason, pl.lit(cells[0])) if cells else pl.lit(reason)
            return pl.select(pl.when(dropped).then(text).otherwise(reasons)).to_series()

        columns = [pl.col(REASON), condition, *([pl.col(value)] if value else [])]
        marked = pl.map_batches(columns, mark, return_dtype=pl.String, is_elementwise=True)
        self.frame = self.frame.with_columns(marked.alias(REASON))

    def rewrite(self, step: str, new: "dict[str, pl.Expr]") -> None:
        """Replace or add columns, and mark the kept rows in which any of them changed."""
        import polars as pl

        draft = {name: f"__new_{index}" for index, name in enumerate(new)}
        frame = self.frame.with_columns(expr.alias(draft[name]) for name, expr in new.items())
        old = [name for name in new if name in self.names]
        changes = f"__changed_{len(self.changes)}_{step}"
        differs = [pl.col(n).ne_missing(pl.col(draft[n])) for n in old]
        changed = pl.any_horizontal(differs) if old else pl.lit(value=True)
        self.frame = frame.with_columns(
            (changed & pl.col(REASON).is_null()).alias(changes),
            *[pl.col(draft[name]).alias(name) for name in new],
        ).drop(draft.values())
        self.changes.append(changes)
        self.names += [name for name in new if name not in self.names]


class CleanText(Config):
    """NFC, no invisible characters, single spaces, no spaces at the ends.

    Spaces at the beginning of a line are kept, because they may be the indentation of code.
    """

    type: Literal["clean_text"]
    columns: tuple[str, ...] = ()
    """Columns to clean; default: all."""
    join_lines: bool = False
    """Replace line ends by spaces, too, which also removes indentation."""

    def apply(self, table: Columns) -> None:
        """Rewrite the columns of a table."""
        names = self.columns or tuple(table.names)
        table.require(self.type, *names)
        new = {n: clean(n, self.join_lines) for n in names if n != table.turns}
        if table.turns in names:
            new[table.turns] = rewritten(table.turns, lambda texts: tidy(texts, self.join_lines))
        table.rewrite(self.type, new)


def clean(column: str, join_lines: bool = False) -> "pl.Expr":
    """The cleaning of `CleanText`; a missing cell is an empty one."""
    import polars as pl

    return pl.col(column).map_batches(
        lambda texts: tidy(texts, join_lines), return_dtype=pl.String, is_elementwise=True
    )


class Number(Config):
    """Read a column as a number: `1,299.00`, `₩12,000`, `5억 3천만원`, `$1.2k`, `minus 5`."""

    type: Literal["number"]
    column: str
    minimum: float | None = None
    """Rows with a smaller number are dropped."""
    maximum: float | None = None
    """Rows with a larger number are dropped."""
    rounding: Literal["none", "half_up"] = "none"
    """`half_up` rounds to whole numbers: 0.5 becomes 1, 2.5 becomes 3."""
    ranges: Literal["set_aside", "first"] = "set_aside"
    """A cell with several numbers, such as `$12.99 - $45.00` or `2 for $5`, is ambiguous: drop the
    row with a reason (`set_aside`), or use the first number."""
    only: bool = False
    """Drop rows whose cell holds more than a number with its sign, currency or 억, 만 and 천, such
    as `5%`, `12,5` or `from $5`. Otherwise the number in such a cell is used."""
    decimal: DecimalMark = "point"
    """Decimal mark: `comma` reads `12,50` as 12.5 and `1.299` as 1299. With `point`, a cell such
    as `12,50`, which may be either, is set aside."""

    def apply(self, table: Columns) -> None:
        """Rewrite the column as a number and mark the dropped rows."""
        import polars as pl

        table.require(self.type, self.column)
        parsed = f"__number_{self.column}"
        number = number_of(self.column, self.decimal)
        table.frame = table.frame.with_columns(number.alias(parsed))
        value, count = pl.col(parsed), counts_of(self.column, self.decimal)
        table.mark_dropped(value.is_null() & (count == 0), f"{self.column} is no number")
        if self.ranges == "set_aside":
            table.mark_dropped(count > 1, f"{self.column} holds several numbers, such as a range")
        unclear = f"{self.column} is not understood as a number, such as a date or 12,50"
        table.mark_dropped(value.is_null(), unclear)
        if self.only:
            other = ~is_number(pl.col(self.column).fill_null(""), self.decimal)
            table.mark_dropped(other, f"{self.column} is not a number alone")
        if self.minimum is not None:
            table.mark_dropped(value < self.minimum, f"{self.column} is below {self.minimum:g}")
        if self.maximum is not None:
            table.mark_dropped(value > self.maximum, f"{self.column} is above {self.maximum:g}")
        rounded = round_half_up(value) if self.rounding == "half_up" else value
        table.rewrite(self.type, {self.column: as_text(rounded)})
        table.frame = table.frame.drop(parsed)


def round_half_up(value: "pl.Expr") -> "pl.Expr":
    """Round to whole numbers, halves up (Python's `round` rounds 0.5 to 0)."""
    import polars as pl

    floor = value.floor()
    return pl.when(value - floor >= 0.5).then(floor + 1).otherwise(floor)


def as_text(value: "pl.Expr") -> "pl.Expr":
    """Numbers as text, whole ones without a decimal point: 12, not 12.0."""
    import polars as pl

    whole = (value == value.floor()) & (value.abs() < 2**53)
    return (
        pl.when(whole)
        .then(value.cast(pl.Int64, strict=False).cast(pl.String))
        .otherwise(value.cast(pl.String))
    )


class Flatten(Config):
    """Join columns to one, such as title, description, features and details."""

    type: Literal["flatten"]
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns in order; the items of a JSON list are joined, too, and empty cells are skipped."""
    into: str = "text"
    separator: Advanced[str] = "\n"

    def apply(self, table: Columns) -> None:
        """Add the joined column to a table."""
        import polars as pl

        table.require(self.type, *self.columns)
        parts = []
        for name in self.columns:
            text = pl.col(name).fill_null("")
            listed = text.map_batches(
                lambda s: _join_lists(s, self.separator),
                return_dtype=pl.String,
                is_elementwise=True,
            )
            parts.append(listed.str.strip_chars().replace("", None))
        joined = pl.concat_str(parts, separator=self.separator, ignore_nulls=True)
        table.rewrite(self.type, {self.into: joined})


class Join(Config):
    """Join columns to one without changing them; cells that are empty or blank take no part."""

    type: Literal["join"]
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns in order, such as an instruction and its input."""
    into: str
    """Target column; it is created or replaced."""
    separator: str = "\n\n"
    """Text between two cells."""

    def apply(self, table: Columns) -> None:
        """Add the joined column to a table."""
        import polars as pl

        table.require(self.type, *self.columns)
        texts = [pl.col(name) for name in self.columns]
        filled = [pl.when(text.str.contains(r"\S")).then(text) for text in texts]
        joined = pl.concat_str(filled, separator=self.separator, ignore_nulls=True)
        table.rewrite(self.type, {self.into: joined})


def _join_lists(texts: "pl.Series", separator: str) -> "pl.Series":
    """The items of JSON lists, joined; other texts unchanged."""
    import json

    import polars as pl

    lists = texts.str.starts_with("[") & texts.str.ends_with("]")
    if not lists.any():
        return texts
    joined = []
    for text, listed in zip(texts, lists, strict=True):
        items: object = None
        if listed:
            try:
                items = json.loads(text)
            except ValueError:
                items = None
        if isinstance(items, list):
            parts = (item if isinstance(item, str) else json.dumps(item) for item in items)
            joined.append(separator.join(part for part in parts if part))
        else:
            joined.append(text)
    return pl.Series(texts.name, joined, dtype=pl.String)


class Filter(Config):
    """Keep only the rows with certain values in a column, or drop them."""

    type: Literal["filter"]
    column: str
    values: tuple[str, ...] = Field(min_length=1)
    action: Literal["keep", "drop"] = "keep"

    def apply(self, table: Columns) -> None:
        """Mark the dropped rows of a table."""
        import polars as pl

        table.require(self.type, self.column)
        matches = pl.col(self.column).fill_null("").str.strip_chars().is_in(list(self.values))
        if self.action == "drop":
            table.mark_dropped(matches, f"{self.column} is {{}}", self.column)
        else:
            table.mark_dropped(~matches, f"{self.column} is not among those to keep")


class Labels(Config):
    """Drop rows whose label is not in a set; the reason names the value."""

    type: Literal["labels"]
    column: str
    labels: tuple[str, ...] = Field(min_length=2)

    def apply(self, table: Columns) -> None:
        """Strip the column of a table and mark the dropped rows."""
        import polars as pl

        table.require(self.type, self.column)
        table.rewrite(self.type, {self.column: pl.col(self.column).fill_null("").str.strip_chars()})
        known = pl.col(self.column).is_in(list(self.labels))
        table.mark_dropped(~known, f"{self.column} is {{}}, which is no label", self.column)


class LengthWindow(Config):
    """Limit the length of a text, in characters and in tokens."""

    type: Literal["window"]
    column: str
    minimum_characters: int = Field(default=0, ge=0)
    """Rows with a shorter text are dropped."""
    maximum_characters: int = Field(default=0, ge=0)
    """0: no limit."""
    minimum_tokens: int = Field(default=0, ge=0)
    """Rows with a shorter text are dropped."""
    maximum_tokens: int = Field(default=0, ge=0)
    """0: no limit."""
    tokenizer: Runtime[Path] = Path()
    """`tokenizer.json`, or the folder of a model; relative to the project file."""
    longer: Literal["cut", "drop"] = "cut"
    """Texts over a maximum: truncate them (`cut`), or drop the row with a reason."""

    def apply(self, table: Columns) -> None:
        """Truncate the column of a table and mark the dropped rows.

        Raises `SettingsError` if the column or the tokenizer does not exist.
        """
        import polars as pl

        table.require(self.type, self.column)
        text, size = pl.col(self.column), pl.col(self.column).fill_null("").str.len_chars()
        table.mark_dropped(
            size < self.minimum_characters,
            f"{self.column} is below {self.minimum_characters} characters",
        )
        if self.maximum_characters and self.longer == "drop":
            limit = self.maximum_characters
            table.mark_dropped(size > limit, f"{self.column} is over {limit} characters")
        elif self.maximum_characters:
            table.rewrite(self.type, {self.column: text.str.head(self.maximum_characters)})
        if self.counts_tokens:
            self._count_tokens(table)

    @property
    def file(self) -> Path:
        """Path of the tokenizer's file, relative to the project file."""
        named = self.tokenizer.suffix == ".json"
        return self.tokenizer if named else self.tokenizer / "tokenizer.json"

    @property
    def counts_tokens(self) -> bool:
        """True if a limit in tokens is set, which needs a tokenizer."""
        return bool(self.minimum_tokens or self.maximum_tokens)

    def _count_tokens(self, table: Columns) -> None:
        import polars as pl

        truncate = truncation(table.project_folder / self.file, self.maximum_tokens)
        kind = pl.Struct({"tokens": pl.Int64, "text": pl.String})
        counted = pl.col(self.column).map_batches(truncate, return_dtype=kind, is_elementwise=True)
        table.frame = table.frame.with_columns(counted.alias("__tokens"))
        tokens = pl.col("__tokens").struct.field("tokens")
        if self.minimum_tokens:
            minimum = self.minimum_tokens
            table.mark_dropped(tokens < minimum, f"{self.column} is below {minimum} tokens")
        if self.maximum_tokens and self.longer == "drop":
            maximum = self.maximum_tokens
            table.mark_dropped(tokens > maximum, f"{self.column} is over {maximum} tokens")
        elif self.maximum_tokens:
            table.rewrite(self.type, {self.column: pl.col("__tokens").struct.field("text")})
        table.frame = table.frame.drop("__tokens")


def open_tokenizer(path: Path) -> "Callable[[Sequence[str]], list[list[tuple[int, int]]]]":
    """A function from texts to the (start, end) character offsets of their tokens.

    `path` is a `tokenizer.json` or a folder that holds one. Special tokens are not added, and
    texts are neither truncated nor padded.

    Raises `SettingsError` if there is no `tokenizer.json`.
    """
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SettingsError(
            f"{path} has no tokenizer.json. Set tokenizer to the folder of a model."
        )
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    return encode


def truncation(path: Path, maximum: int) -> "Callable[[pl.Series], pl.Series]":
    """A function from texts to structs {tokens: Int64, text: String}.

    `tokens` counts the whole text, `text` is truncated to `maximum` tokens (0: not at all).
    """
    import polars as pl

    encode = open_tokenizer(path)

    def truncate(texts: "pl.Series") -> "pl.Series":
        full = texts.fill_null("").to_list()
        rows = []
        for text, offsets in zip(full, encode(full), strict=True):
            end = offsets[maximum - 1][1] if 0 < maximum < len(offsets) else len(text)
            rows.append({"tokens": len(offsets), "text": text[:end]})
        return pl.Series(rows, dtype=pl.Struct({"tokens": pl.Int64, "text": pl.String}))

    return truncate


def step_name(column: str) -> str:
    """`1 clean_text` from the name of a column in `Columns.changes`."""
    index, name = column.removeprefix("__changed_").split("_", 1)
    return f"{int(index) + 1} {name}"
