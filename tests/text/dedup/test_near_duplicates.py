import os
import random
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from jangin.core.execution.local import Local
from jangin.text.content_words import content_keys, same_content
from jangin.text.dedup import lsh, near_duplicates
from jangin.text.dedup import lsh as candidates
from jangin.text.dedup.lsh import find_candidates
from jangin.text.dedup.near_duplicates import (
    Duplicate,
    DuplicateRules,
    find_duplicates,
    find_matches,
)
from jangin.text.dedup.spread import Spread
from jangin.text.normalize import text_key

WORDS = ["연차", "휴가", "출장비", "신청", "기한", "서류", "팀장", "승인", "며칠", "언제", "얼마"]
WORDS += ["laptop", "Budget", "한도", "정산", "👍🏽", "ㅋㅋ"]

sentences = st.lists(st.sampled_from(WORDS), min_size=0, max_size=12).map(" ".join)


@st.composite
def texts_with_twins(draw: st.DrawFn) -> list[str]:
    """Sentences, some of them with one character exchanged, in any order."""
    texts = draw(st.lists(sentences, max_size=12))
    for text in list(texts):
        if text and draw(st.booleans()):
            place = draw(st.integers(0, len(text) - 1))
            texts.append(text[:place] + draw(st.sampled_from("가힣xé ")) + text[place + 1 :])
    return draw(st.permutations(texts))


def planted(count: int, seed: int) -> list[str]:
    """Long sentences of random words, each followed by a copy with two characters exchanged."""
    random_ = random.Random(seed)
    texts = []
    for _ in range(count):
        text = " ".join(random_.choices(WORDS, k=9)) + str(random_.random())
        place = random_.randrange(len(text) - 3)
        texts += [text, text[:place] + "뷁x" + text[place + 2 :]]
    return texts


class TestDuplicates:
    @pytest.mark.slow
    @given(texts_with_twins())
    def test_every_text_that_goes_has_a_verified_twin_that_stays(self, texts):
        rules = DuplicateRules(threshold=0.8)
        gone = find_duplicates(texts, rules)
        rows = [duplicate.row for duplicate in gone]
        assert rows == sorted(set(rows))
        for duplicate in gone:
            assert duplicate.twin not in rows
            left, right = text_key(texts[duplicate.row]), text_key(texts[duplicate.twin])
            assert duplicate.similarity == Levenshtein.normalized_similarity(left, right)
            assert duplicate.similarity >= rules.threshold
            assert (duplicate.match == "exact") == (left == right)

    @pytest.mark.slow
    @given(texts_with_twins().flatmap(lambda t: st.tuples(st.just(t), st.permutations(t))))
    def test_another_order_finds_the_same_pairs(self, orders):
        """Which text of a chain stays does depend on the order, so the pairs are compared."""

        def pairs(texts):
            return {
                frozenset(text_key(texts[row]) for row in pair)
                for pair in find_matches(texts).pairs.tolist()
            }

        assert pairs(orders[0]) == pairs(orders[1])

    @pytest.mark.slow
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.one_of(sentences, st.text(max_size=20)), max_size=20))
    def test_compiled_and_plain_candidates_are_the_same(self, texts):
        plain = find_candidates(texts, 0.75, compiled=False)
        compiled = find_candidates(texts, 0.75, compiled=True)
        assert plain.firsts.tolist() == compiled.firsts.tolist()
        assert plain.pairs.tolist() == compiled.pairs.tolist()
        assert plain.texts(np.arange(len(texts))) == list(map(text_key, texts))
        assert compiled.texts(np.arange(len(texts))) == list(map(text_key, texts))

    def test_compiled_and_plain_candidates_are_the_same_in_bulk(self, monkeypatch):
        monkeypatch.setattr(lsh, "PART", 333)
        texts = planted(400, seed=1) + [f"연차 휴가 신청 서류 {i}" for i in range(300)]
        plain = find_candidates(texts, 0.75, compiled=False)
        assert len(plain.pairs) > 1000
        compiled = find_candidates(texts, 0.75, compiled=True)
        np.testing.assert_array_equal(compiled.pairs, plain.pairs)
        np.testing.assert_array_equal(compiled.firsts, plain.firsts)

    @pytest.mark.slow
    def test_other_processes_find_the_same(self, monkeypatch, tmp_path):
        monkeypatch.setattr(lsh, "PART", 700)
        monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 100)
        texts = [*planted(1000, seed=3), *planted(30, seed=3)]
        rules, groups = (
            DuplicateRules(guard=True),
            [index // 2 if index % 8 < 4 else -1 for index in range(len(texts))],
        )
        spread = Spread(Local(2), tmp_path, texts_from=1, pairs_from=1)
        gone = find_duplicates(texts, rules, groups=groups, spread=spread)
        assert len(gone) > 100
        assert gone == find_duplicates(texts, rules, groups=groups)
        assert not list(tmp_path.iterdir())

    def test_nearly_all_planted_edits_are_found(self):
        texts = planted(500, seed=2)
        gone = {duplicate.row: duplicate.twin for duplicate in find_duplicates(texts)}
        dropped = sum(gone.get(row) == row - 1 for row in range(1, len(texts), 2))
        assert dropped >= 490

    def test_there_is_nothing_to_do_without_texts(self):
        assert find_duplicates([]) == []
        assert find_duplicates(["하나뿐인 글"]) == []
        assert find_duplicates(["", " ", "\n"]) == [
            Duplicate(1, 0, 1.0, 0, "exact"),
            Duplicate(2, 0, 1.0, 0, "exact"),
        ]

    @pytest.mark.slow
    def test_equal_texts_are_one_text_whatever_their_number(self):
        gone = find_duplicates(["같은 글입니다"] * 50_000)
        assert len(gone) == 49_999
        assert {duplicate.twin for duplicate in gone} == {0}

    @pytest.mark.slow
    def test_a_bucket_with_everything_in_it_costs_linear_work(self):
        texts = [f"{'공통으로 들어가는 아주 긴 머리말 ' * 6}{i:05d}" for i in range(3000)]
        result = find_candidates(texts, 0.75)
        assert len(result.pairs) <= len(texts) * candidates.NEIGHBOURS * candidates.BANDS
        assert len(result.pairs) < len(texts) ** 2 / 8
        assert len(find_duplicates(texts)) == len(texts) - 1

    def test_unicode_form_case_and_white_space_make_no_difference(self):
        text = "Café 연차 휴가 규정"
        others = [
            unicodedata.normalize("NFD", text),
            "CAFÉ  연차\t휴가\n규정 ",
            "café\0연차 휴가 규정",
        ]
        assert [d.match for d in find_duplicates([text, *others])] == ["exact"] * 3
        assert [d.match for d in find_duplicates([text, *others] * 600)] == ["exact"] * 2399

    def test_emoji_and_jamo_are_characters_like_others(self):
        texts = [
            "ㅋㅋㅋㅋㅋㅋㅋㅋ 최고예요 👍👍👍",
            "ㅋㅋㅋㅋㅋㅋㅋㅎ 최고예요 👍👍👍",
            "ㅠㅠㅠㅠㅠㅠ 별로 👎",
        ]
        gone = find_duplicates(texts)
        assert [(duplicate.row, duplicate.twin) for duplicate in gone] == [(1, 0)]

    def test_lone_surrogates_pass_through(self):
        texts = ["broken \ud800 character here", "broken \ud800 character her", "another text"]
        assert [d.row for d in find_duplicates(texts)] == [1]
        assert [d.row for d in find_duplicates(texts * 700)][:2] == [1, 3]

    def test_very_long_texts_are_compared(self):
        text = "".join(random.Random(3).choices("가나다라마바사 ", k=50_000))
        gone = find_duplicates([text, text[:30_000] + "끼움" + text[30_000:], text[::-1]])
        assert [(duplicate.row, duplicate.twin) for duplicate in gone] == [(1, 0)]
        assert gone[0].similarity > 0.999

    def test_the_best_scored_of_a_cluster_stays(self):
        texts = [
            "회의실 예약은 어디서 하나요",
            "회의실 예약은 어디서 하나요?",
            "회의실 예약은 어디서 하나요!",
        ]
        assert {d.twin for d in find_duplicates(texts)} == {0}
        assert {d.twin for d in find_duplicates(texts, scores=[0.1, 0.2, 0.9])} == {2}
        assert {d.twin for d in find_duplicates([texts[0]] * 3, scores=[0, 1, 0])} == {1}

    def test_the_far_end_of_a_chain_stays(self):
        chain = [
            "휴가 신청 기한과 승인 절차를 팀장에게 알려야 하나요",
            "병가 신청 기한과 승인 절차를 팀장에게 알려야 하나요",
            "병가 신청 기한과 승인 절차를 부장에게 알려야 할까요",
        ]
        alike = Levenshtein.normalized_similarity
        assert alike(chain[0], chain[2]) < 0.87 < alike(chain[1], chain[2])
        gone = find_duplicates(chain, DuplicateRules(threshold=0.87))
        assert [(d.row, d.twin, d.cluster) for d in gone] == [(1, 0, 0)]

    def test_texts_of_one_group_have_their_own_threshold(self):
        texts = ["연차 휴가는 며칠인가요?", "연차 휴가는 며칠인지요?", "연차 휴가는 며칠인가요??"]
        assert len(find_duplicates(texts, groups=["a", "b", "c"])) == 2
        assert find_duplicates(texts, groups=["a", "a", "a"]) == []
        close = DuplicateRules(group_threshold=0.925)
        assert [d.row for d in find_duplicates(texts, close, groups=["a"] * 3)] == [2]

    def test_the_guard_is_not_asked_about_texts_of_one_group(self):
        texts = [f"{kind} 계약을 갱신할 때 미리 알려야 하는 기한은?" for kind in ("전세", "월세")]
        rules = DuplicateRules(guard=True, group_threshold=0.9)
        assert find_duplicates(texts, rules, groups=["a", "b"]) == []
        assert [d.row for d in find_duplicates(texts, rules, groups=["a", "a"])] == [1]

    def test_a_reason_names_twin_and_figure(self):
        gone = find_duplicates(["같은 글 하나", "같은 글 하나", "같은 글 하나."])
        assert [d.reason for d in gone] == ["same text as row 0", "similarity 0.875 to row 0"]


class TestContentWords:
    @pytest.mark.parametrize(
        ("left", "right"),
        [
            ("전세 계약 기간은 보통 얼마나 되나요?", "월세 계약 기간은 보통 얼마나 되나요?"),
            ("출장비는 3일 안에 정산해야 하나요?", "출장비는 5일 안에 정산해야 하나요?"),
            ("수습 기간은 3년 뒤에 끝나나요?", "수습 기간은 3개월 뒤에 끝나나요?"),
            ("보증금을 안 돌려줘도 되나요?", "보증금을 돌려줘도 되나요?"),
            ("휴직 중에 신청이 가능한가요?", "휴직 중에 신청이 불가능한가요?"),
            ("임대인이 임차인에게 알려야 하나요?", "임차인이 임대인에게 알려야 하나요?"),
            ("수수료는 10%인가요?", "수수료는 10$인가요?"),
            ("how do i renew the parking permit?", "how do i cancel the parking permit?"),
            ("when can i take my leave?", "how can i take my leave?"),
            ("is it paid with overtime?", "is it paid without overtime?"),
            ("flights from seoul to busan", "flights from busan to seoul"),
            ("is the limit 2.5 days?", "is the limit 25 days?"),
        ],
    )
    def test_one_template_filled_twice_is_no_duplicate(self, left, right):
        assert same_content([(left, right)]) == [False]
        rules = DuplicateRules(threshold=0.6, guard=True)
        assert find_duplicates([left, right], rules) == []
        assert len(find_duplicates([left, right], DuplicateRules(threshold=0.6))) == 1

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            ("전세계약 기간은 얼마인가요?", "전세 계약 기간은 얼마인가요"),
            ("연차 휴가는 며칠인가요?", "연차 휴가가 며칠인가요?"),
            ("출장비를 정산하는 기한은?", "출장비 정산하는 기한은?"),
            ("is the limit 1,000 won?", "is the limit 1000 won"),
            ("how do i renew the permit?", "how do i renew a permit"),
        ],
    )
    def test_spacing_particles_and_articles_are_no_content(self, left, right):
        assert same_content([(left, right)]) == [True]
        assert len(find_duplicates([left, right], DuplicateRules(guard=True))) == 1

    def test_the_guard_lets_a_typing_error_live(self):
        texts = ["건강 검진 예약은 어디서 하나요?", "건강 겁진 예약은 어디서 하나요?"]
        assert find_duplicates(texts, DuplicateRules(guard=True)) == []

    def test_two_hundred_fillings_of_one_template_all_stay(self):
        nouns = ["연차", "병가", "출장", "교육", "회식", "야근", "휴직", "복직", "퇴직", "전근"]
        verbs = ["신청", "취소", "연기", "승인", "반려", "조회", "수정", "등록", "보고", "마감"]
        texts = [f"{n} {v} 절차는 어떻게 되나요?" for n in nouns for v in verbs]
        texts += [f"how do i {v} my {n} request?" for n in "abcdefghij" for v in "klmnopqrst"]
        assert find_duplicates(texts, DuplicateRules(guard=True)) == []
        assert len(find_duplicates(texts)) > len(texts) // 2

    def test_keys_hold_numbers_with_units_and_negations(self):
        assert content_keys(["연차는 3년 뒤 안 쓰나요?"]) == ["연차#3#년뒤안쓰"]
        assert content_keys(["Pay $1,000 of it"]) == ["Pay$#1000#"]


@pytest.mark.slow
def test_kernels_compile_where_no_cache_can_be_written(tmp_path):
    shutil.copy(Path(candidates.__file__).with_name("minhash.py"), tmp_path)
    code = (
        "import minhash, numpy\n"
        "keys, signatures = numpy.zeros((1, 2), 'u4'), numpy.zeros((2, 3), 'u1')\n"
        "texts = numpy.array([65, 65], 'u4'), numpy.array([0, 1, 2])\n"
        "minhash.sketch(*texts, numpy.ones(3, 'u4'), keys, signatures)\n"
        "print(keys[0, 0] == keys[0, 1] > 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "True"
