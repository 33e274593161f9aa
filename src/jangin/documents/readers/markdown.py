"""Markdown that readers write: headings, and tables in which every row is whole."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jangin.text.normalize import collapse_spaces

MOST_COLUMNS = 1000
"""Wider tables are cut; a span is never longer."""
MOST_REPEATED = 1_000_000
"""Letters that merged cells of one table write besides their first field; further ones are written
once."""
LONGEST_REPEATED = 2000
"""Letters of a merged cell that is written in every field; tables inside merged cells of tables
would multiply without it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table, which may cover several rows and columns."""

    text: str
    rows: int = 1
    columns: int = 1
    is_header: bool = False


def heading(level: int, text: str) -> str:
    """A heading line, level 1 to 6; deeper ones have level 6."""
    return f"{'#' * max(1, min(6, level))} {collapse_spaces(text)}"


def table(rows: Sequence[Sequence[Cell]], header_rows: int | None = None) -> str:
    """A Markdown table; a merged cell is written in every field that it covers.

    Several header rows become one, the upper texts before the lower. `header_rows` is their number;
    if it is None, that of the leading rows of header cells, else the first row with the rows that
    its merged cells reach into. A row of one cell over the whole width, such as a title above the
    header, is a line of its own there and fills only its first field below. A table of one column
    is a paragraph for each cell, as it is a frame around text.
    """
    grid, starts = _grid(rows)
    width = max((len(row) for row in grid), default=0)
    if width < 2:
        return "\n\n".join(text for row in grid for text in row if text)
    lead = 0
    titles = []
    while lead < len(grid) - 1 and len(starts[lead]) == 1 and starts[lead][0].columns >= width > 1:
        titles.append(collapse_spaces(starts[lead][0].text))
        lead += max(1, min(starts[lead][0].rows, len(grid) - 1 - lead))
    count = (
        max(1, header_rows - lead) if header_rows else _header_rows(starts[lead:], rows_of=width)
    )
    head = [
        _joined(column) for column in zip(*_padded(grid[lead : lead + count], width), strict=True)
    ]
    body = _padded(grid[lead + count :], width)
    for row, cells in zip(body, starts[lead + count :], strict=True):
        if len(cells) == 1 and cells[0].columns >= width:
            row[1:] = [""] * (width - 1)
    lines = [_line(head), _line(["---"] * width)]
    lines += [_line(row) for row in body if any(row)]
    return (
        "\n\n".join(title for title in titles if title)
        + ("\n\n" if any(titles) else "")
        + "\n".join(lines)
    )


def _header_rows(starts: Sequence[Sequence[Cell]], rows_of: int) -> int:
    """Number of header rows, by marked cells or by the merged cells of the first row."""
    marked = 0
    for cells in starts:
        if not cells or not all(cell.is_header for cell in cells):
            break
        marked += 1
    if marked:
        return min(marked, max(1, len(starts) - 1))
    first = starts[0] if starts else []
    if any(1 < cell.columns < rows_of for cell in first):
        return max(1, min(max(cell.rows for cell in first), len(starts) - 1))
    return 1


def _grid(rows: Sequence[Sequence[Cell]]) -> tuple[list[list[str]], list[list[Cell]]]:
    """(texts of all fields, the cells that begin in each row), by the rules of HTML."""
    grid: list[list[str]] = []
    starts: list[list[Cell]] = []
    below: dict[int, tuple[int, str]] = {}
    repeats = 0
    for number, cells in enumerate(rows):
        line: dict[int, str] = {}
        for column, (left, text) in list(below.items()):
            line[column] = text
            below[column] = (left - 1, text)
            if left == 1:
                del below[column]
        column = 0
        for cell in cells:
            while column in line:
                column += 1
            height = max(1, min(cell.rows, len(rows) - number))
            width = max(1, min(cell.columns, MOST_COLUMNS - column))
            repeats += (height * width - 1) * (len(cell.text) + 1)
            if repeats > MOST_REPEATED or len(cell.text) > LONGEST_REPEATED:
                height = width = 1
            for _ in range(width):
                line[column] = cell.text
                if height > 1:
                    below[column] = (height - 1, cell.text)
                column += 1
                if column in line:
                    break
        grid.append([line.get(index, "") for index in range(max(line, default=-1) + 1)])
        starts.append(list(cells))
    return grid, starts


def _padded(grid: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    return [[*row, *[""] * (width - len(row))] for row in grid]


def _joined(texts: Sequence[str]) -> str:
    """Texts of the header rows above one column, a repeated one once."""
    return collapse_spaces(" ".join(dict.fromkeys(text for text in texts if text)))


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", collapse_spaces(text))


def flat_block(block: str) -> str:
    """A block inside a cell: a heading without its mark, a table as `a, b; c, d`."""
    if not block.startswith("| "):
        return re.sub(r"^#+ ", "", block)
    rows = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in block.split("\n")]
    return "; ".join(", ".join(cell for cell in row if cell) for row in rows if set(row) != {"---"})
