import re
import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from jangin.core.errors import SettingsError
from jangin.prepare.tables.schema import RAW, REASON, ROW
from jangin.prepare.transforms.columns import (
    COMPOSED,
    INVISIBLE,
    Columns,
    counts_of,
    number_of,
    odd,
    round_half_up,
    tidy,
)
from jangin.prepare.transforms.deduplicate import ANSWER, PROMPT, NearDuplicates
from jangin.prepare.transforms.steps import Balance, Step
from jangin.text.numbers import count_numbers, value_of
from jangin.text.numbers import numbers as written

NUMBERS = st.lists(
    st.one_of(
        st.text(alphabet="0123456789.,+-$₩원억만천 ea１٣", max_size=14),
        st.floats(allow_nan=False).map(str),
        st.text(max_size=8),
    ),
    max_size=20,
)


def tidy_text(text):
    """The reference of `tidy`: one text with its lines kept, in plain Python."""
    text = re.sub(f"[{INVISIBLE}]", "", unicodedata.normalize("NFC", text))
    text = re.sub(r"(\S)[^\S\n]+", r"\1 ", text)
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"[^\S \t\n]", " ", text)).strip()


def run(step, **columns):
    """A table after one step: (kept rows, reasons)."""
    frame = pl.DataFrame(columns)
    empty = [pl.lit(None, pl.String).alias(name) for name in (REASON, RAW)]
    frame = frame.with_row_index(ROW, 1).with_columns(*empty)
    table = Columns(frame.lazy(), list(columns))
    TypeAdapter(Step).validate_python(step).apply(table)
    done = table.frame.collect()
    changed = [int(done[name].sum()) for name in table.changes]
    return done.filter(pl.col(REASON).is_null()), done[REASON].to_list(), changed


@pytest.mark.slow
@given(NUMBERS)
@example(["₩1,299.00", "3만 5천원", "1억 2500만", "12", "abc", "", "1" * 400, "-.5", "만 3", "٣"])
def test_numbers_of_a_column_are_those_that_one_text_gives(texts):
    frame = pl.DataFrame({"x": texts}, schema={"x": pl.String})
    numbers = frame.select(number_of("x"))["x"].to_list()
    assert numbers == [value_of(written(text)) for text in texts]
    counted = frame.select(counts_of("x"))["x"].to_list()
    assert counted == [count_numbers(text) for text in texts]


@given(
    st.lists(
        st.one_of(st.text(max_size=20), st.text(alphabet=" \t\n\r\u00a0\x1cab", max_size=12)),
        max_size=20,
    )
)
@example(["  a  b ", "가\u0301", "각", "\u200b", "a\u00a0b", "a \n b", "\x1ca"])
@example(["a\n  b", "a\n\u00a0\tb", "a\tb", "a \tb", "a\n \n b", "a\r\nb", "\n  a", "a\n\x1c b"])
def test_only_odd_texts_are_cleaned_and_all_of_them_come_out_clean(texts):
    cleaned = tidy(pl.Series(texts, dtype=pl.String)).to_list()
    assert cleaned == [tidy_text(text) for text in texts]
    assert tidy(pl.Series(cleaned, dtype=pl.String)).to_list() == cleaned


def test_every_character_that_nfc_changes_is_looked_at():
    letters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    changing = [c for c in letters if unicodedata.normalize("NFC", c) != c]
    joining = [c for c in letters if unicodedata.combining(c)]
    pattern = COMPOSED.replace("\\u", "\\x").replace("\\U", "\\x")
    import re

    pattern = re.sub(r"\\x([0-9a-f]{8}|[0-9a-f]{4})", r"\\x{\1}", pattern)
    seen = pl.Series([*changing, *joining]).str.contains(f"[{pattern}]")
    assert seen.all()


def test_cleaning_leaves_the_indentation_of_code():
    code = "def f(x):\n    if  x:\n\treturn\u00a01 \n\u00a0\u00a0  \n    return  2"
    clean = "def f(x):\n    if x:\n\treturn 1\n\n    return 2"
    assert run({"type": "clean_text"}, a=[code])[0]["a"].to_list() == [clean]
    joined = run({"type": "clean_text", "join_lines": True}, a=[code])[0]["a"].to_list()
    assert joined == ["def f(x): if x: return 1 return 2"]
    assert not pl.Series([clean]).str.contains(odd(False)).any()


def test_cards_are_masked_and_years_are_not():
    texts = ["4111 1111 1111 1111, 5500-0000-0000-0004.", "2007 2008 2009 2010", None]
    kept, _, changed = run({"type": "mask_personal", "columns": ["a"]}, a=texts)
    assert kept["a"].to_list() == ["[card], [card].", texts[1], ""]
    assert changed == [2]  # a missing cell becomes an empty one


def test_a_cell_is_the_number_in_it_unless_it_must_be_one_alone():
    cells = ["$1.2k", "5%", "1300원부터", "12,5", "₩ 1,299", "3만 5천원", "007", None, "a"]
    kept, _, _ = run({"type": "number", "column": "p"}, p=cells)
    assert kept["p"].to_list() == ["1200", "5", "1300", "1299", "35000", "7"]
    kept, reasons, _ = run({"type": "number", "column": "p", "only": True}, p=cells)
    assert kept["p"].to_list() == ["1200", "1299", "35000"]
    more, none = "p is not a number alone", "p is no number"
    unclear = "p is not understood as a number, such as a date or 12,50"
    assert reasons == [None, more, more, unclear, None, None, more, none, none]
    comma = {"type": "number", "column": "p", "only": True, "decimal": "comma"}
    kept, _, _ = run(comma, p=["12,5", "1.299", "1.299,50 €", "12"])
    assert kept["p"].to_list() == ["12.5", "1299", "1299.5", "12"]


def test_cleaning_counts_the_rows_it_changed():
    kept, _, changed = run({"type": "clean_text"}, a=["x", " y", None], b=["1", "1", "2"])
    assert kept["a"].to_list() == ["x", "y", ""]
    assert changed == [2]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
@example([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994])
def test_halves_go_up(values):
    import math

    rounded = pl.DataFrame({"x": values}).select(round_half_up(pl.col("x")))["x"].to_list()
    for value, whole in zip(values, rounded, strict=True):
        assert whole == math.floor(value) + (value - math.floor(value) >= 0.5)


def test_a_price_column_of_mixed_types_gives_numbers_and_reasons():
    step = {"type": "number", "column": "p", "minimum": 0.5, "maximum": 999.49}
    prices = ["1,299.00", "$12.5", "₩0.4", "무료", None, "2.5"]
    kept, reasons, _ = run({**step, "rounding": "half_up"}, p=prices)
    assert kept["p"].to_list() == ["13", "3"]
    assert reasons == [
        "p is above 999.49", None, "p is below 0.5", "p is no number", "p is no number", None,
    ]  # fmt: skip


def test_a_range_is_dropped_unless_its_first_number_is_requested():
    prices = ["$12.99 - $45.00", "3만~5만원", "₩15,000", "1,299.00", "3만 5천원", "2 for $5"]
    step = {"type": "number", "column": "p"}
    kept, reasons, _ = run(step, p=prices)
    assert kept["p"].to_list() == ["15000", "1299", "35000"]
    several = "p holds several numbers, such as a range"
    assert reasons == [several, several, None, None, None, several]
    kept, reasons, _ = run({**step, "ranges": "first"}, p=prices)
    assert kept["p"].to_list() == ["12.99", "30000", "15000", "1299", "35000", "2"]
    assert set(reasons) == {None}


def test_a_part_of_a_text_becomes_a_column_and_rows_without_it_are_dropped():
    texts = ["Title: lamp\nCategory:  Home \nred", "Category: Toys", "nothing", None]
    step = {"type": "extract", "column": "t", "pattern": r"Category:([^\n]*)", "into": "c"}
    kept, reasons, _ = run(step, t=texts)
    assert kept["c"].to_list() == ["Home", "Toys"]
    why = "the pattern for c does not fit t"
    assert reasons == [None, None, why, why]
    kept, reasons, _ = run({**step, "missing": "empty"}, t=texts)
    assert kept["c"].to_list() == ["Home", "Toys", "", ""]
    assert set(reasons) == {None}
    kept, _, changed = run({**step, "pattern": "(?s)Title: (.*)", "into": "t"}, t=texts)
    assert kept["t"].to_list() == ["lamp\nCategory:  Home \nred"]
    assert changed == [1]
    for pattern, problem in (("(", r"'\(' .*unclosed group"), ("a", "'a' has no group")):
        with pytest.raises(SettingsError, match=problem):
            run({**step, "pattern": pattern}, t=texts)


def scrub_by_the_book(text, remove):
    """Reference: the scrubbing of the original recipe."""
    import re

    for part in remove:
        text = text.replace(part, "")
    text = re.sub(r'[:\[\]"{}【】\s]+', " ", text).strip()
    text = text.replace(" ,", ",").replace(",,,", ",").replace(",,", ",")
    words = text.split(" ")
    return " ".join(w for w in words if len(w) < 7 or not any(c.isdecimal() for c in w))


@pytest.mark.slow
@given(st.lists(st.text(alphabet='ab12345678 ,:[]"{}【】\n가By', max_size=40), max_size=10))
@example(['{"Brand": "X", "Model": "ABC12345"} , By Manufacturer', "a ,,, b"])
def test_scrubbing_is_the_recipes(texts):
    remove = ("By", "Manufacturer")
    kept, _, _ = run({"type": "scrub", "columns": ["t"], "remove": remove}, t=texts or [""])
    assert kept["t"].to_list() == [scrub_by_the_book(t, remove) for t in texts or [""]]


def test_scrubbing_takes_other_marks_and_longer_part_numbers():
    texts = ["A12 | B123 (new)", "size: XL-10"]
    step = {"type": "scrub", "columns": ["t"], "collapse": "|()", "part_number_characters": 4}
    kept, _, _ = run(step, t=texts)
    assert kept["t"].to_list() == ["A12 new", "size:"]
    kept, _, _ = run({**step, "part_number_characters": 0}, t=texts)
    assert kept["t"].to_list() == ["A12 B123 new", "size: XL-10"]


def test_trimmed_texts_lose_a_prefix_and_their_capitals():
    step = {"type": "trim", "column": "t", "beginning": "Q: ", "lower_case": True, "suffix": "."}
    kept, _, _ = run(step, t=["Q: How MANY Days", "ok."])
    assert kept["t"].to_list() == ["how many days.", "ok."]


def test_columns_are_joined_with_the_separator_of_the_settings():
    step = {"type": "flatten", "columns": ["a", "b"], "into": "text", "separator": " / "}
    kept, _, _ = run(step, a=["냄비", None], b=['["크다", "가볍다"]', "솥"])
    assert kept["text"].to_list() == ["냄비 / 크다 / 가볍다", "솥"]


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        ({}, []),
        ({"same_words": False}, [2]),
        ({"same_answer": False}, [3]),
        ({"same_words": False, "same_answer": False}, [1, 2, 3]),
    ],
)
def test_near_duplicates_need_the_same_words_and_answers_unless_told_otherwise(settings, dropped):
    prompts = [
        "Leave is granted for 3 days of the calendar year.",
        "Leave is granted for 5 days of the calendar year.",
        "Leave is granted for 7 days of the calendar year.",
        "Leave is granted for 3 days of the calendar year!!",
    ]
    rows = pl.DataFrame({PROMPT: prompts, ANSWER: ["yes", "no", "yes", "no"]})
    reasons = NearDuplicates(type="near_duplicates", **settings).drop_reasons(rows)
    assert [index for index, reason in enumerate(reasons) if reason is not None] == dropped


def test_columns_with_lists_are_joined_and_a_missing_one_takes_no_line():
    step = {"type": "flatten", "columns": ["title", "features"], "into": "text"}
    kept, _, _ = run(step, title=["냄비", None, "[x"], features=['["크다", "가볍다"]', "[]", None])
    assert kept["text"].to_list() == ["냄비\n크다\n가볍다", "", "[x"]


def test_labels_outside_the_set_are_named():
    step = {"type": "labels", "column": "y", "labels": ["1", "2"]}
    kept, reasons, _ = run(step, y=[" 1", "2", "7", None])
    assert kept["y"].to_list() == ["1", "2"]
    assert reasons[2:] == ["y is 7, which is no label", "y is , which is no label"]


def test_rows_are_filtered_by_value_either_way():
    values = {"type": "filter", "column": "y", "values": ["a", "b"]}
    assert run(values, y=["a", "c"])[0]["y"].to_list() == ["a"]
    assert run({**values, "action": "drop"}, y=["a", "c"])[0]["y"].to_list() == ["c"]


def test_texts_outside_a_window_of_characters_go_and_long_ones_are_cut():
    step = {"type": "window", "column": "t", "minimum_characters": 3, "maximum_characters": 5}
    kept, reasons, changed = run(step, t=["가나", "가나다", "가나다라마바"])
    assert kept["t"].to_list() == ["가나다", "가나다라마"]
    assert (reasons[0], changed) == ("t is below 3 characters", [1])
    _, reasons, _ = run({**step, "longer": "drop"}, t=["가나다라마바"])
    assert reasons == ["t is over 5 characters"]


def test_a_window_of_tokens_cuts_behind_the_last_token_that_fits(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: index for index, word in enumerate(["[u]", "one", "two", "three"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[u]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    step = {"type": "window", "column": "t", "minimum_tokens": 2, "maximum_tokens": 2}
    step["tokenizer"] = tmp_path
    kept, reasons, _ = run(step, t=["one", "one two", "one  two three"])
    assert kept["t"].to_list() == ["one two", "one  two"]
    assert reasons[0] == "t is below 2 tokens"
    with pytest.raises(SettingsError, match=r"no tokenizer\.json"):
        run({**step, "tokenizer": tmp_path / "none"}, t=["x"])


def test_a_column_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(SettingsError, match=r"^number: .*'prize'.*: price, name"):
        run({"type": "number", "column": "prize"}, price=["1"], name=["x"])


def test_groups_over_the_cap_are_sampled_by_weight_and_high_ones_are_kept_whole():
    rows = pl.DataFrame(
        {
            "price": ["10"] * 1000 + ["300"] * 50 + ["20"] * 5,
            "category": (["car"] * 500 + ["other"] * 500) + ["car"] * 55,
        }
    )
    step = Balance(
        type="balance", column="price", most=100, all_from=240, weight_column="category",
        weights={"car": 1}, other_weight=5,
    )  # fmt: skip
    reasons = step.drop_reasons(rows)
    kept = rows.filter(reasons.is_null())
    assert kept["price"].value_counts().sort("price").rows() == [
        ("10", 100),
        ("20", 5),
        ("300", 50),
    ]
    drawn = kept.filter(pl.col("price") == "10")["category"].to_list()
    assert 75 <= drawn.count("other") <= 92  # 5 of 6 at first, a little less as they are used up
    assert step.drop_reasons(rows).to_list() == reasons.to_list()
    assert reasons.drop_nulls()[0] == "slot 10 of price is full"
