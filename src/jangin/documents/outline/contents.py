"""Tables of contents: where they are in a text, and which headings they announce."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jangin.documents.outline.legal import SENTENCE_END, Heading, LegalLine, Rank

CONTENTS_TITLE = re.compile(
    r"\W*(?:\S{1,20}\s+){0,3}(?:목\s*차|차\s*례|색\s*인|(?:table of )?contents|index)\W*$",
    re.IGNORECASE,
)
LEADER = re.compile(r"(?:[.·…‥⋯ㆍ․_]\s?){3,}\s*(?:\d{1,4}|[ivxlc]{1,6})?$")
PAGE_AT_END = re.compile(r"\s+\d{1,4}$")
NEUTRAL = re.compile(r"[\W\d_]*(?:[ㄱ-ㅎA-Z가-힣]|기타|쪽|page)?[\W\d_]*$", re.IGNORECASE)
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
BRACKETED = re.compile(r"[【\[〔].*[】\]〕]$")
FEWEST = 4
"""Minimum number of entries of a table of contents."""
FOREIGN = 2
"""Lines in a row that may be no entries: the rest of a wrapped entry, a remark."""
SHARE = 0.66
"""Minimum share of entries among its lines."""
OFTEN = 4
"""A line that occurs in the text more often than this is a cell or a running head, no entry."""
LONGEST = 90


@dataclass(frozen=True, slots=True)
class Contents:
    """One table of contents: lines `first` to `last`, the last not included."""

    first: int
    last: int
    entries: tuple[str, ...]
    """Its lines as `entry_key` writes them."""
    bracketed: frozenset[str]
    """The entries in brackets, such as `[ 특별약관 ]`, which name parts."""


def entry_key(text: str) -> str:
    """Letters and digits of a line without list mark, link, leader dots and page number."""
    text = LINK.sub(r"\1", text.lstrip("#-*•○●■□ "))
    if LEADER.search(text):
        text = LEADER.sub("", text)
    return re.sub(r"[\W_]+", "", text).lower()


def find_contents(lines: list[LegalLine], headings: Sequence[Heading]) -> list[Contents]:
    """All tables of contents, in order; `headings` are the headings known by their wording.

    An entry ends in leader dots, or is a chapter or article without text, or occurs in the text
    once more further on. The last kind counts under a title such as 목차 or beside the others only.
    """
    shown = [i for i, line in enumerate(lines) if line.text and not line.noise]
    heads = {heading.line: heading for heading in headings}
    covered = {i for h in headings for i in range(h.line + 1, h.line + h.length)}
    shown = [i for i in shown if i not in covered]
    strong = _strong(lines, shown, heads)
    weak = _recurring(lines, shown)
    out: list[Contents] = []
    position = 0
    while position < len(shown):
        if shown[position] not in strong and shown[position] not in weak:
            position += 1
            continue
        stop = _end(lines, shown, position, strong | weak)
        run = shown[position:stop]
        run = _trimmed(lines, run, shown[stop : stop + 1], heads, strong, weak)
        title = _title(lines, shown, position)
        if _is_contents(lines, run, strong, weak, titled=title is not None):
            first = run[0] if title is None else title
            out.append(_contents(lines, first, run, strong | weak))
        position = stop
    return out


def _strong(lines: list[LegalLine], shown: list[int], heads: dict[int, Heading]) -> set[int]:
    """Lines with leader dots, and chapters and articles above another heading or entry."""
    leaders = {i for i in shown if LEADER.search(lines[i].text) and len(lines[i].text) > 8}
    out = set(leaders)
    for index, below in pairwise(shown):
        heading = heads.get(index)
        known = heading is not None and heading.rank >= Rank.TITLE and not heading.level
        if (
            known
            and heading is not None
            and not beside(lines, heading)
            and (below in heads or below in leaders)
        ):
            out.add(index)
    return out


def _recurring(lines: list[LegalLine], shown: list[int]) -> set[int]:
    """Lines that occur once more further on, but not in the same order as here."""
    keys = [entry_key(lines[i].text) if len(lines[i].text) <= LONGEST else "" for i in shown]
    positions: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        if len(key) >= 3:
            positions[key].append(position)
    out = set()
    for position, index in enumerate(shown):
        text = lines[index].text
        if SENTENCE_END.search(text) and not LEADER.search(text):
            continue
        key = keys[position]
        following = keys[position + 1] if position + 1 < len(keys) else ""
        for name in {key, re.sub(r"\d{1,4}$", "", key) if PAGE_AT_END.search(text) else key}:
            if len(positions.get(name, ())) > OFTEN:
                continue
            later = [p for p in positions.get(name, ()) if p > position]
            if any(p + 1 >= len(keys) or keys[p + 1] != following for p in later):
                out.add(index)
    return out


def _end(lines: list[LegalLine], shown: list[int], position: int, entries: set[int]) -> int:
    """Place after the last entry of the run that begins at `position`."""
    stop, foreign = position + 1, 0
    for later in range(position + 1, len(shown)):
        text = lines[shown[later]].text
        if shown[later] in entries:
            stop, foreign = later + 1, 0
        elif not NEUTRAL.match(text) and not CONTENTS_TITLE.match(text):
            foreign += 1
            if foreign > FOREIGN:
                break
    return stop


def _trimmed(
    lines: list[LegalLine],
    run: list[int],
    below: list[int],
    heads: dict[int, Heading],
    strong: set[int],
    weak: set[int],
) -> list[int]:
    """The run without its last chapters, if the first article of the text follows them."""
    while len(run) > 1 and below and below[0] in heads:
        last = heads.get(run[-1])
        dots = LEADER.search(lines[run[-1]].text)
        sure = dots or last is None or last.rank >= Rank.ARTICLE
        if run[-1] in weak or (run[-1] in strong and sure):
            break
        run = run[:-1]
    return run


def _title(lines: list[LegalLine], shown: list[int], position: int) -> int | None:
    """Line of the title such as 목차, on the first line of the run or up to three above."""
    for above in range(position, max(-1, position - 4), -1):
        if CONTENTS_TITLE.match(lines[shown[above]].text.lstrip("# ")):
            return shown[above]
    return None


def _is_contents(
    lines: list[LegalLine], run: list[int], strong: set[int], weak: set[int], *, titled: bool
) -> bool:
    plain = [i for i in run if not NEUTRAL.match(lines[i].text)]
    sure = [i for i in plain if i in strong]
    entries = [i for i in plain if i in strong or i in weak]
    enough = FEWEST - 1 if titled else FEWEST
    return (titled or len(sure) >= enough) and len(entries) >= max(enough, SHARE * len(plain))


def _contents(lines: list[LegalLine], first: int, run: list[int], entries: set[int]) -> Contents:
    keys, bracketed = [], set()
    for index in run:
        text = lines[index].text
        key = entry_key(text)
        inside = (
            re.match(r"[【\[〔]", text) is not None and re.search(r"[】\]〕]$", text) is not None
        )
        if index in entries or inside:
            keys.append(key)
            if PAGE_AT_END.search(text) and not LEADER.search(text):
                keys.append(re.sub(r"\d{1,4}$", "", key))
        if inside:
            bracketed.add(key)
    return Contents(first, run[-1] + 1, tuple(keys), frozenset(bracketed))


def beside(lines: list[LegalLine], heading: Heading) -> bool:
    """True if text follows on the line of an article, other than leader dots and a page number."""
    if heading.rank != Rank.ARTICLE:
        return False
    text = " ".join(
        line.text for line in lines[heading.line : heading.line + max(1, heading.length)]
    )
    shown, title = (re.sub(r"[\s.·…‥⋯ㆍ․]", "", part) for part in (text, heading.title))
    return not (shown.endswith(title) or re.sub(r"\d{1,4}$", "", shown).endswith(title))
