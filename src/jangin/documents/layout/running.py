"""Running heads, footers, page numbers and side tabs: text that recurs at one place of many pages.

Only text at an edge is taken: nothing else of the page lies between it and the edge. What a browser
prints above and below a page needs no second page.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

from jangin.documents.layout.rows import rows_of
from jangin.documents.layout.runs import Run, joined
from jangin.documents.layout.shapes import Area
from jangin.documents.layout.tables import Grid

FEWEST = 3
"""Smallest number of pages on which a text recurs."""
SHARE = 0.1
"""Smallest share of the pages on which a text recurs."""
NEAR = 2
"""A text recurs if it is also on a page at most this far away: left and right pages differ."""
PLACE = 4.0
"""Side, in points, of the squares in which a place is the same."""
MARGIN = 0.12
"""Upper and lower part of the page that holds running heads and footers where only two pages show
what recurs."""
DEEPEST = 4
"""Lines from the top and from the bottom that may be running heads and footers."""
LONGEST = 80
ARTICLE = re.compile(r"제\s*\d+\s*조(?:의\s*\d+)?\s*[(（\[【]")

BROWSER_EDGE = 30.0
"""Chromium prints date, title, address and page number this near to the edges of the page (20 to 24
points), nearer than the headers of office documents are."""
BROWSER_SIZE = 8.5
"""Largest type of them in points (8)."""
MOMENT = re.compile(
    r"\d{1,4}[./-] ?\d{1,2}[./-] ?\d{1,4}[.,]{0,2} ?\D{0,6}\d{1,2}:\d\d(?::\d\d)? ?\D{0,6}"
)
ADDRESS = re.compile(r"(?:https?|file|about|data|blob|chrome-extension):\S+")
PAGE_OF = re.compile(r"\d+/\d+")

Key = tuple[str, str, int, int]


def running(pages: Sequence[tuple[Area, list[Run], list[Grid]]]) -> list[list[Run]]:
    """For each page (area, runs cut at wide gaps, grids) its runs that are no part of the text.

    A page that has nothing else keeps them.
    """
    edges = [list(_edge_rows(area, runs)) for area, runs, _ in pages]
    keys = [
        {id(run): list(_keys(run)) for run in {id(r): r for _, row in rows for r in row}.values()}
        for rows in edges
    ]
    seen: dict[Key, list[int]] = defaultdict(list)
    for number, own in enumerate(keys):
        for key in chain.from_iterable(own.values()):
            seen[key].append(number)
    often = 2 if len(pages) == 2 else max(FEWEST, int(len(pages) * SHARE))
    peeled: list[list[Run]] = []
    for number, (rows, own, (area, runs, grids)) in enumerate(zip(edges, keys, pages, strict=True)):

        def pages_with(run: Run, own: dict[int, list[Key]] = own, number: int = number) -> int:
            counts = [len(seen[key]) for key in own[id(run)] if _is_near(seen[key], number)]
            return max(counts, default=0)

        counts = {id(run): pages_with(run) for _, row in rows for run in row}
        recurring = {one for one, count in counts.items() if count >= often}
        if len(pages) == 2:
            recurring &= _in_margins(area, runs)
        for grid in grids:
            if any(_inside(run, grid) for run in runs if id(run) in recurring):
                inside = [id(run) for run in runs if _inside(run, grid)]
                if not recurring.issuperset(inside):
                    recurring -= set(inside)
        peeled.append(list(_peeled(rows, recurring)))
    if len(pages) == 2:
        peeled = _on_both(peeled, keys)
    out = []
    for gone, (area, runs, _) in zip(peeled, pages, strict=True):
        taken = {id(run) for run in gone}
        gone += [run for run in _of_browser(area, runs) if id(run) not in taken]
        out.append(gone if len(gone) < len(runs) else [])
    return out


def _on_both(peeled: list[list[Run]], keys: list[dict[int, list[Key]]]) -> list[list[Run]]:
    """What is at the edge of both pages; on one of them, a line of text is like a line below it."""
    first, second = (
        {key for run in runs for key in own[id(run)]}
        for runs, own in zip(peeled, keys, strict=True)
    )
    return [
        [run for run in runs if not other.isdisjoint(own[id(run)])]
        for runs, own, other in zip(peeled, keys, (second, first), strict=True)
    ]


def _of_browser(area: Area, runs: list[Run]) -> list[Run]:
    """What Chromium prints in the margins: date and title above, address and page number below.

    Nothing unless all of them but the title are there, each in its corner of the page.
    """
    small = [run for run in runs if run.size <= BROWSER_SIZE and not run.bold and not run.turned]
    above = [run for run in small if run.middle > area.top - BROWSER_EDGE]
    below = [run for run in small if run.middle < area.bottom + BROWSER_EDGE]
    at_edges = sum(
        not area.bottom + BROWSER_EDGE <= run.middle <= area.top - BROWSER_EDGE for run in runs
    )
    if not above or len(below) != 2 or len(above) + len(below) != at_edges:
        return []
    moment = min(above, key=lambda run: run.left)
    address, number = sorted(below, key=lambda run: run.left)
    in_corners = (
        max(moment.left, address.left) < area.left + BROWSER_EDGE
        and number.right > area.right - BROWSER_EDGE
        and len(rows_of(above)) == len(rows_of(below)) == 1
    )
    patterns = ((moment, MOMENT), (address, ADDRESS), (number, PAGE_OF))
    if in_corners and all(shape.fullmatch(joined(run.glyphs)) for run, shape in patterns):
        return above + below
    return []


def _inside(run: Run, grid: Grid) -> bool:
    return len(grid.cells) + len(grid.cells[0]) > 2 and grid.area.holds(
        (run.left + run.right) / 2, run.middle
    )


def _in_margins(area: Area, runs: list[Run]) -> set[int]:
    """Ids of the runs above and below the text that are in no larger type than it.

    A title may recur on two pages, too, such as the two copies of a form.
    """
    glyphs = sum(len(run.glyphs) for run in runs)
    usual = count = 0.0
    for run in sorted(runs, key=lambda one: one.size):
        usual, count = run.size, count + len(run.glyphs)
        if count >= glyphs / 2:
            break
    depth = MARGIN * (area.top - area.bottom)
    return {
        id(run)
        for run in runs
        if not run.bold
        and run.size <= usual + 0.1
        and not area.bottom + depth < run.middle < area.top - depth
    }


def _is_near(numbers: list[int], number: int) -> bool:
    return any(0 < abs(other - number) <= NEAR for other in numbers)


def _keys(run: Run) -> Iterator[Key]:
    """What a text is, but for its digits, and where it begins, ends and has its middle."""
    text = joined(run.glyphs)
    if len(text) > LONGEST or ARTICLE.match(text):
        return
    shape = re.sub(r"\d+", "0", text.replace(" ", ""))
    for side, x in (("l", run.left), ("r", run.right), ("m", (run.left + run.right) / 2)):
        for shift in (0.0, PLACE / 2):
            y = int((run.middle + shift) // PLACE)
            yield f"{side}{shift}", shape, int((x + shift) // PLACE), y


def _edge_rows(area: Area, runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """(edge, runs) line by line from the upper and the lower edge, and all beside the text."""
    wide = [run for run in runs if run.right - run.left > (area.right - area.left) / 4]
    if len(wide) >= FEWEST:
        left, right = min(run.left for run in wide) - 1, max(run.right for run in wide) + 1
        beside = [run for run in runs if run.right <= left or run.left >= right]
        if beside:
            yield "side", beside
        aside = {id(run) for run in beside}
        runs = [run for run in runs if id(run) not in aside]
    rows = rows_of(runs)
    for row in rows[:DEEPEST]:
        yield "top", row.runs
    for row in rows[: -DEEPEST - 1 : -1]:
        yield "bottom", row.runs


def _peeled(rows: list[tuple[str, list[Run]]], recurring: set[int]) -> Iterator[Run]:
    """The recurring runs up to the first line of each edge that has other text."""
    taken: set[int] = set()
    closed: set[str] = set()
    for edge, row in rows:
        if edge in closed:
            continue
        text = [run for run in row if id(run) not in recurring]
        apart = [run for run in row if id(run) in recurring and id(run) not in taken]
        while edge != "side" and (
            near := [r for r in apart if any(_is_next_to(r, t) for t in text)]
        ):
            text += near
            apart = [run for run in apart if run not in near]
        taken.update(id(run) for run in apart)
        yield from apart
        if edge != "side" and text:
            closed.add(edge)


def _is_next_to(run: Run, other: Run) -> bool:
    """True if a run on the same line is too near to be a page number beside a title."""
    reach = 2 * other.height
    return run.left < other.right + reach and run.right > other.left - reach
