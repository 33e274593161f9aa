import json
import re

import pytest

from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Example, Query, RankedSnippet, Snippet
from jangin.examples.synthesize import SynthesizeConfig, forecast, synthesize
from jangin.llm.ask import CachedChat
from jangin.llm.replies import Failed

QUESTIONS = (
    "전세 계약 기간은 보통 얼마나 되나요?",
    "청약 통장은 어디에서 만드나요?",
    "중개 보수는 누가 정하나요?",
    "등기부는 어디에서 떼나요?",
)
FOUND = {
    QUESTIONS[0]: ("전세 계약은 보통 2년이다.", "기간은 1년으로 줄일 수 있다."),
    QUESTIONS[1]: ("청약 통장은 은행에서 만든다.",),
    QUESTIONS[2]: ("중개 보수는 시도 조례로 정한다.",),
}
ANSWERS = {
    QUESTIONS[0]: "전세 계약은 보통 2년입니다.",
    QUESTIONS[1]: "청약 통장은 은행에서 만듭니다.",
    QUESTIONS[2]: "시도 조례로 정합니다.",
    QUESTIONS[3]: "등기소에서 뗍니다.",
}


def row(question, answer=None, snippets=(1,)):
    answer = ANSWERS[question] if answer is None else answer
    return {"question": question, "answer": answer, "snippets": list(snippets)}


def rows(*found):
    return json.dumps({"answers": list(found)}, ensure_ascii=False)


def asked(request):
    return re.findall(r"^질문 \d+: (.*)$", request.messages[1].content, re.MULTILINE)


def teach(request):
    return rows(*(row(q, snippets=[1] if q in FOUND else []) for q in asked(request)))


def tables(questions=QUESTIONS, found=None, **fields):
    queries = [Query.make(text, "전세") for text in questions]
    ranked = [
        RankedSnippet(
            snippet=Snippet(
                id=f"s{number}{rank}",
                query_id=query.id,
                place=rank,
                text=text,
                engine="local",
                chunk_id=f"c{number}",
                document_id="d",
                source="a.pdf",
                page=3,
                **fields,
            ),
            rank=rank,
            score=1 / rank,
            ranker="bm25",
        )
        for number, query in enumerate(queries)
        for rank, text in reversed(list(enumerate((found or FOUND).get(query.text, ()), start=1)))
    ]
    return {"queries": (Query, queries), "ranked": (RankedSnippet, ranked)}


@pytest.fixture
def context(make_context):
    def make(answer=teach, chat=None, checks=None, kinds=None, **mode):
        config = SynthesizeConfig(
            teacher="t", modes=({"type": "answer", **mode},), **(checks or {})
        )
        return make_context(config, kinds or tables(), chat or FakeChat(answer))

    return make


def run(context):
    synthesize(context)
    return (
        read_table(context.workspace / "examples.parquet", Example),
        read_table(context.workspace / "failed.parquet", Failed),
    )


def test_several_questions_stand_in_one_request_with_their_snippets_best_first(context):
    chat = FakeChat(teach)
    examples, failed = run(context(chat=chat, questions_per_call=2))
    assert [e.question for e in examples] == list(QUESTIONS[:3])
    assert [len(asked(request)) for request in chat.calls] == [2, 1]
    told = chat.calls[0].messages[-1].content
    assert f"질문 1: {QUESTIONS[0]}\n[1] {FOUND[QUESTIONS[0]][0]}\n[2] " in told
    assert "200낱말" in chat.calls[0].messages[0].content
    (skipped,) = failed
    assert (skipped.rule, skipped.kind, skipped.reply) == ("no_snippets", "rejected", QUESTIONS[3])


def test_an_answer_knows_the_word_and_the_snippets_that_it_comes_from(context):
    def answer(request):
        return rows(row(QUESTIONS[0], snippets=[2, 1])) if request else ""

    examples, _ = run(context(answer, kinds=tables(QUESTIONS[:1])))
    (example,) = examples
    assert example.evidence == "\n".join(reversed(FOUND[QUESTIONS[0]]))
    assert (example.seed_word, example.source, example.page) == ("전세", "a.pdf", 3)
    assert (example.chunk_ids, example.document_id) == (("c0",), "d")
    assert example.template.startswith("answer/ko@")


def test_questions_without_snippets_go_through_where_that_is_wanted(context):
    chat = FakeChat(teach)
    examples, failed = run(context(chat=chat, without_snippets="answer"))
    assert [e.question for e in examples] == list(QUESTIONS)
    assert failed == []
    assert f"{QUESTIONS[3]}\n(찾은 자료 없음)" in chat.calls[0].messages[-1].content
    assert (examples[3].evidence, examples[3].chunk_ids, examples[3].page) == ("", (), 0)


def test_rows_that_nobody_asked_for_are_named_and_rejected(context):
    def answer(request):
        return rows(*json.loads(teach(request))["answers"], row("월세는 얼마인가요?", "모릅니다"))

    examples, failed = run(context(answer, questions_per_call=3))
    unasked = [f for f in failed if f.rule == "unasked"]
    assert len(examples) == 3
    assert [f.reason for f in unasked] == ["not one of the questions: '월세는 얼마인가요?'"]
    assert json.loads(unasked[0].reply)["answer"] == "모릅니다"


@pytest.mark.parametrize(
    ("spelled", "matches"),
    [
        ("전세 계약 기간은 보통 얼마나 되나요", True),
        ("전세계약 기간은 보통 얼마나 되나요?", True),
        ("전세 계약 기간은 얼마나 되나요?", False),
        ("월세 계약 기간은 보통 얼마나 되나요?", False),
    ],
)
def test_a_row_belongs_to_the_question_with_the_same_letters_only(context, spelled, matches):
    def answer(_request):
        return rows({**row(QUESTIONS[0]), "question": spelled})

    kinds = tables(QUESTIONS[:1])
    if matches:
        ((example,), failed) = run(context(answer, kinds=kinds))
        assert (example.question, failed) == (QUESTIONS[0], [])
    else:
        with pytest.raises(Exception, match="no usable row for any question"):
            run(context(answer, kinds=kinds))


def test_what_got_no_row_is_asked_once_more_and_then_a_failure(context):
    def forgetful(request):
        left = [q for q in asked(request) if q != QUESTIONS[2]]
        return rows(*map(row, left[:1]))

    chat = FakeChat(forgetful)
    examples, failed = run(context(chat=chat, questions_per_call=3))
    assert [asked(request) for request in chat.calls] == [
        list(QUESTIONS[:3]),
        list(QUESTIONS[1:3]),
    ]
    assert [e.question for e in examples] == list(QUESTIONS[:2])
    lost = next(f for f in failed if f.rule == "no_row")
    assert (lost.kind, lost.subject) == ("unanswered", Query.make(QUESTIONS[2], "전세").id)
    assert QUESTIONS[2] in lost.reason


def test_a_group_whose_reply_cannot_be_read_is_asked_again_and_fails_question_by_question(context):
    chat = FakeChat(lambda request: "no" if QUESTIONS[2] in asked(request) else teach(request))
    examples, failed = run(context(chat=chat, questions_per_call=1))
    assert len(examples) == 2
    bad = next(f for f in failed if f.kind == "malformed")
    assert bad.subject == Query.make(QUESTIONS[2], "전세").id


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"answer": "전세 계약은 보통 3년입니다."}, "grounded"),
        ({"snippets": [3]}, "snippets"),
        ({"snippets": [2]}, "grounded"),
        ({"answer": "2년 " * 6}, "too_long"),
    ],
)
def test_an_answer_is_held_against_the_snippets_that_it_names(context, change, rule):
    def answer(request):
        return rows(*({**row(q), **(change if q == QUESTIONS[0] else {})} for q in asked(request)))

    examples, failed = run(context(answer, max_words=5))
    assert [f.rule for f in failed if f.rule != "no_snippets"] == [rule]
    assert len(examples) == 2


def test_a_second_row_for_one_question_is_rejected(context):
    def answer(request):
        return rows(*(row(q) for q in asked(request) for _ in range(2)))

    examples, failed = run(context(answer))
    assert len(examples) == 3
    assert [f.rule for f in failed] == ["no_snippets", *["repeated"] * 3]


def test_a_question_that_was_asked_twice_is_asked_once(context):
    chat = FakeChat(teach)
    questions = (*QUESTIONS[:2], QUESTIONS[0].replace("?", ""))
    examples, _ = run(context(chat=chat, kinds=tables(questions)))
    assert len(examples) == 2
    assert sum(len(asked(request)) for request in chat.calls) == 2


def test_the_plan_counts_groups(context, ledger):
    chat = CachedChat(FakeChat(teach), ledger)
    assert forecast(context(chat=chat, questions_per_call=2)).calls == 2
    assert forecast(context(questions_per_call=2, without_snippets="answer")).calls == 2
    run(context(chat=chat, questions_per_call=2))
    assert forecast(context(chat=chat, questions_per_call=2)).calls == 0
