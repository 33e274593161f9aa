"""Pages of columns that the bench generates are read column after column, others across."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jangin.documents.layout.gutters import ColumnSearch, in_groups

BENCH = Path(__file__).resolve().parents[3] / "bench" / "documents"
QUICK = (
    "reportlab_appendix",
    "reportlab_table_heads_second",
    "reportlab_three_titles",
    "reportlab_mixed_bands",
    "reportlab_unequal_wide_left",
    "reportlab_figure_across",
    "reportlab_left_titles",
    "reportlab_side_notes",
    "reportlab_one_sentence",
    "reportlab_english_three",
    "reportlab_wide_table",
    "reportlab_definitions",
    "reportlab_code",
    "reportlab_contents",
)


@pytest.fixture(scope="module")
def bench():
    """The modules of the bench that draw and measure layouts."""
    sys.path.insert(0, str(BENCH))
    try:
        import columns
        import layouts
        import producers
    finally:
        sys.path.remove(str(BENCH))
    if not Path(producers.FONTS["gothic"][0]).exists():
        pytest.skip("needs the Nanum fonts: apt-get install fonts-nanum")
    yield columns, layouts, producers
    for name in ("columns", "layouts", "producers"):
        del sys.modules[name]


def wrong_sentences(bench, chosen, tmp_path):
    """{name of a layout: sentences that are not whole, or not in order}."""
    columns, layouts, producers = bench
    out = {}
    for layout in layouts.layouts():
        name = f"{layout.producer}_{layout.name}"
        if chosen(layout, name) and producers.is_installed(layout.producer):
            path = tmp_path / f"{name}.pdf"
            producers.draw(layout, path)
            text = "\n".join(columns.read_layer(path))
            out[name] = columns.score(layout, text, is_scan=False)[2]
    return out


def test_every_sentence_of_pages_of_columns_and_of_rows_is_whole_and_in_order(bench, tmp_path):
    wrong = wrong_sentences(bench, lambda _, name: name in QUICK, tmp_path)
    assert wrong == {name: [] for name in QUICK}


@pytest.mark.slow
@pytest.mark.parametrize(
    "producer",
    [
        "reportlab",
        pytest.param("chromium", marks=pytest.mark.long),
        pytest.param("libreoffice", marks=pytest.mark.long),
    ],
)
def test_every_sentence_of_every_layout_is_whole_and_in_order(bench, producer, tmp_path):
    def chosen(layout, name):
        few = producer == "reportlab" or layout.name in ("rules", "table_and_box", "form")
        return layout.producer == producer and few and name not in QUICK

    wrong = wrong_sentences(bench, chosen, tmp_path)
    if not wrong:
        pytest.skip(f"needs {producer}")
    assert not {name: sentences for name, sentences in wrong.items() if sentences}


def test_the_longest_order_decides_which_sentences_are_right(bench):
    columns, _, _ = bench
    assert columns.in_order([0, 50, 10, 20, -1, 30]) == {0, 2, 3, 5}


def in_reading_order(*paragraphs):
    """Names of paragraphs (name, left, right, number of the first line, lines) as they are read."""
    names = [name for name, *_, lines in paragraphs for _ in range(lines)]
    edges = [
        (left, 12 * row, right, 12 * row + 10)
        for _, left, right, first, lines in paragraphs
        for row in range(first, first + lines)
    ]
    groups = in_groups(np.array(edges, dtype=np.float64), np.ones(len(edges), bool), ColumnSearch())
    rows = [
        sorted(group, key=lambda number: (edges[number][1], edges[number][0])) for group in groups
    ]
    return list(dict.fromkeys(names[number] for group in rows for number in group))


def test_the_strip_between_labels_and_their_text_is_no_gutter():
    own = [(f"{n}", 0, 12, 3 * n, 1) for n in range(10)]
    own += [(f"text {n}", 40, 200, 3 * n, 2) for n in range(10)]
    beside = [(f"beside {n}", 230, 245, 4 * n + n % 2, 1) for n in range(7)]
    beside += [(f"text beside {n}", 270, 430, 4 * n + n % 2, 3) for n in range(7)]
    read = in_reading_order(*own, *beside)
    assert read[:4] == ["0", "text 0", "1", "text 1"]
    assert read[20:] == [name for n in range(7) for name in (f"beside {n}", f"text beside {n}")]


def test_rows_without_rules_are_read_cell_by_cell():
    heights = [(2, 3), (3, 1), (1, 2), (4, 2), (2, 2)]
    starts = np.cumsum([0, *(max(pair) + 1 for pair in heights)])
    rows = list(zip(starts, heights, strict=False))
    left = [(f"left {n}", 0, 150, top, tall) for n, (top, (tall, _)) in enumerate(rows)]
    right = [(f"right {n}", 170, 330, top, tall) for n, (top, (_, tall)) in enumerate(rows)]
    order = [name for n in range(5) for name in (f"left {n}", f"right {n}")]
    assert in_reading_order(*left, *right) == order


def test_a_gap_of_half_a_line_parts_columns_of_many_lines():
    left = [(f"left {n}", 0, 200, 3 * n, 2) for n in range(8)]
    right = [(f"right {n}", 205, 400, 4 * n, 3) for n in range(6)]
    order = [*(f"left {n}" for n in range(8)), *(f"right {n}" for n in range(6))]
    assert in_reading_order(*left, *right) == order
