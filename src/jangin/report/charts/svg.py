"""Charts as SVG text, so that a report needs no script and no network.

Horizontal positions are percentages, vertical positions and font sizes pixels: a chart is as wide
as its container and its text keeps its size. Colours are classes of report.css.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

NAMESPACE = "http://www.w3.org/2000/svg"
_LABEL_COLUMNS = 34
_MOST_BINS = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a forest plot: a share with its interval, all in [0, 1]."""

    label: str
    text: str
    """The figures as text, at the right."""
    value: float
    low: float
    high: float
    colour: int
    faint: bool = False
    """True for what the others are compared with, which is drawn in a paler colour."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of a line chart."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: int
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a histogram: integers from `low` to `high`, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Flow:
    """One line in a box of the data flow: a count, the share that was kept, and notes."""

    label: str
    count: str
    share_kept: float | None = None
    """None for no bar, where nothing can be dropped."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageBox:
    """One stage of the data flow."""

    title: str
    flows: tuple[Flow, ...]


def fit(text: str, columns: int = _LABEL_COLUMNS) -> str:
    """Text truncated to a width in columns; an East Asian wide character has two."""
    clean = _clean(text)
    widths = [2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in clean]
    if sum(widths) <= columns:
        return clean
    total, end = 1, 0
    while total + widths[end] <= columns:
        total += widths[end]
        end += 1
    return clean[:end].rstrip() + "…"


def forest(
    name: str, title: str, description: str, groups: Sequence[tuple[str, Sequence[Bar]]]
) -> str:
    """Forest plot: bars with intervals on one axis from 0 to 100 %, and a heading per group."""
    rows = sum(len(estimates) for _, estimates in groups)
    bottom = 26 * len(groups) + 38 * rows + 4
    svg = open_svg(name, title, description, bottom + 20)
    for percent in (0, 25, 50, 75, 100):
        add(svg, "line", "grid", x1=f"{percent}%", x2=f"{percent}%", y1="0", y2=str(bottom))
        write_text(svg, f"{percent}%", f"{percent}%", bottom + 15, anchor(percent), "axis")
    y = 0
    for heading, estimates in groups:
        write_text(svg, heading, "0", y + 17, "start", "heading")
        y += 26
        for estimate in estimates:
            _bar(svg, estimate, y)
            y += 38
    return svg_text(svg)


def _bar(svg: ET.Element, estimate: Bar, y: int) -> None:
    faint = " faint" if estimate.faint else ""
    row = add(svg, "g", f"s{estimate.colour % 6}")
    ET.SubElement(row, "title").text = _clean(f"{estimate.label}: {estimate.text}")
    write_text(row, fit(estimate.label), "0", y + 11, "start", "label")
    write_text(row, estimate.text, "100%", y + 11, "end", "label")
    add(row, "rect", "track", x="0", y=str(y + 17), width="100%", height="12", rx="2")
    bar = f"bar{faint}"
    add(row, "rect", bar, x="0", y=str(y + 17), width=_percent(estimate.value), height="12", rx="2")
    low, high = _percent(estimate.low), _percent(estimate.high)
    add(row, "line", "whisker", x1=low, x2=high, y1=str(y + 23), y2=str(y + 23))
    for end in (low, high):
        add(row, "line", "whisker", x1=end, x2=end, y1=str(y + 19), y2=str(y + 27))


def bins_of(values: Sequence[int], most: int = _MOST_BINS) -> list[Bin]:
    """At most `most` bins of equal width; the last one also takes a long tail."""
    if not values:
        return []
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    ninety_nine = ordered[math.ceil(0.99 * len(ordered)) - 1]
    top = ninety_nine if high - low > 2 * (ninety_nine - low + 1) else high
    width = max(1, math.ceil((top - low + 1) / most))
    count = math.ceil((top - low + 1) / width)
    counts = [0] * count
    for value in values:
        counts[min((value - low) // width, count - 1)] += 1
    lows = [low + width * index for index in range(count)]
    highs = [*(start - 1 for start in lows[1:]), max(high, lows[-1] + width - 1)]
    return [Bin(*row) for row in zip(lows, highs, counts, strict=True)]


def histogram(
    name: str, title: str, description: str, values: Sequence[int], colour: int = 0
) -> str:
    """Histogram of integers."""
    bins = bins_of(values)
    svg = open_svg(name, title, description, 130)
    most = max((bin_.count for bin_ in bins), default=1)
    write_text(svg, f"{most:,}", "0", 11, "start", "axis")
    add(svg, "line", "grid", x1="0", x2="100%", y1="15", y2="15")
    group = add(svg, "g", f"s{colour % 6}")
    step = 100 / max(1, len(bins))
    for index, bin_ in enumerate(bins):
        height = 95 * bin_.count / most
        bar = add(
            group, "rect", "bar", x=f"{index * step + 0.05 * step:.3f}%", y=f"{110 - height:.2f}",
            width=f"{0.9 * step:.3f}%", height=f"{height:.2f}",
        )  # fmt: skip
        ET.SubElement(bar, "title").text = f"{bin_.low:,}–{bin_.high:,}: {bin_.count:,}"
    add(svg, "line", "base", x1="0", x2="100%", y1="110.5", y2="110.5")
    if bins:
        tail = "+" if bins[-1].high - bins[-1].low > bins[0].high - bins[0].low else ""
        last = f"{bins[-1].low:,}+" if tail else f"{bins[-1].high:,}"
        marks = [(0.0, f"{bins[0].low:,}"), (100.0, last)]
        if len(bins) > 4:
            middle = len(bins) // 2
            marks.insert(1, (middle * step, f"{bins[middle].low:,}"))
        for percent, mark in marks:
            write_text(svg, mark, f"{percent:.3f}%", 125, anchor(percent), "axis")
    return svg_text(svg)


def bars(
    name: str, title: str, description: str, counts: Sequence[tuple[str, int]], colour: int = 0
) -> str:
    """Horizontal bar chart of (label, count), in the order given."""
    svg = open_svg(name, title, description, 24 * len(counts) + 4)
    most = max((count for _, count in counts), default=1) or 1
    group = add(svg, "g", f"s{colour % 6}")
    for index, (label, count) in enumerate(counts):
        y = 24 * index
        width = f"{58 * count / most:.3f}%"
        add(group, "rect", "bar", x="26%", y=str(y + 4), width=width, height="14", rx="2")
        write_text(svg, fit(label, 20), "25%", y + 16, "end", "label")
        write_text(svg, f"{count:,}", "100%", y + 16, "end", "label")
    return svg_text(svg)


def curves(name: str, title: str, description: str, lines: Sequence[Curve], x_label: str) -> str:
    """Line chart with a legend above it; both axes start at 0."""
    top, height = 20 * len(lines) + 12, 200
    svg = open_svg(name, title, description, top + height + 36)
    x_most = max((x for line in lines for x, _ in line.points), default=1) or 1
    y_step = nice(max((y for line in lines for _, y in line.points), default=1) / 4)
    y_most = 4 * y_step
    for tick in range(5):
        y = top + height * (1 - tick / 4)
        add(svg, "line", "grid", x1="0", x2="100%", y1=f"{y:g}", y2=f"{y:g}")
    plot = add(
        svg, "svg", "", x="0", y=str(top), width="100%", height=str(height),
        viewBox=f"0 0 1000 {height}", preserveAspectRatio="none",
    )  # fmt: skip
    for index, line in enumerate(lines):
        style = f"curve s{line.colour % 6}{' dashed' if line.dashed else ''}"
        key = add(svg, "g", style)
        add(key, "line", "stroke", x1="0", x2="30", y1=f"{20 * index + 9}", y2=f"{20 * index + 9}")
        write_text(key, fit(line.label, 44), "38", 20 * index + 13, "start", "label")
        at = [(x / x_most, height * (1 - y / y_most)) for x, y in line.points]
        group = add(plot, "g", style)
        add(
            group, "polyline", "stroke", points=" ".join(f"{1000 * x:.1f},{y:.1f}" for x, y in at),
            **{"vector-effect": "non-scaling-stroke"},
        )  # fmt: skip
        for x, y in at if line.dashed or len(at) == 1 else []:
            add(key, "circle", "dot", cx=f"{100 * x:.2f}%", cy=f"{top + y:.1f}", r="3")
    for tick in range(5):
        y = top + height * (1 - tick / 4)
        write_text(svg, f"{tick * y_step:g}", "0", y - 3, "start", "axis halo")
    for percent in (0, 50, 100):
        label = f"{percent / 100 * x_most:,.0f}"
        write_text(svg, label, f"{percent}%", top + height + 15, anchor(percent), "axis")
    write_text(svg, x_label, "50%", top + height + 31, "middle", "axis")
    return svg_text(svg)


def box(name: str, box: StageBox, *, arrow: bool) -> str:
    """One stage of the data flow, with an arrow from the stage above.

    Each stage is a picture of its own, so that a printed page can break between them.
    """
    labelled = any(flow.label for flow in box.flows)
    heights = [22 + 14 * (f.share_kept is not None) + 18 * len(f.notes) for f in box.flows]
    top = 20 if arrow else 1
    height = (24 if labelled else 2) + 8 + sum(heights)
    description = "; ".join(
        ", ".join(filter(None, (f.label, f.count, *f.notes))) for f in box.flows
    )
    svg = open_svg(name, box.title, description, top + height + 1)
    _hatch(svg, f"{name}-hatch")
    if arrow:
        add(svg, "path", "arrow", d="M18 2v13m-5-5l5 6l5-6")
    add(svg, "rect", "box", x="0", y=str(top), width="100%", height=str(height), rx="6")
    write_text(svg, fit(box.title), "12", top + 19, "start", "heading")
    y = top + (24 if labelled else 2)
    for flow in box.flows:
        y = _flow(svg, flow, y, f"url(#{name}-hatch)")
    return svg_text(svg)


def _hatch(svg: ET.Element, name: str) -> None:
    """Add a striped pattern, which is also visible in black and white."""
    pattern = add(
        add(svg, "defs", ""), "pattern", "", id=name, width="5", height="5",
        patternUnits="userSpaceOnUse", patternTransform="rotate(45)",
    )  # fmt: skip
    add(pattern, "rect", "stripe", width="2.2", height="5")


def _flow(svg: ET.Element, flow: Flow, y: int, hatch: str) -> int:
    """Draw one line of a box at `y`; returns the `y` of the next one."""
    write_text(svg, fit(flow.label), "12", y + 17, "start", "label")
    write_text(svg, flow.count, "100%", y + 17, "end", "count", dx="-12")
    y += 22
    if flow.share_kept is not None:
        add(svg, "rect", "lost", x="2%", y=str(y + 2), width="96%", height="6", rx="2", fill=hatch)
        width = f"{96 * flow.share_kept:.2f}%"
        add(svg, "rect", "kept", x="2%", y=str(y + 2), width=width, height="6", rx="2")
        y += 14
    for note in flow.notes:
        write_text(svg, fit(note, 46), "12", y + 12, "start", "note")
        y += 18
    return y


def open_svg(name: str, title: str, description: str, height: int) -> ET.Element:
    """An empty SVG element with a title and a description for screen readers."""
    svg = ET.Element("svg", {"class": "chart", "role": "img", "width": "100%"})
    svg.attrib |= {"height": str(height), "xmlns": NAMESPACE, "aria-labelledby": f"{name}-t"}
    svg.attrib["aria-describedby"] = f"{name}-d"
    for tag, mark, text in (("title", "t", title), ("desc", "d", description)):
        ET.SubElement(svg, tag, id=f"{name}-{mark}").text = _clean(text)
    return svg


def add(parent: ET.Element, tag: str, style: str, **attributes: str) -> ET.Element:
    """Append a new element to `parent` and return it."""
    return ET.SubElement(parent, tag, {"class": style, **attributes} if style else attributes)


def write_text(
    parent: ET.Element, text: str, x: str, y: float, anchor: str, style: str, **attributes: str
) -> None:
    """Append one line of text at (x, y)."""
    attributes |= {"x": x, "y": f"{y:g}", "text-anchor": anchor}
    add(parent, "text", style, **attributes).text = _clean(text)


def _clean(text: str) -> str:
    """Text without control characters and lone surrogates, which are not allowed in XML."""
    return "".join(c for c in text if unicodedata.category(c)[0] != "C")


def svg_text(svg: ET.Element) -> str:
    """The element as SVG text."""
    return ET.tostring(svg, encoding="unicode")


def anchor(percent: float) -> str:
    """The `text-anchor` of a label at this position, so that no label is cut off."""
    return "start" if percent <= 0 else "end" if percent >= 100 else "middle"


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def nice(step: float) -> float:
    """`step` rounded up to 1, 2, 2.5 or 5 times a power of ten."""
    if step <= 0:
        return 0.25
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))
