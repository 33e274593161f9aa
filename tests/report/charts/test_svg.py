from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.report.charts import svg as charts
from jangin.report.charts.svg import Bar, Curve, Flow, StageBox

HOSTILE = "<script>alert(\"1\")</script> & \x00 \x1b ]]> 'x'"
SVG = "{http://www.w3.org/2000/svg}"


def estimate(label="plain", value=0.5, low=0.4, high=0.6):
    return Bar(label, f"{value:.0%}", value, low, high, colour=1)


def drawings(text):
    """Every kind of chart, with the same text wherever it takes one."""
    flow = Flow(text, text, 0.25, (text, text))
    return [
        charts.forest("a", text, text, [(text, [estimate(text)])]),
        charts.histogram("b", text, text, [3, 4, 4, 9]),
        charts.curves("c", text, text, [Curve(text, ((1, 2), (2, 1)), 0)], text),
        charts.box("d", StageBox(text, (flow, flow)), arrow=True),
    ]


@pytest.mark.parametrize("kind", range(4))
def test_a_chart_is_well_formed_and_says_what_it_shows(kind):
    svg = ET.fromstring(drawings("처음 보는 표현")[kind])
    title, description = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.tag == f"{SVG}svg"
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == title.get("id")
    assert svg.get("aria-describedby") == description.get("id")
    assert title.text == "처음 보는 표현"
    assert description.text


@pytest.mark.parametrize("kind", range(4))
def test_hostile_text_in_a_chart_stays_text(kind):
    chart = drawings(HOSTILE)[kind]
    assert "<script" not in chart
    assert not [element for element in ET.fromstring(chart).iter() if "script" in element.tag]


@given(st.lists(st.integers(0, 10_000), max_size=300), st.integers(1, 30))
def test_the_bins_of_a_histogram_hold_every_value_once(values, most):
    bins = charts.bins_of(values, most)
    assert sum(bin_.count for bin_ in bins) == len(values)
    assert len(bins) <= most
    for bin_ in bins:
        assert bin_.count == sum(bin_.low <= value <= bin_.high for value in values)


def test_one_very_long_value_does_not_squeeze_the_others_into_one_bin():
    values = [*range(100, 200), 100_000]
    bins = charts.bins_of(values)
    assert sum(bin_.count > 0 for bin_ in bins) > 15
    assert bins[-1].high == 100_000


def test_the_bars_of_a_histogram_are_as_high_as_their_counts():
    svg = ET.fromstring(charts.histogram("h", "t", "d", [1, 1, 1, 1, 2, 2, 3]))
    heights = [float(bar.get("height")) for bar in svg.iter(f"{SVG}rect")]
    assert heights == pytest.approx([95, 47.5, 23.75], abs=0.01)


def test_a_histogram_of_nothing_is_an_empty_picture():
    assert not list(ET.fromstring(charts.histogram("h", "t", "d", [])).iter(f"{SVG}rect"))


def test_a_bar_ends_at_its_share_and_its_whiskers_at_the_interval():
    svg = ET.fromstring(charts.forest("f", "t", "d", [("set", [estimate(value=0.25, high=0.9)])]))
    bar = next(r for r in svg.iter(f"{SVG}rect") if r.get("class") == "bar")
    whisker = next(r for r in svg.iter(f"{SVG}line") if r.get("class") == "whisker")
    assert bar.get("width") == "25.00%"
    assert (whisker.get("x1"), whisker.get("x2")) == ("40.00%", "90.00%")


def test_curves_share_one_axis_and_each_has_its_legend():
    lines = [Curve("a", ((0, 4), (50, 0)), 0), Curve("b", ((0, 2), (100, 1)), 1, dashed=True)]
    svg = ET.fromstring(charts.curves("c", "t", "d", lines, "steps"))
    first, second = (line.get("points") for line in svg.iter(f"{SVG}polyline"))
    assert first == "0.0,0.0 500.0,200.0"
    assert second == "0.0,100.0 1000.0,150.0"
    assert {"a", "b"} <= {text.text for text in svg.iter(f"{SVG}text")}


@pytest.mark.parametrize("points", [(), ((0, 0),), ((5, 0.0), (9, 0.0))])
def test_curves_of_almost_nothing_are_drawn_too(points):
    ET.fromstring(charts.curves("c", "t", "d", [Curve("a", points, 0)], "steps"))


def test_a_box_shows_how_much_was_kept():
    svg = ET.fromstring(charts.box("b", StageBox("Curation", (Flow("", "8", 0.25),)), arrow=False))
    widths = {r.get("class"): r.get("width") for r in svg.iter(f"{SVG}rect")}
    assert (widths["kept"], widths["lost"]) == ("24.00%", "96%")


def test_a_label_is_cut_by_the_width_of_its_letters():
    assert charts.fit("abcdef", 6) == "abcdef"
    assert charts.fit("abcdefg", 6) == "abcde…"
    assert charts.fit("연차휴가", 6) == "연차…"
