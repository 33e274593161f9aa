"""Which questions were asked about a document already; the same one twice is left out."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.core.records import Example
from jangin.examples.checks.row_checks import Rejection
from jangin.examples.synthesis.teacher import Made
from jangin.text.content_words import same_content
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.normalize import compact

SAME_ANSWER = 0.6
"""From this similarity of the answers on, two near questions are one."""


@dataclass(frozen=True, slots=True)
class Row:
    """An example that passed the checks, and the part of a reply that it was made of."""

    subject: str
    """Id of the chunk or the question that was asked about."""
    request: str
    reply: str
    example: Example


class Asked:
    """The questions that were kept so far, by document."""

    def __init__(self) -> None:
        """Nothing was asked."""
        self._kept: dict[str, list[Example]] = {}

    def about(self, document_id: str) -> Sequence[Example]:
        """What was kept of one document, in order."""
        return self._kept.get(document_id, ())

    def keep(self, example: Example) -> None:
        """Remember a question."""
        self._kept.setdefault(example.document_id, []).append(example)

    def keep_new(self, rows: Sequence[Row], made: Made, *, distinct: bool) -> None:
        """Add the examples that ask something new to `made`, and the others to its failures."""
        twins = self.twins([row.example for row in rows]) if distinct else {}
        for place, row in enumerate(rows):
            if place in twins:
                made.reject(row.subject, row.request, repeated(twins[place]), row.reply)
            else:
                self.keep(row.example)
                made.examples.append(row.example)

    def twins(self, examples: Sequence[Example]) -> dict[int, Example]:
        """{place: the earlier example that asks the same}, among these and all that was kept.

        A near copy with quite another answer is no twin: it may turn on who owes what to whom.
        """
        found: dict[int, Example] = {}
        places: dict[str, list[int]] = {}
        for place, example in enumerate(examples):
            places.setdefault(example.document_id, []).append(place)
        for document_id, group in places.items():
            known = list(self._kept.get(document_id, ()))
            earlier = [*known, *(examples[place] for place in group)]
            new = [examples[place].question for place in group]
            copies = [
                (copy.left, copy.right, copy.kind == "exact")
                for copy in find_near_copies(new, [example.question for example in earlier])
            ]
            copies += [(a, b, False) for a, b in _reworded(earlier, len(known))]
            for left, right, exact in sorted(copies):
                twin, place = earlier[right], group[left]
                dropped = right >= len(known) and group[right - len(known)] in found
                if right >= len(known) + left or dropped or place in found:
                    continue
                if exact or same_answer(examples[place].answer, twin.answer):
                    found[place] = twin
        return found


def _reworded(rows: Sequence[Example], known: int) -> list[tuple[int, int]]:
    """(place after the known ones, place) of rows on one chunk that ask in about the same words."""
    from rapidfuzz.distance import Levenshtein

    on_chunk: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for chunk_id in row.chunk_ids:
            on_chunk.setdefault(chunk_id, []).append(place)
    spelled = [compact(row.question) for row in rows]
    near = {
        (later, earlier)
        for places in on_chunk.values()
        for later in places
        for earlier in places
        if later >= known and earlier < later
        if Levenshtein.normalized_similarity(spelled[later], spelled[earlier]) >= _LEAST
    }
    pairs = sorted(near)
    alike = same_content([(rows[a].question, rows[b].question) for a, b in pairs])
    return [(a - known, b) for (a, b), same in zip(pairs, alike, strict=True) if same]


_LEAST = 0.7
"""Below this similarity two questions are not compared word by word."""


def same_answer(left: str, right: str) -> bool:
    """True if two answers say about the same."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(compact(left), compact(right)) >= SAME_ANSWER


def repeated(twin: Example) -> Rejection:
    """A row gives way to one that asked the same before."""
    return Rejection("repeated", f"asks what {twin.id} asks: {twin.question!r}")
