"""A picture of CPU time and peak memory by the number of documents.

    python bench/scale/plot.py FIGURES.jsonl PICTURE.svg

FIGURES.jsonl is what `python bench/scale` writes; of several lines for one stage and number of
documents the last counts.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

COLOURS = {"load": "#1f77b4", "chunk": "#d97706", "curate": "#2e8b57", "split": "#b03060"}
WIDTH, HEIGHT, LEFT, TOP, BETWEEN = 250, 180, 60, 30, 90
LIMIT_MB = 4000 / 1.048576
"""4 GB, in MiB."""


def main(figures: Path, picture: Path) -> None:
    points: dict[str, dict[int, tuple[float, float]]] = {stage: {} for stage in COLOURS}
    for line in figures.read_text().splitlines():
        row = json.loads(line)
        seconds = row["cpu_s"] + row["publish_s"]
        points[row["stage"]][row["documents"]] = (
            1e6 * seconds / row["documents"],
            row["peak_mb"],
        )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * LEFT + 2 * WIDTH + BETWEEN} '
        f'{TOP + HEIGHT + 60}" font-family="sans-serif" font-size="11">',
        f'<rect width="{2 * LEFT + 2 * WIDTH + BETWEEN}" height="{TOP + HEIGHT + 60}" '
        'fill="#ffffff"/>',
    ]
    parts += panel(LEFT, "CPU, µs per document", points, 0, (100, 200, 400, 800, 1600))
    right = LEFT + WIDTH + BETWEEN
    parts += panel(right, "peak memory, MiB", points, 1, (250, 500, 1000, 2000, 4000))
    y = height_of(LIMIT_MB, 250, 4000)
    parts.append(
        f'<line x1="{right}" x2="{right + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#666" '
        f'stroke-dasharray="4 3"/><text x="{right + 4}" y="{y - 3:.1f}">4 GB</text>'
    )
    for number, (stage, colour) in enumerate(COLOURS.items()):
        x, y = LEFT + 90 * number, TOP + HEIGHT + 48
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="{y}">{stage}</text>')
    picture.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def panel(
    left: int,
    title: str,
    points: dict[str, dict[int, tuple[float, float]]],
    column: int,
    ticks: Sequence[int],
) -> list[str]:
    parts = [f'<text x="{left}" y="{TOP - 12}" font-weight="bold">{title}</text>']
    for tick in ticks:
        y = height_of(tick, ticks[0], ticks[-1])
        parts.append(
            f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,}</text>'
        )
    for documents in (10_000, 100_000, 1_000_000):
        x = across(left, documents)
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{documents:,}</text>'
        )
    middle = left + WIDTH / 2
    parts.append(
        f'<text x="{middle}" y="{TOP + HEIGHT + 31}" text-anchor="middle">documents</text>'
    )
    for stage, rows in points.items():
        spots = [
            (across(left, documents), height_of(rows[documents][column], ticks[0], ticks[-1]))
            for documents in sorted(rows)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        colour = COLOURS[stage]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
    return parts


def across(left: int, documents: int) -> float:
    return left + WIDTH * (math.log10(documents) - 4 + 0.1) / 2.2


def height_of(value: float, lowest: float, highest: float) -> float:
    return TOP + HEIGHT * (1 - math.log(value / lowest) / math.log(highest / lowest))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
