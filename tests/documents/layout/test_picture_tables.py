from itertools import pairwise

import pytest

from jangin.documents.layout.gutters import PixelBox
from jangin.documents.layout.picture_tables import cells_of, header_line, table_rows


def boxes_of(rows, columns):
    """Boxes of a table with these edges, row by row, 4 pixels apart."""
    return [
        PixelBox(top, bottom - 4, left, right - 4)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def test_boxes_of_a_table_have_rows_and_columns_and_one_may_cover_several_rows():
    first, *rest = boxes_of((0, 50, 100, 150), (0, 200, 300))
    merged = [first, rest[0], PixelBox(50, 146, 0, 196), rest[2], rest[4]]
    cells = cells_of(merged, 200)
    assert [(cell.row, cell.column, cell.rows) for cell in cells] == [
        (0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 1), (2, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "boxes",
    [
        boxes_of((0, 50, 100), (0, 300)),
        boxes_of((0, 50), (0, 100, 200, 300, 400)),
        [
            PixelBox(0, 40, 0, 40),
            PixelBox(0, 40, 400, 440),
            PixelBox(300, 340, 0, 40),
            PixelBox(300, 340, 400, 440),
        ],
    ],
)
def test_boxes_in_one_row_or_column_or_far_apart_are_no_table(boxes):
    assert cells_of(boxes, 200) == []


def test_lines_of_cells_become_rows_and_a_cell_over_several_rows_is_in_each():
    first, *rest = boxes_of((0, 50, 100, 150), (0, 200, 300))
    cells = cells_of([first, rest[0], PixelBox(50, 146, 0, 196), rest[2], rest[4]], 200)
    texts = ["Class", "Price", "Food and", "drink", "3|4", "9"]
    entries = [cells[0], cells[1], cells[2], cells[2], cells[3], cells[4]]
    assert table_rows(list(zip(entries, texts, strict=True))) == [
        ("| Class | Price |", [0, 1]),
        ("| Food and drink | 3\\|4 |", [2, 3, 4]),
        ("| Food and drink | 9 |", [2, 3, 5]),
    ]
    assert header_line("| a\\|b | c |") == "| --- | --- |"


def test_a_grid_of_whole_paragraphs_is_no_table():
    cells = cells_of(boxes_of((0, 50, 100), (0, 200, 300)), 200)
    assert table_rows([(cell, "word " * 200) for cell in cells]) == []
