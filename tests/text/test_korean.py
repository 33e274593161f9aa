import unicodedata

from jangin.text.korean import bigrams, kiwi_version, morphemes


def test_bigrams_are_of_letters_alone_and_lower_case():
    assert bigrams("LTV 란?") == ["lt", "tv", "v란"]
    assert bigrams("가") == ["가"]
    assert bigrams(" ?! ") == []
    assert bigrams(unicodedata.normalize("NFD", "전세")) == ["전세"]


def test_morphemes_leave_out_particles_endings_and_marks():
    (terms,) = morphemes(["전세 계약을 갱신하려면 LTV 70%를 봅니다."])
    assert {"전세", "계약", "갱신", "ltv", "70"} <= set(terms)
    assert not {"을", "려면", "를", ".", "%", "하"} & set(terms)
    assert list(morphemes(["그것은 무엇입니까?", "바둑 이야기이다"])) == [[], ["바둑", "이야기"]]


def test_text_without_hangul_is_cut_into_words_and_order_is_kept():
    english, korean, empty = morphemes(["The Lease, 2024!", "이사비", ""])
    assert english == ["the", "lease", "2024"]
    assert "이사" in korean[0]
    assert empty == []


def test_the_version_of_the_analyser_is_known():
    assert kiwi_version()[0].isdigit()
