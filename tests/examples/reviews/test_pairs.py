"""What decisions about preference pairs do."""

import pytest

from jangin.examples.reviews.log import ReviewableTexts, apply_reviews, collect_reviews
from jangin.examples.reviews.pairs import apply_pair_reviews, match_pair_reviews
from jangin.examples.reviews.queue import make_queue
from jangin.examples.reviews.reasons import Material
from tests.examples.reviews.test_index import make_pair, make_row

ROW = make_row(0)
PAIRS = [make_pair(ROW, text) for text in ("아무 때나", "모릅니다", "열지 않습니다")]


def reviews(*wanted):
    """Decisions about the pairs, one each; None for none."""
    items = {item.example.id: item for item in make_queue(Material.of([ROW], []), {}, pairs=PAIRS)}
    decisions = [
        items[pair.id].decide(name, "kim", **fields)
        for pair, (name, fields) in zip(PAIRS, wanted, strict=False)
    ]
    return collect_reviews(decisions)


def test_rejected_pairs_go_and_edited_ones_get_their_texts():
    after = ReviewableTexts(question="창고는?", answer="0시", rejected="1시")
    made = reviews(("accept", {}), ("reject", {"reason": "wrong"}), ("edit", {"after": after}))
    result = apply_pair_reviews(PAIRS, made, "respected")
    assert result.pairs[0] == PAIRS[0]
    edited = result.pairs[1]
    texts = (edited.prompt[-1].content, edited.chosen.content, edited.rejected.content)
    assert texts == ("창고는?", "0시", "1시")
    assert (edited.example_id, edited.scores) == (PAIRS[2].example_id, ())
    assert edited.id != PAIRS[2].id
    assert [(d.rule, d.reason) for d in result.dropped] == [("review", "wrong")]


@pytest.mark.parametrize(("setting", "left"), [("respected", 2), ("required", 1), ("ignored", 3)])
def test_settings_decide_about_pairs_that_nobody_looked_at(setting, left):
    made = reviews(("reject", {}), ("accept", {}))
    assert len(apply_pair_reviews(PAIRS, made, setting).pairs) == left


def test_decisions_about_pairs_and_examples_do_not_mix():
    made = reviews(("reject", {}))
    result = apply_reviews([ROW], made)
    assert (result.rows, result.unmatched) == ([ROW], [])
    again = make_pair(ROW.model_copy(update={"chunk_ids": ("x",)}), "아무  때나")
    assert set(match_pair_reviews([again], made)) == {again.id}
