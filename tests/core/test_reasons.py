"""Reasons are kept as keys and values, and said in words only where they are shown."""

import json
import pickle
from pathlib import Path

import pytest

from jangin.core.parquet import read_columns, read_table, write_table
from jangin.core.reasons import SENTENCES, STORED, Reason
from jangin.core.records import Dropped
from jangin.llm.replies import Failed
from jangin.report.i18n.translate import REASONS, Words, _entries, files

OLD = Path(__file__).parent / "rows_of_an_older_version"
"""Tables of rejected rows that main wrote at e7feab4f, when a reason was a sentence."""


def test_a_table_holds_key_and_values_and_gives_the_reason_again(tmp_path):
    inner = Reason("evidence", share=0.4234567, limit=0.8)
    several = Reason.joined(["", inner, Reason("too_many_words", figure=1, limit=40)])
    reasons = [inner, several, Reason("wording_of_dropped", id="77aa", reason=several), Reason()]
    rows = [
        Failed(subject="s", request="r", reason=reason, reply="", kind="rejected")
        for reason in reasons
    ]
    write_table(tmp_path / "failed.parquet", Failed, rows)
    stored = read_columns(tmp_path / "failed.parquet", ["reason"])["reason"].to_pylist()
    assert json.loads(stored[0]) == {"key": "evidence", "share": 0.42, "limit": 0.8}
    assert "left out" not in stored[2]
    again = [row.reason for row in read_table(tmp_path / "failed.parquet", Failed)]
    assert again == reasons
    assert [reason.key for reason in again] == ["evidence", "joined", "wording_of_dropped", ""]
    assert (
        again[2] == "a wording of 77aa, which was left out: evidence supported to 0.42 < 0.80; "
        "1 word, limit 40"
    )
    assert again[2].keys == ("wording_of_dropped", "joined", "evidence", "too_many_words")
    assert pickle.loads(pickle.dumps(again[2])).stored == stored[2]


def test_reasons_that_differ_in_figures_only_are_of_one_kind():
    one, two = (Reason("copy", text=t, share=s, limit=0.85) for t, s in (("a", 0.9), ("b'", 0.99)))
    assert one != two
    assert one.general == two.general == "near copy of …: similarity …, limit …"


@pytest.mark.parametrize("text", ["", "free words", '{"key":"newer","x":1}', '{"key":'])
def test_what_has_no_known_key_stays_as_it_is(text):
    assert (Reason.read(text), Reason.read(text).key, Reason.read(text).stored) == (text, "", text)


def test_every_key_has_its_sentence_in_korean():
    korean = dict(_entries(files("jangin.report.i18n") / "ko" / REASONS))
    templates = {key: Reason.template_of(key) for key in SENTENCES}
    assert [key for key, template in templates.items() if template not in korean] == []


@pytest.mark.parametrize("record", [Failed, Dropped])
def test_rows_of_an_older_version_are_shown_as_before_in_both_languages(record, tmp_path):
    name = f"{record.__name__.lower()}.parquet"
    rows = read_table(OLD / name, record)
    assert len(rows) == 4
    english, korean = Words("en"), Words("ko")
    assert "same letters as the question itself" in map(english.reason, [r.reason for r in rows])
    for row in rows:
        assert not row.reason.key
        assert not row.reason.stored.startswith(STORED)
        assert korean.reason(row.reason) != row.reason
    write_table(tmp_path / name, record, rows)
    assert read_columns(tmp_path / name) == read_columns(OLD / name)


def test_a_reason_is_said_in_korean_by_its_key_as_its_sentence_was_by_its_pattern():
    reason = Reason("wording_of_dropped", id="77aa", reason=Reason("same_row", id="3cfb"))
    for words in (Words("ko"), Words("en")):
        assert words.reason(reason) == words.reason(reason.stored) == words.reason(str(reason))
