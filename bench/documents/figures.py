"""Scores of what a reader gives for a page against its reference."""

import re
import unicodedata
from collections import Counter
from itertools import pairwise

ITEM = re.compile(r"\(?(?:\d{1,2}|[가-하])[).]")
MARKUP = re.compile(r"<br\s*/?>|[|*#_`\\]|:?-{3,}:?")


def squeezed(text):
    """The text without Markdown and white space, NFC."""
    return re.sub(r"\s", "", MARKUP.sub("", unicodedata.normalize("NFC", text)))


def heading_places(page, text):
    """Where each heading of the page begins in the squeezed text; -1 for one that is not there.

    The same heading may be on a page twice; a mention inside a sentence is not the heading.
    """
    starts, length = {}, 0
    read = squeezed(text)
    for line in text.split("\n"):
        starts[length] = True
        length += len(squeezed(line))
    used, places = set(), []
    for heading in page["headings"]:
        letters = squeezed(heading)
        every = [match.start() for match in re.finditer(re.escape(letters), read)]
        ranked = sorted(every, key=lambda at: (at not in starts, at))
        place = next((at for at in ranked if at not in used), -1)
        used.add(place)
        places.append(place)
    return places


def wrong_headings(page, text):
    """(lines under another heading, lines found whole, lines) of one page that has headings."""
    read = squeezed(text)
    counts = Counter(squeezed(line["text"]) for line in page["lines"])
    places = heading_places(page, text)
    wrong = whole = total = 0
    for line in page["lines"]:
        letters = squeezed(line["text"])
        if len(letters) < 6 or counts[letters] > 1 or read.count(letters) > 1:
            continue
        total += 1
        at = read.find(letters)
        if at < 0:
            continue
        whole += 1
        above = [(place, number) for number, place in enumerate(places) if 0 <= place <= at]
        wrong += (max(above)[1] if above else -1) != line["heading"]
    return wrong, whole, total


def whole_rows(page, text):
    """(rows in one piece, rows) of the ruled tables of a page.

    A ruled row that is a list, as many items as lines in every other cell, may be item by item.
    """
    read = squeezed(text)
    whole = sum(
        squeezed("".join(row)) in read
        or any(
            all(squeezed("".join(part)) in read for part in parts)
            for parts in lists_in(row)
            if parts
        )
        for row in page["rows"]
    )
    return whole, len(page["rows"])


def lists_in(row):
    """A ruled row as the rows of a list: line by line, and by the enumerators of its first cell."""
    lines = [cell.strip().split("\n") for cell in row]
    if len(lines[0]) > 1 and len({len(cell) for cell in lines}) == 1:
        yield list(zip(*lines, strict=True))
    items = []
    for line in lines[0]:
        if items and not ITEM.match(line):
            items[-1] += line
        else:
            items.append(line)
    if len(items) > 1 and {len(cell) for cell in lines[1:]} == {len(items)}:
        yield list(zip(items, *lines[1:], strict=True))


def found_headings(page, text):
    """(article headings at the start of a line, article headings)."""
    starts = [squeezed(line) for line in text.split("\n")]
    heads = [squeezed(heading)[:20] for heading in page["headings"]]
    return sum(any(line.startswith(head) for line in starts) for head in heads), len(heads)


def letters(text):
    return Counter(c for c in unicodedata.normalize("NFC", text) if c.isalnum())


def letters_changed(page, text):
    """(letters and digits that are missing, that are too many) on a page."""
    true, read = letters(page["letters"]), letters(text)
    return (true - read).total(), (read - true).total()


def in_order(truth, text):
    """(neighbouring lines of the truth that follow one another in the text, such neighbours)."""
    read = squeezed(text)
    pairs = list(pairwise(read.find(squeezed(line)) for line in truth))
    return sum(0 <= a < b for a, b in pairs), len(pairs)
