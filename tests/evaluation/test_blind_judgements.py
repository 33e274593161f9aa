"""The log of blind comparisons: what counts, and what survives a kill."""

import threading

import pytest

from jangin.core.errors import DataError
from jangin.evaluation.blind_judgements import (
    LOG,
    BlindLine,
    Contestant,
    ShownAnswer,
    a_comes_first,
    append_judgement,
    collect_judgements,
    has_seen_names,
    now,
    read_judgements,
    standings,
)

BASE, TUNED = Contestant(variant="v", system="base"), Contestant(variant="v", system="tuned")


def line(number, choice="first", by="김", first=TUNED, kind="judgement", **fields):
    second = BASE if first == TUNED else TUNED
    shown = {
        "first": ShownAnswer(of=first, text="15일"),
        "second": ShownAnswer(of=second, text="모릅니다"),
        "choice": choice,
    }
    given = {"question_id": f"q{number}", "evidence_set": "test", "question": "며칠?"} | fields
    if kind != "judgement":
        shown = {}
    return BlindLine(kind=kind, by=by, at=now(), a=TUNED, b=BASE, **shown, **given)


def test_each_persons_latest_judgement_of_a_question_counts(tmp_path):
    log = tmp_path / LOG
    for one in (
        line(1), line(1, "second"), line(1, "tie", by="이"), line(2), line(2, kind="undo"), line(3),
    ):  # fmt: skip
        append_judgement(log, one)
    kept = collect_judgements(read_judgements(log))
    assert [(j.line.question_id, j.line.by, j.line.choice) for j in kept] == [
        ("q1", "김", "second"), ("q1", "이", "tie"), ("q3", "김", "first"),
    ]  # fmt: skip
    (whole,) = standings(kept, TUNED, BASE)
    assert (whole.report.n, whole.report.wins, whole.report.losses) == (2, 1, 1)
    (turned,) = standings(kept, BASE, TUNED)
    assert turned.report.win_rate.estimate == pytest.approx(1 - whole.report.win_rate.estimate)


def test_what_a_person_judges_after_the_names_were_shown_is_not_blind():
    lines = [line(1), line(0, kind="reveal"), line(2), line(3, by="이")]
    kept = collect_judgements(lines)
    assert [j.blind for j in kept] == [True, False, True]
    assert has_seen_names(lines, lines[0].pair, "김")
    assert not has_seen_names(lines, lines[0].pair, "이")
    (whole,) = standings(kept, TUNED, BASE)
    assert whole.report.n == 2


def test_standings_are_also_by_test_set_and_positions_are_those_that_were_shown():
    lines = [line(n, first=first) for n, first in enumerate((TUNED, BASE, TUNED, BASE))]
    lines += [line(9, evidence_set="unseen_sections")]
    whole, *by_set = standings(collect_judgements(lines), TUNED, BASE)
    assert (whole.report.wins, whole.report.losses) == (3, 2)
    assert whole.report.first_shown.estimate == 1
    assert [(s.evidence_set, s.report.n) for s in by_set] == [("test", 4), ("unseen_sections", 1)]
    assert standings(collect_judgements(lines), TUNED, Contestant(variant="w", system="x")) == []


def test_the_order_is_the_same_for_a_person_and_even_over_questions():
    drawn = [a_comes_first(TUNED, BASE, f"q{n}", "김") for n in range(400)]
    assert drawn == [a_comes_first(TUNED, BASE, f"q{n}", "김") for n in range(400)]
    assert 150 < sum(drawn) < 250
    assert drawn != [a_comes_first(TUNED, BASE, f"q{n}", "이") for n in range(400)]


def test_two_people_at_once_and_a_torn_line_lose_nothing(tmp_path):
    log = tmp_path / LOG

    def judge(by):
        for number in range(25):
            append_judgement(log, line(number, by=by))

    people = [threading.Thread(target=judge, args=(by,)) for by in ("김", "이")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    with log.open("a") as stream:
        stream.write('{"kind": "judgement", "by"')
    append_judgement(log, line(99))
    assert len(read_judgements(log)) == 51


def test_a_damaged_line_is_named(tmp_path):
    log = tmp_path / LOG
    append_judgement(log, line(1))
    with log.open("a") as stream:
        stream.write('{"kind": "judgement", "by": "x", "at": "2026-01-01T00:00:00Z"}\n')
    with pytest.raises(DataError, match=r"judgements\.jsonl:2: a"):
        read_judgements(log)
