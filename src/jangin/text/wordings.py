"""How unlike the held-out wordings of questions are to the wordings that were trained on.

A wording of the same template as trained ones ("the limit of X, please") tests little: the model
saw the frame with other questions and the subject with this one. What is left of a wording without
the words that the question's other wordings share is its frame; where the same frame was trained
with other questions, or a trained wording of the question is nearly the same, the two are *alike*.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from jangin.text.normalize import letters_and_digits

NEARLY_SAME = 0.8
"""Similarity from which a wording is nearly a trained one: of people's own wordings 10 % are."""
OTHER_QUESTIONS = 2
"""Number of other questions that a frame was trained with, from which it is a template."""
MOST_ALIKE = 0.5
"""Share of alike wordings from which held-out wordings say little about users' own; between 0.19 of
people's own wordings and 1.0 of templates (docs/measurements.md, "Evaluation and grades")."""
BLOCK = 64
"""Wordings that are looked up at the same time."""
_SHARED = 0.5
"""Share of a question's wordings that have a word, from which it belongs to the question."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class WordingSimilarity:
    """How like held-out wordings are to trained ones."""

    questions: int
    similarity: float
    """Median over the held-out wordings of the similarity to the most similar trained wording of
    the same question: shared pairs of letters (Dice), 0 to 1."""
    alike: float
    """Share of them that are nearly a trained wording, or have a frame of trained ones."""
    lookup: float | None = None
    """Share of them whose most similar trained wording, of any question, has the right answer: what
    a lookup without a model scores; None where it was not measured."""

    @property
    def is_alike(self) -> bool:
        """Whether the held-out wordings say little about those of users."""
        return self.alike >= MOST_ALIKE


def wording_similarity(
    trained: Mapping[str, Sequence[str]], held_out: Iterable[tuple[str, str]]
) -> WordingSimilarity | None:
    """The similarity of held-out wordings, each (question, wording), to {question: its wordings}.

    None where no held-out wording is of a trained question.
    """
    own = {name: _shared_words(wordings) for name, wordings in trained.items()}
    frames: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name, wordings in trained.items():
        for wording in wordings:
            frames[_frame(wording, own[name])].add(name)
    similarities, alike = [], 0
    for name, wording in held_out:
        if not trained.get(name):
            continue
        nearest = max(similarity(wording, other) for other in trained[name])
        known = frames.get(_frame(wording, own[name]), set()) - {name}
        similarities.append(nearest)
        alike += nearest >= NEARLY_SAME or len(known) >= OTHER_QUESTIONS
    if not similarities:
        return None
    return WordingSimilarity(len(similarities), median(similarities), alike / len(similarities))


def lookup_hits(
    trained: Sequence[str], answers: Sequence[str], wordings: Sequence[tuple[str, str]]
) -> float | None:
    """Share of the wordings, each (text, answer), whose most similar trained text has the answer.

    `answers` are those of the trained texts. Similar by cosine of pairs of letters, weighted by
    their inverse document frequency. None without texts on one side.
    """
    import numpy as np
    from scipy.sparse import csr_array

    if not trained or not wordings:
        return None
    known: dict[str, int] = {}
    rows = [_pairs(text) for text in trained]
    for row in rows:
        for pair in row:
            known.setdefault(pair, len(known))
    queries = [_pairs(text) for text, _ in wordings]
    having = Counter(pair for row in rows for pair in row)
    weight = np.log(len(rows) / np.array([having[pair] for pair in known], float)) + 1

    def matrix(counts: Sequence[Counter[str]]) -> "csr_array":
        entries = [
            (index, known[pair], count)
            for index, row in enumerate(counts)
            for pair, count in row.items()
            if pair in known
        ]
        places = np.array([entry[:2] for entry in entries], np.int64).reshape(-1, 2).T
        values = np.array([entry[2] for entry in entries], float) * weight[places[1]]
        table = csr_array((values, (places[0], places[1])), shape=(len(counts), len(known)))
        length = np.sqrt(np.asarray((table * table).sum(axis=1)).ravel())
        return csr_array(table.multiply(1 / np.maximum(length, 1e-12)[:, None]))

    theirs, hits = matrix(rows).T.tocsc(), 0
    for first in range(0, len(queries), BLOCK):
        scores = (matrix(queries[first : first + BLOCK]) @ theirs).toarray()
        best = zip(scores.argmax(axis=1).tolist(), scores.max(axis=1).tolist(), strict=True)
        own = wordings[first : first + BLOCK]
        hits += sum(
            score > 0 and answers[index] == answer
            for (index, score), (_, answer) in zip(best, own, strict=True)
        )
    return hits / len(queries)


def similarity(left: str, right: str) -> float:
    """Share of pairs of letters that two texts have in common (Dice), 0 to 1."""
    one, two = _pairs(left), _pairs(right)
    return 2 * sum((one & two).values()) / max(1, sum(one.values()) + sum(two.values()))


def _pairs(text: str) -> Counter[str]:
    letters = letters_and_digits(text)
    return Counter(letters[i : i + 2] for i in range(max(1, len(letters) - 1)))


def _stem(word: str) -> str:
    """The beginning of a word, without most endings and particles."""
    return word[:4] if word.isascii() else word[:2]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shared_words(wordings: Sequence[str]) -> set[str]:
    """Stems that at least half of a question's wordings have."""
    counts = Counter(stem for text in wordings for stem in {_stem(w) for w in _words(text)})
    return {stem for stem, count in counts.items() if count >= _SHARED * len(wordings)}


def _frame(wording: str, shared: set[str]) -> tuple[str, ...]:
    """The words of a wording, runs of those that belong to the question as one gap."""
    frame: list[str] = []
    for word in _words(wording):
        part = "" if _stem(word) in shared else word
        if part or frame[-1:] != [""]:
            frame.append(part)
    return tuple(frame)
