"""Steps over the columns of a table, row by row: each says what it changed and what it put aside.

A row is never lost: a step writes its reason into `__reason`, and later steps let it be. All of
it is lazy column work, so a file of any length goes through in one pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime
from jangin.core.errors import SettingsError
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.cleaning import tidy
from jangin.prepare.transforms.numbers import counts_of, is_number, number_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(slots=True)
class Columns:
    """A table on its way through the steps."""

    frame: "pl.LazyFrame"
    names: list[str]
    """Columns that steps and templates can use."""
    project_folder: Path = field(default_factory=Path)
    changes: list[str] = field(default_factory=list)
    """Columns of ours that count what each step changed."""

    def need(self, step: str, *names: str) -> None:
        """Raise `SettingsError` where a column is not there."""
        for name in names:
            if name not in self.names:
                raise SettingsError(
                    f"{step}: there is no column {name!r}. There is: {', '.join(self.names)}."
                )

    def set_aside(self, condition: "pl.Expr", reason: str, value: str = "") -> None:
        """Mark rows that were kept so far; `{}` in the reason is the cell of the column `value`.

        Hardly any batch has such a row, so reasons are only written where there is one.
        """
        import polars as pl

        def mark(given: "Sequence[pl.Series]") -> "pl.Series":
            reasons, meets, *cells = given
            gone = meets.fill_null(value=False) & reasons.is_null()
            if not gone.any():
                return reasons
            words = pl.format(reason, pl.lit(cells[0])) if cells else pl.lit(reason)
            return pl.select(pl.when(gone).then(words).otherwise(reasons)).to_series()

        columns = [pl.col(REASON), condition, *([pl.col(value)] if value else [])]
        marked = pl.map_batches(columns, mark, return_dtype=pl.String, is_elementwise=True)
        self.frame = self.frame.with_columns(marked.alias(REASON))

    def rewrite(self, step: str, new: "dict[str, pl.Expr]") -> None:
        """Give columns new values, and count the rows in which any of them changed."""
        import polars as pl

        draft = {name: f"__new_{place}" for place, name in enumerate(new)}
        frame = self.frame.with_columns(expr.alias(draft[name]) for name, expr in new.items())
        old = [name for name in new if name in self.names]
        note = f"__changed_{len(self.changes)}_{step}"
        differs = [pl.col(n).ne_missing(pl.col(draft[n])) for n in old]
        counted = pl.any_horizontal(differs) if old else pl.lit(value=True)
        self.frame = frame.with_columns(
            (counted & pl.col(REASON).is_null()).alias(note),
            *[pl.col(draft[name]).alias(name) for name in new],
        ).drop(draft.values())
        self.changes.append(note)
        self.names += [name for name in new if name not in self.names]


class CleanText(Config):
    """NFC, no invisible characters, every run of blanks one blank, none at the ends.

    Blanks at the beginning of a line stay: they are the indentation of code.
    """

    type: Literal["clean_text"]
    columns: tuple[str, ...] = ()
    """All of them by default."""
    join_lines: bool = False
    """Line ends are blanks too, and indentation goes."""

    def apply(self, table: Columns) -> None:
        """Rewrite the columns."""
        names = self.columns or tuple(table.names)
        table.need(self.type, *names)
        table.rewrite(self.type, {name: clean(name, self.join_lines) for name in names})


def clean(column: str, join_lines: bool = False) -> "pl.Expr":
    """The cleaning of `CleanText`; a missing cell is an empty one."""
    import polars as pl

    return pl.col(column).map_batches(
        lambda texts: tidy(texts, join_lines), return_dtype=pl.String, is_elementwise=True
    )


class Number(Config):
    """Read a column as a number: `1,299.00`, `₩12,000`, `3만 5천원`."""

    type: Literal["number"]
    column: str
    minimum: float | None = None
    """Smaller ones are set aside."""
    maximum: float | None = None
    """Larger ones are set aside."""
    rounding: Literal["none", "half_up"] = "none"
    """`half_up` gives whole numbers: 0.5 becomes 1, 2.5 becomes 3."""
    ranges: Literal["set_aside", "first"] = "set_aside"
    """What happens to a cell with several numbers, such as `$12.99 - $45.00` or `2 for $5`: nobody
    knows which one is meant. `first` takes the first."""
    only: bool = False
    """Set cells aside that hold more than a number with its sign, currency or 억, 만 and 천, such
    as `5%`, `12,5` or `from $5`. Otherwise such a cell is the number in it."""

    def apply(self, table: Columns) -> None:
        """Rewrite the column, as a number."""
        import polars as pl

        table.need(self.type, self.column)
        kept = f"__number_{self.column}"
        table.frame = table.frame.with_columns(number_of(self.column).alias(kept))
        value = pl.col(kept)
        table.set_aside(value.is_null(), f"{self.column} is no number")
        if self.ranges == "set_aside":
            several = counts_of(self.column) > 1
            table.set_aside(several, f"{self.column} holds several numbers, such as a range")
        if self.only:
            other = ~is_number(pl.col(self.column).fill_null(""))
            table.set_aside(other, f"{self.column} is not a number alone")
        if self.minimum is not None:
            table.set_aside(value < self.minimum, f"{self.column} is below {self.minimum:g}")
        if self.maximum is not None:
            table.set_aside(value > self.maximum, f"{self.column} is above {self.maximum:g}")
        rounded = round_half_up(value) if self.rounding == "half_up" else value
        table.rewrite(self.type, {self.column: as_text(rounded)})
        table.frame = table.frame.drop(kept)


def round_half_up(value: "pl.Expr") -> "pl.Expr":
    """Whole numbers; halves go up, as people round (Python's `round` makes 0.5 a 0)."""
    import polars as pl

    floor = value.floor()
    return pl.when(value - floor >= 0.5).then(floor + 1).otherwise(floor)


def as_text(value: "pl.Expr") -> "pl.Expr":
    """Numbers as people write them: 12 and not 12.0."""
    import polars as pl

    whole = (value == value.floor()) & (value.abs() < 2**53)
    return (
        pl.when(whole)
        .then(value.cast(pl.Int64, strict=False).cast(pl.String))
        .otherwise(value.cast(pl.String))
    )


class Flatten(Config):
    """Join columns into one, such as title, description, features and details."""

    type: Literal["flatten"]
    columns: tuple[str, ...] = Field(min_length=1)
    """A list in JSON is joined item by item; an empty or missing cell takes no line."""
    into: str = "text"
    separator: str = "\n"

    def apply(self, table: Columns) -> None:
        """Make the column."""
        import polars as pl

        table.need(self.type, *self.columns)
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


def _join_lists(texts: "pl.Series", separator: str) -> "pl.Series":
    """JSON lists as their items, one after another; other texts as they are."""
    import json

    import polars as pl

    lists = texts.str.starts_with("[") & texts.str.ends_with("]")
    if not lists.any():
        return texts
    found = []
    for text, listed in zip(texts, lists, strict=True):
        items: object = None
        if listed:
            try:
                items = json.loads(text)
            except ValueError:
                items = None
        if isinstance(items, list):
            parts = (item if isinstance(item, str) else json.dumps(item) for item in items)
            found.append(separator.join(part for part in parts if part))
        else:
            found.append(text)
    return pl.Series(texts.name, found, dtype=pl.String)


class Filter(Config):
    """Keep the rows with certain values in a column, or set them aside."""

    type: Literal["filter"]
    column: str
    values: tuple[str, ...] = Field(min_length=1)
    action: Literal["keep", "drop"] = "keep"

    def apply(self, table: Columns) -> None:
        """Mark the rows."""
        import polars as pl

        table.need(self.type, self.column)
        found = pl.col(self.column).fill_null("").str.strip_chars().is_in(list(self.values))
        table.set_aside(
            found if self.action == "drop" else ~found, f"{self.column} is not among those to keep"
        )


class Labels(Config):
    """Check that a column holds labels of a set; others are set aside, each with its value."""

    type: Literal["labels"]
    column: str
    labels: tuple[str, ...] = Field(min_length=2)

    def apply(self, table: Columns) -> None:
        """Strip the column and mark the rows."""
        import polars as pl

        table.need(self.type, self.column)
        table.rewrite(self.type, {self.column: pl.col(self.column).fill_null("").str.strip_chars()})
        known = pl.col(self.column).is_in(list(self.labels))
        table.set_aside(~known, f"{self.column} is {{}}, which is no label", self.column)


class LengthWindow(Config):
    """Keep texts of some length, in characters and in tokens."""

    type: Literal["window"]
    column: str
    minimum_characters: int = Field(default=0, ge=0)
    """Shorter texts are set aside."""
    maximum_characters: int = Field(default=0, ge=0)
    """0 for no limit."""
    minimum_tokens: int = Field(default=0, ge=0)
    maximum_tokens: int = Field(default=0, ge=0)
    """0 for no limit."""
    tokenizer: Runtime[Path] = Path()
    """`tokenizer.json`, or the folder of a model that holds one; relative to the project file."""
    longer: Literal["cut", "drop"] = "cut"
    """What happens to texts over a maximum."""

    def apply(self, table: Columns) -> None:
        """Cut the column and mark the rows."""
        import polars as pl

        table.need(self.type, self.column)
        text, size = pl.col(self.column), pl.col(self.column).fill_null("").str.len_chars()
        table.set_aside(
            size < self.minimum_characters,
            f"{self.column} is below {self.minimum_characters} characters",
        )
        if self.maximum_characters and self.longer == "drop":
            limit = self.maximum_characters
            table.set_aside(size > limit, f"{self.column} is over {limit} characters")
        elif self.maximum_characters:
            table.rewrite(self.type, {self.column: text.str.head(self.maximum_characters)})
        if self.counts_tokens:
            self._count_tokens(table)

    @property
    def file(self) -> Path:
        """The tokenizer's file."""
        named = self.tokenizer.suffix == ".json"
        return self.tokenizer if named else self.tokenizer / "tokenizer.json"

    @property
    def counts_tokens(self) -> bool:
        """True where a tokenizer is needed."""
        return bool(self.minimum_tokens or self.maximum_tokens)

    def _count_tokens(self, table: Columns) -> None:
        import polars as pl

        cut = cutter(table.project_folder / self.file, self.maximum_tokens)
        kind = pl.Struct({"tokens": pl.Int64, "text": pl.String})
        counted = pl.col(self.column).map_batches(cut, return_dtype=kind, is_elementwise=True)
        table.frame = table.frame.with_columns(counted.alias("__cut"))
        tokens = pl.col("__cut").struct.field("tokens")
        if self.minimum_tokens:
            least = self.minimum_tokens
            table.set_aside(tokens < least, f"{self.column} is below {least} tokens")
        if self.maximum_tokens and self.longer == "drop":
            most = self.maximum_tokens
            table.set_aside(tokens > most, f"{self.column} is over {most} tokens")
        elif self.maximum_tokens:
            table.rewrite(self.type, {self.column: pl.col("__cut").struct.field("text")})
        table.frame = table.frame.drop("__cut")


def open_tokenizer(path: Path) -> "Callable[[Sequence[str]], list[list[tuple[int, int]]]]":
    """Gives for each text its tokens as (start, end) places; raises `SettingsError`."""
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise SettingsError(
            f"{path} holds no tokenizer.json. Set tokenizer to the folder of a model."
        )
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in found]

    return encode


def cutter(path: Path, most: int) -> "Callable[[pl.Series], pl.Series]":
    """Counts tokens of each text and cuts it behind the last one that may stay (0: all)."""
    import polars as pl

    encode = open_tokenizer(path)

    def cut(texts: "pl.Series") -> "pl.Series":
        whole = texts.fill_null("").to_list()
        offsets = encode(whole)
        rows = [
            {"tokens": len(o), "text": text[: o[most - 1][1]] if 0 < most < len(o) else text}
            for text, o in zip(whole, offsets, strict=True)
        ]
        return pl.Series(rows, dtype=pl.Struct({"tokens": pl.Int64, "text": pl.String}))

    return cut


def step_of(note: str) -> str:
    """`1 clean_text` of a column that counts what a step changed."""
    place, name = note.removeprefix("__changed_").split("_", 1)
    return f"{int(place) + 1} {name}"
