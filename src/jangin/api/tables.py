"""Tables as Python and notebooks see them: rows as dicts, shown as text or as HTML."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

from jangin.core.errors import MachineError

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

SHOWN_ROWS = 20
SHOWN_CHARACTERS = 300
"""Of one value in HTML."""
TEXT_WIDTH = 120
"""Columns of `repr`."""


class Table(Sequence[dict[str, Any]]):
    """Rows of a table, in order; each is a dict of plain values."""

    def __init__(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.name = name
        """What the rows are, such as `examples of curate (main)`."""
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows]

    @property
    def columns(self) -> list[str]:
        """Names of the columns; none where there are no rows."""
        return list(self.rows[0]) if self.rows else []

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "Table": ...
    def __getitem__(self, index: int | slice) -> "dict[str, Any] | Table":
        """One row, or a table of some rows."""
        return Table(self.name, self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows."""
        return iter(self.rows)

    def to_polars(self) -> "pl.DataFrame":
        """The rows as a polars data frame."""
        import polars as pl

        return pl.DataFrame(self.rows, infer_schema_length=None)

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame; raises `MachineError` without pandas."""
        try:
            pd = import_module("pandas")
        except ImportError as error:
            raise MachineError(
                "pandas is not installed. Install it with: pip install pandas; or use to_polars()."
            ) from error
        return pd.DataFrame(self.rows)

    def notes(self) -> list[str]:
        """Sentences that belong to the table."""
        return []

    def __rich__(self) -> "RenderableType":
        """The first rows, for rich."""
        return self._rich(TEXT_WIDTH)

    def __repr__(self) -> str:
        """The first rows as a table of plain text."""
        return as_text(self._rich(TEXT_WIDTH))

    def _repr_html_(self) -> str:
        """The first rows, for notebooks."""
        return as_html(self.name, self.rows, self.notes())

    def _rich(self, width: int) -> "RenderableType":
        from rich.console import Group

        from jangin.report.terminal.tables import rows_table

        shown = rows_table(self.name, self.rows[:SHOWN_ROWS], len(self.rows), width)
        return Group(shown, *map(_literal, self.notes()))


def as_text(shown: "RenderableType", width: int = TEXT_WIDTH) -> str:
    """What rich shows, as plain text without colours."""
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, force_jupyter=False, color_system=None)
    with console.capture() as text:
        console.print(shown)
    return "\n".join(line.rstrip() for line in text.get().rstrip().splitlines())


def as_html(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    *,
    counted: bool = True,
) -> str:
    """An HTML table of the first rows, every value escaped; `counted`: with their number."""
    columns = list(rows[0]) if rows else []
    head = "".join(f'<th style="text-align:left">{escape(str(name))}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(name)) for name in columns) + "</tr>"
        for row in rows[:SHOWN_ROWS]
    )
    left = len(rows) - SHOWN_ROWS
    lines = [*notes, *([f"{left:,} more {'row' if left == 1 else 'rows'}"] if left > 0 else [])]
    below = "".join(f"<div>{escape(line)}</div>" for line in lines)
    heading = escape(
        f"{title}: {len(rows):,} {'row' if len(rows) == 1 else 'rows'}" if counted else title
    )
    return (
        f"<div><b>{heading}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{below}</div>"
    )


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    text = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    side = "right" if number else "left"
    return f'<td style="text-align:{side};white-space:pre-wrap">{escape(text)}</td>'


def _literal(text: str) -> "RenderableType":
    from rich.text import Text

    return Text(text)
