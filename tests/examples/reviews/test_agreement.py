"""Cohen's kappa and disagreements."""

import pytest

from jangin.examples.reviews.log import (
    ReviewableTexts,
    agreement_of_reviewers,
    cohens_kappa,
    collect_reviews,
    decide,
    find_disagreement,
    is_contested,
    wants_second,
)


def test_kappa_of_a_textbook_table():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: agreement .7, by chance .5, kappa .4
    rows = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohens_kappa(rows) == pytest.approx(0.4)
    assert cohens_kappa([("y", "y")] * 4) is None


def test_agreement_of_two_people_counts_their_latest_decisions(make_example):
    rows = [make_example(f"{n}번은?") for n in range(8)]
    decisions = []
    for n, row in enumerate(rows):
        decisions += [decide(row, "reject", "kim"), decide(row, "accept", "kim")]
        decisions.append(decide(row, "accept" if n % 4 else "reject", "lee"))
    (table,) = agreement_of_reviewers(collect_reviews(decisions).values())
    assert (table.first, table.second, table.rows, table.same) == ("kim", "lee", 8, 0.75)
    assert table.kappa == 0.0
    assert table.low <= table.kappa <= table.high


def test_a_third_decision_settles_a_disagreement(make_example):
    row = make_example()

    def review(*decisions):
        return collect_reviews(decisions)[row.id]

    two = [decide(row, "accept", "kim"), decide(row, "reject", "lee")]
    assert find_disagreement(review(two[0])) is None
    assert is_contested(review(*two))
    assert not is_contested(review(*two, decide(row, "accept", "lee")))
    third = decide(row, "reject", "park")
    assert not is_contested(review(*two, third))
    assert find_disagreement(review(*two, third)).settled == third
    own = two[1].model_copy(update={"resolves": True})
    assert find_disagreement(review(*two, own)).settled == own
    edits = [
        decide(row, "edit", by, ReviewableTexts(question="왜?", answer=by)) for by in ("kim", "lee")
    ]
    assert is_contested(review(*edits))


def test_the_share_for_two_reviewers_is_drawn_by_id():
    drawn = [wants_second(f"{n:016x}", 0.2) for n in range(2000)]
    assert 340 < sum(drawn) < 460
    assert not wants_second("a", 0.0)
