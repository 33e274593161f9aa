"""The reasons to look at a row first: a table of keys, weights, functions and words.

A reason is a function of the material of a review that names rows, how strongly each is concerned
(0 to 1) and the values of its sentence. A fact of another stage comes in as a field of `Material`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self

from jangin.core.errors import MachineError
from jangin.core.records import Chunk, Example, Page
from jangin.examples.checks import wording_faults
from jangin.text.grounding import check_answer, support
from jangin.text.korean import PARTICLE_OR_COPULA, with_particles
from jangin.text.language import HANGUL, language_of, language_problem
from jangin.text.normalize import (
    collapse_spaces,
    drop_spaces,
    fold_case,
    folded_words,
    letters_and_digits,
)
from jangin.text.quantities import quantities

Language = Literal["ko", "en"]
Values = Mapping[str, str]
NearCopies = Callable[[Sequence[str]], dict[int, int]]
"""Searches questions: {index of a question: index of the one that it resembles}."""
Concern = tuple[int, float, Values]
"""(index of a row, strength 0 to 1, values of the sentence)."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEAR_COPY = 0.85
"""Similarity of two questions from which both are shown as near-copies."""
LONG_SHARE = 0.02
"""Share of the longest answers that are worth a look."""
LONG_FACTOR = 3
"""How many times as long as the median an answer must be for that."""
SHOWN = 120
"""Characters of a text that a sentence quotes."""


def near_copies(questions: Sequence[str]) -> dict[int, int]:
    """{index of a question: index of the one that it resembles}."""
    from jangin.text.dedup.near_duplicates import DuplicateRules, find_duplicates

    if len(questions) < 2:
        return {}
    try:
        matches = find_duplicates(questions, DuplicateRules(NEAR_COPY, guard=True))
    except MachineError:  # the guard needs kiwipiepy for Korean questions
        matches = find_duplicates(questions, DuplicateRules(NEAR_COPY, guard=False))
    copies: dict[int, int] = {}
    for match in matches:
        copies[match.row] = match.twin
        copies.setdefault(match.twin, match.row)
    return copies


@dataclass(frozen=True)
class Material:
    """All that the reasons look at."""

    rows: Sequence[Example]
    chunks: Mapping[str, Chunk] = field(default_factory=dict)
    """{id: chunk}."""
    pages: Mapping[tuple[str, int], Page] = field(default_factory=dict)
    """{(id of a document, number): page}."""
    rejected: Sequence[tuple[str, str]] = ()
    """(question, answer) of the rows that people rejected."""
    search: NearCopies = near_copies

    @cached_property
    def copies(self) -> dict[int, int]:
        """{index of a row: index of the one it resembles}; paraphrases resemble on purpose."""
        mine = [index for index, row in enumerate(self.rows) if row.kind != "paraphrase"]
        copies = self.search([self.rows[index].question for index in mine])
        return {mine[row]: mine[twin] for row, twin in copies.items()}

    @classmethod
    def of(cls, rows: Sequence[Example], chunks: Iterable[Chunk] = (), **facts: Any) -> Self:
        """Rows with the chunks that they were made from, and other fields."""
        return cls(rows, {chunk.id: chunk for chunk in chunks}, **facts)

    @cached_property
    def texts(self) -> dict[str, str]:
        """{id of a chunk: its text}."""
        return {name: chunk.text for name, chunk in self.chunks.items()}

    @cached_property
    def passages(self) -> list[str]:
        """The passage of each row; empty where it has none."""
        return [passage_of(row, self.texts) for row in self.rows]

    @cached_property
    def sentences(self) -> "dict[str, list[tuple[str, str]]]":
        """{sentence without its numbers: [(id of its chunk, the sentence)]} of all chunks."""
        places: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for chunk in self.chunks.values():
            for sentence in sentences_of(chunk.text):
                places[_pattern(sentence)].append((chunk.id, sentence))
        return places


def passage_of(row: Example, texts: Mapping[str, str]) -> str:
    """Text of the chunks of a row, of {id of a chunk: its text}."""
    return "\n\n".join(texts[name] for name in row.chunk_ids if name in texts)


@dataclass(frozen=True, slots=True)
class ReviewReason:
    """One reason to look at a row; `find` names the rows."""

    key: str
    weight: float
    """How much it counts at full strength; of several, 1 - the product of what each leaves."""
    find: Callable[[Material], Iterator[Concern]]
    name: Mapping[Language, str]
    text: Mapping[Language, str]
    """A sentence with the values in braces."""

    def said(self, values: Values, language: Language) -> str:
        """The sentence in one language."""
        sentence = self.text[language]
        names = _NAMES[language]
        shown = {name: names.get(value) or _quoted(value) for name, value in values.items()}
        return (with_particles(sentence, shown) if language == "ko" else sentence).format(**shown)


_NAMES: Mapping[Language, Mapping[str, str]] = {
    "en": {},
    "ko": {
        "number": "수나 금액", "time": "때", "person": "사람", "place": "곳", "value": "짧은 값",
        "sentence": "문장", "list": "목록", "yes": "네/아니요",
    },
}  # fmt: skip
"""What a value that is a word of ours is called."""


def _quoted(text: str) -> str:
    one_line = collapse_spaces(text)
    return one_line if len(one_line) <= SHOWN else one_line[: SHOWN - 1] + "…"


def _each(
    check: Callable[[Example, str], tuple[float, Values] | None],
) -> Callable[[Material], Iterator[Concern]]:
    """A reason that looks at one row with its passage at a time."""

    def find(material: Material) -> Iterator[Concern]:
        for index, row in enumerate(material.rows):
            if concern := check(row, material.passages[index]):
                yield index, *concern

    return find


def _wording(check: Callable[[str], str], *texts: str) -> Callable[[Material], Iterator[Concern]]:
    """A reason of the words of a row alone; `texts`: `question` or `answer`."""

    def of_row(row: Example, _: str) -> tuple[float, Values] | None:
        for text in texts:
            if words := check(str(getattr(row, text))):
                return 1.0, {"words": words}
        return None

    return _each(of_row)


# Facts that earlier stages know.


def _low_score(row: Example, _: str) -> tuple[float, Values] | None:
    judged = [score for score in row.scores if score.kind != "human"]
    worst = min(judged, key=lambda score: score.value, default=None)
    if worst is None or worst.value >= 1:
        return None
    said = next((score.reason for score in (worst, *judged) if score.reason), "")
    values = {"scorer": worst.scorer, "value": f"{worst.value:.2f}", "reason": said}
    return 1 - worst.value, {**values, "said": f": {said}" if said else ""}


def _read_by_ocr(material: Material) -> Iterator[Concern]:
    for index, row in enumerate(material.rows):
        page = material.pages.get((row.document_id, row.page))
        if page is not None and page.method == "ocr":
            unsure = 1 - (page.confidence if page.confidence is not None else 50) / 100
            values = {"page": str(row.page), "confidence": f"{page.confidence or 0:.0f}"}
            yield index, min(1.0, 0.3 + 2 * unsure), values


def _doubtful_order(material: Material) -> Iterator[Concern]:
    """Rows whose page, or a page of whose passage, `load` has flagged."""
    flagged: dict[str, list[Page]] = defaultdict(list)
    for (document, _), page in material.pages.items():
        if page.doubts:
            flagged[document].append(page)
    for index, row in enumerate(material.rows):
        chunks = [material.chunks[name] for name in row.chunk_ids if name in material.chunks]
        numbers = [
            page.number
            for page in flagged.get(row.document_id, ())
            if page.number == row.page
            or any(page.start < chunk.end and chunk.start < page.end for chunk in chunks)
        ]
        if numbers:
            yield index, 1.0, {"page": ", ".join(map(str, sorted(numbers)))}


_ODD_TOKEN = re.compile(
    r"[A-Za-z]+[가-힣]*[《》〈〉|¦][가-힣]*|[가-힣]+[《〈|¦]|(?<=[가-힣])[|¦_^~`](?=[가-힣])|[ㄱ-ㅎㅏ-ㅣ]+|[□�■]|"
    r"(?<![A-Za-z0-9])(?:\d+[lIOo|]\d*|[lIO|]\d{1,})(?![A-Za-z0-9])|(?<=[가-힣])(?<!몇)[a-zA-Z](?=[가-힣])|"
    r"(?<=[a-z])[0-9](?=[a-z])|\b[a-z]+[A-Z][a-z]*[|!]|\b[A-Z]{2,}[가-힣](?=[《》〈〉])|[·ㆍ]{2,}|\brn(?=[a-z]*rn)"
)


_IN_BRACKETS = re.compile(r"[《〈](?P<inner>[^《》〈〉]*)[》〉]")
"""A title; a bracket without the other is what OCR makes of a letter."""


def odd_letters(text: str) -> str:
    """A token as OCR misreads them: brackets inside words, letters among digits, lone jamo."""
    text = _IN_BRACKETS.sub(r" \g<inner> ", text)
    match = _ODD_TOKEN.search(text)
    if match is None:
        return ""
    start = text.rfind(" ", 0, match.start()) + 1
    end = text.find(" ", match.end())
    return text[start : end if end >= 0 else len(text)].strip()


def _odd_row(row: Example, _: str) -> tuple[float, Values] | None:
    for text, strength in ((row.answer, 1.0), (row.question, 1.0), (row.evidence, 0.8)):
        if token := odd_letters(text):
            return strength, {"words": token}
    return None


_HEADING_INSIDE = re.compile(
    r"(?<![.!?:다)\]」\s|#])\s+(?P<words>제\s?\d+\s?[장절관조]\s?[(（]?[가-힣]{2,}|#{1,4} \S+)"
)
_REFERENCE = re.compile(
    r"제\s?\d+\s?[장절관조]\s?(?:에|의|을|를|와|과|및|부터|까지|제|또|이|는|은|내|개정|신설|삭제|위반)"
)
_NUMBER_OF_ARTICLE = re.compile(r"(?m)^\s*(?:#+\s*)?제\s?(\d+)\s?조(?:의\s?\d+)?\s?[(（]")


def _read_across(material: Material) -> Iterator[Concern]:
    """Columns read across: a heading inside a sentence, or numbers of articles that fall."""
    headings: dict[str, set[str]] = defaultdict(set)
    for chunk in material.chunks.values():
        leaf = chunk.section.rpartition(" > ")[2].strip()
        if re.search(r"\d", leaf) and len(leaf) > 4:
            headings[chunk.document_id].add(leaf)
    for index, row in enumerate(material.rows):
        match = _HEADING_INSIDE.search(row.evidence)
        if match is not None and not _REFERENCE.match(match["words"]):
            yield index, 1.0, {"words": match["words"]}
            continue
        inside = [h for h in headings[row.document_id] if f" {h} " in row.evidence]
        if inside:
            yield index, 1.0, {"words": max(inside, key=len)}
            continue
        numbers = [int(number) for number in _NUMBER_OF_ARTICLE.findall(material.passages[index])]
        for before, after in pairwise(numbers):
            if after < before:
                yield index, 0.8, {"words": f"{before} → {after}"}
                break


# What a row says, beside its evidence.


def _not_in_evidence(row: Example, passage: str) -> tuple[float, Values] | None:
    if not row.chunk_ids or not passage:
        return None
    if row.evidence and support(row.evidence, passage) < 0.9:
        return 0.9, {"words": row.evidence}
    source = f"{row.evidence or passage}\n{row.section}\n{row.question}"
    grounding = check_answer(row.answer, source)
    if grounding.missing:
        beside = check_answer(row.answer, f"{passage}\n{source}")
        return (1.0 if beside.missing else 0.8), {"words": ", ".join(grounding.missing)}
    letters = letters_and_digits(fold_case(row.answer))
    if letters and letters in letters_and_digits(fold_case(source)):
        return None
    beside = check_answer(row.answer, f"{passage}\n{source}")
    if beside.words < 0.5 and not grounding.facts:
        return 0.8, {"words": row.answer}
    return (0.4, {"words": row.answer}) if grounding.words < 0.34 and not grounding.facts else None


def _cut_in_word(row: Example, _: str) -> tuple[float, Values] | None:
    """The answer ends or begins in the middle of a number or word of its evidence."""
    answer, text = collapse_spaces(row.answer), collapse_spaces(row.evidence)
    spots = [match.start() for match in re.finditer(re.escape(answer), text)] if answer else []
    if not spots:
        return None
    for start in spots:
        end = start + len(answer)
        before, after = text[max(0, start - 1) : start], text[end : end + 1]
        if not _joined(before, answer[0]) and not _runs_on(answer, text[end:]) and after != "%":
            return None
    start = spots[0]
    around = text[max(0, text.rfind(" ", 0, start) + 1) : start + len(answer) + 6].split(" ")
    return 1.0, {"words": " ".join(around[: len(answer.split()) + 0] or around)}


def _joined(before: str, first: str) -> bool:
    if before.isdigit() or (before in ",." and first.isdigit() and before):
        return first.isdigit()
    return bool(HANGUL.search(before) and HANGUL.search(first)) or (
        before.isascii() and before.isalpha() and first.isascii() and first.isalpha()
    )


_UNIT_FOLLOWS = re.compile(
    r"^(?:\s?(?:만|천|백|억)?\s?(?:원|일|년|개월|시간|시|분|명|회|퍼센트|점|주|세|배|월|학점|%)|[,.]?\d)"
)


def _runs_on(answer: str, rest: str) -> bool:
    if answer[-1].isdigit():
        return bool(_UNIT_FOLLOWS.match(rest))
    if answer[-1].isascii() and answer[-1].isalpha():
        return rest[:1].isascii() and rest[:1].isalpha()
    return False


def _other_kind(row: Example, _: str) -> tuple[float, Values] | None:
    kind = wording_faults.other_kind(row.question, row.answer)
    return (1.0, {"kind": kind}) if kind else None


def _given_away(row: Example, _: str) -> tuple[float, Values] | None:
    answer = drop_spaces(fold_case(row.answer)).rstrip(".")
    is_inside = len(answer) > 2 and answer in drop_spaces(fold_case(row.question))
    return (1.0, {"words": row.answer}) if is_inside else None


def _other_language(material: Material) -> Iterator[Concern]:
    for index, row in enumerate(material.rows):
        passage = material.passages[index] or row.evidence
        if not passage:
            continue
        if language_problem(row.question, row.answer, passage, language_of(passage)):
            yield index, 1.0, {"words": row.answer}


# What it says beside other rows and passages.


def _near_copies(material: Material) -> Iterator[Concern]:
    for index, twin in material.copies.items():
        if _same_answer(material.rows[index], material.rows[twin]):
            yield index, 1.0, {"question": material.rows[twin].question}


def _same_answer(first: Example, second: Example) -> bool:
    left, right = (letters_and_digits(fold_case(row.answer)) for row in (first, second))
    if left == right or (min(len(left), len(right)) > 1 and (left in right or right in left)):
        return True
    amounts, others = quantities(first.answer), quantities(second.answer)
    return (
        bool(amounts)
        and len(amounts) == len(others)
        and all(any(amount.agrees(other) for other in others) for amount in amounts)
    )


def _conflicts(material: Material, *, of_documents: bool) -> Iterator[Concern]:
    """Rows with the same question and another answer, of two documents or of one."""
    for index, twin in _same_questions(material):
        row, other = material.rows[index], material.rows[twin]
        if (row.source != other.source) != of_documents or _same_answer(row, other):
            continue
        yield (
            index,
            1.0,
            {
                "source": row.source,
                "answer": row.answer,
                "other_source": other.source,
                "other_answer": other.answer,
                "other": other.id,
                "where": _where(other),
            },
        )


def _where(row: Example) -> str:
    return row.section or (f"p. {row.page}" if row.page else row.source)


def _same_questions(material: Material) -> Iterator[tuple[int, int]]:
    """Pairs of rows that ask the same, in both directions; one for each row."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(material.rows):
        if row.kind != "paraphrase" and not row.earlier_turns and asked_words(row.question):
            groups[tuple(sorted(asked_words(row.question)))].append(index)
    twins: dict[int, int] = {}
    for group in groups.values():
        for index in group:
            others = (o for o in group if o != index)
            unlike = (o for o in others if not _same_answer(material.rows[index], material.rows[o]))
            if (other := next(unlike, None)) is not None:
                twins[index] = other
    for index, twin in (*twins.items(), *material.copies.items()):
        if index in twins and twins[index] != twin:
            continue
        yield index, twin


_ASKING = _words(
    "얼마 언제 누구 누가 어디 무엇 며칠 몇 어떻게 어떤 어느 무슨 왜 인가 있 하 되 받 수 최대 "
    "알려 주세요 가능 what which "
    "who how when where is are do does can must many much long the a an of to for "
    "in on be by it there"
)
_ASK_END = re.compile(
    r"(?:인가요|인가|입니까|할까요|하나요|되나요|됩니까|합니까|나요|까요|있나요|있습니까|는지|은지|인지|이에요|예요|죠|지요)$"
)


def asked_words(question: str) -> set[str]:
    """The words of a question that say what it is about, without particles and endings."""
    words = set()
    for word in folded_words(question):
        stem = _ASK_END.sub("", word)
        stem = PARTICLE_OR_COPULA.sub("", stem)
        if stem and stem not in _ASKING and not any(stem.startswith(w) for w in _STARTS):
            words.add(stem)
    return words


_STARTS = ("얼마", "언제", "누구", "어디", "무엇", "며칠", "어떻", "어떤", "몇")


def _table_rows(text: str) -> list[list[list[str]]]:
    """The Markdown tables of a text: [[cells of a row]], the heading first."""
    tables: list[list[list[str]]] = []
    rows: list[list[str]] = []
    for line in (*text.splitlines(), ""):
        stripped = line.strip()
        if stripped.startswith("|") and stripped.count("|") >= 2:
            cells = [collapse_spaces(cell) for cell in stripped.strip("|").split("|")]
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                rows.append(cells)
        elif rows:
            tables.append(rows)
            rows = []
    return tables


def _in_table(row: Example, passage: str) -> tuple[float, Values] | None:
    """The question fits several rows or columns of its table, with other answers."""
    if "|" not in passage:
        return None
    answer = letters_and_digits(fold_case(row.answer))
    letters = letters_and_digits(fold_case(row.question))
    for table in _table_rows(passage):
        spots = [
            (r, c)
            for r, cells in enumerate(table[1:], 1)
            for c, cell in enumerate(cells)
            if cell and _same_cell(cell, answer, row.answer)
        ]
        rivals = [_rivals(table, r, c, letters) for r, c in spots]
        if rivals and all(rivals):
            fewest = min(rivals, key=len)
            return 1.0, {"count": str(len(fewest) + 1), "words": ", ".join(fewest[:3])}
    return None


def _same_cell(cell: str, letters: str, answer: str) -> bool:
    mine = letters_and_digits(fold_case(cell))
    if mine == letters or (len(mine) > 1 and mine in letters and any(c.isdigit() for c in mine)):
        return True
    amounts, cells = quantities(answer), quantities(cell)
    return len(amounts) == 1 and len(cells) == 1 and amounts[0].agrees(cells[0])


def _rivals(table: list[list[str]], r: int, c: int, letters: str) -> list[str]:
    """Other cells that the question may mean as well as (r, c), by what heads them."""
    head, cells = table[0], table[r]
    mine = letters_and_digits(fold_case(cells[c]))
    keys = [k for k in range(min(len(cells), len(head))) if k != c and not _is_figure(cells[k])]
    rivals = []
    for other in table[1:]:
        if (
            other is cells
            or len(other) <= c
            or letters_and_digits(fold_case(other[c])) in (mine, "")
        ):
            continue
        unlike = [k for k in keys if k < len(other) and other[k] != cells[k]]
        told = any(_told(cells[k], other[k], letters) for k in unlike)
        if unlike and not told and not any(_told(other[k], cells[k], letters) for k in unlike):
            rivals.append(" ".join(other[k] for k in unlike if other[k])[:40] or other[c])
    for k, name in enumerate(head):
        rival = k != c and k < len(cells) and _is_figure(cells[k]) and _is_figure(cells[c])
        told = any(_told(head[c], other, letters) for other in head if other != head[c])
        if rival and name and cells[k] != cells[c] and not told:
            rivals.append(name[:40])
    return rivals


_FIGURE = re.compile(
    r"[₩$€]?\s*\d[\d,.\s~:%/-]*(?:만|천|백만)?\s*"
    r"(?:원|명|점|일|회|년|개월|시간|분|시|세|권|학점|won|usd|krw|days|years|hours)?"
)


def _is_figure(cell: str) -> bool:
    return _FIGURE.fullmatch(fold_case(cell.strip())) is not None


def _told(cell: str, other: str, letters: str) -> bool:
    """True if the question has a word of a cell that the other cell lacks."""
    rest = letters_and_digits(fold_case(other))
    words = [letters_and_digits(word) for word in re.split(r"[\s,/·()（）]+", fold_case(cell))]
    for word in (letters_and_digits(fold_case(cell)), *words):
        if (
            len(word) > 1
            and word not in rest
            and (word in letters or (word[:-1] in letters and len(word) > 2))
        ):
            return True
        if len(word) == 1 and word not in rest and word in letters:
            return True
    return False


def sentences_of(text: str) -> list[str]:
    """Sentences and lines of a passage; rows of tables are left out."""
    parts = re.split(r"(?<=[.!?다])\s+(?=\S)|\n+|(?=[①-⑳])", text)
    return [
        part.strip() for part in parts if len(part.strip()) > 9 and not part.strip().startswith("|")
    ]


_FIGURES = re.compile(r"\d[\d,.:]*")


def _pattern(sentence: str) -> str:
    """A sentence without its numbers, so that two which differ in numbers only are the same."""
    return letters_and_digits(
        _FIGURES.sub("#", fold_case(re.sub(r"^[①-⑳\-*•\d.)\s]+", "", sentence)))
    )


def _in_places(material: Material) -> Iterator[Concern]:
    """The evidence stands with other numbers in another passage that the question fits, too."""
    for index, row in enumerate(material.rows):
        if not row.evidence or not row.chunk_ids or not material.passages[index]:
            continue
        mine = [s for s in sentences_of(row.evidence) or [row.evidence] if _FIGURES.search(s)]
        letters = letters_and_digits(fold_case(row.question))
        for sentence in mine:
            others = [
                (name, text)
                for name, text in material.sentences.get(_pattern(sentence), ())
                if name not in row.chunk_ids and _numbers(text) != _numbers(sentence)
            ]
            rivals = [
                o for o in others if not _tells_apart(row, material.chunks[o[0]], letters, material)
            ]
            if rivals:
                chunk = material.chunks[rivals[0][0]]
                where = " ".join(part for part in (chunk.source, chunk.section) if part)
                values = {
                    "count": str(len({n for n, _ in rivals}) + 1),
                    "other": rivals[0][1],
                    "where": where,
                }
                yield index, 1.0, values
                break


def _numbers(sentence: str) -> list[str]:
    return _FIGURES.findall(sentence)


def _tells_apart(row: Example, other: Chunk, letters: str, material: Material) -> bool:
    """True if the question has a word of its own section or passage that the other one lacks."""
    there = letters_and_digits(fold_case(f"{other.source} {other.section} {other.text}"))
    chunk = next((material.chunks[n] for n in row.chunk_ids if n in material.chunks), None)
    here = f"{row.source} {row.section} {chunk.text if chunk else ''}"
    for word in folded_words(here):
        stem = letters_and_digits(PARTICLE_OR_COPULA.sub("", word))
        if len(stem) > 1 and stem in letters and stem not in there:
            return True
    return False


_SENTENCE_END = re.compile(r"(?:니다|한다|된다|이다|있다|없다|어요|아요|에요|예요|해요)$")
_YES_OR_NO = re.compile(r"(?:수 있나요|되나요)\?*$|^(?:is|are|can|do|does|may)\b", re.IGNORECASE)


def _form(answer: str) -> str:
    """The form of an answer: `value`, `sentence`, `list`, or `yes`."""
    text = answer.strip()
    if "\n" in text or re.match(r"^(?:[-*•]|1[.)]) ", text):
        return "list"
    if re.match(r"^(?:네|예|아니요|아니오|yes|no)(?![가-힣\w])", text, re.IGNORECASE):
        return "yes"
    ends = text.endswith((".", "!")) or re.search(
        r"(?:니다|한다|된다|이다|있다|없다|어요|아요|에요|예요|해요)$", text
    )
    return "sentence" if ends and len(text.split()) > 1 else "value"


def _unlike_siblings(material: Material) -> Iterator[Concern]:
    """An answer of another form than nearly all to questions of its kind."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for index, row in enumerate(material.rows):
        if row.kind == "original" and not row.earlier_turns:
            asks_yes = bool(
                re.search(
                    r"(?:수 있나요|되나요|인가요)\?*$|^(?:is|are|can|do|does|may)\b",
                    row.question,
                    re.I,
                )
            )
            kind = wording_faults.wanted(row.question)
            groups[f"{kind} {asks_yes and not kind}"].append((index, _form(row.answer)))
    for group in groups.values():
        counts = Counter(form for _, form in group)
        usual, number = counts.most_common(1)[0]
        share = number / len(group)
        for index, form in group if len(group) >= LEAST_SIBLINGS and share >= MOST_ALIKE else ():
            if form != usual and counts[form] / len(group) <= 1 - MOST_ALIKE:
                yield index, 1.0, {"form": form, "usual": usual, "share": f"{100 * share:.0f}"}


def _unmarked(material: Material) -> Iterator[Concern]:
    """Questions without a question mark, where nearly all others have one."""
    mine = [index for index, row in enumerate(material.rows) if row.kind == "original"]
    bare = [index for index in mine if not re.search(r"[?？]", material.rows[index].question)]
    if len(mine) >= LEAST_SIBLINGS and len(bare) / len(mine) <= 1 - MOST_ALIKE:
        for index in bare:
            yield index, 1.0, {"words": material.rows[index].question[-20:]}


LEAST_SIBLINGS = 8
MOST_ALIKE = 0.85
"""Share of siblings with one form from which on another one is worth a look."""


NEAR_REJECTED = 0.6
"""Share of common words from which on a question is like a rejected one."""


def _near_rejected(material: Material) -> Iterator[Concern]:
    if not material.rejected:
        return
    words = [(asked_words(question), question, answer) for question, answer in material.rejected]
    for index, row in enumerate(material.rows):
        mine = asked_words(row.question)
        for theirs, question, answer in words:
            if (question, answer) == (row.question, row.answer) or not mine or not theirs:
                continue
            if (alike := word_similarity(mine, theirs)) >= NEAR_REJECTED:
                yield index, alike, {"question": question}
                break


def word_similarity(mine: Collection[str], theirs: Collection[str]) -> float:
    """Share of the words of two questions that both have, 0 to 1."""
    either = {*mine, *theirs}
    return sum(word in theirs for word in mine) / len(either) if either else 0.0


def _longest(material: Material) -> Iterator[Concern]:
    """The longest answers, as far as they are much longer than the others."""
    lengths = [len(row.answer) for row in material.rows]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    usual = lengths[order[len(order) // 2]] if order else 0
    for index in order[: int(len(order) * LONG_SHARE)]:
        if lengths[index] > LONG_FACTOR * usual:
            yield index, 1.0, {"count": f"{lengths[index]:,}"}


def _evolved(row: Example, _: str) -> tuple[float, Values] | None:
    return (1.0, {"operation": row.operation or "evolve"}) if row.kind == "evolved" else None


def _none(_: Material) -> Iterator[Concern]:
    """For reasons that the queue itself gives."""
    yield from ()


def _reason(
    key: str,
    weight: float,
    find: Callable[[Material], Iterator[Concern]],
    en: tuple[str, str],
    ko: tuple[str, str],
) -> ReviewReason:
    return ReviewReason(key, weight, find, {"en": en[0], "ko": ko[0]}, {"en": en[1], "ko": ko[1]})


REASONS: tuple[ReviewReason, ...] = (
    _reason(
        "conflict", 0.97, lambda material: _conflicts(material, of_documents=True),
        ("another document differs",
         "Two documents differ: {source} says {answer}; "
         "{other_source} ({where}) says {other_answer}"),
        ("다른 문서와 다름",
         "두 문서가 다르게 말합니다: {source}에는 {answer}, "
         "{other_source}({where})에는 {other_answer}"),
    ),
    _reason(
        "two_answers", 0.9, lambda material: _conflicts(material, of_documents=False),
        ("same question, other answer",
         "The same question has another answer in {where}: {other_answer}"),
        ("같은 질문에 다른 답", "같은 질문에 다른 답이 있습니다({where}): {other_answer}"),
    ),
    _reason(
        "fragment", 0.95, _wording(wording_faults.fragment, "answer"),
        ("answer is a fragment", "The answer is a particle or a piece of a sentence: {words}"),
        ("토막 난 답", "답이 조사이거나 문장의 토막입니다: {words}"),
    ),
    _reason(
        "cut_off", 0.9, _wording(wording_faults.cut_off, "question"),
        ("question cut off", "The question is cut off or broken at: {words}"),
        ("끊긴 질문", "질문이 끊겼거나 깨졌습니다: {words}"),
    ),
    _reason(
        "columns", 0.9, _read_across,
        ("page perhaps misread",
         "The page may have been read across its columns: {words}"),
        ("잘못 읽은 쪽일 수 있음", "여러 단을 가로질러 읽은 쪽일 수 있습니다: {words}"),
    ),
    _reason(
        "order", 0.9, _doubtful_order,
        ("order of lines doubtful",
         "The lines of page {page} may not be in the order in which they are read"),
        ("줄 순서가 의심스러움", "{page}쪽의 줄이 읽는 순서대로가 아닐 수 있습니다"),
    ),
    _reason(
        "not_in_evidence", 0.85, _each(_not_in_evidence),
        ("not in the evidence", "The evidence does not say this: {words}"),
        ("근거에 없음", "근거에 이 내용이 없습니다: {words}"),
    ),
    _reason(
        "table", 0.85, _each(_in_table),
        ("not unique in its table",
         "The question fits {count} cells of its table, also: {words}"),
        ("표에서 답이 하나가 아님", "질문에 맞는 칸이 표에 {count}개 있습니다. 다른 칸: {words}"),
    ),
    _reason(
        "needs_text", 0.85, _wording(wording_faults.needs_text, "question"),
        ("question depends on the text",
         "The question cannot be understood without the text: {words}"),
        ("본문이 있어야 아는 질문", "본문을 보지 않으면 알 수 없는 질문입니다: {words}"),
    ),
    _reason(
        "not_asked", 0.85, _wording(wording_faults.not_asked, "question"),
        ("not a question", "The question is a statement or a task: {words}"),
        ("질문이 아님", "질문이 아니라 서술이거나 지시입니다: {words}"),
    ),
    _reason(
        "other_kind", 0.85, _each(_other_kind),
        ("answer of another kind", "The question asks for a {kind}, the answer is none"),
        ("묻는 것과 다른 답", "묻는 것({kind})과 다른 종류의 답입니다"),
    ),
    _reason(
        "odd_letters", 0.85, _each(_odd_row),
        ("doubtful letters", "Letters that were probably misread: {words}"),
        ("의심스러운 글자", "잘못 읽은 듯한 글자가 있습니다: {words}"),
    ),
    _reason(
        "cut_in_word", 0.85, _each(_cut_in_word),
        ("answer cut off", "The answer stops in the middle of: {words}"),
        ("잘린 답", "답이 낱말이나 수의 중간에서 잘렸습니다: {words}"),
    ),
    _reason(
        "residue", 0.85, _wording(wording_faults.residue, "question", "answer"),
        ("markup left", "Markup or a label was left in the text: {words}"),
        ("남은 표지", "표지나 서식이 글에 남았습니다: {words}"),
    ),
    _reason(
        "places", 0.8, _in_places,
        ("several places",
         "{count} passages say this with other numbers; {where}: {other}"),
        ("여러 곳에 있는 근거",
         "같은 말이 {count}곳에 다른 숫자로 있습니다. {where}: {other}"),
    ),
    _reason(
        "score", 0.8, _each(_low_score),
        ("low score", "Low score: {scorer} {value}{said}"),
        ("낮은 점수", "점수가 낮습니다: {scorer} {value}{said}"),
    ),
    _reason(
        "language", 0.8, _other_language,
        ("another language", "Another language than the document: {words}"),
        ("다른 언어", "문서와 언어가 다릅니다: {words}"),
    ),
    _reason(
        "refused", 0.6, _wording(wording_faults.refused, "answer"),
        ("answer refuses", "The answer says that it does not know: {words}"),
        ("답을 하지 않음", "모른다고 답합니다: {words}"),
    ),
    _reason(
        "near_rejected", 0.7, _near_rejected,
        ("near a rejected one", "Much like a question that was rejected: {question}"),
        ("거절한 것과 비슷함", "거절한 질문과 비슷합니다: {question}"),
    ),
    _reason(
        "form", 0.6, _unlike_siblings,
        ("unusual form",
         "{share} % of such answers have the form {usual}, this one {form}"),
        ("남다른 꼴", "이런 답의 {share}%는 {usual}인데 이 답은 {form}입니다"),
    ),
    _reason(
        "alike", 0.6, _none,
        ("similar answers", "The rejected answer is much like the chosen one: F1 {value}"),
        ("두 답이 비슷함", "거절할 답이 좋은 답과 비슷합니다: F1 {value}"),
    ),
    _reason(
        "given_away", 0.5, _each(_given_away),
        ("question has the answer", "The question already has the answer in it: {words}"),
        ("답이 든 질문", "질문에 답이 들어 있습니다: {words}"),
    ),
    _reason(
        "unmarked", 0.4, _unmarked,
        ("no question mark", "Nearly all other questions have a question mark; this ends: {words}"),
        ("물음표가 없음", "다른 질문은 거의 물음표로 끝나는데 이 질문은 다릅니다: {words}"),
    ),
    _reason(
        "ocr", 0.4, _read_by_ocr,
        ("read by OCR", "Page {page} was read by OCR, confidence {confidence} %"),
        ("글자 인식으로 읽음", "{page}쪽은 글자 인식(OCR)으로 읽었습니다. 신뢰도 {confidence}%"),
    ),
    _reason(
        "near_copy", 0.3, _near_copies,
        ("similar question", "There is a similar question: {question}"),
        ("비슷한 질문", "비슷한 질문이 있습니다: {question}"),
    ),
    _reason(
        "long", 0.2, _longest,
        ("long answer", "One of the longest answers: {count} characters"),
        ("긴 답", "가장 긴 답에 듭니다: {count}자"),
    ),
    _reason(
        "evolved", 0.1, _each(_evolved),
        ("evolved", "Evolved from another question: {operation}"),
        ("발전시킨 예제", "다른 질문을 발전시켰습니다: {operation}"),
    ),
    _reason(
        "control", 0.0, _none,
        ("random sample", "Drawn at random as a check."),
        ("무작위 표본", "확인을 위해 무작위로 뽑았습니다."),
    ),
)  # fmt: skip
"""All reasons. One of another stage: a row here, and a field of `Material` for its facts."""
BY_KEY: Mapping[str, ReviewReason] = {reason.key: reason for reason in REASONS}


def reason_names(language: Language) -> dict[str, str]:
    """{key: name} of all reasons, in their order."""
    return {reason.key: reason.name[language] for reason in REASONS}


def find_concerns(material: Material) -> dict[int, list[tuple[str, float, Values]]]:
    """{index of a row: [(key of a reason, strength, values)]}, the weightiest first."""
    concerns: dict[int, list[tuple[str, float, Values]]] = defaultdict(list)
    for reason in REASONS:
        for index, strength, values in reason.find(material):
            concerns[index].append((reason.key, strength, values))
    for mine in concerns.values():
        mine.sort(key=lambda each: -BY_KEY[each[0]].weight * each[1])
    return concerns
