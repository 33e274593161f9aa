"""Headings of Korean legal texts: 편, 장, 절, 관, 조, 부칙, policies, statutes, 별표, 붙임."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

# Lines of a text, and the headings among them.


SENTENCE_END = re.compile(r"[.!?。:;]['\"”’)\]]*$|[다요음함]\.$")


@dataclass(frozen=True, slots=True)
class LegalLine:
    """One line of a text, without its line end."""

    start: int
    end: int
    text: str
    """Without whitespace at its ends."""
    noise: bool = False
    """True for a page number, and for a header or footer that many pages repeat."""


class Rank(IntEnum):
    """What a heading is by its wording; a heading closes what has its own rank or a deeper one."""

    MARKED = 0
    """Nothing but its level is known: a `#` heading."""
    PART = 1
    """Holds policies, such as `【특별약관】`."""
    TITLE = 2
    """A policy, regulation, statute or appendix."""
    BOOK = 3
    """편, and 부칙."""
    CHAPTER = 4
    SECTION = 5
    """절."""
    DIVISION = 6
    """관."""
    ARTICLE = 7
    NUMBERED = 8
    """`1. Scope`; `1.1 Scope` is one deeper, `1.1.1 Scope` two."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A line, or several, that opens a section."""

    line: int
    rank: int
    """A `Rank`, or deeper for numbers with dots."""
    title: str
    length: int = 1
    """Number of lines: two if it is underlined or wrapped, else one."""
    level: int = 0
    """Number of `#`; 0 for a heading that is recognised by its wording."""
    number: int = 0
    """Number of a chapter or an article."""
    near: bool = True
    """False for a title that is divided by an introduction from its first chapter or article."""
    appendix: bool = False
    """True for an appendix, which belongs to no policy where there are several."""
    restarts: bool = False
    """True for a chapter 1 or article 1 that begins another text, whose title is not known."""
    statute: bool = False
    """True for a quoted statute, whose articles are numbered as in the statute."""


def gap_above(lines: list[LegalLine], index: int) -> bool:
    """True if the line begins a paragraph: after an empty line, or at the beginning."""
    return index == 0 or not lines[index - 1].text


def gap_below(lines: list[LegalLine], index: int) -> bool:
    """True if an empty line, or the end, follows."""
    return index + 1 >= len(lines) or not lines[index + 1].text


def next_shown(lines: list[LegalLine], index: int) -> int:
    """Index of the first line from `index` on that has text and is no noise; `len(lines)` else."""
    while index < len(lines) and (lines[index].noise or not lines[index].text):
        index += 1
    return index


def last_shown(lines: list[LegalLine], index: int) -> int:
    """Index of the last line up to `index` that has text and is no noise; -1 if there is none."""
    while index >= 0 and (lines[index].noise or not lines[index].text):
        index -= 1
    return index


def tidy(title: str) -> str:
    """One blank between words, none inside `제 3 조`."""
    title = re.sub(r"\s+", " ", title.strip().strip("*_"))
    return re.sub(r"제\s*(\d+)\s*([편장절관조])", r"제\1\2", title)


CHAPTERS = {"편": Rank.BOOK, "장": Rank.CHAPTER, "절": Rank.SECTION, "관": Rank.DIVISION}
CHAPTER = re.compile(
    r"[\[<【〔(\s]*제\s*(\d+)\s*([편장절관])(?:의\s*\d+)?(?=\s|$|[.:(\[【])[\s.:]*(.{0,60})$"
)
ARTICLE = re.compile(r"제\s*(\d+(?:-\d+)?)\s*조(?:의?\s*(\d+))?\s*([(（\[【])")
BARE_ARTICLE = re.compile(r"제\s*(\d+)\s*조(?:의\s*(\d+))?(?:\s+([^\s.,][^.,]{0,30}))?$")
CLOSING = {"(": ")", "（": "）", "[": "]", "【": "】"}
LONGEST_TITLE = 60
LINES_OF_INTRODUCTION = 12
"""Lines that may come between the title of a regulation and its first chapter or article."""
LINES_OF_TABLE = 40
"""The same for the title of a policy in a paragraph of its own."""

APPENDIX = re.compile(
    r"([【\[<〔＜《]\s*)?(별표|별지|별첨|붙임|첨부|부표|부록|법규)\s*"
    r"(제?\s*\d+(?:\s*[-의]\s*\d+)?\s*호?\s*(?:서식)?)?\s*([】\]>〕＞》])?(.{0,80})$"
)
"""Groups: opening bracket, kind, number, closing bracket, title."""
SUPPLEMENT = re.compile(r"부\s*칙\s*(?:[(（<〈\[].{0,40}[)）>〉\]])?$")
ENGLISH_APPENDIX = re.compile(
    r"(?:Appendix|Annex|Schedule|Exhibit|APPENDIX|ANNEX|SCHEDULE|EXHIBIT)\s+"
    r"(?:[A-Z]|\d{1,2}|[IVX]+)(?:$|[.:)\s–—-]\s*\S.{0,70}$)"
)
TAIL = r"(?:\s*[ⅠⅡⅢⅣⅤⅥ]|\s*\([^()]{1,40}\)|\s*\[[^\]]{1,40}\])*"
POLICY = re.compile(rf".*(?:약관|특약){TAIL}$")
INSTRUMENT = re.compile(
    rf".*(?:약관|특약|규정|규칙|세칙|지침|내규|규약|정관|조례|강령|헌장|계약서|협약서?){TAIL}$"
)
STATUTE = re.compile(r"[「『【\[<]?.*(?:법|법률|시행령|시행규칙|규정|규칙|조례)[」』】\]>]?$")
BRACKETED = re.compile(r"[【\[〔<＜]\s*([^】\]〕>＞]{2,40}?)\s*[】\]〕>＞]$")
MARK = re.compile(r"[-*•○●■□▶▷·※☞ㅇ①-⑳㉠-㉻ⓐ-ⓩ|]|[가-하][.)]\s|\(?\d{1,2}\)|주\s*\d*\)")
"""What a line of a list begins with; titles may be numbered `1.` or `2-1.`."""
LABEL = re.compile(
    r"[【\[<(]?\s*(?:예\s*시?|용\s*어|풀\s*이|용어\s*풀이|인용|문구|인용\s*문구|참\s*[고조]|보기|비고"
    r"|주의|해설|설명)\s*[】\]>)]?$"
)
"""Labels of boxes with examples and explanations, which can quote an article 1."""
DATE = re.compile(r"\d{4}\s*[년.]\s*\d{1,2}\s*[월.]\s*\d{1,2}")
"""The date below a title, with the name of who issued it."""
RUNNING = re.compile(
    r"(?:하여|하며|하고|하는 경우|경우|때에는|으로서|에서|따라|따른|대하여|위하여|의하여|인하여"
    r"|합니다|한다|입니다|이하|다만)(?=[\s,)]|$)|니다|[,，]\s"
)
"""Words of a sentence, which titles do not have."""
PARTICLE = re.compile(r".*[가-힣](?:은|는|을|를|의|에|에서|으로|와|과|및|도)$")


def legal_heading(
    lines: list[LegalLine], index: int, previous: str, article: int
) -> Heading | None:
    """The chapter, article or 부칙 on line `index`; `previous` is the text above, "" after a gap.

    A line that only begins with a reference, `제3조(...)에 따라`, is recognised by the text after
    the bracket, by the unfinished sentence above it, or by a number that does not follow `article`.
    """
    text = lines[index].text
    ended = not previous or bool(SENTENCE_END.search(previous))
    if (match := CHAPTER.match(text)) and ended and not SENTENCE_END.search(text):
        shown = text.strip("[]<>【】〔〕() ") if text[0] != "제" else text
        return Heading(index, CHAPTERS[match[2]], tidy(shown), number=int(match[1]))
    if ended and SUPPLEMENT.match(text):
        return Heading(index, Rank.BOOK, tidy(re.sub(r"^부\s*칙", "부칙", text)))
    if match := ARTICLE.match(text):
        return _article(lines, index, match, ended, article)
    if (match := BARE_ARTICLE.match(text)) and ended:
        number = int(match[1])
        follows = match[3] is None or not re.search(
            r"(?:및|또는|부터|따라|의|에|을|를)(?:\s|$)|제\s*\d+\s*[항호조]", match[3]
        )
        if follows and number in (1, article, article + 1):
            return Heading(index, Rank.ARTICLE, tidy(text), number=number)
    return None


def _article(
    lines: list[LegalLine], index: int, match: re.Match[str], ended: bool, article: int
) -> Heading | None:
    """An article with its title in brackets, which may be closed on the next line."""
    text, length = lines[index].text, 1
    end = _closing(text, match.end() - 1)
    if end is None and index + 1 < len(lines) and ended and lines[index + 1].text:
        text, length = f"{text} {lines[index + 1].text}", 2
        end = _closing(text, match.end() - 1)
        if end is not None and end - match.end() > LONGEST_TITLE:
            end = None
    if end is None or re.match(r"[가-힣,·]|\s*(?:및|또는|내지)\s", text[end + 1 :]):
        return None
    number = int(match[1].rpartition("-")[2])
    follows = ended and number == article + 1
    if not follows and re.match(r"\s*제\s*\d+\s*[항호조]", text[end + 1 :]):
        return None
    if ended or number in (article, article + 1) or (number == 1 and _under_title(lines, index)):
        return Heading(index, Rank.ARTICLE, tidy(text[: end + 1]), length, number=number)
    return None


def _under_title(lines: list[LegalLine], index: int) -> bool:
    """True if the line above is a title of its own, and no beginning of a sentence."""
    above = lines[index - 1].text if index else ""
    return (
        is_title(above)
        and gap_above(lines, index - 1)
        and not RUNNING.search(above)
        and (is_instrument(above) or not PARTICLE.match(above))
    )


def _closing(text: str, opening: int) -> int | None:
    """Offset of the bracket that closes the one at `opening`; None if the text has none."""
    close = CLOSING[text[opening]]
    depth = 0
    for index in range(opening, len(text)):
        depth += (text[index] == text[opening]) - (text[index] == close)
        if depth == 0:
            return index
    return None


def appendix_heading(lines: list[LegalLine], index: int, previous: str) -> Heading | None:
    """The appendix on line `index`, such as `【별표 1】 장해분류표`; `previous` as above."""
    text = lines[index].text
    if previous and not SENTENCE_END.search(previous):
        return None
    if ENGLISH_APPENDIX.match(text) and not SENTENCE_END.search(text):
        return Heading(index, Rank.TITLE, tidy(text), appendix=True)
    match = APPENDIX.match(text)
    if match is None or bool(match[1]) != bool(match[4]) or SENTENCE_END.search(text):
        return None
    title = match[5]
    if not match[1] and (not match[3] or (previous and title)):
        return None
    if RUNNING.search(title) or re.match(
        r"[가-힣]" if match[1] is None else r"[의에을를은는과와]", title
    ):
        return None
    if title.lstrip().startswith(("(", "참조")) and not title.rstrip().endswith(")"):
        return None
    statute = match[2] == "법규"
    return Heading(index, Rank.TITLE, tidy(text), appendix=not statute, statute=statute)


def is_title(text: str) -> bool:
    """True if the wording of a line can be a title: short, no list mark, date or sentence."""
    return (
        2 <= len(text) <= LONGEST_TITLE
        and not DATE.search(text)
        and not SENTENCE_END.search(text)
        and "|" not in text
        and not MARK.match(text)
        and not LABEL.match(text)
    )


def is_policy(text: str) -> bool:
    """True if the line names a policy: it ends in 약관 or 특약, and is no part of a sentence."""
    return is_title(text) and bool(POLICY.match(text)) and not RUNNING.search(text)


def is_instrument(text: str) -> bool:
    """True if the line names a policy, regulation or contract, by its last word."""
    return is_title(text) and bool(INSTRUMENT.match(text)) and not RUNNING.search(text)


def stands_alone(lines: list[LegalLine], index: int) -> bool:
    """True if the text above the line is finished, so that the line is no end of a sentence."""
    above = lines[index - 1]
    if index == 0 or above.noise or not re.search(r"\w", above.text):
        return True
    return bool(SENTENCE_END.search(above.text))


def title_above(lines: list[LegalLine], index: int, floor: int) -> Heading | None:
    """The title of the text that begins with the first chapter or article on line `index`.

    Either a title alone on the line above, such as `출장비 규정`, or, above an introduction
    or a table, one that says by its last word what it is. No line before
    `floor` is taken.
    """
    above = last_shown(lines, index - 1)
    if above < floor:
        return None
    wrapped = _wrapped_title(lines, above, floor)
    if wrapped is not None:
        return wrapped
    weak = is_title(lines[above].text) and stands_alone(lines, above)
    if weak and is_instrument(lines[above].text):
        return Heading(above, Rank.TITLE, tidy(lines[above].text))
    position = above
    for distance in range(LINES_OF_TABLE):
        if position < floor:
            break
        text = lines[position].text
        near = distance < LINES_OF_INTRODUCTION and is_instrument(text)
        apart = is_policy(text) and gap_above(lines, position)
        if apart or (near and stands_alone(lines, position)):
            return Heading(position, Rank.TITLE, tidy(text), near=position == above)
        position = last_shown(lines, position - 1)
    return Heading(above, Rank.TITLE, tidy(lines[above].text)) if weak else None


def _wrapped_title(lines: list[LegalLine], last: int, floor: int) -> Heading | None:
    """A policy's title on two lines, the second of which is `last`."""
    first = last - 1
    if first < floor or lines[first].noise or not lines[first].text:
        return None
    whole = f"{lines[first].text} {lines[last].text}"
    begins = is_title(lines[first].text) and stands_alone(lines, first)
    if begins and not RUNNING.search(whole) and POLICY.match(whole) and len(whole) <= 90:
        if is_policy(lines[first].text):
            return None
        return Heading(first, Rank.TITLE, tidy(whole), 2)
    return None


def statute_above(lines: list[LegalLine], index: int, floor: int) -> Heading | None:
    """The statute whose article is quoted on line `index`, alone on the line above."""
    above = last_shown(lines, index - 1)
    if above < floor:
        return None
    text = lines[above].text
    alone = stands_alone(lines, above) and is_title(text) and not RUNNING.search(text)
    if alone and STATUTE.match(text):
        return Heading(above, Rank.TITLE, tidy(text), statute=True)
    return None


# Numbered headings such as `1. Scope` in a text that marks none, as opposed to list items.


NUMBERED = re.compile(r"(\d{1,2})\.\s+[A-Z가-힣“\"'(].{1,70}$")
SHORT = 0.6
"""A line shorter than this share of a full line ends before the margin: nothing was wrapped."""
TEXT = 40
"""Letters between two headings; items of a list have less."""


def numbered_headings(
    lines: list[LegalLine], known: Sequence[Heading], inside: set[int]
) -> list[Heading]:
    """`1.`, `2.` and so on, each above text of its own, outside of articles and of `inside`.

    None are taken from a text with `#` headings: there, numbers are those of lists.
    """
    if any(heading.level for heading in known):
        return []
    full = _full_line(lines)
    taken = {heading.line for heading in known}
    articles = _lines_of_articles(lines, known)
    candidates: list[tuple[int, int]] = []
    for index, line in enumerate(lines):
        match = NUMBERED.match(line.text)
        if match is None or line.noise or index in taken or index in inside or index in articles:
            continue
        below = next_shown(lines, index + 1)
        listed = below < len(lines) and lines[below].text.startswith(f"{int(match[1]) + 1}.")
        if not listed and _is_title(lines, index, full):
            candidates.append((index, int(match[1])))
    return [
        Heading(index, Rank.NUMBERED, tidy(lines[index].text))
        for run in _runs(candidates)
        if len(run) > 1 and all(_text_between(lines, a, b) for a, b in pairwise(run))
        for index in run
    ]


def _is_title(lines: list[LegalLine], index: int, full: int) -> bool:
    text = lines[index].text
    below = lines[index + 1].text if index + 1 < len(lines) else ""
    wrapped = not gap_below(lines, index) and (len(text) > SHORT * full or below[:1].islower())
    sentence = SENTENCE_END.search(text) or RUNNING.search(text) or PARTICLE.match(text)
    return gap_above(lines, index) and not wrapped and not sentence and "|" not in text


def _full_line(lines: list[LegalLine]) -> int:
    """Length that nine of ten lines do not exceed."""
    lengths = sorted(len(line.text) for line in lines if line.text and not line.noise)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _lines_of_articles(lines: list[LegalLine], known: Sequence[Heading]) -> set[int]:
    """Lines below an article, whose numbers are those of its clauses."""
    ends = [*(heading.line for heading in known[1:]), len(lines)]
    return {
        index
        for heading, end in zip(known, ends, strict=False)
        if heading.rank == Rank.ARTICLE
        for index in range(heading.line, end)
    }


def _runs(candidates: list[tuple[int, int]]) -> list[list[int]]:
    """Lines whose numbers follow one another, from 1 on; a list inside of a run does not end it."""
    out: list[list[int]] = []
    going: list[tuple[int, list[int]]] = []
    for index, number in candidates:
        while going and number != 1 and going[-1][0] + 1 != number:
            going.pop()
        if number == 1:
            out.append([index])
            going.append((1, out[-1]))
        elif going:
            going[-1][1].append(index)
            going[-1] = (number, going[-1][1])
    return out


def _text_between(lines: list[LegalLine], first: int, second: int) -> bool:
    """True if there is enough text between two headings, and the first one is above some of it."""
    text = sum(len(line.text) for line in lines[first + 1 : second] if not line.noise)
    return text >= TEXT and next_shown(lines, first + 1) < second
