import asyncio
import json

import pytest

from jangin.core.chat import CachedChat, ChatReply, FakeChat
from jangin.core.errors import StageError
from jangin.core.replies import Failed
from jangin.core.table import read_table
from jangin.core.types import Document, Example, Message
from jangin.examples.paraphrase import STAGE, ParaphraseConfig, forecast, paraphrase

CONFIG = ParaphraseConfig(teacher="fake", count=3)
QUESTIONS = ("연차휴가는 며칠인가요?", "병가는 며칠인가요?", "출장비는 언제 청구하나요?")


def words(*texts):
    return json.dumps({"paraphrases": list(texts)}, ensure_ascii=False)


def asked(request):
    return next(question for question in QUESTIONS if question in request.messages[1].content)


def rewrite(request):
    question = asked(request)
    return words(f"혹시 {question}", f"{question[:-1]} 알려 주세요", f"궁금한데 {question}")


@pytest.fixture
def context(make_context, make_example, make_document):
    def make(answer=rewrite, config=CONFIG, chat=None, rows=None, language="ko"):
        if rows is None:
            rows = [
                make_example(
                    question,
                    f"{number}일",
                    chunk_ids=(f"c{number}",),
                    source="handbook.md",
                    page=number + 1,
                    section="제1조",
                    evidence=f"근거 {number}",
                    teacher="first",
                )
                for number, question in enumerate(QUESTIONS)
            ]
        tables = {"examples": (Example, rows)}
        if language:
            tables["documents"] = (Document, [make_document("글", language)])
        return make_context(config, tables, chat or FakeChat(answer))

    return make


def run(context):
    paraphrase(context)
    return (
        read_table(context.workspace / "examples.parquet", Example),
        read_table(context.workspace / "failed.parquet", Failed),
    )


def test_each_original_stands_before_its_paraphrases_and_is_unchanged(context):
    opened = context()
    originals = opened.read("examples", Example)
    examples, failed = run(opened)
    assert [e for e in examples if e.kind == "original"] == originals
    assert [e.kind for e in examples] == ["original", *["paraphrase"] * 3] * 3
    assert [e.family for e in examples] == [o.id for o in originals for _ in range(4)]
    assert failed == []
    assert opened.summary["originals"] == 3
    assert (opened.summary["paraphrases"], opened.summary["failed"]) == (9, 0)


def test_a_paraphrase_keeps_answer_and_origin_and_names_its_own_teacher(context):
    examples, _ = run(context())
    original, rewritten = examples[:2]
    for name in ("completion", "chunk_ids", "document_id", "source", "page", "section", "evidence"):
        assert getattr(rewritten, name) == getattr(original, name)
    assert rewritten.id != original.id
    assert rewritten.question == f"혹시 {QUESTIONS[0]}"
    assert (original.teacher, rewritten.teacher) == ("first", "fake")
    assert rewritten.request
    assert rewritten.scores == ()


def test_a_system_message_stays_in_front(context, make_example):
    system = Message(role="system", content="친절히")
    plain = make_example(QUESTIONS[0])
    row = Example.make((system, *plain.prompt), plain.completion, kind="original")
    examples, _ = run(context(rows=[row]))
    assert all(e.prompt[0] == system for e in examples)
    assert examples[1].question == f"혹시 {QUESTIONS[0]}"


def test_what_repeats_the_question_or_another_paraphrase_is_left_out_with_its_reason(context):
    texts = ("연차휴가는 며칠인가요", "몇 일 쉬나요?", "몇일 쉬나요", "  ", "하나", "둘", "셋")

    def answer(request):
        return words(*texts) if asked(request) == QUESTIONS[0] else rewrite(request)

    examples, failed = run(context(answer))
    assert [e.question for e in examples[1:4]] == ["몇 일 쉬나요?", "하나", "둘"]
    assert [(row.reply, row.reason) for row in failed] == [
        ("연차휴가는 며칠인가요", "same letters as the question itself"),
        ("몇일 쉬나요", "same letters as '몇 일 쉬나요?'"),
        ("  ", "empty"),
        ("셋", "more than the 3 asked for"),
    ]
    assert {row.subject for row in failed} == {examples[0].id}


def test_malformed_once_is_repaired(context):
    def answer(request):
        return rewrite(request) if len(request.messages) > 2 else "1. 혹시"

    examples, failed = run(context(answer))
    assert (len(examples), failed) == (12, [])


def test_malformed_twice_keeps_the_original_alone_with_the_reason_aside(context):
    def answer(request):
        return "no" if asked(request) == QUESTIONS[1] else rewrite(request)

    examples, (failed,) = run(context(answer))
    assert [e.kind for e in examples].count("original") == 3
    assert len(examples) == 9
    assert failed.subject == next(e.id for e in examples if e.question == QUESTIONS[1])
    assert failed.reason.startswith("reply: ")


def test_a_teacher_that_rewrites_nothing_stops_the_stage(context):
    with pytest.raises(StageError, match=r"rewrote none of 3 questions. The first reason: reply"):
        run(context(lambda _request: "no"))


def test_no_examples_are_no_error(context):
    opened = context(rows=[])
    assert run(opened) == ([], [])


class OutOfOrder:
    """A ChatModel whose replies come back in another order than they were asked."""

    model, source = "fake", "fake"

    async def complete(self, request):
        for _ in range(10 * (len(QUESTIONS) - QUESTIONS.index(asked(request)))):
            await asyncio.sleep(0)
        return ChatReply(content=rewrite(request))

    async def close(self):
        pass


def test_the_order_of_replies_and_the_concurrency_change_nothing(context):
    results = [
        run(context(chat=chat, config=CONFIG.model_copy(update={"concurrency": concurrency})))
        for chat, concurrency in ((FakeChat(rewrite), 1), (OutOfOrder(), 8), (OutOfOrder(), 2))
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("language", "words"), [("ko", "상담원"), ("en", "help line"), ("", "help")]
)
def test_the_prompt_is_in_the_language_of_the_document_or_english(context, language, words):
    chat = FakeChat(rewrite)
    run(context(chat=chat, language=language))
    assert all(words in request.messages[0].content for request in chat.calls)


def test_the_same_question_from_two_places_is_paid_for_once(context, make_example, ledger):
    rows = [make_example(QUESTIONS[0], chunk_ids=(name,)) for name in ("c1", "c2")]
    fake = FakeChat(rewrite)
    examples, _ = run(context(chat=CachedChat(fake, ledger), rows=rows))
    assert len(examples) == 8
    assert len({e.id for e in examples}) == 8
    assert len(fake.calls) == 1


def test_the_forecast_counts_what_is_not_paid_yet(context, ledger):
    chat = CachedChat(FakeChat(rewrite), ledger)
    assert forecast(context(chat=chat)).text == "3 calls to fake (3 questions)"
    run(context(chat=chat))
    assert forecast(context(chat=chat)).calls == 0


def test_only_what_changes_replies_is_identity():
    assert set(CONFIG.identity()) == {"teacher", "count", "temperature", "max_tokens"}
    assert (STAGE.reads, STAGE.makes) == (("examples",), ("examples",))
