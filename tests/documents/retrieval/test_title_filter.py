"""Titles of posts: the questions among them are kept, the others have the teacher's reason."""

import json
import re

import pytest

from jangin.core.errors import DataError, StageError
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Query
from jangin.documents.queries import STAGE, QueriesConfig, forecast, queries, read_titles
from jangin.llm.recorded import RecordedChat, RecordingChat
from jangin.llm.replies import Failed

TITLES = [
    "전세 만기 전에 나가면 복비는 누가 내나요",
    "이사 잘 끝냈습니다!",
    "확정일자 받는 데 얼마나 걸리나요?",
    "질문 있어요",
    "청약 통장 해지해도 될까요",
]
ROWS = [{"document": TITLES[:3]}, {"document": [*TITLES[3:], "이사 잘 끝냈습니다", "!!"]}]


def verdict(title):
    good = bool(re.search(r"(나요|까요)\??$", title))
    return good, "무엇을 묻는지 알 수 있다" if good else f"질문이 아니다: {title}"


def asked(request):
    return re.findall(r"^(\d+)\. (.+)$", request.messages[1].content, re.MULTILINE)


def teach(request):
    verdicts = []
    for number, title in asked(request):
        good, reason = verdict(title)
        verdicts.append({"number": int(number), "is_question": good, "reason": reason})
    return json.dumps({"verdicts": verdicts}, ensure_ascii=False)


@pytest.fixture
def context(table_context, tmp_path):
    def make(chat, rows=ROWS, **fields):
        path = tmp_path / "questions_cafe.json"
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        source = {"type": "titles", "file": path.name, "teacher": "t", "titles_per_call": 2}
        config = QueriesConfig.model_validate({"source": {**source, **fields}})
        return table_context(config, {}, chat)

    return make


def run(context):
    queries(context)
    rows = read_table(context.workspace / "queries.parquet", Query)
    return rows, read_table(context.workspace / "failed.parquet", Failed)


def test_recorded_verdicts_sort_titles_into_questions_and_reasons(context, tmp_path):
    teacher, recorded = FakeChat(teach), tmp_path / "replies.jsonl"
    run(context(RecordingChat(teacher, recorded)))
    opened = context(RecordedChat("fake", recorded, source="recorded"))
    rows, failed = run(opened)
    assert [query.text for query in rows] == [TITLES[0], TITLES[2], TITLES[4]]
    assert {row.subject: (row.kind, row.rule, row.reason) for row in failed} == {
        title: ("rejected", "no_question", verdict(title)[1]) for title in (TITLES[1], TITLES[3])
    }
    assert rows[0].template.startswith("titles/ko@")
    assert opened.summary["repeated"] == 1
    assert len(teacher.calls) == 3


def test_a_title_that_a_reply_leaves_out_is_asked_about_again_and_then_named(context):
    def forgetful(request):
        verdicts = json.loads(teach(request))["verdicts"]
        titles = dict(asked(request))
        kept = [v for v in verdicts if "청약" not in titles[str(v["number"])]]
        return json.dumps({"verdicts": kept})

    chat = FakeChat(forgetful)
    rows, failed = run(context(chat))
    assert [query.text for query in rows] == [TITLES[0], TITLES[2]]
    (left_out,) = [row for row in failed if row.subject == TITLES[4]]
    assert "twice" in left_out.reason
    assert len(chat.calls) == 4


def test_no_question_among_the_titles_is_an_error_and_the_plan_counts_calls(context):
    with pytest.raises(StageError, match="none of the 2 titles"):
        run(context(FakeChat(teach), [{"title": "안녕하세요"}, "팝니다"]))
    opened = context(FakeChat(teach))
    assert forecast(opened).calls == 3
    assert STAGE.prompts(opened.config) == ("titles", "repair")
    assert STAGE.teachers(opened.config) == ("t",)


def test_titles_are_read_from_lines_lists_and_rows(tmp_path):
    for name, text in (
        ("a.txt", "# 주석\n하나\n둘\n"),
        ("b.json", '["하나", "둘"]'),
        ("c.jsonl", '{"title": "하나"}\n{"titles": ["둘"]}\n'),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        titles = read_titles(tmp_path / name, lambda _: None)
        assert [entry.text for entry in titles] == ["하나", "둘"]
    (tmp_path / "d.json").write_text('[{"views": 3}]')
    with pytest.raises(DataError, match=r"d\.json:1: no title"):
        read_titles(tmp_path / "d.json", lambda _: None)
