"""`NoveltyFilter`: reject questions that were already asked about the same document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jangin.core.executor import Executor, InProcess, map_all
from jangin.core.reasons import Reason
from jangin.core.records import Example
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.checks.row_checks import SPREAD_FROM
from jangin.examples.synthesis.teacher import SynthesisOutput
from jangin.text.content_words import same_content
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.normalize import letters_only

SAME_ANSWER = 0.6
"""Near copies of a question are one question from this similarity of their answers on."""
LEAST_SIMILARITY = 0.7
"""Below this similarity the content words of two questions are not compared."""
DOCUMENTS_AT_ONCE = 20
"""Documents of one call of an executor."""


@dataclass(frozen=True, slots=True)
class CandidateExample:
    """An example that passed the row checks, and the part of a reply it was made from."""

    subject: str
    """Id of the chunk or the query that the request was about."""
    request: str
    reply: str
    example: Example


class NoveltyFilter:
    """The examples that were kept so far, by document; many are compared by the executor."""

    def __init__(self, executor: Executor | None = None) -> None:
        """Start without any example; by default all are compared in this process."""
        self._executor = executor or InProcess()
        self._kept: dict[str, list[Example]] = {}

    def examples_of(self, document_id: str) -> Sequence[Example]:
        """The examples that were kept of one document, in order."""
        return self._kept.get(document_id, ())

    def add(self, example: Example) -> None:
        """Remember an example that is kept."""
        self._kept.setdefault(example.document_id, []).append(example)

    def keep_new(
        self, candidates: Sequence[CandidateExample], output: SynthesisOutput, *, distinct: bool
    ) -> None:
        """Add the candidates with a new question to `output`, and the others to its failures."""
        twins = self.find_twins([row.example for row in candidates]) if distinct else {}
        for index, row in enumerate(candidates):
            if index in twins:
                output.reject(row.subject, row.request, repeats(twins[index]), row.reply)
            else:
                self.add(row.example)
                output.examples.append(row.example)

    def find_twins(self, examples: Sequence[Example]) -> dict[int, Example]:
        """{index: the earlier example with the same question}, among these and all that was kept.

        A near copy with another answer is no twin: who owes what to whom may be the other way
        round in it.
        """
        twins: dict[int, Example] = {}
        of_document: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            of_document.setdefault(example.document_id, []).append(index)
        documents = [
            ([*known, *(examples[index] for index in group)], len(known))
            for document_id, group in of_document.items()
            for known in (list(self._kept.get(document_id, ())),)
        ]
        copies_of = self._copies(documents, len(examples))
        for group, (earlier, known), copies in zip(
            of_document.values(), documents, copies_of, strict=True
        ):
            for left, right, exact in copies:
                twin, index = earlier[right], group[left]
                dropped = right >= known and group[right - known] in twins
                if right >= known + left or dropped or index in twins:
                    continue
                if exact or same_answer(examples[index].answer, twin.answer):
                    twins[index] = twin
        return twins

    def _copies(
        self, documents: Sequence[tuple[Sequence[Example], int]], count: int
    ) -> list[list[tuple[int, int, bool]]]:
        """`_copies_of` of each document, where `count` examples are new."""
        compared = [
            _Asked(tuple((row.question, row.chunk_ids) for row in rows), known)
            for rows, known in documents
        ]
        starts = range(0, len(compared), DOCUMENTS_AT_ONCE)
        items = (compared[start : start + DOCUMENTS_AT_ONCE] for start in starts)
        spread = self._executor if count >= SPREAD_FROM else InProcess()
        copies: list[list[list[tuple[int, int, bool]]]] = [[] for _ in starts]
        for number, some in map_all(spread, _copies_of_all, items, "compared questions"):
            copies[number] = some
        return [each for some in copies for each in some]


class _Asked(NamedTuple):
    """What is compared of the examples of a document."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """(question, ids of its chunks)"""
    known: int
    """Number of rows, the first ones, that are kept already."""


def _copies_of_all(documents: Sequence[_Asked]) -> list[list[tuple[int, int, bool]]]:
    return [_copies_of(document) for document in documents]


def _copies_of(document: _Asked) -> list[tuple[int, int, bool]]:
    """(new row, row, whether they are equal) of rows that ask the same, sorted.

    New rows are counted from the first after the known ones.
    """
    questions = [question for question, _ in document.rows]
    copies = [
        (copy.left, copy.right, copy.kind == "exact")
        for copy in find_near_copies(questions[document.known :], questions)
    ]
    copies += [(a, b, False) for a, b in _reworded(document.rows, document.known)]
    return sorted(copies)


def _reworded(rows: Sequence[tuple[str, tuple[str, ...]]], known: int) -> list[tuple[int, int]]:
    """(new row, earlier row) on one chunk with about the same content words in their questions.

    New rows are counted from the first after the `known` ones, earlier rows from the first.
    """
    from rapidfuzz.distance import Levenshtein

    on_chunk: dict[str, list[int]] = {}
    for index, (_, chunk_ids) in enumerate(rows):
        for chunk_id in chunk_ids:
            on_chunk.setdefault(chunk_id, []).append(index)
    letters = [letters_only(question) for question, _ in rows]
    near = {
        (later, earlier)
        for group in on_chunk.values()
        for later in group
        for earlier in group
        if later >= known and earlier < later
        if Levenshtein.normalized_similarity(letters[later], letters[earlier]) >= LEAST_SIMILARITY
    }
    pairs = sorted(near)
    alike = same_content([(rows[a][0], rows[b][0]) for a, b in pairs])
    return [(a - known, b) for (a, b), same in zip(pairs, alike, strict=True) if same]


def same_answer(left: str, right: str) -> bool:
    """True if two answers are similar enough to be one."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(letters_only(left), letters_only(right)) >= SAME_ANSWER


def repeats(twin: Example) -> Decision:
    """The decision to drop a row whose question an earlier example has."""
    return drop("repeated", Reason("asked_before", id=twin.id, question=twin.question))
