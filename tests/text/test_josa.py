from unicodedata import normalize

import pytest

from jangin.report.i18n.translate import Words, strings
from jangin.text.korean import FORMS, final_sound, particle, with_particles


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("기본", "기본은 기본이 기본을 기본과 기본으로"),
        ("학습 전", "학습 전은 학습 전이 학습 전을 학습 전과 학습 전으로"),
        ("심사", "심사는 심사가 심사를 심사와 심사로"),
        ("모델", "모델은 모델이 모델을 모델과 모델로"),
    ],
)
def test_the_particle_follows_the_last_syllable(word, shown):
    assert " ".join(word + particle(word, form) for form in FORMS) == shown
    decomposed = normalize("NFD", word)
    assert [particle(decomposed, form) for form in FORMS] == [particle(word, f) for f in FORMS]


def test_digits_are_read_in_korean():
    closed = [digit for digit in "0123456789" if particle(digit, "은(는)") == "은"]
    assert closed == ["0", "1", "3", "6", "7", "8"]
    assert [d for d in "0123456789" if particle(d, "(으)로") == "으로"] == ["0", "3", "6"]
    assert final_sound("94%") == final_sound("94 %") == "vowel"


@pytest.mark.parametrize(
    ("word", "sound"),
    [
        ("constant", "vowel"), ("tfidf_logistic", "consonant"), ("tfidf_svr", "rieul"),
        ("forest", "vowel"), ("random", "consonant"), ("few_shot", "consonant"),
        ("retrieval", "rieul"), ("linear", "vowel"), ("baseline", "consonant"),
        ("simple", "rieul"), ("gpt-4o", "vowel"), ("LLM", "consonant"), ("SFT", "vowel"),
        ("Qwen3-8B", "vowel"), ("training", "consonant"), ("judge", "vowel"),
        ("‘심판’", "consonant"), ("gemma-3 (27B)", "vowel"),
    ],
)  # fmt: skip
def test_latin_words_are_read_as_loanwords_and_abbreviations_letter_by_letter(word, sound):
    assert final_sound(word) == sound


@pytest.mark.parametrize("word", ["", "...", "模型", "モデル"])
def test_both_forms_stay_where_the_sound_is_unknown(word):
    assert with_particles("{a}은(는)", {"a": word}) == "{a}은(는)"


def test_sentences_of_the_report_have_one_form():
    words = Words("ko")
    said = words("slices_intro", system="학습", against=words.system("base"))
    assert "같은 질문에서 기본과 견주었습니다" in said
    assert "같은 질문에서 few_shot과" in words("slices_intro", system="학습", against="few_shot")
    assert words("kin_both", a="심사자 3", b="b").startswith("심사자 3과 ")
    said = words("kin_teacher", judge="판사", system="tuned")
    assert "판사가 tuned를 학습시킨" in said
    for text in strings("ko").values():
        assert with_particles(text, Anything()).count("(는)") == 0


class Anything(dict):
    """A value for every name."""

    def __missing__(self, name):
        return "무엇"


def test_a_value_that_holds_both_forms_is_left_as_it_is():
    assert Words("ko")("kin_both", a="이름은(는) {b}", b="나") == "이름은(는) {b}와 나"


def test_a_particle_after_a_closing_quotation_mark_fits_the_word_inside():
    assert (
        with_particles("“{a}”은(는) ‘{b}’와(과)", {"a": "plain", "b": "3번"}) == "“{a}”은 ‘{b}’과"
    )
