"""Decisions out and in again: JSON Lines, and the records of Argilla 2."""

import io
import json
import zipfile
from dataclasses import replace

import pytest

from jangin.core.errors import DataError
from jangin.examples.reviews.log import ReviewableTexts, collect_reviews, decide
from jangin.examples.reviews.queue import make_queue
from jangin.examples.reviews.reasons import Material
from jangin.examples.reviews.sheet import argilla_archive, export_lines, read_decisions
from tests.examples.reviews.test_index import make_pair, make_row

ROWS = [make_row(n) for n in range(4)]


def some_decisions():
    after = ReviewableTexts(question=ROWS[2].question, answer="16시에 닫습니다")
    return [
        decide(ROWS[0], "accept", "kim"),
        decide(ROWS[1], "reject", "lee", reason="wrong"),
        decide(ROWS[2], "edit", "kim", after),
        decide(ROWS[0], "rate", "lee", score=4),
        decide(ROWS[3], "flag", "kim", reason="blurred"),
    ]


def items_of(decisions=()):
    queue = make_queue(
        Material.of(ROWS, []), collect_reviews(decisions), pairs=[make_pair(ROWS[0])]
    )
    return {item.example.id: item for item in queue}


def content(decisions):
    return {(d.id, d.by, d.decision, d.after, d.reason, d.score) for d in decisions}


def test_lines_come_back_once():
    given = some_decisions()
    data = export_lines(given).encode()
    fresh = read_decisions("a.jsonl", data, items_of(), [])
    assert fresh.decisions == given
    again = read_decisions("a.jsonl", b"\xef\xbb\xbf" + data, items_of(), given)
    assert (again.decisions, again.known, again.problems) == ([], 5, [])


def test_a_decision_that_is_older_than_the_one_here_is_left_out():
    old = decide(ROWS[0], "accept", "kim")
    new = old.model_copy(update={"decision": "reject", "at": old.at.replace(year=2100)})
    result = read_decisions("a.jsonl", export_lines([old]).encode(), items_of(), [new])
    assert (result.decisions, result.older) == ([], 1)


def test_lines_of_another_form_are_named():
    data = export_lines(some_decisions()).encode() + b'{"id": 3}\n'
    with pytest.raises(DataError, match=r"a\.jsonl:6: "):
        read_decisions("a.jsonl", data, items_of(), [])
    with pytest.raises(DataError, match=r"a\.json, record 1 is no record of Argilla"):
        read_decisions("a.json", b'[{"text": "x"}]', items_of(), [])
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        read_decisions("a.json", b"[{", items_of(), [])


def test_records_of_argilla_keep_every_decision():
    given = some_decisions()
    archive = zipfile.ZipFile(io.BytesIO(argilla_archive(items_of(given).values(), "doors")))
    assert set(archive.namelist()) == {
        "records.json", ".argilla/settings.json", ".argilla/dataset.json",
    }  # fmt: skip
    data = archive.read("records.json")
    assert content(read_decisions("r.json", data, items_of(), []).decisions) == content(given)
    for record in json.loads(data):
        assert record["responses"] == {}, "Argilla refuses responses of users that it lacks"
    settings = json.loads(archive.read(".argilla/settings.json"))
    assert all(question["description"] for question in settings["questions"]), "and empty ones"
    changed = json.loads(data)
    next(r for r in changed if "decisions" in r["metadata"])["metadata"]["decisions"] = "[{]"
    with pytest.raises(DataError, match=r"r\.json, record \d: its metadata `decisions`"):
        read_decisions("r.json", json.dumps(changed).encode(), items_of(), [])
    assert read_decisions("r.json", data, items_of(), given).known == 5


def test_answers_of_people_whom_only_argilla_knows_are_taken():
    item = items_of()[ROWS[0].id]
    archive = zipfile.ZipFile(io.BytesIO(argilla_archive([item], "doors")))
    (record,) = json.loads(archive.read("records.json"))
    other = "5c6c2f5a-1f0e-5c3b-9c53-6d6f1f0a2b11"
    record["responses"] = {
        "decision": [{"value": "edit", "user_id": other}],
        "new_answer": [{"value": "17시", "user_id": other}],
        "rating": [{"value": 2, "user_id": other}],
    }
    result = read_decisions("r.json", json.dumps([record]).encode(), items_of(), [])
    edit, rating = result.decisions
    assert (edit.after.answer, edit.by, rating.score) == ("17시", f"argilla-{other[:8]}", 2)


def test_an_edit_that_breaks_its_evidence_is_named_and_the_others_are_taken():
    after = ReviewableTexts(question="왜?", answer="네", evidence="없는 문장")
    given = [decide(ROWS[0], "edit", "kim", after), decide(ROWS[1], "accept", "kim")]
    items = items_of()
    items[ROWS[0].id] = replace(items[ROWS[0].id], passage="제3조 휴가는 15일로 한다.")
    result = read_decisions("a.jsonl", export_lines(given).encode(), items, [])
    assert [d.id for d in result.decisions] == [ROWS[1].id]
    (problem,) = result.problems
    assert problem.startswith("a.jsonl:1: ")
    assert "없는 문장" in problem
