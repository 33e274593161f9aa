"""Charts of labels and numbers: confusion matrix, scatter plot of predicted over true values."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from jangin.metrics.regression import Band
from jangin.report.charts.svg import add, anchor, fit, nice, open_svg, svg_text, write_text

CELL = 30


@dataclass(frozen=True, slots=True)
class Guess:
    """One point of the scatter plot."""

    truth: float
    guess: float
    band: Band
    label: str
    """Text of the tooltip."""


def confusion(
    name: str,
    title: str,
    description: str,
    labels: Sequence[str],
    counts: Sequence[Sequence[int]],
    words: tuple[str, str, str],
) -> str:
    """Confusion matrix as SVG: one row per true label, one column per answer, unparsable ones last.

    `words` name the rows, the columns and the unparsable answers. The shade of a cell is its share
    of the row, so that a rare label is as visible as a frequent one.
    """
    true_word, given_word, unparsable_word = words
    svg = open_svg(name, title, description, CELL * len(labels) + 62)
    columns = [*labels, unparsable_word]
    step = 100 / (len(columns) + 2)
    left = 2 * step
    write_text(svg, f"{given_word} →", f"{left:.2f}%", 12, "start", "axis")
    write_text(svg, f"{true_word} ↓", "0", 34, "start", "axis")
    for j, column in enumerate(columns):
        x = f"{left + (j + 0.5) * step:.2f}%"
        write_text(svg, fit(column, 10), x, 34, "middle", "label")
    for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
        y, total = 42 + CELL * i, sum(row)
        write_text(svg, fit(label, 14), "0", y + 20, "start", "label")
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            cell = add(
                svg, "g", "s2" if i == j else "s1", **{"aria-label": f"{label}, {columns[j]}"}
            )
            ET.SubElement(
                cell, "title"
            ).text = f"{true_word} {label}, {given_word} {columns[j]}: {count:,} / {total:,}"
            cell_x = {"x": f"{left + j * step + 0.1:.2f}%", "width": f"{step - 0.2:.2f}%"}
            add(cell, "rect", "track", y=str(y), height=str(CELL - 2), rx="2", **cell_x)
            if count:
                shade = f"{0.12 + 0.7 * share:.2f}"
                add(
                    cell, "rect", "bar", y=str(y), height=str(CELL - 2), rx="2",
                    **cell_x, **{"fill-opacity": shade},
                )  # fmt: skip
                x = f"{left + (j + 0.5) * step:.2f}%"
                write_text(cell, f"{count:,}", x, y + 19, "middle", "label")
    return svg_text(svg)


def scatter(
    name: str,
    title: str,
    description: str,
    guesses: Sequence[Guess],
    words: tuple[str, str],
) -> str:
    """Scatter plot as SVG: predicted over true values, with the diagonal where both are equal.

    Colour and size of a dot show its band. `words` name the two axes, true and predicted.
    """
    top, height = 16, 320
    svg = open_svg(name, title, description, top + height + 40)
    largest = max((max(g.truth, g.guess) for g in guesses), default=1.0) or 1.0
    most = 4 * nice(largest / 4)
    for tick in range(5):
        y = top + height * (1 - tick / 4)
        add(svg, "line", "grid", x1="0", x2="100%", y1=f"{y:g}", y2=f"{y:g}")
        write_text(svg, f"{most * tick / 4:,.6g}", "0", y - 3, "start", "axis halo")
        percent = 25.0 * tick
        mark = f"{most * tick / 4:,.6g}"
        write_text(svg, mark, f"{percent}%", top + height + 15, anchor(percent), "axis")
    add(svg, "line", "base", x1="0", x2="100%", y1=str(top + height), y2=str(top))
    colour = {"green": "s2", "orange": "s4", "red": "s1"}
    for guess in guesses:
        x = f"{100 * guess.truth / most:.2f}%"
        up = f"{top + height * (1 - min(max(guess.guess, 0.0), most) / most):.1f}"
        mark_group = add(svg, "g", colour[guess.band])
        ET.SubElement(mark_group, "title").text = guess.label
        radius = {"green": "4.5", "orange": "3.5", "red": "2.5"}[guess.band]
        add(mark_group, "circle", "dot", cx=x, cy=up, r=radius)
    write_text(svg, words[0], "50%", top + height + 33, "middle", "axis")
    write_text(svg, f"↑ {words[1]}", "50%", 11, "middle", "axis halo")
    return svg_text(svg)
