"""Words of a Korean page that other readings of the same line do not confirm.

Tesseract's Korean model has no Latin letters, drops the first digit of some numbers, and is sure of
both: `TO미《` for `TOPIK`, `10V` for `110V`. So lines are read again, by both language models
together and by the Latin one; what they do not confirm is read twice more, enlarged. These readings
err in different ways: the Latin model in the syllables, both models together in syllables beside
Latin words, each size at other letters. A part of a word that others confirm is right, a part that
they read alike is taken from them, and anything else is a doubt.

Where other models of both languages are installed (`other_models`), every line is read again, by
these: a larger network, which hardly ever errs in the way of the first. Without them it is the
lines with a letter, digit or sign that is no Hangul, and the same models in other combinations.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rapidfuzz.distance import Levenshtein

from jangin.documents.ocr.missing_syllables import missing_syllables
from jangin.documents.ocr.second_reading import LATIN, ONE_FORM, Doubt, Line, read_lines
from jangin.documents.ocr.tesseract import KOREAN, installed_languages, other_models

if TYPE_CHECKING:
    from pathlib import Path

    from jangin.documents.ocr.preparation import Grey

LARGER = 1.6
"""Scale of the second reading of a line by both models, and by the Korean one."""
AROUND = 1.5
"""Heights of a line that are read with a word on both sides of it."""
SHORTEST = 4
"""Characters of a line below which it is not checked, such as a letter in a drawing."""
RUN = re.compile(r"[가-힣]+|[「」《》〈〉\[\]]+|[^가-힣①-⑳「」《》〈〉\[\]]+")
"""A part of a word. Circled numbers are none: their circles were erased in the picture."""
NOT_HANGUL = re.compile(r"[^\s가-힣①-⑳.,·ㆍ()「」'\"‘’“”-]")
"""What calls for a check of its line."""
LATIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9./-]*[A-Z][A-Za-z0-9./-]*|[A-Z][A-Za-z0-9./-]+")
"""A word in Latin letters with a capital one; particles in Hangul come out as small ones, too."""
DIGITS = re.compile(r"[\d.,:~%()/+-]+")
CODE = re.compile(r"[A-Za-z0-9(%][A-Za-z0-9 .,:;~/()%+&°×*_@'-]*")
"""What is taken from other readings."""
ODD = re.compile(
    r"[\"\\|?<>\[\]{}^#$!;`«»《》『』【】ㄱ-ㅣᄀ-ᇿ]|^&$|[A-Z]{2}i|ivi|[A-EG-VX-Z]i$|[ABD-MO-RT-Za-z]O\d|\dO"
    r"|\.\d{3},|,\d{1,2}(?!\d)|^\d+C$|[.,:/+][.,:/+-]|\)[A-Z]"
    r"|[A-Za-z0-9][/+_=-]$|^O$|m['*?]|\d\*\d"
)
"""What no word has: signs and letters in place of others, groups of digits of another length."""
_UNITS = """
mm cm m km g kg mg t L mL dL kL ml V kV A mA W kW MW Hz kHz MHz GHz Pa kPa MPa bar N kN rpm
KB MB GB TB Mbps Gbps ppm ppb dB lx cd K °C ℃ % %p mAh Ah kWh MWh s ms min h mmHg mg/L mg/dL
g/L L/min m/s mm/s km/h mol mol/L cal kcal J kJ Ω kΩ MΩ mSv Sv Bq
"""
UNITS = frozenset(_UNITS.split())
"""Short words that one other reading confirms."""
_SPELLED = {unit.casefold(): unit for unit in UNITS}
SPELLED = {
    low: unit for low, unit in _SPELLED.items() if sum(u.casefold() == low for u in UNITS) == 1
}
"""{unit in small letters: unit} of those that no other unit is like."""
OHMS = re.compile("[kM]?[QO]")
"""What Ω comes out as, which no model has."""
_PARTICLES = """
이 가 은 는 을 를 의 에 로 와 과 도 만 나 란 며 고 인 에서 으로 에게 까지 부터 이나 이며 이고
이다 보다 처럼 에는 에도 로는 라는 이라 입니다 이란 및 등 원 년 월 일 개 명 급 회 호 조 항 시 분
초 점 대 동 석 번
"""
PARTICLES = frozenset(_PARTICLES.split())
"""What may follow a code in the same word; it needs no second reading."""
PUNCTUATION = re.compile(r"[.,:;()'\"·~!?%/-]*|[「『〈《][^「『]*|[」』〉》][.,]?")
BULLETS = frozenset("○●□■◦◯◇◆▶▷▪•※★☆→-*+=")
FROM_HANGUL = "aelosAES"
"""Letters that syllables such as 를 and 에 come out as."""
GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
NEEDS_LATIN = re.compile(r"0\d+$|\d{1,3}\.\d{3}$")
"""Digits that are often letters in truth, or a comma: they need the Latin model, too."""
UNSURE = 80.0
"""Confidence of a part in Hangul below which one other reading must have it."""
GUESSED = 40.0
"""Confidence of a word below which it is read again, too: letters that the Korean model does not
know come out as such syllables."""
SURE = 75.0
"""Confidence of a code that counts as another reading: the Latin model read it cut out."""
PAIRS = ("()", "[]", "「」", "『』", "《》", "〈〉", "【】")
BRACKETS = re.compile(r"[()\[\]「」『』《》〈〉【】.,:;'\"·-]+")
HANGUL = re.compile("[가-힣]+")
ARTICLE = frozenset("조항호장절관편")
"""What follows the number of a part of a law."""
OPENING = frozenset("[「『《〈【")
MISSING = re.compile("[A-Z0-9ㄱ-ㅎ]+")
PREFIXES = frozenset("제약총각주구신전본동")
"""Syllables that stand before Latin letters."""
SAME = ONE_FORM | str.maketrans("【】『』", "[]「」")
GLOSS = re.compile(r"(?<=[가-힣])[A-Za-z][A-Za-z.&-]+(?=\))")
"""A Latin word between Hangul and a closing bracket."""
ENDED = re.compile("(?:[니한이된는]다|십시오)[:;|,!]$")
"""The end of a sentence, with a speck at its full stop."""
SPECKS = frozenset(".,:;!_^`|")
"""Grain of the paper, where it stands before a word."""
DEGREES = re.compile(r"^(\d[\d.,]*)°C")
SHORT_CODE = 2
"""Characters up to which a code needs two other readings."""

STRANGE = frozenset("[]「」『』《》")
"""Brackets that letters come out as."""

Opcodes = list[tuple[str, int, int, int, int]]


@dataclass(frozen=True, slots=True)
class Others:
    """Other readings of a line without spaces, by name: models and size."""

    first: str
    """By the Korean model, before anything was corrected."""
    both: str
    latin: str
    large: str | None = None
    """By both models, enlarged; None where that was not needed."""
    korean: str | None = None
    """By the Korean model, enlarged."""
    is_other: bool = False
    """All but the first are by other models of these languages, which err elsewhere in Hangul."""


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """What the readings say about a part of a line, characters `start` to `stop` without spaces."""

    start: int
    stop: int
    text: str | None
    """What is written there; None for a doubt."""
    second: str = ""
    """The other reading of a doubtful part."""


@dataclass(frozen=True, slots=True)
class Letters:
    """A line without spaces."""

    text: str
    ends: tuple[int, ...]
    """Where its words end."""
    confidences: tuple[float, ...]
    """Of each character."""


def cross_check(
    image_HW: "Grey",
    lines: list[Line],
    firsts: Sequence[str],
    dpi: int,
    languages: tuple[str, ...],
) -> int:
    """Read lines again; return their number.

    Changes the lines in place: parts that other readings agree on, and doubts. `firsts`: the lines
    as they were read first. Nothing is done for a page that was not read by the Korean model alone,
    or where the Latin one is not installed.
    """
    if languages != (KOREAN,) or LATIN not in installed_languages():
        return 0
    for line in lines:
        _drop_specks(line)
    _open_brackets(lines)
    folder = other_models()
    rows = [
        _Checked(line, _fold(first), own)
        for line, first in zip(lines, firsts, strict=True)
        if line.length >= SHORTEST and (own := _whole(line) if folder else _stretches(line))
    ]
    if not rows:
        return 0
    verdicts = _verdicts(image_HW, rows, dpi, folder)
    for row, judged in zip(rows, verdicts, strict=True):
        for verdict in reversed(judged):
            write(row.line, verdict)
    return len(rows)


def _verdicts(
    image_HW: "Grey", rows: list["_Checked"], dpi: int, folder: "Path | None"
) -> list[list[PartVerdict]]:
    """What other readings say about each line; the enlarged ones only where others doubt."""
    both = _read(image_HW, rows, dpi, (KOREAN, LATIN), folder)
    latin = _read(image_HW, rows, dpi, (LATIN,), folder)
    is_other = folder is not None
    others = [
        Others(row.first, b, e, is_other=is_other)
        for row, b, e in zip(rows, both, latin, strict=True)
    ]
    out = [judge(letters_of(row.line), own) for row, own in zip(rows, others, strict=True)]
    left = [n for n, own in enumerate(out) if any(one.text is None for one in own)]
    again = [rows[n].only(out[n]) for n in left]
    large = _read(image_HW, again, dpi, (KOREAN, LATIN), folder, LARGER)
    korean = _read(image_HW, again, dpi, (KOREAN,), folder, LARGER)
    for n, c, d in zip(left, large, korean, strict=True):
        out[n] = judge(letters_of(rows[n].line), replace(others[n], large=c, korean=d))
    return out


@dataclass(frozen=True, slots=True)
class _Checked:
    """A line, and the stretches of it that are read again."""

    line: Line
    first: str
    stretches: tuple[tuple[int, int], ...]
    """First and last word, exclusive."""

    def only(self, verdicts: Sequence["PartVerdict"]) -> "_Checked":
        """Without the stretches in which there is no doubt."""
        doubts = [one for one in verdicts if one.text is None]
        kept = []
        for start, stop in self.stretches:
            a, b = _size(self.line, start), _size(self.line, stop)
            if any(one.start < b and a < one.stop for one in doubts):
                kept.append((start, stop))
        return replace(self, stretches=tuple(kept) or self.stretches)


def _size(line: Line, stop: int) -> int:
    """Characters of its first words, without spaces."""
    return len(_fold("".join(line.texts[:stop])))


def _whole(line: Line) -> tuple[tuple[int, int], ...]:
    return ((0, len(line.words)),)


def _stretches(line: Line) -> tuple[tuple[int, int], ...]:
    """(first, last) words around those of low confidence or with a sign that is no Hangul."""
    stretches: list[tuple[int, int]] = []
    words = line.words
    missing = set(missing_syllables())
    for index, text in enumerate(line.texts):
        is_guess = words[index].confidence < GUESSED and missing.isdisjoint(text)
        if not is_guess and not NOT_HANGUL.search(text):
            continue
        start, stop = index, index + 1
        left = words[index].left - AROUND * line.height
        right = words[index].left + words[index].width + AROUND * line.height
        while start > 0 and words[start - 1].left + words[start - 1].width > left:
            start -= 1
        while stop < len(words) and words[stop].left < right:
            stop += 1
        if stretches and start <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stop, stretches[-1][1]))
        else:
            stretches.append((start, stop))
    return tuple(stretches)


def _read(
    image_HW: "Grey",
    rows: Sequence[_Checked],
    dpi: int,
    languages: tuple[str, ...],
    folder: "Path | None",
    scale: float = 1.0,
) -> list[str]:
    """Each line as these models read its stretches, without spaces; the rest as it is."""
    parts = [
        Line(row.line.words[a:b], row.line.texts[a:b], row.line.spaces[a:b])
        for row in rows
        for a, b in row.stretches
    ]
    read = read_lines(image_HW, parts, dpi, languages, scale, folder)
    unseen = [number for number, line in enumerate(read) if line is None and folder]
    own = read_lines(image_HW, [parts[number] for number in unseen], dpi, languages, scale)
    for number, line in zip(unseen, own, strict=True):
        read[number] = line
    readings = iter(read)
    out = []
    for row in rows:
        text, at = "", 0
        for a, b in row.stretches:
            text += _fold("".join(row.line.texts[at:a])) + _plain(next(readings))
            at = b
        out.append(text + _fold("".join(row.line.texts[at:])))
    return out


def _drop_specks(line: Line) -> None:
    """Take signs out that stand before the first letter of a word, as no sentence has them.

    A full stop with a speck above it is one again.
    """
    for index, text in enumerate(line.texts):
        is_start = index == 0 or line.spaces[index - 1] != ""
        rest = text[1:] or (line.texts[index + 1] if index + 1 < len(line.texts) else "")
        is_word = _is_hangul(rest[:1]) or (text[:1] in ",;" and _is_latin(rest[:1]))
        if (
            is_start
            and text[:1] in SPECKS
            and is_word
            and (len(text) > 1 or not line.spaces[index])
        ):
            line.texts[index] = text[1:]
    last = line.texts[-1] if line.texts else ""
    if ENDED.search(line.text) and (last[-1:] != "!" or line.words[-1].confidence < SURE):
        line.texts[-1] = last[:-1] + "."


def _open_brackets(lines: Sequence[Line]) -> None:
    """Open the bracket of a Latin word behind the Korean one, as in `발기부전impotence)`.

    Not where a bracket is open in this line or one of the two before.
    """
    for index, line in enumerate(lines):
        text = letters_of(line).text
        before = "".join(one.text for one in lines[max(0, index - 2) : index])
        for match in reversed(list(GLOSS.finditer(text))):
            if _open(before + text[: match.start()]) == 0:
                start = match.start()
                write(line, PartVerdict(start, start + 1, "(" + text[start]))


def _open(text: str) -> int:
    """Number of round brackets that are open at the end."""
    depth = 0
    for character in text:
        depth = max(0, depth + (character == "(") - (character == ")"))
    return depth


def _plain(line: Line | None) -> str:
    return "" if line is None else _fold("".join(line.texts))


def letters_of(line: Line) -> Letters:
    """The line without spaces, letter by letter."""
    text = ""
    ends: list[int] = []
    confidences: list[float] = []
    for word, part, space in zip(line.words, line.texts, line.spaces, strict=True):
        pieces = part.split()
        for order, piece in enumerate(pieces, start=1):
            text += _fold(piece)
            if order < len(pieces) or space:
                ends.append(len(text))
        confidences += [word.confidence] * (len(text) - len(confidences))
    text = re.sub("<([^<>]{2,})>", r"〈\1〉", text)
    return Letters(text, tuple(dict.fromkeys((*ends, len(text)))), tuple(confidences))


def _fold(text: str) -> str:
    """Without spaces, one form of quotation marks, dashes and middle dots."""
    return "".join(text.split()).translate(SAME)


def judge(line: Letters, others: Others) -> list[PartVerdict]:
    """A verdict on each part of a line that is changed or in doubt."""
    seen = _Readings(line.text, others)
    verdicts = list(_latin_words(line, seen))
    known = {index for each in verdicts for index in range(each.start, each.stop)}
    for start, stop in _runs(line):
        if start in known:
            continue
        own = line.text[start:stop]
        if BRACKETS.fullmatch(own) and not _opens_at_end(line, start, stop):
            if STRANGE.issuperset(own) and _is_unpaired(line, start, stop):
                verdicts.append(PartVerdict(start, stop, None, "?"))
            continue
        is_code = not _is_hangul(own[0])
        before = line.text[start - 1] if start and start not in line.ends else ""
        after = line.text[stop] if stop not in line.ends else ""
        sure = min(line.confidences[start:stop])
        pieces = seen.pieces(start, stop, is_code=is_code)
        is_amount = start in line.ends and line.text[start - 1].isdigit()
        parts = _Parts(own, *pieces, before, after, sure, others.latin, others.is_other, is_amount)
        there = parts.code() if is_code else parts.hangul()
        if there == own and is_code:
            if _goes_on(line, seen, stop):
                there = None
            elif own not in (parts.both, parts.large) and _is_unpaired(line, start, stop):
                there = parts.without_brackets()
        beside_known = not known.isdisjoint((start - 1, stop))
        if there == own and not (is_code or beside_known) and _is_missing(line, seen, start, stop):
            there = None
        if there != own:
            verdicts.append(PartVerdict(start, stop, there, parts.second(is_code)))
    return sorted(verdicts, key=lambda each: each.start)


def _latin_words(line: Letters, seen: "_Readings") -> Iterator[PartVerdict]:
    """Words that are one in Latin letters in truth, such as 쓰니 for ALT.

    Both models read it alike in both sizes, and the Latin one has it, too. A particle in Hangul at
    its end stays, unless there are two capital letters in its place that no particle comes out as.
    """
    start = 0
    for stop in line.ends:
        whole = line.text[start:stop].rstrip(".,:;)")
        stem = _without_particle(whole, start, seen)
        for part in dict.fromkeys((stem, whole)):
            end = start + len(part)
            _, both, _, large, korean = seen.pieces(start, end, is_code=True)
            core = stem.strip("()[]")
            is_longer = bool(CODE.fullmatch(core)) and both.startswith(core)
            is_word = not is_longer or (
                part != stem and re.fullmatch("[B-DF-RT-Z]{2,}", both[len(core) :])
            )
            if (
                part not in ("", both, korean)
                and both == large
                and len(both) > 1
                and both in seen.latin.other
                and LATIN_WORD.fullmatch(both)
                and not ODD.search(both)
                and is_word
                and not (HANGUL.fullmatch(part) and (_is_inferred(part) or not both.isupper()))
            ):
                yield PartVerdict(start, end, both)
                break
        start = stop


def _is_inferred(part: str) -> bool:
    """True for a part with a syllable that no model has: `restore_syllables` wrote it."""
    return not set(missing_syllables()).isdisjoint(part)


def _without_particle(word: str, start: int, seen: "_Readings") -> str:
    """A word without a particle at its end; after Hangul, one that the Korean model sees, too."""
    read = seen.korean.piece(start, start + len(word), is_code=False) if seen.korean else ""
    is_seen = not _is_hangul(word[-2:-1]) or read[-1:] == word[-1:]
    return word[:-1] if word[-1:] in PARTICLES and is_seen else word


def _is_hangul(character: str) -> bool:
    return "가" <= character <= "힣"


def _runs(line: Letters) -> Iterator[tuple[int, int]]:
    """(start, stop) of each run of Hangul, or of other characters, inside a word."""
    start = 0
    for end in line.ends:
        for match in RUN.finditer(line.text, start, end):
            yield match.start(), match.end()
        start = end


class Aligned:
    """Another reading of a line, character by character."""

    def __init__(self, text: str, other: str) -> None:
        self.text, self.other = text, other
        self.opcodes: Opcodes = [
            (o.tag, o.src_start, o.src_end, o.dest_start, o.dest_end)
            for o in Levenshtein.opcodes(text, other)
        ]
        self.kept = [False] * len(text)
        """Whether a character is in the other reading, too."""
        self.inserted: dict[int, str] = {}
        for tag, a, b, c, d in self.opcodes:
            if tag == "equal":
                self.kept[a:b] = [True] * (b - a)
            elif tag == "insert":
                self.inserted[a] = other[c:d]

    def after(self, stop: int) -> str:
        """Its character behind what it has up to `stop`."""
        for _, a, b, c, d in self.opcodes:
            if a < stop <= b:
                end = min(d, c + stop - a)
                return self.other[end : end + 1]
        return ""

    def piece(self, start: int, stop: int, *, is_code: bool) -> str:
        """What it has in place of a part.

        What is inserted at its ends counts for a code, but not beside a character that it has
        instead of another one, which may be half of that.
        """
        out = ""
        for tag, a, b, c, d in self.opcodes:
            if tag == "insert":
                inserted = self.other[c:d]
                beside = is_code and not re.search("[가-힣]", inserted)
                if start < a < stop or (beside and self._is_at_end(a, start, stop)):
                    out += inserted
            elif a < stop and b > start and tag != "delete":
                out += self.other[c + max(a, start) - a : c + min(b, stop) - a]
        return out

    def _is_at_end(self, at: int, start: int, stop: int) -> bool:
        """True at an end of a part whose neighbour there is the same in both readings."""
        if at == start:
            return at == 0 or self.kept[at - 1]
        return at == stop and (at == len(self.text) or self.kept[at])


class _Readings:
    """The other readings of a line, aligned with it."""

    def __init__(self, text: str, others: Others) -> None:
        self.first = Aligned(text, others.first)
        self.both = Aligned(text, others.both)
        self.latin = Aligned(text, others.latin)
        self.large = None if others.large is None else Aligned(text, others.large)
        self.korean = None if others.korean is None else Aligned(text, others.korean)

    def every(self) -> list[Aligned]:
        """Those that there are."""
        more = [one for one in (self.large, self.korean) if one is not None]
        return [self.first, self.both, self.latin, *more]

    def pieces(
        self, start: int, stop: int, *, is_code: bool
    ) -> tuple[str, str, str, str | None, str | None]:
        """What each has in place of a part, in the order of `_Parts`."""
        first, both, latin = (
            one.piece(start, stop, is_code=is_code) for one in (self.first, self.both, self.latin)
        )
        large, korean = (
            None if one is None else one.piece(start, stop, is_code=is_code)
            for one in (self.large, self.korean)
        )
        return first, both, latin, large, korean


def _goes_on(line: Letters, seen: _Readings, stop: int) -> bool:
    """True if two other readings have the same small letter or hyphen after a code, unlike it.

    Not one that syllables such as 를 and 에 come out as.
    """
    following = seen.latin.after(stop)
    others = [one.after(stop) for one in (seen.both, seen.large) if one is not None]
    is_other = following != line.text[stop : stop + 1]
    is_letter = re.fullmatch("[a-z-]", following) is not None and following not in FROM_HANGUL
    return is_other and is_letter and (following in others or seen.large is None)


def _opens_at_end(line: Letters, start: int, stop: int) -> bool:
    """True for a bracket that opens where a word ends, and is never closed: half of a letter."""
    is_end = stop in line.ends and start > 0 and start not in line.ends
    return is_end and line.text[stop - 1] in OPENING and _is_unpaired(line, start, stop)


def _is_unpaired(line: Letters, start: int, stop: int) -> bool:
    """True if a part opens a bracket that its line does not close, or closes one."""
    own, before, after = line.text[start:stop], line.text[:start], line.text[stop:]
    for pair in PAIRS:
        opening, closing = pair[0], pair[1]
        if own.count(opening) == own.count(closing) and own.find(opening) <= own.find(closing):
            continue
        opened = before.count(opening) - before.count(closing)
        for character in own:
            opened += (character == opening) - (character == closing)
            if opened < 0:
                return True
        if opening in own and opened > 0 and closing not in after:
            return True
    return False


def _is_missing(line: Letters, seen: _Readings, start: int, stop: int) -> bool:
    """True if two other readings have letters or digits beside a part in Hangul, unlike the line.

    What is beside a code is seen where that is judged.
    """
    sides = ((start, line.text[start - 1 : start]), (stop, line.text[stop : stop + 1]))
    for at, neighbour in sides:
        if neighbour and not _is_hangul(neighbour):
            continue
        inserted = [one.inserted.get(at, "") for one in seen.every()]
        if any(MISSING.fullmatch(one) and inserted.count(one) > 1 for one in inserted):
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Parts:
    """One part of a line as each reading has it."""

    own: str
    first: str
    both: str
    latin: str
    """The word continues with letters of a syllabic script."""
    large: str | None
    korean: str | None
    before: str
    """The character before it, in the same word."""
    after: str
    confidence: float
    latin_line: str
    """All of the line as the Latin model has it."""
    is_other: bool = False
    """The other readings are by other models."""
    is_amount: bool = False
    """A word that follows a number."""

    def code(self) -> str | None:
        """What a part without Hangul says; None for a doubt."""
        own = self.own
        if not any(map(str.isalnum, own)):
            return self._sign()
        if "×" in own and "x" not in own:
            return replace(self, own=own.replace("×", "x"))._multiplied()
        better = self._degrees() or self._product() or self._unit()
        if better is not None:
            return better
        is_elsewhere = own in self.latin_line and own in (self.both, self.large)
        if self.is_amount and OHMS.fullmatch(own.rstrip(".,:;)")):
            return None
        if self._confirms(own, is_elsewhere=is_elsewhere) and not self._eats_particle():
            return own
        return self._agreed()

    def _multiplied(self) -> str | None:
        """The same of a part with a sign of multiplication, which other models read as x."""
        there = self.code()
        return None if there is None else re.sub(r"(?<![A-Za-z])x(?![A-Za-z])", "×", there)

    def _agreed(self) -> str | None:
        """What both models read in both sizes, if it is plausible and a third reading has it."""
        agreed = self.both
        if (
            agreed == self.large
            and agreed != self.own
            and "°" not in self.own
            and not (
                agreed.startswith(self.own) and self._goes_on_in_hangul(agreed[len(self.own) :])
            )
            and not (self.own.startswith(agreed) and any(map(str.isalnum, self.own[len(agreed) :])))
            and (agreed in (self.latin, self.korean) or agreed in self.latin_line)
            and (agreed in self.latin_line or DIGITS.fullmatch(self.own) or _is_latin(agreed))
            and CODE.fullmatch(agreed)
            and self._confirms(agreed, is_elsewhere=agreed in self.latin_line)
        ):
            return agreed
        return None

    def without_brackets(self) -> str | None:
        """The part without a bracket that has no partner, as two other readings have it."""
        if not any(map(str.isalnum, self.own)):
            return None
        bare = self.own.removesuffix(")") if self.own.endswith(")") else self.own.removeprefix("(")
        votes = sum(one == bare for one in (self.both, self.large)) + self.latin.startswith(bare)
        return bare if bare and (votes > 1 or (votes and self.large is not None)) else None

    def _sign(self) -> str | None:
        """Signs of a sentence: changed where every other reading has the same other one."""
        own = self.own
        if own == "×":
            return own
        if PUNCTUATION.fullmatch(own) or (not self.before and not self.after and own in BULLETS):
            rest = {self.both, self.large, self.korean}
            if len(rest) == 1 and len(self.both) == len(own) == 1 and self.both in ".,:;)":
                return self.both
            return own
        return own if self.both == own else self._agreed()

    def _confirms(self, text: str, *, is_elsewhere: bool = False) -> bool:
        """True if other readings have it, too; before the enlarged ones, both of the first."""
        if ODD.search(text) or self._is_longer(text):
            return False
        in_latin = self.latin.startswith(text) or is_elsewhere
        if DIGITS.fullmatch(text):
            return self._confirms_number(text, in_latin)
        is_sure = text == self.own and self.confidence >= SURE
        votes = sum(one == text for one in (self.both, self.large, self.korean)) + in_latin
        if len(text) > SHORT_CODE or text in UNITS:
            return in_latin or self.large == text or (is_sure and self.large is not None)
        return votes + (is_sure and self.large is not None) >= 2

    def _is_longer(self, text: str) -> bool:
        """True if other readings have letters or digits before it, or go on after it."""
        models = [one for one in (self.both, self.large, self.korean) if one]
        head = re.compile(r"(?!\.\d)[A-Za-z0-9.]{1,2}" + re.escape(text[:2]))
        if any(one != text and not one.startswith(text) and head.match(one) for one in models):
            return True
        tail = re.compile(re.escape(text) + r"([A-Za-z0-9'*?²³°-])")
        models = [one for one in models if not self._goes_on_in_hangul(one[len(text) :])]
        after = [m[1] for one in models if (m := tail.match(one))]
        if (m := tail.match(self.latin)) and m[1] in after:
            after.append(m[1])
        if len(after) > 1 if self.large is not None else after:
            return True
        return self._lacks_digit(text)

    def _goes_on_in_hangul(self, rest: str) -> bool:
        """True for what a syllable after the part comes out as."""
        return _is_hangul(self.after or "-") and rest[:1] in tuple(FROM_HANGUL)

    def _lacks_digit(self, text: str) -> bool:
        """True if the Korean model has a further digit at the end in both sizes."""
        end = re.search(r"\d+$", text)
        if end is None or self.korean is None:
            return False
        longer = re.compile(re.escape(end[0]) + r"\d")
        return all(longer.search(one) for one in (self.first, self.korean))

    def _confirms_number(self, text: str, in_latin: bool) -> bool:
        """True if two other readings have it, and none that is as good letters in its place."""
        is_article = self.before == "제" and self.after in ARTICLE
        if is_article and text == self.first == self.korean:
            return True
        if in_latin and GROUPED.fullmatch(text):
            return True
        if not in_latin and (NEEDS_LATIN.match(text) or self._has_letters(text)):
            return False
        votes = [self.both, self.large, self.korean]
        if self.both == self.large != text and (
            re.fullmatch("[A-Z]+", self.both)
            or (DIGITS.fullmatch(self.both) and self.both.startswith(text))
        ):
            return False
        if not re.search(r"\d", self.both + self.latin):
            votes.append(self.first)  # these read nothing of the line
        return sum(one == text for one in votes) + in_latin >= 2

    def _has_letters(self, number: str) -> bool:
        """True if the Latin model has two letters in place of digits, as in SO2 for 502."""
        if re.match(re.escape(number[:-1]) + "[A-Z°]", self.latin) and len(number) > 2:
            return True
        seen = self.latin[: len(number)]
        same = sum(a == b for a, b in zip(seen, number, strict=False))
        return len(re.findall("[A-Z]", seen)) > 1 and same >= max(1, (len(number) - 1) // 2)

    def _eats_particle(self) -> bool:
        """True if a code ends with a letter that the Korean model read as a particle."""
        is_end = not self.after or not _is_hangul(self.after)
        return (
            is_end
            and self.first[-1:] in PARTICLES
            and (self.own[-1:].isalnum() or self.own[-1:] in "%|]")
        )

    def _degrees(self) -> str | None:
        """The temperature that the Latin model reads, of the same digits as the part."""
        match = DEGREES.match(self.latin)
        if match is None or not self.own.startswith(match[1]) or self._is_longer(match[1]):
            return None
        rest = self.own[len(match[1]) :]
        closing = rest[-1:] if rest[-1:] in (",", ".") else ""
        rest = rest.removesuffix(closing)
        if len(rest) > 2 or re.search("[ABD-Z0-9a-z]", rest):
            return None
        return match[0] + closing

    def _unit(self) -> str | None:
        """A unit in its own capital and small letters, as in 22 kw."""
        bare = self.own.rstrip(".,:;)")
        unit = SPELLED.get(bare.casefold()) if self.is_amount else None
        return unit + self.own[len(bare) :] if unit and unit != bare else None

    def _product(self) -> str | None:
        """The part with the sign of multiplication, which the Latin model reads as x."""
        signed = re.sub(r"(?<=\d)[xX](?=\d|$)|^[xX](?=\d)", "×", self.own)
        is_seen = any((one or "").startswith(signed) for one in (self.both, self.large))
        return signed if signed != self.own and is_seen else None

    def hangul(self) -> str | None:
        """What a part in Hangul says; None for a doubt."""
        own = self.own
        if re.match("[a-z]", self.after) or (_is_latin(self.before) and _is_latin(self.after)):
            return None
        if self.before and own in PARTICLES and not _is_latin(self.after):
            return own
        is_read_twice = own in PARTICLES and own == self.korean and own in (self.both, self.large)
        is_alone = not self.before and len(own) == 1 and own not in PREFIXES
        if is_alone and _is_latin(self.after) and not is_read_twice:
            return None
        is_short = len(own) == 1 or (len(own) == 2 and own not in (self.both, self.large))
        if _is_latin(self.before) and is_short:
            return None
        if _is_inferred(own):
            return own
        if self.is_other and self.both != own and HANGUL.fullmatch(self.both):
            return self.both if self.korean == self.both else own if self.korean == own else None
        if self.large is None:
            is_plain = self.confidence >= UNSURE and not _is_latin(self.before + self.after)
            return own if self.both == own or is_plain else None
        others = (self.both, self.large, self.korean)
        is_read = any(HANGUL.fullmatch(one) for one in others if one)
        if self.confidence < UNSURE and is_read and own not in others:
            return None
        is_latin_word = re.fullmatch("[A-Z]+", self.both) is not None and self.both == self.large
        if _is_latin(self.after) and own not in (self.both, self.large):
            return None
        return None if is_latin_word and self.both in self.latin and len(own) < 3 else own

    def second(self, is_code: bool) -> str:
        """Another reading of a part in doubt."""
        choices = [self.large, self.both, self.korean]
        if not is_code:
            choices = [self.korean, self.large, self.both]
        return next((one for one in choices if one and one != self.own), "?")


def _is_latin(text: str) -> bool:
    return re.search("[A-Za-z]", text) is not None


def write(line: Line, verdict: PartVerdict) -> None:
    """Write a verdict into the words of a line."""
    at, touched = 0, []
    for index, text in enumerate(line.texts):
        size = len(_fold(text))
        if at < verdict.stop and at + size > verdict.start:
            touched.append((index, max(0, verdict.start - at), min(size, verdict.stop - at)))
        at += size
    if not touched:
        return
    if verdict.text is None:
        is_mild = _is_mild(letters_of(line), verdict)
        line.doubts.append(Doubt(line.words[touched[0][0]], verdict.second, is_mild))
        return
    for order, (index, start, stop) in enumerate(touched):
        line.texts[index] = _written(
            line.texts[index], start, stop, verdict.text if order == 0 else ""
        )


def _is_mild(line: Letters, verdict: PartVerdict) -> bool:
    """True for a doubt about Hangul beside no letter or digit that others read as Hangul, too.

    A number or a code in doubt is not taught, so its line is set aside.
    """
    start = verdict.start - (verdict.start not in (0, *line.ends))
    stop = verdict.stop + (verdict.stop not in line.ends)
    is_other = re.search("[A-Za-z0-9]", line.text[start:stop] + verdict.second)
    return not (is_other or ODD.search(line.text[verdict.start : verdict.stop]))


def _written(text: str, start: int, stop: int, new: str) -> str:
    """The text with letters `start` to `stop` replaced; its spaces stay if their number does."""
    letters = [index for index, character in enumerate(text) if not character.isspace()]
    first, last = letters[start], letters[stop - 1] + 1
    own = text[first:last]
    if len(new) == stop - start:
        given = iter(new)
        new = "".join(one if one.isspace() else next(given) for one in own)
    return text[:first] + new + text[last:]
