"""The queue of a review: which examples a person should look at first, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from jangin.core.digest import seeded_rank
from jangin.core.records import Example, PreferencePair
from jangin.examples.reviews.log import (
    DecisionKind,
    Review,
    ReviewableTexts,
    ReviewDecision,
    decide_on,
    match_reviews,
)
from jangin.examples.reviews.pairs import as_example, match_pair_reviews, wording_of
from jangin.examples.reviews.reasons import (
    BY_KEY,
    Language,
    Material,
    Values,
    find_concerns,
    passage_of,
)
from jangin.text.grounding import check_answer
from jangin.text.normalize import collapse_spaces

Fault = Literal["", "question", "answer", "rejected", "evidence"]

LEAST_SUPPORTED = 0.4
"""Least share of the words of an edited answer in its evidence; below it, a warning is shown."""
CONTROL_EVERY = 10
"""One row in this many is drawn at random, so that reviewers also see unsuspicious rows."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One reason to look at a row."""

    signal: str
    """Key of a row of `REASONS`."""
    strength: float
    """0 to 1."""
    values: Values = field(default_factory=dict)
    """What its sentence says: a score, the words at fault, the other document."""

    @property
    def text(self) -> str:
        """The reason in English."""
        return self.said("en")

    def said(self, language: Language) -> str:
        """The reason as a sentence."""
        return BY_KEY[self.signal].said(self.values, language)


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An example to review."""

    example: Example
    passage: str
    """Text of its chunks; empty where it has none."""
    signals: tuple[Suspicion, ...]
    """Why it is where it is in the queue, most important first."""
    suspicion: float
    """0 (nothing speaks against it) to 1."""
    review: Review | None = None
    """What people have decided so far."""
    pair: PreferencePair | None = None
    """The preference pair, where it is one; `example` is then its prompt and chosen answer."""

    @property
    def why(self) -> tuple[str, ...]:
        """The signals in English."""
        return tuple(signal.text for signal in self.signals)

    @property
    def original(self) -> ReviewableTexts:
        """The texts before any review."""
        return ReviewableTexts.of(self.example) if self.pair is None else wording_of(self.pair)

    @property
    def wording(self) -> ReviewableTexts:
        """The texts as they are now: those of the latest edit, else the original ones."""
        verdict = self.review.verdict if self.review is not None else None
        return (verdict.after if verdict is not None else None) or self.original

    def decide(self, decision: DecisionKind, by: str, **fields: Any) -> ReviewDecision:
        """A decision about the item, made now; raises `ValueError` for an incomplete one."""
        return decide_on(self.example.id, self.original, decision, by, **fields)

    def with_review(self, review: Review | None) -> Self:
        """The item with other decisions."""
        return replace(self, review=review)

    @property
    def decided(self) -> bool:
        """True if it was accepted, edited or rejected."""
        return self.review is not None and self.review.verdict is not None


def make_queue(
    material: Material,
    reviews: Mapping[str, Review],
    seed: int = 0,
    pairs: Sequence[PreferencePair] = (),
) -> list[QueueItem]:
    """Examples and preference pairs, the most suspicious first, with a random one among every ten.

    Paraphrases follow all others.

    What makes a row suspicious is in `REASONS`; of a pair, that its rejected answer is almost the
    chosen one.
    """
    rows = list({row.id: row for row in material.rows}.values())
    material = replace(material, rows=rows)
    matched, concerns = match_reviews(rows, reviews), find_concerns(material)
    items = []
    for index, row in enumerate(rows):
        signals = tuple(Suspicion(*each) for each in concerns.get(index, ()))
        passage, review = material.passages[index], matched.get(row.id)
        items.append(QueueItem(row, passage, signals, suspicion_of(signals), review))
    items += _pairs(pairs, rows, material.texts, reviews)
    items.sort(key=lambda item: (-item.suspicion, seeded_rank(seed, "review", item.example.id)))
    written = [item for item in items if item.example.kind == "paraphrase"]
    own = [item for item in items if item.example.kind != "paraphrase"]
    return _with_controls(own, seed) + _with_controls(written, seed)


def suspicion_of(signals: Iterable[Suspicion]) -> float:
    """What several reasons amount to: 1 - the product of what each leaves."""
    left = 1.0
    for signal in signals:
        left *= 1 - BY_KEY[signal.signal].weight * signal.strength
    return 1 - left


def _pairs(
    pairs: Sequence[PreferencePair],
    rows: Iterable[Example],
    texts: Mapping[str, str],
    reviews: Mapping[str, Review],
) -> list[QueueItem]:
    originals = {row.id: row for row in rows}
    matched = match_pair_reviews(pairs, reviews)
    items = []
    for pair in {pair.id: pair for pair in pairs}.values():
        row = as_example(pair, originals.get(pair.example_id))
        alike = max((s.value for s in pair.scores if s.scorer == "character_f1"), default=0.0)
        signals = (Suspicion("alike", alike, {"value": f"{alike:.2f}"}),) * (alike > 0)
        suspicion, passage = suspicion_of(signals), passage_of(row, texts)
        items.append(QueueItem(row, passage, signals, suspicion, matched.get(pair.id), pair))
    return items


def _with_controls(items: list[QueueItem], seed: int) -> list[QueueItem]:
    """Every tenth place goes to a row drawn from all that come later."""
    later = sorted(items, key=lambda item: seeded_rank(seed, "control", item.example.id))
    queue: list[QueueItem] = []
    taken: set[str] = set()
    ordered, drawn = iter(items), iter(later)
    while len(queue) < len(items):
        control = len(queue) % CONTROL_EVERY == CONTROL_EVERY - 1
        source = drawn if control else ordered
        item = next(item for item in source if item.example.id not in taken)
        taken.add(item.example.id)
        if control:
            item = replace(item, signals=(Suspicion("control", 0.0), *item.signals))
        queue.append(item)
    return queue


def wording_fault(after: ReviewableTexts, passage: str) -> Fault:
    """The text that keeps an edit from being saved, if any.

    That is one that is empty, or evidence that is not in the passage.
    """
    if not after.question.strip():
        return "question"
    if not after.answer.strip():
        return "answer"
    if after.rejected is not None and not after.rejected.strip():
        return "rejected"
    quoted = collapse_spaces(after.evidence)
    return "evidence" if quoted and passage and quoted not in collapse_spaces(passage) else ""


def unsupported(after: ReviewableTexts, passage: str) -> tuple[str, ...]:
    """Parts of an edited answer that are not in its evidence, or else in its passage.

    Numbers and names; of an answer without any, the whole where hardly one of its words is there.
    """
    source = after.evidence.strip() or passage
    if not source:
        return ()
    support = check_answer(after.answer, source)
    if support.missing:
        return support.missing
    is_other = not support.facts and support.words < LEAST_SUPPORTED
    return (after.answer,) if is_other else ()


def wording_problem(after: ReviewableTexts, passage: str) -> str:
    """Why an edit cannot be kept, in one sentence; empty where it can."""
    fault = wording_fault(after, passage)
    if fault == "evidence":
        return (
            f"the evidence {collapse_spaces(after.evidence)[:60]!r} is not in the passage. Copy it "
            "from the passage letter by letter, or leave it empty."
        )
    names = {"question": "question", "answer": "answer", "rejected": "rejected answer"}
    what = "pair" if fault == "rejected" else "example"
    return f"the {names[fault]} is empty. Write one, or reject the {what}." if fault else ""
