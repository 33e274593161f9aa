import json
import re

import pytest

from jangin.core.errors import DataError, MissingReplyError, StageError
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Query
from jangin.documents.queries import STAGE, QueriesConfig, forecast, queries
from jangin.llm.replies import Failed

WORDS = ("전세 계약", "이사비", "LTV", "관리비", "청약")
LINES = "\n".join(WORDS)
ASKS = ("뜻은 무엇인가요", "언제 신청하나요", "비용은 얼마인가요")


def config(**fields):
    source = {"type": "seed_words", "file": "words.txt", "teacher": "t", "per_word": 3}
    return QueriesConfig.model_validate({"source": {**source, "words_per_call": 2, **fields}})


def asked_words(request):
    return re.findall(r"^- (.+?)(?:: \d+)?$", request.messages[1].content, re.MULTILINE)


def reply(words):
    rows = [{"word": word, "questions": questions} for word, questions in words.items()]
    return json.dumps({"words": rows}, ensure_ascii=False)


def teach(request):
    return reply({word: [f"{word}의 {ask}?" for ask in ASKS] for word in asked_words(request)})


@pytest.fixture
def context(table_context, tmp_path):
    def make(answer=teach, words=LINES, chat=None, **fields):
        (tmp_path / "words.txt").write_text(words, encoding="utf-8")
        return table_context(config(**fields), {}, chat or FakeChat(answer))

    return make


def run(context):
    queries(context)
    rows = read_table(context.workspace / "queries.parquet", Query)
    return rows, read_table(context.workspace / "failed.parquet", Failed)


def test_every_word_gets_its_questions_in_the_order_of_the_words(context):
    opened = context()
    rows, failed = run(opened)
    assert [query.seed_word for query in rows] == [word for word in WORDS for _ in ASKS]
    assert rows[0].text == "전세 계약의 뜻은 무엇인가요?"
    assert failed == []
    assert rows[0].teacher == "fake"
    assert rows[0].template.startswith("queries/ko@")
    assert len({query.request for query in rows}) == 3
    assert len({query.id for query in rows}) == 15
    assert opened.summary["queries"] == 15
    assert opened.summary["words"] == opened.summary["asked"] == 5


def test_requests_begin_alike_so_that_caches_of_prefixes_serve(context):
    chat = FakeChat(teach)
    run(context(chat=chat))
    assert len(chat.calls) == 3
    assert len({request.messages[0] for request in chat.calls}) == 1
    heads = {request.messages[1].content.split("\n- ")[0] for request in chat.calls}
    assert len(heads) == 1


def test_a_repeated_word_is_asked_about_once_and_named(context):
    opened = context(words="이사비\n# 비용\n\n이사 비\n관리비\n")
    rows, _ = run(opened)
    assert {query.seed_word for query in rows} == {"이사비", "관리비"}
    assert "'이사 비' (line 4)" in opened.services.progress.messages[0]
    assert opened.summary["repeated"] == 1


def test_what_is_missing_is_asked_once_more_with_what_there_is(context):
    def answer(request):
        words = {word: [f"{word}의 {ask}?" for ask in ASKS] for word in asked_words(request)}
        if "모자란 수" not in request.messages[1].content:
            words["이사비"] = ["이사비의 뜻은 무엇인가요?"] * 3
            words.pop("LTV", None)
        return reply(words)

    chat = FakeChat(answer)
    rows, failed = run(context(chat=chat))
    assert len(rows) == 15
    again = chat.calls[3:]
    assert len(again) == 1
    assert "- 이사비: 2\n  * 이사비의 뜻은 무엇인가요?" in again[0].messages[1].content
    assert "- LTV: 3" in again[0].messages[1].content
    assert {row.kind for row in failed} == {"rejected"}
    assert {row.rule for row in failed} == {"repeated_question", "word_not_asked"}


def test_what_is_missing_twice_is_a_failed_row_that_can_be_asked_again(context):
    def answer(request):
        words = {w: [f"{w}의 {ask}?" for ask in ASKS] for w in asked_words(request)}
        words.pop("청약", None)
        return reply(words)

    opened = context(answer)
    rows, failed = run(opened)
    assert len(rows) == 12
    (row,) = failed
    assert (row.subject, row.kind, row.reason) == ("청약", "malformed", "0 of 3 questions")
    assert row.request == opened.services.chat("t").calls[-1].digest


def test_the_same_question_about_two_words_stays_with_the_first(context):
    def answer(request):
        more = "모자란 수" in request.messages[1].content
        return reply({w: ["이사는 언제 하나요?", f"{w}{more}?"] for w in asked_words(request)})

    rows, failed = run(context(answer, per_word=2, words="이사\n이사비\n"))
    assert [query.text for query in rows] == [
        "이사는 언제 하나요?",
        "이사False?",
        "이사비False?",
        "이사비True?",
    ]
    assert failed[0].reason == "asked already about '이사'"


def test_surplus_numbered_and_overlong_questions_are_put_right_or_left_out(context):
    def answer(_request):
        extra = ["1. 첫째는 무엇인가요?", " - 둘째는\n무엇인가요?", "가" * 400, "셋째?", "넷째?"]
        return reply({"이사비": extra})

    rows, failed = run(context(answer, words="이사비"))
    assert [query.text for query in rows] == ["첫째는 무엇인가요?", "둘째는 무엇인가요?", "셋째?"]
    assert [row.rule for row in failed] == ["question_length", "question_count"]


def test_questions_in_another_language_are_sent_back(context):
    def answer(request):
        if len(request.messages) > 2:
            assert "written in en, not ko" in request.messages[-1].content
            return teach(request)
        return reply({word: [f"what is {n}" for n in "abc"] for word in asked_words(request)})

    rows, failed = run(context(answer))
    assert len(rows) == 15
    assert failed == []


def test_english_words_are_asked_about_in_english(context):
    def answer(request):
        assert "help line" in request.messages[0].content
        return reply(
            {word: [f"What is {word} {n}?" for n in "abc"] for word in asked_words(request)}
        )

    assert len(run(context(answer, words="lease\ndeposit"))[0]) == 6


def test_a_teacher_without_any_usable_question_stops_the_stage(context):
    with pytest.raises(StageError, match=r"^queries: .* 5 words"):
        run(context(lambda _request: '{"words": []}'))
    with pytest.raises(StageError, match=r"^queries: .* 5 words"):
        run(context(lambda _request: ""))


def test_a_recorded_reply_that_is_missing_is_an_error_and_no_failed_row(context):
    def answer(_request):
        raise MissingReplyError("no reply for this request. Record it.")

    with pytest.raises(StageError, match="no reply for this request"):
        run(context(answer))


def test_the_plan_counts_the_calls(context):
    assert forecast(context()).calls == 3


def test_questions_of_a_file_are_taken_as_they_are(table_context, tmp_path):
    rows = [
        {"seed_word": "a", "questions": ["x는?", "y는?"]},
        {"seed_word": "b", "questions": ["x는?"]},
    ]
    (tmp_path / "q.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    fields = {"source": {"type": "file", "file": "q.json"}}
    opened = table_context(QueriesConfig.model_validate(fields), {})
    rows, failed = run(opened)
    assert [(query.text, query.seed_word) for query in rows] == [("x는?", "a"), ("y는?", "a")]
    assert failed == []
    assert opened.summary == {"repeated": 1, "queries": 2, "words": 1, "failed": 0}
    assert STAGE.teachers(opened.config) == STAGE.prompts(opened.config) == ()


def test_the_word_file_is_a_source_and_a_missing_one_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match=r"words\.txt does not exist"):
        STAGE.sources(config(), tmp_path)
    (tmp_path / "words.txt").write_text("이사비")
    assert list(STAGE.sources(config(), tmp_path)) == ["words.txt"]
