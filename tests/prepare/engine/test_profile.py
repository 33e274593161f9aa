import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.prepare.engine.profile import describe, mask


def test_lengths_are_counted_in_characters_and_drawn_from_every_row():
    profile = describe(["가나다", "abcd", "x" * 10], ["1", "22", "333"])
    assert (profile.rows, profile.prompt_characters.least, profile.prompt_characters.most) == (
        3,
        3,
        10,
    )
    assert profile.prompt_characters.mean == pytest.approx(17 / 3)
    assert profile.prompt_characters.percentiles[50] == 4
    assert list(profile.answer_characters.values) == [1, 2, 3]
    assert profile.longest[0][:2] == (13, "x" * 10)


def test_a_few_answers_that_come_often_are_labels():
    profile = describe([f"후기 {i}" for i in range(60)], [str(i % 5 + 1) for i in range(60)])
    assert profile.labels == {str(star): 12 for star in range(1, 6)}
    assert profile.numbers is None


def test_many_different_numbers_are_numbers_and_no_labels():
    profile = describe([f"상품 {i}" for i in range(80)], [f"${i},000.50" for i in range(1, 81)])
    assert profile.labels == {}
    assert (profile.numbers.least, profile.numbers.most) == (1000.5, 80000.5)


def test_sentences_are_neither_labels_nor_numbers():
    profile = describe(
        [f"q{i}" for i in range(20)], [f"{i}번째 조항에 따라 처리한다" for i in range(20)]
    )
    assert profile.labels == {}
    assert profile.numbers is None


def test_duplicates_and_conflicts_are_counted_separately():
    prompts = ["좋아요", "좋아요", " 좋아요  ", "별로", "별로", "GOOD", "good"]
    answers = ["5", "5", "5", "1", "2", "5", "1"]
    profile = describe(prompts, answers)
    assert profile.duplicates == 1
    assert profile.repeated_prompts == 4
    assert profile.conflicting_prompts == 2
    assert [(c.rows, c.samples) for c in profile.conflicts] == [(2, ("1", "5")), (2, ("1", "2"))]


def test_languages_are_counted_by_the_script_that_most_letters_have():
    profile = describe(["안녕하세요 you", "hello 안녕", "123", "東京です"], ["", "", "", ""])
    assert profile.languages["Hangul"] == 1
    assert profile.languages["Latin"] == 1
    assert profile.languages["none"] == 1
    assert profile.empty_answers == 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("문의: hong.gildong@example.co.kr 로", "email"),
        ("주민번호 900101-1234567 입니다", "resident_number"),
        ("주민번호는900101-1234567입니다", "resident_number"),
        ("주민번호 9001011234019", "resident_number"),
        ("전화는 010-1234-5678로 주세요", "phone"),
        ("전화 010-1234-5678", "phone"),
        ("전화 +82 10 1234 5678", "phone"),
        ("카드 4111-1111-1111-1111", "card"),
        ("카드는4111 1111 1111 1111로", "card"),
        ("5 5000 4111111111111111", "card"),
        ("서버 192.168.0.12 접속", "ip_address"),
    ],
)
def test_what_looks_like_personal_data_is_counted_and_shown_masked(text, kind):
    profile = describe([text, "아무것도 없음"], ["답", "답"])
    (suspect,) = [s for s in profile.personal if s.name == kind]
    assert suspect.rows == 1
    assert "•" in suspect.samples[0]
    assert suspect.samples[0] not in text


@pytest.mark.parametrize(
    "text",
    [
        *("2024-13-45", "3.14.15", "999.999.999.999", "제12조 1항", "a@b", "2007 2008 2009 2010"),
        *("1999-2000-2001-2002", "4111 1111 1111 1112", "0.4111111111111111", "41111111111111111"),
        *("3000 3001 3002 3004", "1700000000000000", "상품번호 8801234567890"),
        *("1606780800000", "v2.10.0.12", "version 10.0.19.1", "1.2.3.4", "제1.2.3.4.15항"),
    ],
)
def test_what_only_resembles_personal_data_is_not_counted(text):
    assert describe([text], ["답"]).personal == ()


def test_rows_over_the_context_are_counted_where_tokens_are_known():
    profile = describe(["a", "b", "c"], ["1", "2", "3"], tokens=[5, 600, 700], context=512)
    assert (profile.too_long, profile.tokens_of, profile.tokens.most) == (2, 3, 700)
    assert describe(["a"], ["b"]).too_long is None


def test_no_rows_cannot_be_described():
    with pytest.raises(ValueError, match="no rows"):
        describe([], [])


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=9)), min_size=1, max_size=30))
def test_any_text_can_be_described_and_counts_stay_within_the_rows(rows):
    profile = describe([p for p, _ in rows], [a for _, a in rows])
    assert profile.rows == len(rows)
    assert 0 <= profile.duplicates <= profile.repeated_prompts < len(rows)
    assert sum(profile.labels.values()) in (0, len(rows))
    assert profile.empty_prompts <= len(rows)


def test_a_mask_leaves_the_ends_of_long_texts_only():
    assert mask("010-1234-5678") == "01•••••••••78"
    assert mask("abcd") == "••••"
