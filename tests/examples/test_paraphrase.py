import asyncio
import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from jangin.core.errors import DataError, SettingsError, StageError
from jangin.core.model_protocols import ChatReply, FakeChat, LocalEncoder
from jangin.core.parquet import read_table
from jangin.core.records import Document, Example, Message, Score
from jangin.examples.paraphrase import (
    STAGE,
    AnyWording,
    EncoderMeaning,
    FileSource,
    NearCopies,
    ParaphraseConfig,
    TeacherMeaning,
    TeacherSource,
    _styled_fault,
    find_copies,
    forecast,
    paraphrase,
    read_paraphrases,
)
from jangin.llm.ask import CachedChat
from jangin.llm.replies import Failed

SOURCE = TeacherSource(teacher="fake", count=3)
CONFIG = ParaphraseConfig(source=SOURCE)
QUESTIONS = ("연차휴가는 며칠인가요?", "병가는 며칠인가요?", "출장비는 언제 청구하나요?")


def words(*texts):
    return json.dumps({"paraphrases": list(texts)}, ensure_ascii=False)


def asked(request):
    return next(question for question in QUESTIONS if question in request.messages[1].content)


def rewrite(request):
    question = asked(request)
    return words(f"혹시 {question}", f"{question[:-1]} 알려 주세요", f"궁금한데요, {question}")


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


def test_a_statement_in_place_of_a_question_is_left_out(context):
    def answer(request):
        if asked(request) != QUESTIONS[0]:
            return rewrite(request)
        return words("연차휴가는 1년 동안 쓴다.", "연차휴가의 일수를 알려 주세요.")

    examples, (failed,) = run(context(answer))
    assert examples[1].question == "연차휴가의 일수를 알려 주세요."
    assert (failed.rule, failed.reply) == ("question", "연차휴가는 1년 동안 쓴다.")
    assert failed.reason == "a statement in place of a question"


def test_malformed_once_is_repaired(context):
    def answer(request):
        return rewrite(request) if len(request.messages) > 2 else "1. 혹시"

    examples, failed = run(context(answer))
    assert (len(examples), failed) == (12, [])


@pytest.mark.slow
def test_malformed_twice_keeps_the_original_alone_with_the_reason_aside(context):
    def answer(request):
        return "no" if asked(request) == QUESTIONS[1] else rewrite(request)

    examples, (failed,) = run(context(answer))
    assert [e.kind for e in examples].count("original") == 3
    assert len(examples) == 9
    assert failed.subject == next(e.id for e in examples if e.question == QUESTIONS[1])
    assert failed.reason == "the reply is not a JSON object"


def test_a_teacher_that_rewrites_nothing_stops_the_stage(context):
    with pytest.raises(StageError, match=r"none of 3 questions.*\(3 of 3\): the reply"):
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


def at_once(concurrency):
    return ParaphraseConfig(source=SOURCE.model_copy(update={"concurrency": concurrency}))


def test_the_order_of_replies_and_the_concurrency_change_nothing(context):
    results = [
        run(context(chat=chat, config=at_once(concurrency)))
        for chat, concurrency in ((FakeChat(rewrite), 1), (OutOfOrder(), 8), (OutOfOrder(), 2))
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("language", "words"), [("ko", "상담원"), ("en", "help line"), ("", "상담원")]
)
def test_the_prompt_is_in_the_language_of_the_document_or_of_the_question(context, language, words):
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
    identity = CONFIG.identity()
    assert set(identity) == {"source", "diversity", "meaning"}
    assert set(identity["source"]) == {"type", "teacher", "count", "temperature", "max_tokens"}
    assert (STAGE.reads, STAGE.makes) == (("examples",), ("examples",))


def test_near_copies_of_the_question_or_of_each_other_are_left_out_with_their_similarity(context):
    texts = (
        "연차 휴가는 정말로 며칠인가요?",
        "연차휴가는 정말로 며칠 인가요",
        "연차휴가는 정말로 며칠인지요?",
        "쉬는 날 수를 알려 주세요",
    )

    def answer(request):
        return words(*texts) if asked(request) == QUESTIONS[0] else rewrite(request)

    source = SOURCE.model_copy(update={"count": 9})
    loose = ParaphraseConfig(source=source, diversity=NearCopies(similarity=0.8))
    examples, failed = run(context(answer, loose))
    kept = [e.question for e in examples if e.parent == examples[0].id]
    assert kept == [texts[0], texts[3]]
    reasons = [row.reason for row in failed if row.subject == examples[0].id]
    assert {row.rule for row in failed} == {"near_copy"}
    assert len(reasons) == 2
    assert reasons[1].startswith(f"near copy of {texts[0]!r}: similarity 0.923, limit 0.8")
    every, failed = run(
        context(answer, ParaphraseConfig(source=source, diversity=AnyWording(type="none")))
    )
    assert [e.question for e in every if e.parent == every[0].id] == [texts[0], texts[2], texts[3]]


def test_the_same_content_words_are_held_to_a_lower_similarity():
    wordings = [
        "출장비는 언제까지 청구하나요?",
        "출장비를 언제까지 청구하나요?",
        "출장비는 어디에 청구하나요?",
    ]
    reason = "near copy of the question itself: similarity 0.923, same content words, limit 0.8"
    loose, strict = (
        NearCopies(similarity=0.99, same_words_similarity=limit) for limit in (0.8, 0.95)
    )
    assert find_copies(wordings, loose) == [(1, 0, reason)]
    assert find_copies(wordings, strict) == []


def test_a_copy_of_a_wording_that_went_itself_stays():
    chain = ["가나다라마바사아자차", "가나다라마바사아자카", "가나다라마바사아하카"]
    assert [copy[:2] for copy in find_copies(chain, NearCopies(similarity=0.9))] == [(1, 0)]


def test_a_teacher_that_finds_another_meaning_takes_a_wording_out(context):
    def answer(request):
        if "verdicts" in request.messages[0].content:
            number = 2 if QUESTIONS[0] in request.messages[1].content else 0
            verdicts = [{"number": n, "same": n != number, "reason": "더 넓다"} for n in (1, 2, 3)]
            return json.dumps({"verdicts": verdicts})
        return rewrite(request)

    config = ParaphraseConfig(source=SOURCE, meaning=TeacherMeaning(type="teacher", teacher="x"))
    opened = context(answer, config)
    examples, (failed,) = run(opened)
    assert len(examples) == 11
    assert failed.reply == f"{QUESTIONS[0][:-1]} 알려 주세요"
    assert (failed.rule, failed.kind) == ("other_meaning", "rejected")
    assert failed.reason == "fake finds another meaning: 더 넓다"
    assert opened.summary["other_meaning"] == 1
    assert STAGE.teachers(config) == ("fake", "x")
    assert "same_meaning" in STAGE.prompts(config)


def test_verdicts_that_miss_a_wording_are_asked_for_again_and_then_take_nothing_out(context):
    def answer(request):
        if "verdicts" in request.messages[0].content:
            return json.dumps({"verdicts": [{"number": 1, "same": False}]})
        return rewrite(request)

    config = ParaphraseConfig(source=SOURCE, meaning=TeacherMeaning(type="teacher", teacher="x"))
    examples, failed = run(context(answer, config))
    assert len(examples) == 12
    assert {row.reason for row in failed} == {"give one verdict for each number from 1 to 3"}


class Bigrams:
    """An encoder of letters: two texts are near when they share bigrams."""

    source = "bigrams"

    def encode(self, texts, role):
        assert role == "query"
        rows = np.zeros((len(texts), 512), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for pair in pairwise(text):
                row[hash_of(pair) % 512] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def hash_of(pair):
    return ord(pair[0]) * 31 + ord(pair[1])


def test_a_wording_far_from_its_question_is_left_out_with_its_cosine(context):
    def answer(request):
        return words(f"혹시 {asked(request)}", "전혀 다른 것인가요?")

    encoder = LocalEncoder(type="local", path="encoder")
    meaning = EncoderMeaning(type="encoder", encoder=encoder, min_cosine=0.5)
    opened = context(answer, ParaphraseConfig(source=SOURCE, meaning=meaning))
    opened = replace(
        opened, services=replace(opened.services, encoder=lambda _config, _executor: Bigrams())
    )
    examples, failed = run(opened)
    assert len(examples) == 6
    assert [row.reply for row in failed] == ["전혀 다른 것인가요?"] * 3
    assert failed[0].reason.endswith("< 0.5")


@pytest.fixture
def recorded(tmp_path):
    def write(data, **kind):
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        (tmp_path / "words.json").write_bytes(text.encode(kind.get("encoding", "utf-8")))
        return ParaphraseConfig(source=FileSource(type="file", path="words.json"))

    return write


def test_a_file_of_paraphrases_is_taken_in_its_own_order_after_each_original(context, recorded):
    config = recorded(
        {QUESTIONS[2]: ["셋째를 달리"], QUESTIONS[0]: ["첫째를 달리", "또 달리 첫째"]}
    )
    opened = context(config=config)
    examples, failed = run(opened)
    assert [e.question for e in examples] == [
        *(QUESTIONS[0], "첫째를 달리", "또 달리 첫째", QUESTIONS[1]),
        *(QUESTIONS[2], "셋째를 달리"),
    ]
    assert failed == []
    assert (examples[1].teacher, examples[1].request) == ("", "")
    assert opened.summary["questions_without"] == 1
    assert "words.json" in opened.services.progress.messages[0]
    assert STAGE.teachers(config) == STAGE.prompts(config) == ()
    assert set(STAGE.sources(config, opened.services.project_folder)) == {"paraphrases"}


def test_a_file_that_knows_none_of_the_questions_stops_the_stage(context, recorded):
    with pytest.raises(SettingsError, match="none of which is among the 3 examples"):
        run(context(config=recorded({"다른 질문?": ["또 다른"]})))


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        ("{", "utf-8", "words.json .*JSON"),
        ("[1, 2]", "utf-8", "words.json .*{question:"),
        ({"질문": "글"}, "utf-8", "words.json: .*'질문'"),
        ({"질문": ["글"]}, "cp949", "words.json .*UTF-8"),
    ],
)
def test_a_bad_file_of_paraphrases_is_named(tmp_path, recorded, data, encoding, words):
    recorded(data, encoding=encoding)
    with pytest.raises(DataError, match=words):
        read_paraphrases(tmp_path / "words.json")


def test_a_byte_order_mark_decomposed_hangul_and_a_repeated_question_do_no_harm(tmp_path, recorded):
    text = '{"' + "\u1100\u1161" + '?": ["하나"], "' + "\uac00" + '?": ["둘"]}'
    recorded(text, encoding="utf-8-sig")
    assert read_paraphrases(tmp_path / "words.json") == {"\uac00?": [("하나", ""), ("둘", "")]}


def numbered(request):
    """As many wordings as the last message asks for, numbered on from those before it."""
    count = int(re.search(r"표현을 (\d+)개", request.messages[-1].content)[1])
    before = [m.content for m in request.messages if m.role == "assistant"]
    first = sum(len(json.loads(text)["paraphrases"]) for text in before)
    stems = ("혹시", "급한데", "저기요", "질문 있어요", "문의드립니다", "안녕하세요")
    return words(*(f"{stems[first + n]} {asked(request)}" for n in range(count)))


def test_a_raised_count_asks_only_for_the_wordings_that_are_missing(context, ledger):
    chat = FakeChat(numbered)
    cached = CachedChat(chat, ledger)
    few = ParaphraseConfig(source=TeacherSource(teacher="fake", count=3))
    more = ParaphraseConfig(source=TeacherSource(teacher="fake", count=5))
    first, _ = run(context(chat=cached, config=few))
    assert len(chat.calls) == len(QUESTIONS)
    opened = context(chat=cached, config=more)
    assert forecast(opened).calls == len(QUESTIONS)
    second, failed = run(opened)
    assert (len(second), failed) == (len(QUESTIONS) * 6, [])
    assert [row.id for row in second if row in first] == [row.id for row in first]
    for call in chat.calls[len(QUESTIONS) :]:
        assert [message.role for message in call.messages[2:]] == ["assistant", "user"]
        assert "표현을 2개" in call.messages[-1].content
    requests = {row.id: row.request for row in first if row.kind == "paraphrase"}
    assert all(row.request == requests[row.id] for row in second if row.id in requests)
    assert len({row.request for row in second if row.kind == "paraphrase"}) == 2 * len(QUESTIONS)
    run(context(chat=cached, config=more))
    assert len(chat.calls) == 2 * len(QUESTIONS), "the second reply is kept as well"


def test_questions_that_a_judge_rejected_are_kept_and_not_reworded(context, make_example):
    def judged(question, value):
        return make_example(question, scores=(Score(scorer="judge", kind="model", value=value),))

    config = ParaphraseConfig(source=SOURCE, min_score={"judge": 0.5})
    opened = context(rows=[judged(QUESTIONS[0], 0.2), judged(QUESTIONS[1], 0.5)], config=config)
    assert forecast(opened).calls == 1
    examples, _ = run(opened)
    assert [row.question for row in examples if row.kind == "original"] == list(QUESTIONS[:2])
    assert {row.family for row in examples if row.kind == "paraphrase"} == {examples[1].id}
    assert opened.summary["not_reworded"] == 1
    assert "min_score" not in CONFIG.identity(), "artifacts of projects without a judge stay valid"


def test_questions_that_are_only_asked_are_kept_and_not_reworded(context, make_example):
    rows = [make_example(QUESTIONS[0], source="asked.jsonl"), make_example(QUESTIONS[1])]
    config = ParaphraseConfig(source=SOURCE, not_from=("asked.jsonl",))
    opened = context(rows=rows, config=config)
    assert forecast(opened).calls == 1
    examples, _ = run(opened)
    assert [row.question for row in examples if row.kind == "original"] == list(QUESTIONS[:2])
    assert {row.family for row in examples if row.kind == "paraphrase"} == {rows[1].id}
    assert opened.summary["not_reworded"] == 1
    assert "not_from" not in CONFIG.identity(), "artifacts of projects without such files stay"


STYLES = ("keywords", "spoken", "formal")


def styled(request):
    question = asked(request)
    rows = [("keywords", question[:4]), ("spoken", f"저기, {question[:-1]} 좀 알려줘요"),
            ("formal", f"{question[:-1]} 여쭙고자 합니다."), ("poem", f"아아 {question} 그대여"),
            ("keywords", question)]  # fmt: skip
    return json.dumps({"paraphrases": [{"style": s, "text": t} for s, t in rows]})


def test_each_paraphrase_has_the_style_that_it_was_asked_for_in(context):
    requests = []

    def answer(request):
        requests.append(request)
        return styled(request)

    config = ParaphraseConfig(source=TeacherSource(teacher="fake", count=4, styles=STYLES))
    rows, failed = run(context(answer, config))
    mine = [row for row in rows if row.family == rows[0].family]
    assert [row.style for row in mine] == ["", "keywords", "spoken", "formal", ""]
    assert [row.operation for row in mine][-1] == "paraphrase"  # a style that nobody asked for
    assert {row.kind for row in failed} == {"rejected"}
    assert "keywords (2), spoken (2), formal (2)" in requests[0].messages[-1].content
    assert "styled_paraphrase/ko" in mine[1].template


def test_a_teacher_that_writes_plain_texts_is_understood_and_they_have_no_style(context):
    config = ParaphraseConfig(source=TeacherSource(teacher="fake", count=3, styles=STYLES))
    rows, _ = run(context(rewrite, config))
    assert len(rows) == 12
    assert {row.style for row in rows} == {""}


def test_styles_are_no_part_of_what_older_projects_are(context):
    assert SOURCE.identity() == {
        "type": "teacher", "teacher": "fake", "count": 3, "temperature": 0.7, "max_tokens": 1024,
    }  # fmt: skip


def test_a_file_names_styles_of_its_own(context, tmp_path, recorded):
    recorded({QUESTIONS[0]: ["연차 며칠이죠?", {"text": "연차 일수", "style": "telegram"}]})
    config = ParaphraseConfig(source=FileSource(type="file", path=tmp_path / "words.json"))
    rows, _ = run(context(config=config))
    assert [row.style for row in rows[:3]] == ["", "", "telegram"]


@pytest.mark.parametrize("wrong", [{"style": "x"}, {"text": 3}, {"text": "a", "tone": "b"}, 7])
def test_a_wording_of_another_form_is_named_by_its_question(tmp_path, recorded, wrong):
    recorded({"질문": ["글", wrong]})
    with pytest.raises(DataError, match=r"words.json: the value of '질문'"):
        read_paraphrases(tmp_path / "words.json")


@pytest.mark.parametrize(
    ("question", "answer", "text", "rule"),
    [
        ("연차휴가는 며칠인가요?", "연 15일", "연차휴가는 연 15일입니다", "tells_answer"),
        ("연차휴가는 며칠인가요?", "연 15일", "How long is the vacation?", "other_language"),
        ("연차휴가는 며칠인가요?", "연 15일", "연차 며칠", ""),
        ("How long is annual leave?", "15 days", "annual leave, it is 15 days", "tells_answer"),
        ("아침 첫차는 몇 시인가요?", "7시 10분", "오후 첫차는 몇 시에 있어?", "opposite"),
        ("아침 첫차는 몇 시인가요?", "7시 10분", "오전에 첫차 몇 시야?", ""),
        ("동호회는 몇 명부터인가요?", "8명 이상", "몇 명부터 필요해?", "no_shared_word"),
        ("동호회는 몇 명부터인가요?", "8명 이상", "동호회 최소 인원", ""),
        ("What is the minimum stay?", "2 nights", "maximum stay", "opposite"),
        ("How long is annual leave?", "15 days", "What is the limit?", "no_shared_word"),
        ("How long is annual leave?", "15 days", "annually leaving, days", ""),
        ("Is it A or B?", "B", "A or B, which is it?", ""),
    ],
)
def test_a_wording_in_a_style_that_tells_the_answer_or_is_in_another_language_is_dropped(
    question, answer, text, rule
):
    original = Example.make(
        (Message(role="user", content=question),),
        Message(role="assistant", content=answer),
        kind="original",
    )
    assert _styled_fault(text, original).rule == rule
