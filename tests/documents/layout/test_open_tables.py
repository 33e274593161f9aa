"""Grids without rules at their sides, as masks of 200 dpi: words are bars of ink."""

from itertools import product

import numpy as np
import pytest

from jangin.documents.layout.picture_tables import closing_lines

DPI, SHAPE = 200, (900, 1200)
LEFT, RIGHT, STARTS = 100, 1100, (120, 480, 800)
RULES = (100, 180, 260, 340)


def masks(rules=RULES, starts=STARTS, between=(), sides=(), words=None):
    """(ink, horizontal rules, vertical rules) of a table with a word in each cell."""
    ink, across, down = (np.zeros(SHAPE, dtype=bool) for _ in range(3))
    for y in rules:
        across[y : y + 3, LEFT:RIGHT] = True
    for x in (*between, *sides):
        down[rules[0] : rules[-1], x : x + 3] = True
    places = product(rules[:-1], starts) if words is None else words
    for y, x in places:
        ink[y + 30 : y + 55, x : x + 150] = True
    return ink, across, down


def added(*given):
    """x of the lines that are added from top to bottom."""
    lines = closing_lines(*given, DPI)
    return [int(x) for x in np.flatnonzero(lines[RULES[0] : RULES[-1]].all(axis=0))][::2]


def test_columns_without_rules_are_told_by_their_gutters_and_the_sides_are_closed():
    left, first, second, right = added(*masks())
    assert 270 < first < 480
    assert 630 < second < 800
    assert left <= LEFT
    assert right >= RIGHT
    lines = closing_lines(*masks(), DPI)
    assert lines[list(RULES), LEFT:RIGHT].all()


def test_with_rules_between_columns_only_the_sides_are_added():
    left, right = added(*masks(between=(450, 760)))
    assert (left <= LEFT, right >= RIGHT) == (True, True)


def test_a_cell_of_two_lines_is_one_row_where_the_others_have_one():
    words = [*product(RULES[:-1], STARTS), (RULES[1] + 35, STARTS[2])]
    masks_of = masks(words=words)
    masks_of[0][RULES[1] + 55 : RULES[1] + 62] = False
    assert len(added(*masks_of)) == 4


@pytest.mark.parametrize(
    "given",
    [
        {"sides": (LEFT, RIGHT - 3), "between": (450, 760)},  # a grid
        {"sides": (LEFT,)},
        {"starts": tuple(range(120, 1000, 160))},  # lines of text between rules
        {"rules": (100, 180)},
        {"rules": (100, 180, 780)},  # two rules, and one far below
        {"words": [(100, 120), (180, 120), (260, 120)]},  # one column
        {"words": [*product((100, 180), STARTS), *product((260, 210), STARTS)]},  # two rows in one
    ],
)
def test_grids_text_between_rules_and_rows_without_rules_get_no_lines(given):
    assert not closing_lines(*masks(**given), DPI).any()


def test_tables_of_one_width_below_each_other_are_closed_one_by_one():
    rules = (100, 180, 260, 340, 560, 640, 720)
    ink, across, down = masks(rules=rules, words=[])
    for y, x in product((100, 180, 260, 560, 640), STARTS):
        ink[y + 30 : y + 55, x : x + 150] = True
    ink[440:465, LEFT:RIGHT] = True
    down[340:560] = False
    lines = closing_lines(ink, across, down, DPI)
    for top, bottom in ((100, 340), (560, 720)):
        assert len(np.flatnonzero(lines[top:bottom].all(axis=0))) == 8
    assert not lines[400:500].any()


def test_a_table_whose_header_is_above_its_first_rule_stays_lines_of_text():
    words = [*product((RULES[0] - 80, *RULES[:-1]), STARTS)]
    assert not closing_lines(*masks(words=words), DPI).any()
