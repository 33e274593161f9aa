"""Remove part numbers, boilerplate and personal data from text columns, or extract a part."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from jangin.core.config import Advanced, Config
from jangin.core.errors import SettingsError
from jangin.prepare.transforms.chats import rewritten
from jangin.text.pii import masked

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns


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
