import pytest

from jangin.examples import paraphrase
from jangin.text.dedup import near_duplicates, passage_copies
from jangin.text.dedup.finder import Finder

TEXTS = [
    "계약이 끝나면 보증금은 7일 안에 세입자에게 돌려주어야 합니다.",
    "이사비는 영수증을 내면 받습니다.",
    "계약이 끝나면 보증금은  7일 안에 세입자에게 돌려주어야 합니다.",
    "계약이 끝나면 보증금은 7일 안에 세입자에게 돌려줘야 합니다.",
]
NEAR: Finder[near_duplicates.DuplicateRules] = near_duplicates.find_duplicates
PASSAGES: Finder[passage_copies.PassageRule] = passage_copies.find_copies
WORDINGS: Finder[paraphrase.NearCopies] = paraphrase.find_copies


@pytest.mark.parametrize(
    ("find", "rule"),
    [
        (NEAR, near_duplicates.DuplicateRules(threshold=0.8)),
        (PASSAGES, passage_copies.PassageRule(similarity=0.8)),
        (WORDINGS, paraphrase.NearCopies(similarity=0.8)),
    ],
    ids=["near duplicates", "passages", "wordings"],
)
def test_every_finder_pairs_a_copy_with_the_text_that_is_kept(find, rule):
    pairs = find(TEXTS, rule)
    assert [(pair.row, pair.twin) for pair in pairs] == [(2, 0), (3, 0)]
    assert all(pair.reason for pair in pairs)
    assert not find([], rule)


def test_a_stricter_rule_keeps_the_near_copy():
    for find, rule in (
        (NEAR, near_duplicates.DuplicateRules(threshold=0.99)),
        (PASSAGES, passage_copies.PassageRule(similarity=0.99)),
        (WORDINGS, paraphrase.NearCopies(similarity=0.99, same_words_similarity=0.99)),
    ):
        assert [pair.row for pair in find(TEXTS, rule)] == [2]
