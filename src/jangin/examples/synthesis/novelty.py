"""`NoveltyFilter`: reject questions that were already asked about the same document."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.core.records import Example
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.synthesis.teacher import SynthesisOutput
from jangin.text.content_words import same_content
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.normalize import letters_only

SAME_ANSWER = 0.6
"""Near copies of a question are one question from this similarity of their answers on."""
LEAST_SIMILARITY = 0.7
"""Below this similarity the content words of two questions are not compared."""


@dataclass(frozen=True, slots=True)
class CandidateExample:
    """An example that passed the row checks, and the part of a reply it was made from."""

    subject: str
    """Id of the chunk or the query that the request was about."""
    request: str
    reply: str
    example: Example


class NoveltyFilter:
    """The examples that were kept so far, by document."""

    def __init__(self) -> None:
        """Start without any example."""
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
        for document_id, group in of_document.items():
            known = list(self._kept.get(document_id, ()))
            earlier = [*known, *(examples[index] for index in group)]
            new = [examples[index].question for index in group]
            copies = [
                (copy.left, copy.right, copy.kind == "exact")
                for copy in find_near_copies(new, [example.question for example in earlier])
            ]
            copies += [(a, b, False) for a, b in _reworded(earlier, len(known))]
            for left, right, exact in sorted(copies):
                twin, index = earlier[right], group[left]
                dropped = right >= len(known) and group[right - len(known)] in twins
                if right >= len(known) + left or dropped or index in twins:
                    continue
                if exact or same_answer(examples[index].answer, twin.answer):
                    twins[index] = twin
        return twins


def _reworded(rows: Sequence[Example], known: int) -> list[tuple[int, int]]:
    """(new row, earlier row) on one chunk with about the same content words in their questions.

    New rows are counted from the first after the `known` ones, earlier rows from the first.
    """
    from rapidfuzz.distance import Levenshtein

    on_chunk: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for chunk_id in row.chunk_ids:
            on_chunk.setdefault(chunk_id, []).append(index)
    letters = [letters_only(row.question) for row in rows]
    near = {
        (later, earlier)
        for group in on_chunk.values()
        for later in group
        for earlier in group
        if later >= known and earlier < later
        if Levenshtein.normalized_similarity(letters[later], letters[earlier]) >= LEAST_SIMILARITY
    }
    pairs = sorted(near)
    alike = same_content([(rows[a].question, rows[b].question) for a, b in pairs])
    return [(a - known, b) for (a, b), same in zip(pairs, alike, strict=True) if same]


def same_answer(left: str, right: str) -> bool:
    """True if two answers are similar enough to be one."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(letters_only(left), letters_only(right)) >= SAME_ANSWER


def repeats(twin: Example) -> Decision:
    """The decision to drop a row whose question an earlier example has."""
    return drop("repeated", f"asks what {twin.id} asks: {twin.question!r}")
