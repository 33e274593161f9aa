"""People's decisions: the log, what they do to rows, the queue, the sheet, and the terminal."""

import csv
import os
import pty
import select
import shutil
import struct
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from python_calamine import CalamineWorkbook
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import ConfigError, DataError, SettingsError, StoreError
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Dropped, Example, Message, Score
from jangin.examples.curate import CurateConfig, curate
from jangin.examples.curate import run as run_curate
from jangin.examples.judge import JudgeConfig, ReviewRatings, read_human_scores
from jangin.examples.review import ReviewConfig
from jangin.examples.review import review as run_review
from jangin.examples.reviews.log import (
    LOG,
    ReviewableTexts,
    ReviewDecision,
    UnappliedReview,
    append_decisions,
    apply_reviews,
    collect_reviews,
    decide,
    decide_on,
    is_accepted,
    read_log,
)
from jangin.examples.reviews.queue import make_queue, wording_problem
from jangin.examples.reviews.reasons import Material
from jangin.examples.reviews.sheet import COLUMNS, read_sheet, write_sheet
from jangin.examples.split import SplitConfig
from jangin.examples.split import run as run_split
from jangin.project.file import open_project

PASSAGE = "제3조(휴가)\n① 직원의 연차휴가는\n15일로 한다. 보증 기간은 12개월이다."


def make_chunk():
    return Chunk(
        id="c", document_id="d", source="a.md", text=PASSAGE, start=0, end=len(PASSAGE), page=1,
        section="휴가",
    )  # fmt: skip


def make_row(question="연차휴가는 며칠인가요?", answer="10일", **fields):
    return Example.make(
        (
            Message(role="system", content="짧게 답하세요."),
            Message(role="user", content=question),
        ),
        Message(role="assistant", content=answer),
        **{"kind": "original", "chunk_ids": ("c",), "source": "a.md", "page": 1, **fields},
    )


def reworded(row, question, answer=None):
    return make_row(
        question, answer or row.answer, kind="paraphrase", parent=row.id, family=row.family
    )


def reviews_of(*decisions):
    return collect_reviews(decisions)


class TestLog:
    def test_keeps_every_decision_in_order(self, tmp_path):
        row = make_row()
        first = decide(row, "accept", "kim")
        second = decide(row, "reject", "lee", reason="wrong")
        append_decisions(tmp_path / LOG, [first])
        append_decisions(tmp_path / LOG, [second])
        assert read_log(tmp_path / LOG) == [first, second]
        assert read_log(tmp_path / "none.jsonl") == []

    def test_half_a_line_of_a_killed_process_is_no_decision(self, tmp_path):
        path, row = tmp_path / LOG, make_row()
        append_decisions(path, [decide(row, "accept", "kim")])
        whole = path.read_bytes()
        path.write_bytes(whole + whole[: len(whole) // 2])
        assert len(read_log(path)) == 1
        append_decisions(path, [decide(row, "reject", "kim")])
        assert [d.decision for d in read_log(path)] == ["accept", "reject"]

    def test_a_last_line_without_a_line_end_is_kept(self, tmp_path):
        path, row = tmp_path / LOG, make_row()
        append_decisions(path, [decide(row, "accept", "kim")])
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
        append_decisions(path, [decide(row, "reject", "kim")])
        assert [d.decision for d in read_log(path)] == ["accept", "reject"]

    def test_a_wrong_line_is_named(self, tmp_path):
        path = tmp_path / LOG
        append_decisions(path, [decide(make_row(), "accept", "kim")])
        path.write_text(path.read_text() + '{"id": "x", "decision": "agree"}\n')
        with pytest.raises(DataError, match=r"reviews\.jsonl:2: decision: .*Correct or delete"):
            read_log(path)

    @pytest.mark.parametrize(
        "fields",
        [
            {"decision": "edit"},
            {"decision": "rate"},
            {"decision": "rate", "score": 6},
            {"decision": "edit", "after": {"question": "왜?", "answer": " "}},
            {"decision": "accept", "score": 3},
        ],
    )
    def test_incomplete_decisions_are_refused(self, fields):
        with pytest.raises(ValidationError):
            ReviewDecision.model_validate(
                {
                    "id": "x",
                    "at": datetime.now(UTC),
                    "before": {"question": "왜?", "answer": "네"},
                    **fields,
                }
            )

    def test_a_full_disk_is_one_sentence(self):
        with pytest.raises(StoreError, match="disk is full, so the decision is not saved in /dev"):
            append_decisions(Path("/dev/full"), [decide(make_row(), "accept", "kim")])

    def test_undo_withdraws_the_latest_decision_only(self):
        row = make_row()
        steps = [decide(row, "accept", "kim"), decide(row, "reject", "kim")]
        undo = decide(row, "undo", "kim")
        assert reviews_of(*steps, undo)[row.id].verdict == steps[0]
        assert reviews_of(*steps, undo, undo) == {}

    def test_each_reviewer_has_one_rating(self):
        row = make_row()
        ratings = [("kim", 1), ("lee", 4), ("kim", 2)]
        decisions = [decide(row, "rate", by, score=score) for by, score in ratings]
        assert reviews_of(*decisions)[row.id].score == 3


class TestEffects:
    def test_rejected_rows_go_with_their_paraphrases(self):
        row, other = make_row(), make_row("보증 기간은?", "12개월")
        wording = reworded(row, "연차는 며칠?")
        result = apply_reviews(
            [row, wording, other], reviews_of(decide(row, "reject", "kim", reason="wrong"))
        )
        assert result.rows == [other]
        assert [dropped.rule for dropped in result.rejected] == ["review", "review"]
        assert result.rejected[0].reason == "wrong"
        assert row.id in result.rejected[1].reason

    def test_an_edit_reaches_answer_evidence_and_descendants(self):
        judged = Score(scorer="judge", kind="model", value=0.1)
        row = make_row(scores=(judged,), answers=("열흘",))
        evolved = make_row("왜 그런가요?", "규정", kind="evolved", parent=row.id, family=row.id)
        wording = reworded(row, "연차는 며칠?")
        after = ReviewableTexts(
            question=row.question, answer="15일", evidence="연차휴가는 15일로 한다"
        )
        result = apply_reviews(
            [row, wording, evolved], reviews_of(decide(row, "edit", "kim", after))
        )
        new, new_wording, new_evolved = result.rows
        assert (new.answer, new.evidence, new.answers) == ("15일", after.evidence, ())
        assert new.prompt[0] == row.prompt[0]
        assert new.id == new.family != row.id
        assert [score.scorer for score in new.scores] == ["review"]
        assert new_wording.answer == "15일"
        assert {new_wording.parent, new_evolved.parent} == {new.id}
        assert {new_wording.family, new_evolved.family} == {new.id}
        assert new_evolved.answer == "규정"

    def test_a_decision_follows_a_question_whose_chunk_was_cut_anew(self):
        row = make_row()
        again = make_row(chunk_ids=("another",))
        assert again.id != row.id
        result = apply_reviews([again], reviews_of(decide(row, "reject", "kim")))
        assert result.rows == []
        assert result.unmatched == []

    def test_decisions_about_rows_that_are_gone_are_left(self):
        row = make_row()
        result = apply_reviews([make_row("다른 질문?")], reviews_of(decide(row, "reject", "kim")))
        assert [review.id for review in result.unmatched] == [row.id]

    def test_curation_keeps_what_a_person_accepted(self):
        low = Score(scorer="judge", kind="model", value=0.1)
        bad, twin = (
            make_row(scores=(low,)),
            make_row("연차 휴가는 며칠인가요?", "15일", seed_word="b"),
        )
        (accepted,) = apply_reviews([bad], reviews_of(decide(bad, "accept", "kim"))).rows
        config = CurateConfig(min_score={"judge": 0.5}, guard=False)
        assert curate([twin, bad], config).kept == [twin]
        assert curate([twin, accepted], config).kept == [accepted]


def test_what_a_person_added_beats_what_was_generated(make_context):
    old = make_row("와이파이 비밀번호는 어디서 받나요?", "내선 1200")
    new = make_row("와이파이 비밀번호는 어디서 받나요?", "내선 1300", source="additions.jsonl")
    asked = make_row("주차권은 누가 발급하나요?", "총무팀", source="test_questions.jsonl")
    taught = make_row("주차권은 누가 발급하나요?", "인사팀")
    context = make_context(
        CurateConfig(guard=False), {"examples": (Example, [old, taught, new, asked])}
    )
    run_curate(context)
    kept = read_table(context.workspace / "examples.parquet", Example)
    assert [row.answer for row in kept] == ["인사팀", "내선 1300"]
    (message,) = context.services.progress.messages
    assert "1 row that you saved is left out" in message
    assert "test_questions.jsonl: conflicting_answer" in message
    assert context.summary["saved_rows_left_out"] == 1


def write_decisions(folder, *decisions):
    append_decisions(folder / LOG, decisions)


class TestStages:
    def test_review_then_curate_apply_the_log(self, tmp_path, make_context):
        good, bad, typo = (
            make_row(),
            make_row("보증 기간은?", "9개월"),
            make_row("출장비는?", "5만언"),
        )
        wording = reworded(good, "연차가 며칠이죠, 알려 주세요")
        after = ReviewableTexts(question="출장비는?", answer="5만원")
        gone = make_row("없는 질문?")
        write_decisions(
            tmp_path,
            decide(good, "accept", "kim"),
            decide(bad, "reject", "kim", reason="wrong"),
            decide(typo, "edit", "kim", after),
            decide(wording, "reject", "lee", reason="unclear"),
            decide(gone, "accept", "lee"),
        )
        context = make_context(ReviewConfig(), {"examples": (Example, [good, bad, typo])})
        run_review(context)
        rows = read_table(context.workspace / "examples.parquet", Example)
        assert [row.answer for row in rows] == ["10일", "5만원"]
        assert all(map(is_accepted, rows))
        rejected = read_table(context.workspace / "rejected.parquet", Dropped)
        assert [row.example.id for row in rejected] == [bad.id]
        assert context.summary["edited"] == context.summary["accepted"] == 1
        assert context.summary["of_later_rows"] == 2

        inputs = {"examples": (Example, [*rows, wording])}
        curating = make_context(CurateConfig(guard=False), inputs)
        reviews = context.workspace
        from jangin.core.store import Artifact
        from tests.conftest import make_manifest

        curating = type(curating)(
            curating.config,
            {**curating.inputs, "reviews": Artifact(reviews, make_manifest(stage="review"))},
            curating.workspace,
            curating.services,
        )
        run_curate(curating)
        dropped = read_table(curating.workspace / "dropped.parquet", Dropped)
        assert [(row.rule, row.reason) for row in dropped] == [("review", "unclear")]
        left = read_table(curating.workspace / "unapplied.parquet", UnappliedReview)
        assert [(row.id, row.by) for row in left] == [(gone.id, "lee")]
        assert "1 decisions" in curating.services.progress.messages[-1]

    def test_rejecting_everything_is_one_sentence(self, tmp_path, make_context):
        row = make_row()
        write_decisions(tmp_path, decide(row, "reject", "kim"))
        with pytest.raises(SettingsError, match="the only example was rejected by hand"):
            run_review(make_context(ReviewConfig(), {"examples": (Example, [row])}))

    def test_required_trains_on_accepted_questions_only(self, make_context):
        rows = [make_row(f"{number}번 규정은?", f"{number}일") for number in range(6)]
        decisions = [decide(row, "accept", "kim") for row in rows[:3]]
        seen = apply_reviews(rows, reviews_of(*decisions)).rows
        rewordings = [reworded(row, f"{row.question} 알려 주세요") for row in (seen[0], seen[5])]
        config = SplitConfig(review="required", unseen_sections=0, validation=0)
        context = make_context(config, {"examples": (Example, [*seen, *rewordings])})
        run_split(context)
        used = {row["example"]["id"] for row in table_rows(context.workspace / "splits.parquet")}
        assert used == {*(row.id for row in seen[:3]), rewordings[0].id}
        added = make_row("새 질문은?", "답", source="additions.jsonl")
        asked = make_row("물어볼 것은?", "답", source="test_questions.jsonl")
        config = config.model_copy(update={"test_sources": ("test_questions.jsonl",)})
        context = make_context(config, {"examples": (Example, [*seen, added, asked])})
        run_split(context)
        split_of = {row["example"]["id"]: row["split"]
                    for row in table_rows(context.workspace / "splits.parquet")}  # fmt: skip
        assert (split_of[added.id], split_of[asked.id]) == ("train", "test")
        assert len(split_of) == 5
        nobody = make_context(config, {"examples": (Example, [*rows, asked])})
        with pytest.raises(SettingsError, match=r"split\.review: required leaves none of 7"):
            run_split(nobody)

    def test_a_row_on_which_two_reviewers_disagree_waits_for_a_third_decision(
        self, tmp_path, make_context
    ):
        rows = [make_row(f"{number}번 규정은?", f"{number}일") for number in range(3)]
        kim = [decide(row, "accept", "kim") for row in rows]
        after = ReviewableTexts(question=rows[0].question, answer="9일")
        write_decisions(tmp_path, *kim, decide(rows[0], "edit", "lee", after))
        config = SplitConfig(review="required", unseen_sections=0, validation=0)

        def trained():
            context = make_context(ReviewConfig(double=0.5), {"examples": (Example, rows)})
            run_review(context)
            seen = read_table(context.workspace / "examples.parquet", Example)
            context = make_context(config, {"examples": (Example, seen)})
            run_split(context)
            return {r["example"]["completion"]["content"]
                    for r in table_rows(context.workspace / "splits.parquet")}  # fmt: skip

        assert trained() == {"1일", "2일"}
        write_decisions(tmp_path, decide(rows[0], "edit", "park", after))
        assert trained() == {"9일", "1일", "2일"}

    def test_decisions_about_pairs_are_not_those_of_examples(self, tmp_path, make_context):
        row = make_row()
        before = ReviewableTexts(question="왜?", answer="네", rejected="아니요")
        write_decisions(tmp_path, decide_on("pair", before, "reject", "kim"))
        context = make_context(ReviewConfig(), {"examples": (Example, [row])})
        run_review(context)
        assert context.summary["of_later_rows"] == 0
        assert (context.workspace / LOG).read_text() == ""

    def test_a_split_that_ignores_the_review_does_not_turn_it_on(self, tmp_path):
        project = {
            "name": "p",
            "examples": {
                "read": {"path": "rows.csv", "format": {"type": "chat"}},
                "split": {"review": "ignored"},
            },
        }
        path = tmp_path / "project.yaml"
        path.write_text(yaml.safe_dump(project))
        write_decisions(tmp_path, decide(make_row(), "accept", "kim"))
        assert open_project(path).variants["main"].examples.review is None
        project["examples"]["review"] = {}
        path.write_text(yaml.safe_dump(project))
        with pytest.raises(ConfigError, match=r"yaml:\d+: examples\.split\.review: .ignored"):
            open_project(path)

    def test_verdicts_can_count_as_ratings(self, tmp_path, make_context):
        rows = [make_row(f"{number}번 규정은?") for number in range(3)]
        write_decisions(
            tmp_path,
            decide(rows[0], "accept", "kim"),
            decide(rows[1], "reject", "kim"),
            decide(rows[2], "reject", "kim"),
            decide(rows[2], "rate", "kim", score=2),
        )
        calibration = ReviewRatings(type="review", verdicts=True)
        config = JudgeConfig(teacher="t", calibration=calibration)
        context = make_context(config, {"examples": (Example, rows)})
        assert read_human_scores(context) == {rows[0].id: 5, rows[1].id: 1, rows[2].id: 2}

    def test_ratings_calibrate_the_judge(self, tmp_path, make_context):
        row = make_row()
        config = JudgeConfig(teacher="t", calibration=ReviewRatings(type="review"))
        context = make_context(config, {"examples": (Example, [row])})
        write_decisions(tmp_path, decide(row, "accept", "kim"))
        with pytest.raises(DataError, match="no ratings"):
            read_human_scores(context)
        write_decisions(tmp_path, decide(row, "rate", "kim", score=4))
        assert read_human_scores(context) == {row.id: 4}

    def test_the_log_alone_turns_the_stage_on(self, tmp_path):
        project = {
            "name": "p",
            "documents": {"load": {"folder": "documents"}, "chunk": {}},
            "teachers": {"t": {"type": "recorded", "model": "m", "replies": "r.jsonl"}},
            "examples": {"synthesize": {"teacher": "t"}},
        }
        path = tmp_path / "project.yaml"
        path.write_text(yaml.safe_dump(project))
        assert open_project(path).variants["main"].examples.review is None
        write_decisions(tmp_path, decide(make_row(), "accept", "kim"))
        assert open_project(path).variants["main"].examples.review is not None
        project["examples"]["review"] = False
        path.write_text(yaml.safe_dump(project))
        assert open_project(path).variants["main"].examples.review is None


def table_rows(path):
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


class TestQueue:
    def test_suspicious_rows_come_first_with_reasons(self):
        low = Score(scorer="judge", kind="model", value=0.25, reason="not in the text")
        plain = [make_row(f"{word} 규정은 무엇인가요?", "네") for word in ("안전", "출장", "복장")]
        judged = make_row("보증 기간은 몇 개월인가요?", "9개월", scores=(low,))
        twins = [
            make_row("휴가 신청은 며칠 전에 하나요?"),
            make_row("휴가 신청은 며칠 전에 하나요"),
        ]
        queue = make_queue(Material.of([*plain, judged, *twins], [make_chunk()]), {})
        assert queue[0].example == judged
        said = "Low score: judge 0.25: not in the text"
        assert queue[0].why == ("The evidence does not say this: 9개월", said)
        assert queue[0].passage == PASSAGE
        assert {item.example.id for item in queue[1:3]} == {row.id for row in twins}
        assert "similar question" in queue[1].why[-1]
        assert all(item.why == () for item in queue[3:])

    def test_every_tenth_row_is_drawn_at_random_and_none_comes_twice(self):
        rows = [
            make_row(
                f"{number}번 창고에는 무엇이 있나요?",
                "네",
                scores=(Score(scorer="judge", kind="model", value=number / 50),),
            )
            for number in range(40)
        ]
        queue = make_queue(Material.of(rows, []), {})
        assert sorted(item.example.id for item in queue) == sorted(row.id for row in rows)
        controls = [
            index for index, item in enumerate(queue) if item.why[0].startswith("Drawn at random")
        ]
        assert controls == [9, 19, 29, 39]
        others = [item.suspicion for index, item in enumerate(queue) if index not in controls]
        assert others == sorted(others, reverse=True)
        assert queue[9].suspicion < others[9]

    def test_shows_the_edited_texts(self):
        row = make_row()
        after = ReviewableTexts(question="며칠?", answer="15일")
        (item,) = make_queue(Material.of([row], []), reviews_of(decide(row, "edit", "kim", after)))
        assert item.wording == after
        assert item.decided

    def test_evidence_must_be_in_the_passage(self):
        good = ReviewableTexts(question="며칠?", answer="15일", evidence="연차휴가는 15일로 한다.")
        assert wording_problem(good, PASSAGE) == ""
        bad = good.model_copy(update={"evidence": "연차휴가는 16일로 한다."})
        assert "is not in the passage" in wording_problem(bad, PASSAGE)
        assert wording_problem(bad, "") == ""
        assert "answer is empty" in wording_problem(ReviewableTexts(question="?", answer=" "), "")


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
class TestSheet:
    def edited(self, path, change):
        """The sheet as a colleague sends it back, as CSV; `change`: {row: {column: text}}."""
        if path.suffix == ".xlsx":
            heading, *lines = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
            rows = [dict(zip(heading, line, strict=True)) for line in lines]
        else:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                rows = list(csv.DictReader(stream))
        for number, cells in change.items():
            rows[number].update(cells)
        back = path.with_name("back.csv")
        with back.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        return back

    def test_an_untouched_sheet_says_nothing(self, tmp_path, suffix):
        rows = [
            make_row(),
            make_row("'=1+1'?", "=SUM(A1)"),
            make_row("-3도인가요?", "- 네\n- 둘째"),
        ]
        queue = make_queue(Material.of(rows, [make_chunk()]), {})
        path = tmp_path / f"sheet{suffix}"
        assert write_sheet(path, queue) == 3
        result = read_sheet(path, queue, "lee")
        assert result.decisions == []
        assert result.problems == []
        assert result.unchanged == 0

    def test_decisions_come_back_once(self, tmp_path, suffix):
        rows = [make_row(f"{n}번 규정은?", f"{n}일") for n in range(5)]
        queue = make_queue(Material.of(rows, [make_chunk()]), {})
        path = tmp_path / f"sheet{suffix}"
        write_sheet(path, queue)
        back = self.edited(
            path,
            {
                0: {"decision": "승인", "score": "5"},
                1: {"decision": "reject", "reason": "wrong"},
                2: {"answer": "15일", "evidence": "연차휴가는 15일로 한다."},
                3: {"score": "2,5"},
            },
        )
        result = read_sheet(back, queue, "lee")
        assert result.problems == []
        told = [(d.id, d.decision, d.reason, d.score) for d in result.decisions]
        ids = [item.example.id for item in queue]
        assert told == [
            (ids[0], "accept", "", None),
            (ids[0], "rate", "", 5),
            (ids[1], "reject", "wrong", None),
            (ids[2], "edit", "", None),
            (ids[3], "rate", "", 2.5),
        ]
        assert result.decisions[3].after.answer == "15일"
        again = make_queue(Material.of(rows, [make_chunk()]), reviews_of(*result.decisions))
        second = read_sheet(back, again, "lee")
        assert (second.decisions, second.unchanged) == ([], 4)

    def test_wrong_rows_are_named_and_the_others_taken(self, tmp_path, suffix):
        rows = [make_row(f"{n}번 규정은?", f"{n}일") for n in range(6)]
        queue = make_queue(Material.of(rows, [make_chunk()]), {})
        path = tmp_path / f"sheet{suffix}"
        write_sheet(path, queue)
        back = self.edited(
            path,
            {
                0: {"decision": "maybe"},
                1: {"score": "9"},
                2: {"answer": " "},
                3: {"evidence": "없는 문장"},
                4: {"id": "0123456789abcdef", "decision": "accept"},
                5: {"decision": "accept"},
            },
        )
        result = read_sheet(back, queue, "lee")
        assert [d.decision for d in result.decisions] == ["accept"]
        words = (
            "'maybe' is unknown",
            "'9' is not",
            "answer is empty",
            "not in the passage",
            "no example",
        )
        for line, (problem, word) in enumerate(zip(result.problems, words, strict=True), 2):
            assert problem.startswith(f"{back}, row {line}: ")
            assert word in problem

    def test_a_row_that_somebody_changed_meanwhile_is_a_conflict(self, tmp_path, suffix):
        row = make_row()
        queue = make_queue(Material.of([row], [make_chunk()]), {})
        path = tmp_path / f"sheet{suffix}"
        write_sheet(path, queue)
        back = self.edited(path, {0: {"answer": "20일"}})
        kim = decide(row, "edit", "kim", ReviewableTexts(question=row.question, answer="15일"))
        now = make_queue(Material.of([row], [make_chunk()]), reviews_of(kim))
        result = read_sheet(back, now, "lee")
        assert result.decisions == []
        assert "changed by kim after this sheet was written" in result.problems[0]
        assert "15일" in result.problems[0]


def test_another_file_is_no_sheet(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column 'id', 'version', 'decision'"):
        read_sheet(path, [], "lee")
    with pytest.raises(DataError, match=r"is \.csv or \.xlsx"):
        write_sheet(tmp_path / "sheet.txt", [])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of given rows, run up to its split."""
    folder = tmp_path_factory.mktemp("review")
    lines = [f"{n}번 창고의 문은 언제 닫나요?,{n}시" for n in range(8)]
    (folder / "rows.csv").write_text("\n".join(["question,answer", *lines]) + "\n")
    table = {"type": "table", "prompt": "{question}", "completion": "{answer}"}
    settings = {
        "name": "doors",
        "examples": {"read": {"path": "rows.csv", "format": table}, "curate": {}, "split": {}},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    assert invoke("run", "-p", str(folder)).exit_code == 0
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, arguments)


def fresh(project, tmp_path):
    return Path(shutil.copytree(project, tmp_path / "copy"))


class TestCommand:
    def test_a_sheet_goes_out_and_its_decisions_change_the_next_run(self, project, tmp_path):
        folder = fresh(project, tmp_path)
        sheet = tmp_path / "sheet.csv"
        written = invoke("review", "-p", str(folder), "--to", str(sheet))
        assert "8 examples in" in written.output
        with sheet.open(newline="", encoding="utf-8-sig") as stream:
            rows = {row["answer"]: row for row in csv.DictReader(stream)}
        rows["3시"]["decision"] = "reject"
        rows["4시"]["answer"] = "16시"
        rows["5시"]["decision"] = "perhaps"
        with sheet.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows.values())
        back = invoke("review", "-p", str(folder), "--from", str(sheet), "--by", "lee")
        assert back.exit_code == 1
        assert "2 decisions of lee" in back.output
        assert "'perhaps' is unknown" in back.output
        assert "1 edited, 1 rejected, 6 not decided" in invoke("review", "-p", str(folder)).output
        assert invoke("run", "-p", str(folder)).exit_code == 0
        shown = invoke("show", "splits", "-p", str(folder)).output
        assert "16시" in shown
        assert " 3시" not in shown
        assert "wrong" not in shown

    def test_a_variant_shows_what_it_trains_on_whatever_another_one_dropped(
        self, project, tmp_path
    ):
        folder = fresh(project, tmp_path)
        path = folder / "project.yaml"
        settings = yaml.safe_load(path.read_text())
        strict = {"examples": {"curate": {"answer_characters": {"minimum": 3, "maximum": 9}}}}
        path.write_text(yaml.safe_dump({**settings, "variants": {"all": None, "none": strict}}))
        (folder / "rows.csv").write_text(
            (folder / "rows.csv").read_text() + "창고의 열쇠는 누가 보관하나요?,경비원\n"
        )
        assert invoke("run", "curate", "-p", str(folder)).exit_code == 0
        assert "9 examples" in invoke("review", "-p", str(folder), "-v", "all").output
        assert "1 example:" in invoke("review", "-p", str(folder), "-v", "none").output

    def test_a_sheet_with_a_decision_edit_can_be_read_twice(self, project, tmp_path):
        folder, sheet = fresh(project, tmp_path), tmp_path / "sheet.csv"
        invoke("review", "-p", str(folder), "--to", str(sheet))
        text = sheet.read_text(encoding="utf-8-sig").replace(",3시,", ",15시,")
        lines = [
            line.replace(",,", ",edit,", 1) if ",15시," in line else line
            for line in text.splitlines()
        ]
        sheet.write_text("\n".join(lines), encoding="utf-8")
        first = invoke("review", "-p", str(folder), "--from", str(sheet))
        assert (first.exit_code, "1 decisions" in first.output) == (0, True), first.output
        second = invoke("review", "-p", str(folder), "--from", str(sheet))
        assert second.exit_code == 0, second.output
        assert "0 decisions" in second.output
        assert "1 row was in it already" in second.output

    def test_without_examples_it_says_what_to_run(self, tmp_path):
        (tmp_path / "a.md").write_text("# 규정")
        settings = {"name": "p", "documents": {"load": {"folder": "."}}}
        (tmp_path / "project.yaml").write_text(yaml.safe_dump(settings))
        result = invoke("review", "-p", str(tmp_path))
        assert "makes no examples to review" in str(result.exception)

    @pytest.mark.slow
    def test_every_key_in_a_real_terminal(self, project, tmp_path, fork):
        folder = fresh(project, tmp_path)
        editor = tmp_path / "editor.py"
        editor.write_text(
            "import pathlib, sys\n"
            "path = pathlib.Path(sys.argv[1])\n"
            "heading = '=== answer ===\\n'\n"
            "path.write_text(path.read_text().replace(heading, heading + '오후 '))\n"
        )
        keys = ["a", "e", "ㄱ", "1\r", "d", "4", "u", "f", "blurred\r", "?", "k", "s", "ㅂ"]
        screen = type_keys(folder, keys, f"{sys.executable} {editor}", fork)
        told = [(d.decision, d.reason, d.score) for d in read_log(folder / LOG)]
        assert told == [
            ("accept", "", None),
            ("edit", "", None),
            ("reject", "wrong", None),
            ("reject", "duplicate", None),
            ("rate", "", 4),
            ("undo", "", None),
            ("flag", "blurred", None),
        ]
        assert read_log(folder / LOG)[1].after.answer.startswith("오후 ")
        assert {d.by for d in read_log(folder / LOG)} == {"kim"}
        assert "1 of 8 · 0 decided" in screen
        assert "Withdrawn: rate." in screen
        assert "7 decisions in" in screen


def type_keys(folder, keys, editor, fork):
    """Type keys into `jangin review` in a terminal of 100 columns; returns all that it showed."""
    import fcntl
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = fork(
        "tests.forked:run_command",
        ["review", "-p", folder, "--by", "kim"],
        stdin=os.ttyname(side),
        output=os.ttyname(side),
        environment={"EDITOR": editor, "TERM": "xterm", "NO_COLOR": "1"},
    )
    shown = ""

    def read_until(quiet, begins=0.0):
        """Read until the screen has been still for a while, or the program ended."""
        nonlocal shown
        deadline = time.monotonic() + 100
        select.select([main], [], [], begins)
        while time.monotonic() < deadline and select.select([main], [], [], quiet)[0]:
            try:
                shown += os.read(main, 1 << 16).decode(errors="replace")
            except OSError:
                return

    while "decided" not in shown and process.poll() is None:
        read_until(0.2)
    for key in keys:
        os.write(main, key.encode())
        read_until(0.2, begins=100)  # keys for a question that is not there yet would be lost
    assert process.wait() == 0
    read_until(0.1)
    os.close(main)
    os.close(side)
    import re

    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
