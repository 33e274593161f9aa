import asyncio
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jangin.core.errors import StageError
from jangin.core.jsonl import write_jsonl
from jangin.core.model_protocols import ChatReply, FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Document, Example, Page
from jangin.examples.curate import CurateConfig, curate
from jangin.examples.read import STAGE as READ
from jangin.examples.read import ReadConfig
from jangin.examples.split import SplitConfig, split_examples
from jangin.examples.synthesis.coverage import Coverage
from jangin.examples.synthesize import STAGE, SynthesizeConfig, forecast, synthesize
from jangin.llm.ask import CachedChat
from jangin.llm.recorded import RecordedChat, Recording
from jangin.llm.replies import Failed
from jangin.text.grounding import support

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
    assert list(opened.summary["prompt"]) == ["synthesize/ko"]
    assert first.template.startswith("synthesize/ko@")


@pytest.mark.parametrize(("language", "words"), [("ko", "출제자"), ("en", "exam questions")])
def test_the_prompt_is_in_the_language_of_the_document(context, language, words):
    chat = FakeChat(teach)
    config = CONFIG.model_copy(update={"same_language": False})
    run(context(chat=chat, language=language, config=config))
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
    assert failed.reason == "the reply is not a JSON object"
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
    assert opened.summary["replies"] == 4  # the empty one was asked again


def test_an_empty_reply_is_asked_again_once_in_other_words(context):
    def answer(request):
        if request.messages[-1].content.startswith("다시 읽어"):
            return teach(request) if "병가" in request.messages[1].content else pairs()
        return pairs()

    chat = FakeChat(answer)
    examples, failed = run(context(chat=chat))
    assert [(len(examples), failed), len(chat.calls)] == [(1, []), 6]


def test_replies_recorded_before_empty_ones_were_asked_again_are_enough(context, tmp_path):
    def answer(request):
        return pairs() if "병가" in request.messages[1].content else teach(request)

    path = tmp_path / "replies.jsonl"
    run(context(chat=(live := FakeChat(answer))))
    first = [call for call in live.calls if len(call.messages) == 2]
    write_jsonl(
        path,
        [
            Recording(digest=call.digest, request=call, reply=ChatReply(content=answer(call)))
            for call in first
        ],
    )
    examples, failed = run(context(chat=RecordedChat("fake", path)))
    assert (len(examples), failed) == (2, [])


def test_a_teacher_that_gives_nothing_usable_stops_the_stage_with_a_reason(context):
    with pytest.raises(StageError, match=r"any of 3 chunks. The commonest.*\(3 of 3\).*'no'"):
        run(context(lambda _request: "no"))
    with pytest.raises(StageError, match=r"any of 3 chunks. In every reply, the list is empty"):
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
    assert (STAGE.wants(CONFIG), STAGE.makes) == (("documents", "chunks"), ("examples", "choices"))
    assert STAGE.teachers(CONFIG) == ("fake",)
    assert STAGE.prompts(CONFIG) == ("synthesize", "synthesize_more", "repair", "nothing")
    answers = SynthesizeConfig(teacher="t", modes=({"type": "answer"},))
    assert STAGE.wants(answers) == ("queries", "ranked")
    assert STAGE.prompts(answers) == ("answer", "repair", "nothing")
    both = SynthesizeConfig(teacher="t", modes=({"type": "summary"}, {"type": "answer"}))
    assert STAGE.wants(both) == ("documents", "chunks", "queries", "ranked")


def test_each_mode_is_named_once_and_says_itself_how_many_pairs_it_asks():
    mode = {"type": "question_answer", "pairs_per_chunk": 3}
    assert SynthesizeConfig(teacher="t", modes=(mode,)).active_modes[0].pairs_per_chunk == 3
    assert SynthesizeConfig(teacher="t", pairs_per_chunk=4).active_modes[0].pairs_per_chunk == 4
    with pytest.raises(ValidationError, match="each mode can be named once"):
        SynthesizeConfig(teacher="t", modes=(mode, mode))
    with pytest.raises(ValidationError, match="pairs_per_chunk belongs to the mode"):
        SynthesizeConfig(teacher="t", modes=(mode,), pairs_per_chunk=3)


def test_the_mode_written_out_asks_the_very_same_requests_as_the_simple_form(context):
    digests = []
    for config in (
        SynthesizeConfig(teacher="t", pairs_per_chunk=3),
        SynthesizeConfig(teacher="t", modes=({"type": "question_answer", "pairs_per_chunk": 3},)),
    ):
        chat = FakeChat(teach)
        run(context(chat=chat, config=config))
        digests.append([request.digest for request in chat.calls])
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("change", "rule", "reason"),
    [
        ({"answer": "20일"}, "grounded", "not in the source: 20일"),
        ({"answer": "20일", "question": "2025년 휴가는?"}, "grounded", "not in the source: 20일"),
        ({"answer": "김철수 과장"}, "grounded", "not in the source: 김철수"),
        ({"answer": "무제한"}, "words", "0.00 of the answer's words stand in the source"),
        ({"question": "위 조항의 휴가는?"}, "self_contained", "points at a text: '위 조항의'"),
        ({"evidence": "휴가는 마음대로 쓴다"}, "evidence", "evidence supported to"),
    ],
)
def test_a_row_that_fails_a_check_is_kept_aside_with_its_rule_and_its_reason(
    context, change, rule, reason
):
    bad = {**pair(), **change}

    def answer(_request):
        return pairs(pair("유급휴가는 며칠인가?"), bad)

    opened = context(answer, texts=TEXTS[:1])
    examples, (failed,) = run(opened)
    assert [e.question for e in examples] == ["유급휴가는 며칠인가?"]
    assert (failed.rule, failed.kind, failed.subject) == (rule, "rejected", "c1")
    assert reason in failed.reason
    assert json.loads(failed.reply) == bad
    assert opened.summary["rejected"] == {rule: 1}


def test_every_check_can_be_turned_off(context):
    def answer(_request):
        return pairs(
            pair("위 조항의 휴가는?", "무제한 99일", "아무 데도 없는 근거"),
            pair("How long is it?", "15일", "15일"),
            pair("How long is it?", "15일", "15일"),
        )

    off = {"min_support": 0, "min_grounded": 0, "min_shared_words": 0, "self_contained": False}
    off |= {"same_language": False, "distinct": False}
    config = SynthesizeConfig(teacher="fake", **off)
    examples, failed = run(context(answer, config, texts=TEXTS[:1]))
    assert (len(examples), failed) == (3, [])


def test_a_reply_in_another_language_is_asked_for_once_more_and_then_a_failure(context):
    english = pairs(pair("How many days of leave are there?", "15일", "15일의 유급휴가"))

    def stubborn(request):
        return english if "출근" in request.messages[1].content else teach(request)

    chat = FakeChat(stubborn)
    opened = context(chat=chat)
    examples, (failed,) = run(opened)
    assert (failed.kind, failed.subject, len(examples)) == ("language", "c1", 2)
    assert len(chat.calls) == 4
    assert "not in the language of its source (ko)" in chat.calls[-1].messages[-1].content

    def obedient(request):
        return teach(request) if len(request.messages) > 2 else english

    assert len(run(context(obedient))[0]) == 3


def test_after_the_second_reply_rows_in_the_right_language_count(context):
    def mixed(_request):
        return pairs(
            pair("How many days?", "15일", "15일의 유급휴가"),
            pair("유급휴가는 며칠인가?", "15일", "15일의 유급휴가"),
        )

    examples, (failed,) = run(context(mixed, texts=TEXTS[:1]))
    assert [e.question for e in examples] == ["유급휴가는 며칠인가?"]
    assert (failed.kind, failed.rule) == ("rejected", "language")


def test_the_same_question_about_one_document_is_kept_once(context):
    def answer(request):
        if "병가" in request.messages[1].content:
            return pairs(
                pair("병가는 연 며칠까지 쓸 수 있습니까?", "60일", "연 60일까지"),
                pair("병가는 연 며칠까지 쓸 수 있습니까", "60일까지", "연 60일까지"),
                pair("병가를 연 며칠까지 쓸 수 있나요?", "연 60일", "연 60일까지"),
                pair("병가를 쓰려면 무엇을 내야 하나?", "진단서", "진단서를 내면"),
            )
        return teach(request)

    examples, failed = run(context(answer))
    assert len(examples) == 4
    assert [row.rule for row in failed] == ["repeated", "repeated"]
    assert all(examples[1].id in row.reason for row in failed)


class Growing:
    """A teacher that asks the next question of a list, unless it is told that it was asked."""

    model, source = "fake", "fake"

    def __init__(self, questions):
        self.questions, self.requests = questions, []

    async def complete(self, request):
        self.requests.append(request)
        told = request.messages[1].content
        left = [q for q in self.questions if q not in told]
        return ChatReply(content=pairs(*(pair(q) for q in left[:1])))

    async def close(self):
        pass


LEAVE = ["유급휴가는 며칠인가?", "출근율은 얼마나 되어야 하나?", "휴가를 주는 곳은 어디인가?"]


def modes(**settings):
    return SynthesizeConfig(teacher="t", modes=({"type": "question_answer", **settings},))


def test_another_round_asks_for_what_is_new(context):
    chat = Growing(LEAVE)
    examples, failed = run(context(chat=chat, config=modes(rounds=3), texts=TEXTS[:1]))
    assert ([e.question for e in examples], failed) == (LEAVE, [])
    first, _, third = (request.messages[1].content for request in chat.requests)
    assert "이미 나온 질문" not in first
    assert f"- {LEAVE[0]}\n- {LEAVE[1]}" in third
    labels = [e.template.partition("@")[0] for e in examples]
    assert labels == ["synthesize/ko", "synthesize_more/ko", "synthesize_more/ko"]


@pytest.mark.parametrize(("avoid", "kept"), [(True, 3), (False, 1)])
def test_chunks_of_one_section_wait_for_each_other_when_repeats_are_avoided(
    make_context, make_chunk, make_document, avoid, kept
):
    chunks = [make_chunk(n, TEXTS[0]).model_copy(update={"section": "제1조"}) for n in (1, 2, 3)]
    chat = Growing(LEAVE)
    tables = {"documents": (Document, [make_document(TEXTS[0])]), "chunks": (Chunk, chunks)}
    opened = make_context(modes(avoid_repeats=avoid), tables, chat)
    assert len(run(opened)[0]) == kept
    cost = forecast(make_context(modes(avoid_repeats=avoid), tables, Growing(LEAVE)))
    assert cost.calls == (1 if avoid else 3)
    assert ("up to 2 that depend on the replies" in cost.text) is avoid


def test_the_page_is_that_of_the_evidence_and_not_of_the_chunks_beginning(make_context):
    text = "연차휴가는 15일이다.\n병가는 60일이다."
    edge = text.index("병가")
    document = Document(
        id="d",
        source="a.pdf",
        text=text,
        pages=(
            Page(number=7, start=0, end=edge, method="text"),
            Page(number=8, start=edge, end=len(text), method="text"),
        ),
        language="ko",
    )
    chunk = Chunk(
        id="c",
        document_id="d",
        source="a.pdf",
        text=text,
        start=0,
        end=len(text),
        page=7,
        section="",
    )

    def answer(_request):
        return pairs(
            pair("연차휴가는 며칠인가?", "15일", "연차휴가는 15일"),
            pair("병가는 며칠인가?", "60일", "병가는 60일이다"),
        )

    opened = make_context(
        CONFIG, {"documents": (Document, [document]), "chunks": (Chunk, [chunk])}, FakeChat(answer)
    )
    assert [e.page for e in run(opened)[0]] == [7, 8]


def test_coverage_says_which_chunks_gave_nothing_and_why(context):
    def answer(request):
        text = request.messages[1].content
        if "병가" in text:
            return pairs()
        return pairs(pair("출장비는?", "9일", "7일 안에")) if "출장비" in text else teach(request)

    opened = context(answer)
    run(opened)
    rows = read_table(opened.workspace / "coverage.parquet", Coverage)
    assert [(row.chunk_id, row.rows, row.reason) for row in rows] == [
        ("c1", 1, ""),
        ("c2", 0, "the teacher gave no row"),
        ("c3", 0, "rejected: grounded 1"),
    ]
    assert opened.summary["chunk_coverage"] == 0.3333
    share = len(TEXTS[0]) / max(map(len, TEXTS))
    assert opened.summary["character_coverage"] == pytest.approx(share, abs=1e-4)
    assert opened.summary["coverage"]["handbook.md"]["chunks_used"] == 1


LONG = "\n".join((*TEXTS, "제15조(교육) 회사는 새 직원에게 입사한 달에 안전 교육을 8시간 한다."))


def summary_of(text):
    return lambda _request: json.dumps({"summary": text}, ensure_ascii=False)


def summarise(context, text, **settings):
    mode = {"type": "summary", "min_characters": 30, **settings}
    config = SynthesizeConfig(teacher="t", modes=(mode,))
    return context(summary_of(text), config, texts=(LONG, "짧은 글이다."))


def test_a_summary_is_an_example_that_holds_the_passage(context):
    opened = summarise(context, "휴가는 15일, 병가는 60일까지이고 출장비는 7일 안에 청구한다.")
    (example,), failed = run(opened)
    assert example.question == f"다음 글을 요약하세요.\n\n{LONG}"
    assert example.answer.startswith("휴가는 15일")
    assert (failed, example.chunk_ids) == ([], ("c1",))
    rows = read_table(opened.workspace / "coverage.parquet", Coverage)
    assert rows[1].reason == "shorter than 30 characters (min_characters)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("휴가는 25일이다.", "not in the source: 25일"),
        (LONG + " 끝.", "the summary is as long as the passage"),
        ("휴가는 " * 81, "81 words, limit 80"),
        ("Leave is 15 days, sick leave is 60 days.", "not in the language of its source"),
    ],
)
def test_a_summary_that_invents_or_shortens_nothing_is_rejected(context, text, reason):
    with pytest.raises(StageError, match=reason):
        run(summarise(context, text, max_words=80))


def test_free_instructions_may_point_at_their_own_input_only(context):
    def task(instruction, given=""):
        return {
            "instruction": instruction,
            "input": given,
            "output": "유급휴가는 15일입니다. 80% 이상 출근해야 합니다.",
            "evidence": "15일의 유급휴가",
        }

    def answer(_request):
        found = [
            task("새 직원에게 연차휴가를 설명해 주세요."),
            task("다음 글을 쉽게 고쳐 주세요.", "연차유급휴가는 15일로 한다."),
            task("이 본문을 설명해 주세요."),
        ]
        return json.dumps({"tasks": found}, ensure_ascii=False)

    config = SynthesizeConfig(teacher="t", modes=({"type": "instruction", "per_chunk": 3},))
    examples, (failed,) = run(context(answer, config, texts=TEXTS[:1]))
    assert examples[1].question == "다음 글을 쉽게 고쳐 주세요.\n\n연차유급휴가는 15일로 한다."
    assert (len(examples), failed.rule) == (2, "self_contained")


def test_modes_run_in_their_order_and_count_apart(context):
    def answer(request):
        if "객관식" in request.messages[0].content:
            item = {**pair("출근율은?", "80퍼센트", "80퍼센트 이상"), "distractors": ["70퍼센트"]}
            return json.dumps({"items": [item]}, ensure_ascii=False)
        return pairs(pair("유급휴가는?"))

    config = SynthesizeConfig(
        teacher="t", modes=({"type": "question_answer"}, {"type": "multiple_choice"})
    )
    opened = context(answer, config, texts=TEXTS[:1])
    examples, _ = run(opened)
    assert [e.question for e in examples] == ["유급휴가는?", "출근율은?"]
    assert opened.summary["by_mode"] == {"question_answer": 1, "multiple_choice": 1}
    assert opened.summary["choices"] == 1
    assert forecast(context(answer, config, texts=TEXTS[:1])).calls == 2


OWN = "질문,답\n" + "".join(f"{x} 번호는 무엇입니까?,{x}-{n}\n" for n, x in enumerate("가나다라마"))
FORM = {"type": "table", "prompt": "{질문}", "completion": "{답}"}


def test_five_rows_of_ones_own_reach_the_training_set_beside_synthetic_ones(
    make_context, make_chunk, make_document, tmp_path
):
    (tmp_path / "mine.csv").write_text(OWN, encoding="utf-8")
    reading = make_context(ReadConfig.model_validate({"path": "mine.csv", "format": FORM}), {})
    READ.run(reading)
    own = read_table(reading.workspace / "examples.parquet", Example)
    chunks = [make_chunk(number, text) for number, text in enumerate(TEXTS, start=1)]
    tables = {
        "documents": (Document, [make_document("\n".join(TEXTS), "ko")]),
        "chunks": (Chunk, chunks),
        "examples": (Example, own),
    }
    opened = make_context(CONFIG, tables, FakeChat(teach))
    examples, _ = run(opened)
    assert "examples" in STAGE.inputs(CONFIG)
    assert examples[:5] == own
    assert (opened.summary["of_read"], opened.summary["of_teacher"]) == (5, 3)
    (line,) = [m for m in opened.services.progress.messages if "of read" in m]
    assert "5 of 8 examples (62%)" in line
    kept = curate(examples, CurateConfig(guard=False, threshold=1)).kept
    splits = split_examples(kept, chunks, SplitConfig(unseen_sections=0, validation=0)).rows
    taught = {row.example.id for row in splits if row.split == "train"}
    assert {example.id for example in own} < taught
    assert len(taught) == 8


def test_several_files_are_read_each_with_its_share(make_context, tmp_path):
    (tmp_path / "mine.csv").write_text(OWN, encoding="utf-8")
    chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": "네"}] for q in "ab"]
    lines = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
    (tmp_path / "chats.jsonl").write_text(lines)
    more = {"path": "chats.jsonl", "format": {"type": "chat"}, "first": 1}
    config = ReadConfig.model_validate({"path": "mine.csv", "format": FORM, "further": [more]})
    reading = make_context(config, {})
    READ.run(reading)
    examples = read_table(reading.workspace / "examples.parquet", Example)
    assert [e.source for e in examples] == ["mine.csv"] * 5 + ["chats.jsonl"]
    assert reading.summary["by_source"] == {"mine.csv": 5, "chats.jsonl": 1}
    (line,) = reading.services.progress.messages
    assert "5 of mine.csv (83%), 1 of chats.jsonl (17%)" in line
    assert set(READ.sources(config, tmp_path)) == {"examples", "2/examples"}
    single = ReadConfig.model_validate({"path": "mine.csv", "format": FORM})
    assert "further" not in single.identity()
