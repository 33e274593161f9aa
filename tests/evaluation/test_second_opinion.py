"""A judge as a second opinion on single answers: both orders, failures, and what it may see."""

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from jangin.core.errors import ChatError
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.evaluation.evaluate import STAGE, EvaluateConfig
from jangin.evaluation.second_opinion import (
    AnswerToJudge,
    OpinionRow,
    SecondOpinion,
    ask_judge,
    draw,
)
from jangin.llm.ask import CachedChat
from jangin.llm.replies import Failed
from tests.evaluation.test_evaluate import (  # noqa: F401  context_of is a fixture
    answers,
    context_of,
    rows,
)


class SilentChat(FakeChat):
    """A model that does not reply."""

    async def complete(self, request):
        raise ChatError(f"{request.model}: connection refused")


HOSTED = {"type": "hosted", "teacher": "gpt"}
JUDGE = {"judge": "judge"}
QUESTION = "How long are parcels kept?"


def said(verdict):
    return json.dumps({"reason": "because", "verdict": verdict})


def is_swapped(request):
    text = request.messages[1].content
    marks = ("[Answer to judge]", "[Reference answer]")
    if marks[0] not in text:
        marks = ("[심사할 답]", "[기준 답]")
    return text.index(marks[0]) < text.index(marks[1])


def asking(context, reply):
    """The context with a judge that replies as told, and the fake behind it."""
    fake = FakeChat(reply, model="judge-1", source="judge")
    ledger = context.services.ledger
    services = replace(context.services, chat=lambda _name: CachedChat(fake, ledger))
    return replace(context, services=services), fake


def to_judge(answer, subject="1", **fields):
    shown = {"golds": ("10 days",), "evidence": ("Parcels are kept for ten days.",), **fields}
    return AnswerToJudge(subject, QUESTION, answer=answer, **shown)


def test_the_judge_is_asked_in_both_orders_and_sees_no_system_and_no_grade(context_of):
    context, fake = asking(context_of(), lambda _request: said("right"))
    golds = ("10 days", "ten days", "10 days")
    evidence = ("Parcels are kept", "Parcels are kept for ten days.")
    answer = to_judge("For ten days.", subject="id tuned", golds=golds, evidence=evidence)
    ((judged,), failed) = ask_judge(context, SecondOpinion(judge="judge"), [answer])
    assert (judged.opinion, judged.reasons, failed) == ("right", ("because", "because"), [])
    first, second = sorted(fake.calls, key=is_swapped)
    assert (is_swapped(first), is_swapped(second)) == (False, True)
    for request, order in ((first, '"right" or "wrong"'), (second, '"wrong" or "right"')):
        system, user = (message.content for message in request.messages)
        assert order in system
        assert "tuned" not in system + user
        # A quotation is not shown beside its passage, nor an expected answer twice.
        assert user.count("Parcels are kept") == 1
        assert "[Reference answer]\n10 days\nten days" in user
        assert f"Question: {QUESTION}" in user


@pytest.mark.parametrize("habit", ["first verdict", "last text"])
def test_a_judge_that_follows_the_order_is_undecided(habit, context_of):
    def reply(request):
        swapped = is_swapped(request)
        return said("wrong" if swapped is (habit == "first verdict") else "right")

    context, _ = asking(context_of(), reply)
    ((judged,), _) = ask_judge(context, SecondOpinion(judge="judge"), [to_judge("9 days")])
    assert judged.opinion == "undecided"
    assert judged.unusable == 0


def test_refused_and_malformed_replies_are_undecided_and_counted(context_of):
    def reply(request):
        text = request.messages[1].content
        if "refused" in text:
            return "I'm sorry, but I can't help with that."
        if "mumbled" in text and is_swapped(request):
            return "hm"
        if "unsure" in text:
            return said("perhaps")
        return said("wrong")

    context, fake = asking(context_of(), reply)
    texts = ("refused", "mumbled", "unsure", "9 days")
    shown = [to_judge(text, subject=f"row-{text}") for text in texts]
    judged, failed = ask_judge(context, SecondOpinion(judge="judge"), shown)
    assert [one.opinion for one in judged] == ["undecided"] * 3 + ["wrong"]
    assert [one.unusable for one in judged] == [2, 1, 2, 0]
    assert judged[1].reasons == ("because", "")
    kinds = [(row.subject.split()[0], row.kind) for row in failed]
    assert kinds.count(("row-refused", "refused")) == 2
    assert kinds.count(("row-mumbled", "malformed")) == 1
    assert kinds.count(("row-unsure", "malformed")) == 2
    # Usable replies are kept. A later run asks for the others, which are sent back once if they
    # are malformed, so that a judge may do better, and not if they are refusals.
    sent = len(fake.calls)
    ask_judge(context, SecondOpinion(judge="judge"), shown)
    assert len(fake.calls) - sent == 2 + 2 * 1 + 2 * 2


def test_equal_answers_are_asked_about_once(context_of):
    context, fake = asking(context_of(), lambda _request: said("wrong"))
    shown = [to_judge("9 days", subject=name) for name in ("a base", "a tuned")]
    judged, _ = ask_judge(context, SecondOpinion(judge="judge"), shown)
    assert [one.opinion for one in judged] == ["wrong", "wrong"]
    assert len(fake.calls) == 2


def evaluated(context, judge_reply):
    """Run the stage with a hosted system that knows the trained answers, and a judge."""
    book = answers(rows(), "train")
    ledger = context.services.ledger
    chats = {
        "gpt": FakeChat(
            lambda request: book.get(request.messages[-1].content, "모릅니다"), source="gpt"
        ),
        "judge": FakeChat(judge_reply, source="judge"),
    }
    if judge_reply is None:
        chats["judge"] = SilentChat(str, source="judge")
    services = replace(context.services, chat=lambda name: CachedChat(chats[name], ledger))
    STAGE.run(replace(context, services=services))
    return chats["judge"]


def test_the_stage_writes_opinions_beside_grades_and_changes_none(context_of):
    settings = {"systems": (HOSTED,), "few_shot": 0}
    plain = context_of(**settings)
    evaluated(plain, lambda _request: "")
    before = (plain.workspace / "predictions.parquet").read_bytes()
    context = context_of(**settings, second_opinion={**JUDGE, "limit": 3})
    judge = evaluated(context, lambda request: said("right" if request else "wrong"))
    assert (context.workspace / "predictions.parquet").read_bytes() == before
    made = read_table(context.workspace / "opinions.parquet", OpinionRow)
    assert {row.evidence_set: row.differs for row in made} == {
        "seen_questions": False, "held_out_paraphrases": True, "unseen_sections": True,
    }  # fmt: skip
    assert len(made) == 9
    assert len(judge.calls) == 2 * 9
    assert {row.judge for row in made} == {"judge"}
    assert read_table(context.workspace / "failed.parquet", Failed) == []
    (line,) = [t for t in context.services.progress.messages if "judge agrees" in t]
    assert "of 9 answers, judge agrees with the grader on 3, differs on 6" in line


def test_without_a_judge_that_replies_the_stage_stops_and_can_go_on(context_of):
    context = context_of(systems=(HOSTED,), few_shot=0, second_opinion={**JUDGE, "limit": 2})

    with pytest.raises(ChatError, match="connection refused"):
        evaluated(context, None)
    judge = evaluated(context, lambda _request: said("wrong"))
    assert len(judge.calls) == 2 * 6


def test_the_draw_is_that_of_questions_and_a_larger_one_contains_a_smaller_one():
    from tests.evaluation.test_grade_labels import answers as graded

    every = graded("base", 20, 20) + graded("tuned", 20, 20)
    small, large = draw(every, 5, 0), draw(every, 9, 0)
    ids = {row.example_id for row in small}
    assert len(ids) == 5
    assert all({r.system for r in small if r.example_id == i} == {"base", "tuned"} for i in ids)
    assert ids < {row.example_id for row in large}
    silent = [row.model_copy(update={"prediction": " "}) for row in every]
    assert draw(silent, 5, 0) == []


def test_without_a_judge_the_identity_is_the_old_one_and_labels_take_none():
    assert "second_opinion" not in EvaluateConfig().identity()
    named = EvaluateConfig(second_opinion=JUDGE)
    assert named.identity()["second_opinion"] == {"judge": "judge", "limit": 50, "max_tokens": 256}
    assert STAGE.teachers(named) == ("judge",)
    assert {"judge_answer", "judge_answer_swapped"} < {*STAGE.prompts(named)}
    with pytest.raises(ValidationError, match=r"`second_opinion` .* free answers, and task `label"):
        EvaluateConfig(second_opinion=JUDGE, task={"type": "labels", "labels": ["a", "b"]})


def test_the_plan_counts_two_calls_an_answer(context_of):
    plain = STAGE.cost(context_of(systems=(HOSTED,)))
    judged = STAGE.cost(context_of(systems=(HOSTED,), second_opinion={**JUDGE, "limit": 5}))
    assert judged.calls - plain.calls == 2 * (5 + 5 + 4)
    assert "up to 28 calls to judge for a second opinion" in judged.text
