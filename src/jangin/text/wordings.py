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
people's own wordings and 1.0 of templates. docs/log.md has the figures."""
_SHARED = 0.5
"""Share of a question's wordings that have a word, from which it belongs to the question."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like held-out wordings are to trained ones."""

    questions: int
    similarity: float
    """Median over the held-out wordings of the similarity to the most similar trained wording of
    the same question: shared pairs of letters (Dice), 0 to 1."""
    alike: float
    """Share of them that are nearly a trained wording, or have a frame of trained ones."""

    @property
    def is_alike(self) -> bool:
        """Whether the held-out wordings say little about those of users."""
        return self.alike >= MOST_ALIKE


def likeness(
    trained: Mapping[str, Sequence[str]], held_out: Iterable[tuple[str, str]]
) -> Likeness | None:
    """The likeness of held-out wordings, each (question, wording), to {question: its wordings}.

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
    return Likeness(len(similarities), median(similarities), alike / len(similarities))


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
