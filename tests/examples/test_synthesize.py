import asyncio
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jangin.core.chat import CachedChat, ChatReply, FakeChat
from jangin.core.errors import StageError
from jangin.core.replies import Failed
from jangin.core.table import read_table
from jangin.core.types import Chunk, Document, Example
from jangin.examples.synthesize import STAGE, SynthesizeConfig, forecast, support, synthesize

CONFIG = SynthesizeConfig(teacher="fake")
TEXTS = (
    "제12조(연차휴가) 회사는 1년간 80퍼센트 이상 출근한 직원에게 15일의 유급휴가를 주어야 한다.",
    "제13조(병가) 직원은 진단서를 내면 연 60일까지 병가를 쓸 수 있다.",
    "제14조(출장비) 출장비는 돌아온 날부터 7일 안에 청구한다.",
)


def pair(question="휴가는?", answer="15일", evidence="15일의 유급휴가"):
    return {"question": question, "answer": answer, "evidence": evidence}


def pairs(*found):
    return json.dumps({"pairs": list(found)}, ensure_ascii=False)


def teach(request):
    """A teacher that asks about the last sentence of each passage and copies it as evidence."""
    text = next(text for text in TEXTS if text in request.messages[1].content)
    return pairs(pair(f"{text[:12]} 내용은?", text[-8:], text[-20:]))


@pytest.fixture
def context(make_context, make_chunk, make_document):
    def make(answer=teach, config=CONFIG, texts=TEXTS, language="ko", chat=None):
        chunks = [make_chunk(number, text) for number, text in enumerate(texts, start=1)]
        tables = {
            "documents": (Document, [make_document("\n".join(texts), language)]),
            "chunks": (Chunk, chunks),
        }
        return make_context(config, tables, chat or FakeChat(answer))

    return make


def run(context):
    synthesize(context)
    return (
        read_table(context.workspace / "examples.parquet", Example),
        read_table(context.workspace / "failed.parquet", Failed),
    )


def test_every_chunk_gives_examples_that_know_where_they_come_from(context):
    opened = context()
    examples, failed = run(opened)
    assert failed == []
    assert [e.chunk_ids for e in examples] == [("c1",), ("c2",), ("c3",)]
    first = examples[0]
    assert (first.document_id, first.source, first.page) == ("d", "handbook.md", 1)
    assert (first.section, first.kind, first.family) == ("제1조", "original", first.id)
    assert (first.teacher, first.scores[0].value) == ("fake", 1.0)
    assert first.evidence in TEXTS[0]
    assert len({e.request for e in examples}) == 3
    assert opened.summary["examples"] == opened.summary["chunks"] == 3
    assert (opened.summary["chunks_used"], opened.summary["failed"]) == (3, 0)
    assert list(opened.summary["prompt"]) == ["ko"]


@pytest.mark.parametrize(("language", "words"), [("ko", "출제자"), ("en", "exam questions")])
def test_the_prompt_is_in_the_language_of_the_document(context, language, words):
    chat = FakeChat(teach)
    run(context(chat=chat, language=language))
    assert all(words in request.messages[0].content for request in chat.calls)
    assert all(request.model == "fake" for request in chat.calls)


def test_malformed_once_is_repaired(context):
    def answer(request):
        return teach(request) if len(request.messages) > 2 else "Sure! Here are the pairs."

    examples, failed = run(context(answer))
    assert (len(examples), failed) == (3, [])


def test_malformed_twice_is_a_failed_row_and_the_other_chunks_go_on(context):
    def answer(request):
        return "nothing" if "병가" in request.messages[1].content else teach(request)

    opened = context(answer)
    examples, (failed,) = run(opened)
    assert [e.chunk_ids for e in examples] == [("c1",), ("c3",)]
    assert (failed.subject, failed.reply) == ("c2", "nothing")
    assert failed.reason.startswith("reply: ")
    assert (opened.summary["chunks_used"], opened.summary["failed"]) == (2, 1)


@pytest.mark.parametrize("empty", ["question", "answer", "evidence"])
def test_an_empty_part_makes_a_pair_malformed(context, empty):
    def answer(request):
        good = json.loads(teach(request))["pairs"]
        if "병가" in request.messages[1].content:
            good[0][empty] = ""
        return pairs(*good)

    _, (failed,) = run(context(answer))
    assert failed.reason.startswith(f"pairs.0.{empty}: String should have at least 1")


def test_evidence_that_the_chunk_does_not_hold_fails_with_its_share(context):
    invented = pair("보너스는?", "백만 원", "모든 직원은 해마다 특별 보너스 백만 원을 받는다")

    def answer(request):
        return pairs(invented, *json.loads(teach(request))["pairs"])

    examples, failed = run(context(answer))
    assert len(examples) == len(failed) == 3
    for row, text in zip(failed, TEXTS, strict=True):
        share = support(invented["evidence"], text)
        assert row.reason == f"evidence supported to {share:.2f} < 0.90"
        assert share < 0.5
        assert json.loads(row.reply) == invented


MISREAD = "회사는 1년간 80퍼센트 이상 줄근한 직원에게 15일의 유급휴가를"


@pytest.mark.parametrize(("least", "kept"), [(0.9, 1), (1.0, 0)])
def test_evidence_with_a_misread_character_is_accepted_at_nine_tenths_only(context, least, kept):
    def answer(request):
        if TEXTS[0] in request.messages[1].content:
            return pairs(pair(evidence=MISREAD))
        return teach(request)

    config = CONFIG.model_copy(update={"min_support": least})
    examples, failed = run(context(answer, config))
    assert (len(examples), len(failed)) == (2 + kept, 1 - kept)
    if kept:
        assert 0.9 < examples[0].scores[0].value < 1


def test_spaces_and_unicode_form_of_evidence_do_not_count():
    evidence = unicodedata.normalize("NFD", " 15일의\n유급휴가를  주어야 ")
    assert support(evidence, TEXTS[0]) == 1.0


@given(st.text(max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_a_piece_of_the_text_is_always_supported_in_full(text, start, end):
    piece = unicodedata.normalize("NFC", text)[start:end]
    expected = 1.0 if piece.split() else 0.0
    if unicodedata.is_normalized("NFC", piece):
        assert support(piece, text) == expected


@given(st.text(max_size=30), st.text(max_size=30))
def test_support_is_a_share(evidence, text):
    assert 0 <= support(evidence, text) <= 1


def test_evidence_longer_than_the_chunk_is_no_full_support():
    assert support(TEXTS[0] * 2, TEXTS[0]) < 0.9


def test_text_of_a_pair_is_trimmed_and_composed(context):
    def answer(_request):
        question = unicodedata.normalize("NFD", " 휴가는 며칠? ")
        return pairs(pair(question, " 15일\n", "15일의 유급휴가"))

    examples, _ = run(context(answer, texts=TEXTS[:1]))
    assert (examples[0].question, examples[0].answer) == ("휴가는 며칠?", "15일")


class OutOfOrder:
    """A ChatModel whose replies come back in another order than they were asked."""

    model, source = "fake", "fake"

    async def complete(self, request):
        turns = next(n for n, text in enumerate(TEXTS) if text in request.messages[1].content)
        for _ in range(10 * (len(TEXTS) - turns)):
            await asyncio.sleep(0)
        return ChatReply(content=teach(request))

    async def close(self):
        pass


def test_the_order_of_replies_and_the_concurrency_change_nothing(context):
    results = [
        run(context(chat=chat, config=CONFIG.model_copy(update={"concurrency": concurrency})))
        for chat, concurrency in ((FakeChat(teach), 1), (OutOfOrder(), 8), (OutOfOrder(), 2))
    ]
    assert results[0] == results[1] == results[2]


def test_a_chunk_without_anything_to_ask_is_no_failure(context):
    def answer(request):
        return pairs() if "병가" in request.messages[1].content else teach(request)

    opened = context(answer)
    examples, failed = run(opened)
    assert (len(examples), failed) == (2, [])
    assert opened.summary["chunks_used"] == 2


def test_a_teacher_that_gives_nothing_usable_stops_the_stage_with_a_reason(context):
    with pytest.raises(StageError, match=r"no usable pair for any of 3 chunks. The first reason"):
        run(context(lambda _request: "no"))
    with pytest.raises(StageError, match=r"no usable pair for any of 3 chunks. Check"):
        run(context(lambda _request: pairs()))


def test_the_forecast_counts_what_is_not_paid_yet(context, ledger):
    chat = CachedChat(FakeChat(teach), ledger)
    cost = forecast(context(chat=chat))
    assert (cost.calls, cost.text) == (3, "3 calls to fake (3 chunks)")
    run(context(chat=chat, texts=TEXTS[:2]))
    assert forecast(context(chat=chat)).calls == 1


def test_only_what_changes_replies_is_identity():
    assert "concurrency" not in CONFIG.identity()
    assert {"teacher", "pairs_per_chunk", "temperature", "min_support"} <= set(CONFIG.identity())
    with pytest.raises(ValidationError):
        SynthesizeConfig(teacher="t", pairs_per_chunk=0)


def test_the_stage_says_what_it_reads_makes_and_whom_it_asks():
    assert (STAGE.reads, STAGE.makes) == (("documents", "chunks"), ("examples",))
    assert STAGE.teachers(CONFIG) == ("fake",)
