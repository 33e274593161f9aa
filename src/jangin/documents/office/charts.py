"""Charts and diagrams of office documents: their numbers as a table, their texts as a list."""

from typing import Any

from jangin.documents.readers.archive import child, children, descendants, local
from jangin.documents.readers.markdown import Cell, table
from jangin.text.normalize import collapse_spaces


def chart_text(root: Any) -> str:
    """Title and data of a chart part, a row per category and a column per series."""
    title = child(root, "chart", "title")
    series = list(descendants(root, "ser"))
    names = [_text(child(one, "tx")) for one in series]
    categories = next((points for one in series if (points := _points(one, "cat", "xVal"))), {})
    values = [_points(one, "val", "yVal") for one in series]
    places = sorted({index for one in (categories, *values) for index in one})
    head = [Cell(""), *(Cell(name) for name in names)]
    rows = [
        [Cell(categories.get(index, "")), *(Cell(one.get(index, "")) for one in values)]
        for index in places
    ]
    parts = [
        collapse_spaces(" ".join(text for text in _texts(title))),
        table([head, *rows], 1) if rows else "",
    ]
    return "\n\n".join(part for part in parts if part)


def diagram_text(root: Any) -> str:
    """Texts of a diagram part (SmartArt), one line each."""
    points = descendants(root, "pt")
    lines = [collapse_spaces(" ".join(_texts(one))) for one in points]
    return "\n".join(f"- {line}" for line in lines if line)


def _texts(element: Any) -> list[str]:
    return [one.text or "" for one in descendants(element, "t")]


def _text(element: Any) -> str:
    return collapse_spaces(" ".join(one.text or "" for one in descendants(element, "v", "t")))


def _points(series: Any, *names: str) -> dict[int, str]:
    """{place: value} that the chart stores for its categories or values."""
    values: dict[int, str] = {}
    for holder in children(series, *names):
        for point in descendants(holder, "pt"):
            index = point.get("idx", "")
            value = next((one.text or "" for one in point if local(one) == "v"), "")
            if index.isdigit() and len(index) < 7:
                values[int(index)] = value
    return values
