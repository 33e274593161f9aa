"""Steps that take out of a text what only costs tokens, or should not be learned."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Config
from jangin.core.errors import SettingsError
from jangin.text.pii import masked

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns


class Scrub(Config):
    """Take substrings, brackets and part numbers out of columns, in this order."""

    type: Literal["scrub"]
    columns: tuple[str, ...] = Field(min_length=1)
    remove: tuple[str, ...] = ()
    """Substrings that go, one after another, wherever they stand."""
    collapse: str = ':[]"{}【】'
    """Characters of which a run, blanks and line ends included, becomes one blank."""
    replace: tuple[tuple[str, str], ...] = ((" ,", ","), (",,,", ","), (",,", ","))
    """[what, with what], one after another."""
    part_number_characters: int = Field(default=7, ge=0)
    """Words of so many characters or more that hold a digit go; 0 keeps them."""

    def apply(self, table: "Columns") -> None:
        """Rewrite the columns."""
        table.need(self.type, *self.columns)
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
    """Write `[email]`, `[phone]` and so on where a text seems to hold personal data."""

    type: Literal["mask_personal"]
    columns: tuple[str, ...] = Field(min_length=1)
    kinds: tuple[Literal["email", "resident_number", "phone", "card", "ip_address"], ...] = (
        *("email", "resident_number", "phone", "card", "ip_address"),
    )

    def apply(self, table: "Columns") -> None:
        """Rewrite the columns."""
        import polars as pl

        table.need(self.type, *self.columns)
        new = {}
        for name in self.columns:
            text = pl.col(name).fill_null("")
            for kind in self.kinds:
                text = masked(text, kind)
            new[name] = text
        table.rewrite(self.type, new)


class Trim(Config):
    """Take a beginning or an end off every text of a column that has it, or put one on."""

    type: Literal["trim"]
    column: str
    beginning: str = ""
    """Taken off."""
    lower_case: bool = False
    prefix: str = ""
    """Put before every text that does not begin with it."""
    suffix: str = ""
    """Put behind every text that does not end with it."""

    def apply(self, table: "Columns") -> None:
        """Rewrite the column."""
        import polars as pl

        table.need(self.type, self.column)
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
    """Take a part of a text into a column, such as a category out of a product's description."""

    type: Literal["extract"]
    column: str
    pattern: str = Field(min_length=1)
    """Regular expression (Rust's) whose first group is the part; `(?s)` lets `.` go over lines."""
    into: str
    """The column that takes it, new or not."""
    missing: Literal["set_aside", "empty"] = "set_aside"
    """What happens to rows that the pattern does not fit."""

    def apply(self, table: "Columns") -> None:
        """Make the column and mark the rows."""
        import polars as pl

        table.need(self.type, self.column)
        text = pl.col(self.column).fill_null("")
        try:
            groups = pl.select(pl.lit("").str.extract_groups(self.pattern)).to_series().struct
        except pl.exceptions.ComputeError as error:
            why = str(error).splitlines()[-1].removeprefix("error: ")
            raise SettingsError(
                f"extract: {self.pattern!r} is no regular expression: {why}. Correct the pattern."
            ) from error
        if not groups.fields:
            raise SettingsError(f"extract: {self.pattern!r} has no group. Put ( ) round the part.")
        part = text.str.extract(self.pattern, 1)
        if self.missing == "set_aside":
            fits = text.str.contains(self.pattern)
            table.set_aside(~fits, f"the pattern for {self.into} does not fit {self.column}")
        table.rewrite(self.type, {self.into: part.fill_null("").str.strip_chars()})
