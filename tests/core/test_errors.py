"""Numbers and their nouns in messages."""

import pytest

from jangin.core.errors import all_counted, counted, counted_of


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (counted(1, "row"), "1 row"),
        (counted(0, "row"), "0 rows"),
        (counted(2000, "row is", "rows are"), "2,000 rows are"),
        (counted(1, "reply", "replies"), "1 reply"),
        (counted(0.5, "GPU"), "0.5 GPUs"),
        (counted(1.0, "CPU"), "1 CPU"),
        (counted_of(1, 3, "row", "has", "have"), "1 of 3 rows has"),
        (counted_of(2, 3, "row", "has", "have"), "2 of 3 rows have"),
        (all_counted(1, "row was", "rows were"), "the only row was"),
        (all_counted(2, "row was", "rows were"), "all 2 rows were"),
    ],
)
def test_a_noun_agrees_with_its_number(written, text):
    assert written == text
