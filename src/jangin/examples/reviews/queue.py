"""The queue of a review: which examples a person should look at first, and why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from jangin.core.digest import seeded_rank
from jangin.core.errors import MachineError
from jangin.core.records import Chunk, Example, PreferencePair
from jangin.examples.reviews.effects import match_reviews
from jangin.examples.reviews.log import (
    DecisionKind,
    Review,
    ReviewDecision,
    Wording,
    decide_on,
)
from jangin.examples.reviews.pairs import as_example, match_pair_reviews, wording_of
from jangin.text.grounding import check_answer
from jangin.text.normalize import collapse_spaces

Signal = Literal["score", "alike", "near_copy", "long", "evolved", "control"]

NearCopies = Callable[[Sequence[str]], dict[int, int]]
"""Searches questions: {index of a question: index of the one that it resembles}."""

Fault = Literal["", "question", "answer", "rejected", "evidence"]

WEIGHTS: Mapping[Signal, float] = {
    "score": 0.8,
    "alike": 0.6,
    "near_copy": 0.4,
    "long": 0.2,
    "evolved": 0.1,
    "control": 0.0,
}
"""How much each signal counts where it is full; together: 1 - the product of what each leaves."""
LEAST_SUPPORTED = 0.4
"""Least share of the words of an edited answer in its evidence; below it, a warning is shown."""
CONTROL_EVERY = 10
"""One row in this many is drawn at random, so that reviewers also see unsuspicious rows."""
NEAR_COPY = 0.85
"""Similarity of two questions from which both are shown as near-copies."""
TEXTS: Mapping[Signal, str] = {
    "score": "{}",
    "alike": "the rejected answer is much like the chosen one: F1 {}",
    "near_copy": "much like: {}",
    "long": "one of the longest answers: {} characters",
    "evolved": "evolved by {}",
    "control": "drawn at random",
}
LONG_SHARE = 0.02
"""Share of the longest answers that are worth a look."""
LONG_FACTOR = 3
"""How many times as long as the median an answer must be for that."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One reason to look at a row."""

    signal: Signal
    strength: float
    """0 to 1."""
    detail: str
    """What the signal is about: a score with its reason, the similar question, a length."""

    @property
    def text(self) -> str:
        """The reason in English."""
        return TEXTS[self.signal].format(self.detail)


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
    def original(self) -> Wording:
        """The texts before any review."""
        return Wording.of(self.example) if self.pair is None else wording_of(self.pair)

    @property
    def wording(self) -> Wording:
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
    rows: Sequence[Example],
    chunks: Iterable[Chunk] | Mapping[str, str],
    reviews: Mapping[str, Review],
    seed: int = 0,
    pairs: Sequence[PreferencePair] = (),
    copies: NearCopies | None = None,
) -> list[QueueItem]:
    """Examples and preference pairs, the most suspicious first, with a random one among every ten.

    Signals: low scores of judges and rules, a question much like another one, a very long answer,
    a question that was evolved, and a pair whose rejected answer is almost the chosen one.
    `chunks` may be {id: text} too. `copies` searches for near-copies; default: `near_copies`.
    """
    texts = chunks if isinstance(chunks, Mapping) else {chunk.id: chunk.text for chunk in chunks}
    items = _examples(rows, texts, reviews, copies or near_copies) + _pairs(
        pairs, rows, texts, reviews
    )
    items.sort(key=lambda item: (-item.suspicion, seeded_rank(seed, "review", item.example.id)))
    return _with_controls(items, seed)


def _examples(
    rows: Sequence[Example],
    texts: Mapping[str, str],
    reviews: Mapping[str, Review],
    search: NearCopies,
) -> list[QueueItem]:
    rows = list({row.id: row for row in rows}.values())
    matched = match_reviews(rows, reviews)
    copies = _near_copies(rows, search)
    longest = _longest(rows)
    items = []
    for index, row in enumerate(rows):
        signals = _signals(row, copies.get(index, ""), longest=index in longest)
        left = 1.0
        for signal in signals:
            left *= 1 - WEIGHTS[signal.signal] * signal.strength
        passage = passage_of(row, texts)
        items.append(QueueItem(row, passage, signals, 1 - left, matched.get(row.id)))
    return items


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
        signals = (Suspicion("alike", alike, f"{alike:.2f}"),) * (alike > 0)
        suspicion, passage = WEIGHTS["alike"] * alike, passage_of(row, texts)
        items.append(QueueItem(row, passage, signals, suspicion, matched.get(pair.id), pair))
    return items


def passage_of(row: Example, texts: Mapping[str, str]) -> str:
    """Text of the chunks of a row, of {id of a chunk: its text}."""
    return "\n\n".join(texts[name] for name in row.chunk_ids if name in texts)


def _signals(row: Example, copy: str, *, longest: bool) -> tuple[Suspicion, ...]:
    """What speaks against one row, the strongest first."""
    signals: list[Suspicion] = []
    judged = [score for score in row.scores if score.kind != "human"]
    if judged:
        worst = min(judged, key=lambda score: score.value)
        if worst.value < 1:
            detail = f"{worst.scorer} {worst.value:.2f}"
            reasons = [score.reason for score in (worst, *judged) if score.reason]
            detail += f": {reasons[0]}" if reasons else ""
            signals.append(Suspicion("score", 1 - worst.value, detail))
    if copy:
        signals.append(Suspicion("near_copy", 1.0, copy))
    if longest:
        signals.append(Suspicion("long", 1.0, f"{len(row.answer):,}"))
    if row.kind == "evolved":
        signals.append(Suspicion("evolved", 1.0, row.operation or "a teacher"))
    return tuple(sorted(signals, key=lambda each: -WEIGHTS[each.signal] * each.strength))


def _near_copies(rows: Sequence[Example], search: NearCopies) -> dict[int, str]:
    """{index of a row: the question it resembles}, paraphrases apart, which resemble on purpose."""
    mine = [index for index, row in enumerate(rows) if row.kind != "paraphrase"]
    copies = search([rows[index].question for index in mine])
    return {mine[row]: rows[mine[twin]].question for row, twin in copies.items()}


def near_copies(questions: Sequence[str]) -> dict[int, int]:
    """{index of a question: index of the one that it resembles}."""
    from jangin.text.dedup.near_duplicates import Rules, find_duplicates

    if len(questions) < 2:
        return {}
    try:
        matches = find_duplicates(questions, Rules(NEAR_COPY, guard=True))
    except MachineError:  # the guard needs kiwipiepy for Korean questions
        matches = find_duplicates(questions, Rules(NEAR_COPY, guard=False))
    copies: dict[int, int] = {}
    for match in matches:
        copies[match.row] = match.twin
        copies.setdefault(match.twin, match.row)
    return copies


def _longest(rows: Sequence[Example]) -> set[int]:
    """Indices of the longest answers, as far as they are much longer than the others."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].answer))
    usual = len(rows[order[len(rows) // 2]].answer) if rows else 0
    longest = order[: int(len(rows) * LONG_SHARE)]
    return {index for index in longest if len(rows[index].answer) > LONG_FACTOR * usual}


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
            item = replace(item, signals=(Suspicion("control", 0.0, ""), *item.signals))
        queue.append(item)
    return queue


def wording_fault(after: Wording, passage: str) -> Fault:
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


def unsupported(after: Wording, passage: str) -> tuple[str, ...]:
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


def wording_problem(after: Wording, passage: str) -> str:
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
