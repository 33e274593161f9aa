"""Footnotes: from the foot of their page to the end of the section that they belong to."""

import re
from collections import Counter
from collections.abc import Sequence

from jangin.documents.layout.order import SENTENCE_END, Block
from jangin.documents.layout.shapes import Area, bounding_box
from jangin.documents.layout.tables import ARTICLE_LINE
from jangin.documents.layout.text_line import TextLine

MARK = re.compile(r"(\d{1,2}|[*†‡§]|주)\s*[.)]?\s*\S")
SMALL = 0.93
"""Largest size of footnotes, as a share of the size of the text."""
LARGE = 1.1
"""Smallest size of a heading, as a share of the size of the text."""
ABOVE = 16.0
"""The rule above footnotes is at most this many points over the first line."""


def move_footnotes(pages: list[list[Block]], rules: Sequence[list[Area]]) -> None:
    """Move the footnotes of each page, in place.

    They go before the next heading after their reference; where none follows on the page, to its
    end, unless a sentence continues on the next page: then to the end of the section on the next.
    """
    waiting: list[Block] = []
    for number, blocks in enumerate(pages):
        size = _body_size(blocks)
        notes = _taken(blocks, rules[number], size)
        for note in waiting:
            _insert(blocks, note, 0, size)
        waiting = []
        for note in notes:
            at = _reference(blocks, note)
            is_last = number == len(pages) - 1
            if not _insert(blocks, note, at, size, only_before_heading=not is_last):
                if _ends_inside_sentence(blocks):
                    waiting.append(note)
                else:
                    blocks.append(note)


def _body_size(blocks: list[Block]) -> float:
    """The font size of most letters."""
    sizes: Counter[float] = Counter()
    for block in blocks:
        for line in block.lines:
            sizes[line.size] += len(line.text)
    return max(sizes, key=lambda size: sizes[size]) if sizes else 0.0


def _taken(blocks: list[Block], rules: list[Area], size: float) -> list[Block]:
    """The footnotes of a page, taken out of its blocks: with a mark, or amid a sentence."""
    notes: list[Block] = []
    for block in list(blocks):
        if block.xs:
            continue
        for index, line in enumerate(block.lines):
            tail = block.lines[index:]
            if (
                (MARK.match(line.text) or (index and _goes_on(block.lines[index - 1])))
                and all(one.size <= SMALL * size for one in tail)
                and any(_is_over(rule, line) for rule in rules)
            ):
                notes.append(Block(tail, bounding_box(tail)))
                block.lines = block.lines[:index]
                break
        if not block.lines:
            blocks.remove(block)
    return notes


def _is_over(rule: Area, line: TextLine) -> bool:
    """True if a short rule is right above the line, from its left margin on."""
    return (
        0 <= rule.bottom - line.top + 4 <= ABOVE
        and abs(rule.left - line.left) < 2 * line.size + 10
        and rule.right - rule.left < 250
    )


def _reference(blocks: list[Block], note: Block) -> int:
    """Number of the first line of the page that refers to the footnote; the last without one."""
    lines = [line for block in blocks for line in block.lines]
    if (written := MARK.match(note.lines[0].text)) is None:
        return len(lines)
    pattern = re.compile(rf"[^\W\d][)\]”’\"'.,]*\s?{re.escape(written[1])}(?!\d)")
    return next((i for i, line in enumerate(lines) if pattern.search(line.text)), len(lines))


def _insert(
    blocks: list[Block], note: Block, start: int, size: float, *, only_before_heading: bool = False
) -> bool:
    """Put a footnote before the first heading after line `start`, else at the end of the page."""
    count = 0
    for index, block in enumerate(blocks):
        for number, line in enumerate(block.lines):
            count += 1
            if (count - 1 <= start and start) or block.xs or not _is_heading(line, size):
                continue
            before, after = block.lines[:number], block.lines[number:]
            parts = [Block(part, bounding_box(part)) for part in (before, after) if part]
            parts.insert(len(parts) - 1, note)
            blocks[index : index + 1] = parts
            return True
    if only_before_heading:
        return False
    blocks.append(note)
    return True


def _is_heading(line: TextLine, size: float) -> bool:
    larger = line.size >= LARGE * size or (line.bold and not SENTENCE_END.search(line.text))
    return bool(ARTICLE_LINE.match(line.text)) or larger


def _ends_inside_sentence(blocks: list[Block]) -> bool:
    last = next((b.lines[-1] for b in reversed(blocks) if b.lines and not b.xs), None)
    return last is not None and _goes_on(last)


def _goes_on(line: TextLine) -> bool:
    """True if a line does not end a sentence."""
    return bool(line.text) and not SENTENCE_END.search(line.text)
