"""Pages of columns that the bench generates are read column after column, others across."""

import sys
from pathlib import Path

import pytest

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
