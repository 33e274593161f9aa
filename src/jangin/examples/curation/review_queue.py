"""The queue of a review: which examples a person should look at first, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jangin.core.digest import seeded_rank
from jangin.core.errors import MachineError
from jangin.core.records import Chunk, Example
from jangin.examples.curation.review_effects import match_reviews
from jangin.examples.curation.review_log import Review, Wording
from jangin.text.normalize import collapse_spaces

Signal = Literal["score", "near_copy", "long", "evolved", "control"]

WEIGHTS: Mapping[Signal, float] = {
    "score": 0.8,
    "near_copy": 0.4,
    "long": 0.2,
    "evolved": 0.1,
    "control": 0.0,
}
"""How much each signal counts where it is full; together: 1 - the product of what each leaves."""
CONTROL_EVERY = 10
"""One row in this many is drawn at random, so that reviewers also see unsuspicious rows."""
NEAR_COPY = 0.85
"""Similarity of two questions from which both are shown as near-copies."""
LONG_SHARE = 0.02
"""Share of the longest answers that are worth a look."""


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An example to review."""

    example: Example
    passage: str
    """Text of its chunks; empty where it has none."""
    why: tuple[str, ...]
    """Why it is where it is in the queue, most important first."""
    suspicion: float
    """0 (nothing speaks against it) to 1."""
    review: Review | None = None
    """What people have decided so far."""

    @property
    def wording(self) -> Wording:
        """The texts as they are now: those of the latest edit, else those of the example."""
        verdict = self.review.verdict if self.review is not None else None
        return (verdict.after if verdict is not None else None) or Wording.of(self.example)

    @property
    def decided(self) -> bool:
        """True if it was accepted, edited or rejected."""
        return self.review is not None and self.review.verdict is not None


def make_queue(
    rows: Sequence[Example],
    chunks: Iterable[Chunk],
    reviews: Mapping[str, Review],
    seed: int = 0,
) -> list[QueueItem]:
    """The examples, the most suspicious first, with a random control among every ten.

    Signals: low scores of judges and rules, a question much like another one, a very long answer,
    and a question that was evolved.
    """
    rows = list({row.id: row for row in rows}.values())
    texts = {chunk.id: chunk.text for chunk in chunks}
    matched = match_reviews(rows, reviews)
    copies = _near_copies(rows)
    longest = _longest(rows)
    items = []
    for index, row in enumerate(rows):
        signals = _signals(row, copies.get(index, ""), longest=index in longest)
        left = 1.0
        for signal, strength, _ in signals:
            left *= 1 - WEIGHTS[signal] * strength
        why = tuple(reason for _, _, reason in signals)
        passage = "\n\n".join(texts[name] for name in row.chunk_ids if name in texts)
        items.append(QueueItem(row, passage, why, 1 - left, matched.get(row.id)))
    items.sort(key=lambda item: (-item.suspicion, seeded_rank(seed, "review", item.example.id)))
    return _with_controls(items, seed)


def _signals(row: Example, copy: str, *, longest: bool) -> list[tuple[Signal, float, str]]:
    """(signal, strength from 0 to 1, reason) of one row, the strongest first."""
    signals: list[tuple[Signal, float, str]] = []
    judged = [score for score in row.scores if score.kind != "human"]
    if judged:
        worst = min(judged, key=lambda score: score.value)
        if worst.value < 1:
            reason = f"{worst.scorer} {worst.value:.2f}"
            reasons = [score.reason for score in (worst, *judged) if score.reason]
            reason += f": {reasons[0]}" if reasons else ""
            signals.append(("score", 1 - worst.value, reason))
    if copy:
        signals.append(("near_copy", 1.0, f"much like: {copy}"))
    if longest:
        signals.append(("long", 1.0, f"one of the longest answers: {len(row.answer):,} characters"))
    if row.kind == "evolved":
        signals.append(("evolved", 1.0, f"evolved by {row.operation or 'a teacher'}"))
    return sorted(signals, key=lambda signal: -WEIGHTS[signal[0]] * signal[1])


def _near_copies(rows: Sequence[Example]) -> dict[int, str]:
    """{index of a row: the question it resembles}, paraphrases apart, which resemble on purpose."""
    from jangin.text.dedup.near_duplicates import Rules, find_duplicates

    mine = [index for index, row in enumerate(rows) if row.kind != "paraphrase"]
    questions = [rows[index].question for index in mine]
    if len(questions) < 2:
        return {}
    try:
        matches = find_duplicates(questions, Rules(NEAR_COPY, guard=True))
    except MachineError:  # the guard needs kiwipiepy for Korean questions
        matches = find_duplicates(questions, Rules(NEAR_COPY, guard=False))
    copies = {}
    for match in matches:
        copies[mine[match.row]] = rows[mine[match.twin]].question
        copies.setdefault(mine[match.twin], rows[mine[match.row]].question)
    return copies


def _longest(rows: Sequence[Example]) -> set[int]:
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].answer))
    return set(order[: int(len(rows) * LONG_SHARE)])


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
            item = QueueItem(
                item.example,
                item.passage,
                ("drawn at random", *item.why),
                item.suspicion,
                item.review,
            )
        queue.append(item)
    return queue


def wording_problem(after: Wording, passage: str) -> str:
    """Why an edit cannot be kept, in one sentence; empty where it can."""
    if not after.question.strip():
        return "the question is empty. Write one, or reject the example."
    if not after.answer.strip():
        return "the answer is empty. Write one, or reject the example."
    quoted = collapse_spaces(after.evidence)
    if quoted and passage and quoted not in collapse_spaces(passage):
        return (
            f"the evidence {quoted[:60]!r} is not in the passage. Copy it from the passage letter "
            "by letter, or leave it empty."
        )
    return ""
