"""Decisions of people about preference pairs: what the queue shows of them, and what they do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jangin.core.reasons import Reason
from jangin.core.records import DroppedPair, Example, Message, PreferencePair
from jangin.examples.reviews.log import Review, ReviewableTexts

PairReview = Literal["respected", "required", "ignored"]


@dataclass(slots=True)
class ReviewedPairs:
    """Pairs after the review, and pairs that it leaves out."""

    pairs: list[PreferencePair] = field(default_factory=list)
    dropped: list[DroppedPair] = field(default_factory=list)


def wording_of(pair: PreferencePair) -> ReviewableTexts:
    """The texts of a pair that a reviewer can change."""
    question = next((m.content for m in reversed(pair.prompt) if m.role == "user"), "")
    return ReviewableTexts(
        question=question, answer=pair.chosen.content, rejected=pair.rejected.content
    )


def as_example(pair: PreferencePair, original: Example | None = None) -> Example:
    """A pair as a row of the queue: its prompt with the chosen answer, under the pair's own id.

    Evidence, teacher and lineage are those of the example that it was made from, where it is known.
    """
    same = ("chunk_ids", "document_id", "source", "page", "section", "family")
    fields = {name: getattr(pair, name) for name in same}
    if original is not None:
        for name in ("evidence", "teacher", "chunk_ids", "document_id", "source", "page"):
            fields[name] = getattr(original, name)
    return Example.model_validate(
        {
            **fields,
            "id": pair.id,
            "prompt": pair.prompt,
            "completion": pair.chosen,
            "kind": "original",
            "parent": pair.example_id,
        }
    )


def match_pair_reviews(
    pairs: Iterable[PreferencePair], reviews: Mapping[str, Review]
) -> dict[str, Review]:
    """{id of a pair: its review}, by id, else by the same question and answers."""
    mine = {name: review for name, review in reviews.items() if review.of_pair}
    by_text = {review.before.key: review for review in mine.values()}
    matched = {}
    for pair in pairs:
        review = mine.get(pair.id) or (by_text.get(wording_of(pair).key) if by_text else None)
        if review is not None:
            matched[pair.id] = review
    return matched


def apply_pair_reviews(
    pairs: Sequence[PreferencePair], reviews: Mapping[str, Review], setting: PairReview
) -> ReviewedPairs:
    """Leave out the pairs that people rejected and replace those that they edited.

    `required` also leaves out what no person accepted or edited, `ignored` changes nothing.
    """
    if setting == "ignored":
        return ReviewedPairs(list(pairs))
    matched, result = match_pair_reviews(pairs, reviews), ReviewedPairs()
    for pair in pairs:
        review = matched.get(pair.id)
        verdict = review.verdict if review is not None else None
        if verdict is None:
            if setting == "required":
                reason = Reason("not_accepted")
                result.dropped.append(DroppedPair(pair=pair, rule="not_reviewed", reason=reason))
            else:
                result.pairs.append(pair)
        elif verdict.decision == "reject":
            reason = Reason.said(verdict.reason) or Reason("no_reason")
            result.dropped.append(DroppedPair(pair=pair, rule="review", reason=reason))
        else:
            result.pairs.append(pair if verdict.after is None else edit_pair(pair, verdict.after))
    return result


def edit_pair(pair: PreferencePair, after: ReviewableTexts) -> PreferencePair:
    """The pair with other texts, and so another id; its scores were for the old texts."""
    last = max((i for i, m in enumerate(pair.prompt) if m.role == "user"), default=None)
    prompt = tuple(
        Message(role="user", content=after.question) if i == last else message
        for i, message in enumerate(pair.prompt)
    )
    replaced = ("id", "prompt", "chosen", "rejected", "scores")
    others = {n: getattr(pair, n) for n in type(pair).model_fields if n not in replaced}
    return PreferencePair.make(
        prompt,
        Message(role=pair.chosen.role, content=after.answer),
        Message(role=pair.rejected.role, content=after.rejected or ""),
        **others,
    )
