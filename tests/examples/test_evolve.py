import json
import re
from dataclasses import replace

import pytest

from jangin.core.errors import StageError
from jangin.core.executor import InProcess
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Document, Example
from jangin.examples import evolve as elimination
from jangin.examples.evolve import (
    OPERATIONS,
    RULES,
    STAGE,
    Case,
    Eliminated,
    EliminationThresholds,
    EvolveConfig,
    Evolved,
    Lineage,
    TeacherGain,
    apply_to,
    evolve,
    forecast,
)
from jangin.llm.ask import CachedChat
from jangin.llm.replies import Failed
from jangin.text.normalize import letters_only
from tests.elsewhere import Elsewhere

TEXT = (
    "제12조(휴대품 손해) ① 회사는 휴대품 1개당 20만 원을 한도로 보상합니다. "
    "② 보험금은 손해를 안 날부터 30일 안에 청구하여야 합니다. ③ 안경과 틀니는 보상하지 않습니다."
)
QUESTION, ANSWER = "여행 중 휴대품은 1개당 얼마까지 보상되나요?", "20만 원까지 보상됩니다."
DEEPER = {
    "question": "휴대품 손해의 보험금은 언제까지 청구해야 하나요?",
    "answer": "손해를 안 날부터 30일 안입니다.",
    "evidence": "보험금은 손해를 안 날부터 30일 안에 청구하여야 합니다",
}
CONFIG = EvolveConfig(teacher="fake", operations=("deepening",))


def said(request):
    return request.messages[1].content


def reply(**changed):
    return json.dumps({**DEEPER, **changed}, ensure_ascii=False)


@pytest.fixture
def original(make_example):
    return make_example(QUESTION, ANSWER, chunk_ids=("c1",), section="제12조", page=3)


@pytest.fixture
def context(make_context, make_document, make_chunk, original):
    def make(answer, config=CONFIG, rows=None, chat=None, chunks=True):
        tables = {"examples": (Example, [original] if rows is None else rows)}
        if chunks:
            tables["chunks"] = (Chunk, [make_chunk(1, TEXT)])
            tables["documents"] = (Document, [make_document(TEXT)])
        return make_context(config, tables, chat or FakeChat(answer))

    return make


def run(context):
    evolve(context)
    return {
        kind: read_table(context.workspace / f"{kind}.parquet", record)
        for kind, record in (
            ("examples", Example),
            ("eliminated", Eliminated),
            ("failed", Failed),
            ("descent", Lineage),
        )
    }


def test_an_evolved_question_follows_its_parent_and_keeps_family_and_source(context, original):
    opened = context(lambda _request: reply())
    made = run(opened)
    first, evolved = made["examples"]
    assert first == original
    assert (evolved.kind, evolved.parent, evolved.operation) == ("evolved", first.id, "deepening")
    for name in ("family", "chunk_ids", "document_id", "source", "page", "section"):
        assert getattr(evolved, name) == getattr(original, name)
    assert (evolved.question, evolved.answer) == (DEEPER["question"], DEEPER["answer"])
    assert evolved.evidence == DEEPER["evidence"]
    assert evolved.teacher == "fake"
    assert evolved.template.startswith("evolve_deepening/ko@")
    (line,) = made["descent"]
    assert (line.id, line.parent, line.round) == (evolved.id, first.id, 1)
    assert opened.summary["operations"] == {"deepening": 1}
    assert opened.summary["eliminated"] == dict.fromkeys(RULES, 0)


def test_the_teacher_sees_question_answer_and_passage_in_the_language_of_the_document(context):
    chat = FakeChat(lambda _request: reply())
    run(context(None, chat=chat))
    system, user = chat.calls[0].messages
    assert "한 단계 더 깊게" in system.content
    assert all(text in user.content for text in (TEXT, QUESTION, ANSWER))


CASES = {
    "empty": {"answer": "그러나 해당."},
    "refusal": {"answer": "죄송하지만 그 질문에는 답할 수 없습니다."},
    "leaked_prompt": {"question": "주어진 질문보다 깊게: 청구 기한은 언제인가요?"},
    "too_long": {"answer": "30일 " * 500},
    "not_self_contained": {"question": "위 조항에 따르면 언제까지 청구하나요?"},
    "same_text": {"question": "여행 중 휴대품은 1개당 얼마까지 보상되나요"},
    "no_gain": {
        "question": "여행 중에 휴대품은 1개당 얼마까지 보상되나요?",
        "answer": "20만 원까지 보상됩니다.",
    },
    "ungrounded": {"evidence": "분실한 휴대품은 보상하지 않는다고 정하고 있다"},
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_eliminates_its_case_with_a_reason(context, rule):
    opened = context(lambda _request: reply(**CASES[rule]))
    made = run(opened)
    (gone,) = made["eliminated"]
    assert gone.rule == rule, gone.reason
    assert gone.reason
    assert (gone.operation, gone.round, gone.parent) == (
        *("deepening", 1),
        made["examples"][0].id,
    )
    assert len(made["examples"]) == 1
    assert opened.summary["eliminated"][rule] == 1


def fault(original, operation="deepening", passage=TEXT, limits=None, **changed):
    evolved = Evolved.model_validate({**DEEPER, **changed})
    case = Case(evolved, original, operation, passage)
    ruled = apply_to(case, limits or EliminationThresholds())
    return ruled.decide(evolved, {letters_only(QUESTION): original.id}).rule


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"question": "?!"}, "empty"),
        ({"answer": "the of it"}, "empty"),
        ({"answer": "본문에는 청구 기한이 나와 있지 않습니다."}, "refusal"),
        ({"answer": "AI 언어 모델로서 말씀드립니다."}, "refusal"),
        ({"answer": "As an AI model I know only of 30 days."}, "refusal"),
        ({"answer": "The passage does not say."}, "refusal"),
        ({"question": "Rewritten prompt: 청구 기한은?"}, "leaked_prompt"),
        ({"question": "#The Given Prompt# 청구 기한은 며칠인가요?"}, "leaked_prompt"),
        ({"question": "원래 프롬프트와 달리 청구 기한은 며칠인가요?"}, "leaked_prompt"),
        ({"question": "질문: 청구 기한은 며칠인가요?"}, "leaked_prompt"),
        ({"evidence": " "}, "ungrounded"),
        ({"answer": "45일 안입니다."}, "ungrounded"),
        ({"answer": "보험금을 지급하지 않습니다."}, ""),
        ({"answer": "아니요."}, ""),
        ({"question": "휴대품 2개를 잃으면 청구 기한은 며칠인가요?", "answer": "30일입니다."}, ""),
    ],
)
def test_texts_that_people_and_teachers_write(original, changed, rule):
    assert fault(original, **changed) == rule


def test_words_of_a_prompt_that_the_passage_itself_uses_are_no_leak(original):
    asked = {"question": "새 질문은 언제 낼 수 있나요?", "answer": "매년 3월입니다."}
    passage = f"{TEXT} 새 질문은 매년 3월에 낼 수 있습니다."
    assert fault(original, passage=TEXT, **asked) == "leaked_prompt"
    assert fault(original, passage=passage, **asked) == ""


def test_a_calculated_answer_may_hold_a_number_that_nobody_gave(original):
    asked = {"question": "휴대품 3개를 잃으면 한도는 모두 얼마인가요?", "answer": "60만 원입니다."}
    assert fault(original, "reasoning", **asked) == ""
    assert fault(original, "deepening", **asked) == "ungrounded"
    assert fault(original, "deepening", limits=EliminationThresholds(min_grounded=0), **asked) == ""


def test_one_word_that_makes_another_question_is_a_gain_when_the_answer_differs(original):
    question = QUESTION.replace("1개당", "2개당")
    assert fault(original, question=question, answer=ANSWER) == "no_gain"
    assert fault(original, question=question, answer="30일 안에 청구하여야 합니다.") == ""


def test_without_a_source_the_answer_stands_for_it_and_nothing_is_looked_up(context, make_example):
    chat = FakeChat(lambda _request: reply(evidence=""))
    made = run(context(None, chat=chat, chunks=False, rows=[make_example(QUESTION, ANSWER)]))
    assert len(made["examples"]) == 2
    assert "본문:\n-\n" in chat.calls[0].messages[1].content


def deeper(request):
    """Another question in every round, so that each has something to do."""
    chain = [QUESTION, DEEPER["question"], "안경을 잃으면 보상되나요?", "틀니는 보상하나요?"]
    place = next(n for n, question in enumerate(chain) if question in said(request))
    return reply(question=chain[place + 1])


def test_rounds_evolve_what_lived_and_keep_the_line_of_descent(context):
    opened = context(deeper, CONFIG.model_copy(update={"rounds": 3}))
    made = run(opened)
    examples = made["examples"]
    assert [e.kind for e in examples] == ["original", "evolved", "evolved", "evolved"]
    assert [e.parent for e in examples[1:]] == [e.id for e in examples[:3]]
    assert {e.family for e in examples} == {examples[0].id}
    assert [line.round for line in made["descent"]] == [1, 2, 3]
    assert opened.summary["rounds"] == {"1": 1, "2": 1, "3": 1}


def test_what_was_eliminated_ends_its_line_unless_it_is_tried_again(context):
    chat = FakeChat(lambda request: reply() if request.sample else reply(answer="그것."))
    config = CONFIG.model_copy(update={"rounds": 2})
    made = run(context(None, config, chat=chat))
    assert (len(chat.calls), len(made["examples"])) == (1, 1)
    chat.calls.clear()
    again = config.model_copy(update={"eliminated": "again"})
    made = run(context(None, again, chat=chat))
    assert [call.sample for call in chat.calls] == [0, 1]
    assert [e.kind for e in made["examples"]] == ["original", "evolved"]
    assert made["descent"][0].round == 2


def test_each_question_draws_its_operations_whatever_the_others_are(context, make_example):
    rows = [make_example(f"휴대품 {n}번은?", f"{n}번", chunk_ids=("c1",)) for n in range(40)]
    config = EvolveConfig(teacher="fake", per_example=2, share=0.5)

    def asked(some):
        chat = FakeChat(lambda _request: reply(answer="그것."))
        made = run(context(None, config, chat=chat, rows=some))
        return {(gone.parent, gone.operation) for gone in made["eliminated"]}

    every, half = asked(rows), asked(rows[20:])
    assert half == {pair for pair in every if pair[0] in {row.id for row in rows[20:]}}
    assert {operation for _, operation in every} == set(OPERATIONS)
    assert 10 <= len({parent for parent, _ in every}) <= 30
    assert len(every) == 2 * len({parent for parent, _ in every})


def test_only_originals_are_evolved_and_a_repeated_row_once(context, original, make_example):
    paraphrase = make_example(
        "휴대품 한도가 얼마예요?", ANSWER, kind="paraphrase", family=original.id
    )
    chat = FakeChat(lambda _request: reply())
    made = run(context(None, chat=chat, rows=[original, paraphrase, original]))
    assert len(chat.calls) == 1
    assert [e.kind for e in made["examples"]] == ["original", "evolved", "paraphrase"]


def test_two_evolutions_to_one_question_leave_one(context, make_example):
    rows = [make_example(f"휴대품 {n}번은?", f"{n}번", chunk_ids=("c1",)) for n in range(3)]
    made = run(context(lambda _request: reply(), rows=rows))
    assert [gone.rule for gone in made["eliminated"]] == ["same_text", "same_text"]
    assert len(made["examples"]) == 4


def test_many_evolutions_are_looked_at_elsewhere_with_equal_tables(
    context, make_example, monkeypatch
):
    names = [f"여행 중에 잃어버린 휴대품 {number}번" for number in range(24)]
    rows = [make_example(f"{name}은?", name, chunk_ids=("c1",)) for name in names]
    # A question that is another one's and has gained nothing is dropped by the rule that is first.
    kinds = [{}, *CASES, "repeated"]

    def answer(request):
        number = int(re.search(r"휴대품 (\d+)번은", said(request))[1])
        kind, fields = kinds[number % len(kinds)], {"question": f"청구 기한 {number % 13}은?"}
        if kind in ("no_gain", "repeated"):
            end = "은요?" if kind == "no_gain" else "은?"
            fields = {"question": names[number] + end, "answer": names[number]}
        elif kind:
            fields |= CASES[kind]
        return reply(**fields)

    def tables(executor):
        opened = context(answer, CONFIG.model_copy(update={"concurrency": 1}), rows=rows)
        opened = replace(opened, services=replace(opened.services, executor=executor))
        made = run(opened)
        return made, {p.name: p.read_bytes() for p in opened.workspace.glob("*.parquet")}

    made, here = tables(InProcess())
    assert len({gone.rule for gone in made["eliminated"]}) == len(RULES)
    monkeypatch.setattr(elimination, "SPREAD_FROM", 20)
    monkeypatch.setattr(elimination, "CASES_AT_ONCE", 7)
    executor = Elsewhere(groups=[])
    assert tables(executor)[1] == here
    assert executor.groups == [7, 7, 7, 3]


def test_a_teacher_that_calls_the_two_equal_eliminates(context):
    def answer(request):
        if "equal" in request.messages[0].content:
            assert QUESTION in request.messages[1].content
            return json.dumps({"equal": True, "reason": "조건이 같다"})
        return reply()

    gain = TeacherGain(type="teacher", teacher="judge")
    config = CONFIG.model_copy(update={"gain": gain})
    made = run(context(answer, config))
    (gone,) = made["eliminated"]
    assert gone.rule == "no_gain"
    assert gone.reason == "fake calls it equal to what it evolved from: 조건이 같다"
    assert STAGE.teachers(config) == ("fake", "judge")
    assert STAGE.prompts(config) == ("evolve_deepening", "evolve_gain", "repair")


def test_a_question_that_was_eliminated_is_not_taken(context):
    verdicts = iter((True, False))

    def answer(request):
        if "equal" in request.messages[0].content:
            return json.dumps({"equal": next(verdicts)})
        return reply()

    gain = TeacherGain(type="teacher", teacher="judge")
    changed = {"gain": gain, "rounds": 2, "eliminated": "again"}
    made = run(context(answer, CONFIG.model_copy(update=changed)))
    assert [gone.rule for gone in made["eliminated"]] == ["no_gain"]
    assert [e.kind for e in made["examples"]] == ["original", "evolved"]


def test_a_reply_in_another_language_is_asked_for_again_and_then_kept_aside(
    context, original, make_example
):
    def answer(request):
        return reply(question="When must it be claimed?") if ANSWER in said(request) else reply()

    chat = FakeChat(answer)
    rows = [original, make_example("휴대품 2번은?", "2번", chunk_ids=("c1",))]
    made = run(context(None, chat=chat, rows=rows))
    assert len(chat.calls) == 3
    (failed,) = made["failed"]
    assert (failed.kind, failed.subject) == ("language", original.id)
    assert made["eliminated"] == []


def test_a_teacher_without_a_usable_reply_stops_the_stage(context):
    with pytest.raises(StageError, match="no usable reply to any of 1 request"):
        run(context(lambda _request: "no", CONFIG))


def test_no_examples_are_no_error(context):
    assert run(context(None, rows=[]))["examples"] == []


def test_a_second_run_pays_for_nothing_and_the_forecast_knows(context, ledger):
    fake = FakeChat(deeper)
    config = CONFIG.model_copy(update={"rounds": 2})
    opened = context(None, config, chat=CachedChat(fake, ledger))
    cost = forecast(opened)
    assert cost.calls == 1
    assert cost.text == "1 call to fake (1 question, round 1, at most 1 after them)"
    first = run(opened)
    paid = len(fake.calls)
    again = context(None, config, chat=CachedChat(fake, ledger))
    assert forecast(again).calls == 0
    assert run(again) == first
    assert len(fake.calls) == paid == 2
