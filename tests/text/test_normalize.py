"""The levels of text normalisation, each held to a definition spelled out in full."""

import re
import string
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jangin.metrics.text import normalise_answer
from jangin.text.korean import bigrams
from jangin.text.normalize import (
    clean_text,
    collapse_spaces,
    drop_spaces,
    fold_case,
    folded_words,
    letters_and_digits,
    letters_only,
    nfc,
    text_key,
    word_runs,
)

NASTY = st.text(
    st.one_of(
        st.sampled_from(
            "aA zZß0_-.,'\"《》‘’%+²①½ｋ\uff21\u3000\u00a0\x00\x01\x0b\x0c\x85\r\n\t\u2028\ufeff"
            "가각힣ㄱ\u1100\u1161\u11a8\u0301\u030cJjİıΣς\u2000\u212a\u0345"
        ),
        st.characters(exclude_categories=[]),
    ),
    max_size=20,
)


def nfc_of(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@given(NASTY)
@example("J\u030c_\u2000a\u0301")
@example("\x00 가 \x00")
def test_each_level_gives_what_its_definition_gives(text: str) -> None:
    lower = nfc_of(text).lower()
    assert nfc(text) == nfc_of(text)
    assert fold_case(text) == lower
    assert collapse_spaces(text) == " ".join(text.split())
    assert drop_spaces(nfc(text)) == "".join(nfc_of(text).split())
    assert drop_spaces(fold_case(text)) == "".join(lower.split())
    assert text_key(text) == " ".join(nfc_of(text.replace("\0", " ")).lower().split())
    assert word_runs(text) == re.findall(r"\w+", lower)
    assert letters_and_digits(text) == "".join(c for c in lower if c.isalnum())
    spaced = "".join(
        " " if unicodedata.category(c)[0] in "PZC" else c
        for c in unicodedata.normalize("NFKC", text).casefold()
    )
    assert folded_words(text) == tuple(spaced.split())
    assert letters_only(text) == "".join(spaced.split())


@given(NASTY)
def test_compositions_elsewhere_give_what_their_definition_gives(text: str) -> None:
    quotes = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
    spaced = nfc_of(text).translate(quotes).lower()
    unpunctuated = spaced.translate(str.maketrans("", "", string.punctuation))
    assert normalise_answer(text) == " ".join(unpunctuated.split())
    letters = "".join(re.findall(r"\w+", nfc_of(text).lower()))
    pairs = [letters[i : i + 2] for i in range(len(letters) - 1)]
    assert bigrams(text) == (pairs or ([letters] if letters else []))


@given(NASTY)
def test_cleaning_a_clean_text_changes_nothing_that_is_seen(text: str) -> None:
    cleaned = clean_text(text)
    assert nfc(cleaned) == cleaned
    assert not re.search(r"[ \t]$|\r|[\x00-\x08]", cleaned, re.MULTILINE)
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "key", "words", "letters"),
    [
        ("Ｐrice:  3만 원!", "ｐrice: 3만 원!", ("price", "3만", "원"), "price3만원"),
        ("snake_case", "snake_case", ("snake", "case"), "snakecase"),
        ("각", "각", ("각",), "각"),
        ("Straße 5%", "straße 5%", ("strasse", "5"), "strasse5"),
        ("5+3", "5+3", ("5+3",), "5+3"),
    ],
)
def test_levels_differ_in_width_case_and_punctuation(
    text: str, key: str, words: tuple[str, ...], letters: str
) -> None:
    assert text_key(text) == key
    assert folded_words(text) == words
    assert letters_only(text) == letters
