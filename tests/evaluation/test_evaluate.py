import json
import math
import re
from dataclasses import replace

import pytest
from pydantic import ValidationError

from jangin.core.errors import ChatError, DataError, SettingsError, StageError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Chunk, Example, Message, SplitExample
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact
from jangin.documents.passages import Passages
from jangin.evaluation.evaluate import STAGE, EvaluateConfig, evaluate, make_test_sets, run
from jangin.evaluation.forgetting import ForgettingResult, forgetting_result, read_general
from jangin.evaluation.pairwise_judge import (
    JudgedTwice,
    JudgeRelation,
    PairwiseResult,
    judge_relation,
    write_judgements,
)
from jangin.evaluation.results import (
    Comparison,
    Leak,
    Result,
    compare_predictions,
    grade_prediction,
    summarise,
)
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.systems.few_shot import similar_before
from jangin.evaluation.systems.local import draw_shots, with_shots
from jangin.evaluation.systems.local_models import LocalModels
from jangin.evaluation.systems.retrieval import RetrievalConfig
from jangin.evaluation.systems.system import SystemAnswer, SystemInputs
from jangin.evaluation.tasks.labels import LabelResult, LabelsTask, label_results
from jangin.evaluation.tasks.numbers import NumberResult
from jangin.evaluation.tasks.table import DEFAULT_TASK
from jangin.evaluation.tasks.task import Prediction
from jangin.llm.ask import CachedChat
from jangin.models.starter import make_starter
from jangin.training.loop.config import Full, Lora, Steps
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig
from tests.conftest import make_artifact

TOPICS = ("연차휴가", "병가", "출장비", "재택근무", "경조금", "퇴직금", "야근수당", "건강검진")


class AnswerBook:
    """A system that looks its answers up, and remembers what it was asked."""

    def __init__(self, answers, stop_after=None):
        self.answers = answers
        self.asked = []
        self.stop_after = stop_after

    def answer(self, prompts):
        questions = [prompt[-1].content for prompt in prompts]
        self.asked.append(questions)
        # The last question is answered first: answers end in any order.
        for count, (index, question) in enumerate(reversed([*enumerate(questions)])):
            if count == self.stop_after:
                raise KeyboardInterrupt
            known = question in self.answers
            yield {index: SystemAnswer(self.answers.get(question, "모릅니다") + " ", known)}


def opener(systems):
    """Opens `systems`, {label: system}, by their settings."""
    return lambda config: systems[config.label]


def example(question, answer, **fields):
    prompt = (Message(role="user", content=question),)
    completion = Message(role="assistant", content=answer)
    return Example.make(prompt, completion, **{"kind": "original", "source": "규정.md", **fields})


def rows():
    """8 trained questions, a held-out paraphrase of each, 4 unseen questions."""
    table = []
    for number, topic in enumerate(TOPICS):
        original = example(f"{topic} 담당 부서는 어디입니까?", f"{topic}팀", page=number)
        other = {"kind": "paraphrase", "family": original.id}
        paraphrase = example(f"누구한테 {topic} 이야기를 하면 되나요", f"{topic}팀", **other)
        table.append(SplitExample(example=original, split="train"))
        table.append(SplitExample(example=paraphrase, split="held_out_paraphrases"))
    for topic in ("주차권", "명함", "회의실", "사내대출"):
        unseen = example(f"{topic} 신청 마감일은 언제입니까?", f"{topic} 5일")
        table.append(SplitExample(example=unseen, split="unseen_sections"))
    return table


@pytest.fixture
def context_of(tmp_path):
    ledgers = []

    def make(table=None, **config):
        inputs, workspace = tmp_path / "inputs", tmp_path / "workspace"
        inputs.mkdir(exist_ok=True)
        workspace.mkdir(exist_ok=True)
        write_table(inputs / "splits.parquet", SplitExample, rows() if table is None else table)
        ledger = Ledger(tmp_path / "ledger.sqlite")
        ledgers.append(ledger)
        services = Services(tmp_path, no_chat, ledger, Progress())
        made = {"splits": make_artifact(inputs)}
        return StageContext(EvaluateConfig(**config), made, workspace, services)

    yield make
    for ledger in ledgers:
        ledger.close()


def no_chat(name):
    raise AssertionError(f"evaluate asks no chat model, least of all {name}")


def answers(table, *splits):
    return {row.example.question: row.example.answer for row in table if row.split in splits}


def tables(context):
    kinds = {
        "predictions": Prediction, "results": Result, "comparisons": Comparison, "leaks": Leak
    }  # fmt: skip
    return {
        kind: read_table(context.workspace / f"{kind}.parquet", record)
        for kind, record in kinds.items()
    }


def test_both_systems_are_asked_the_same_and_compared_on_each_evidence_set(context_of):
    context = context_of()
    tuned = AnswerBook(answers(rows(), "train", "held_out_paraphrases"))
    base = AnswerBook({})
    evaluate(context, opener({"base": base, "tuned": tuned}))
    made = tables(context)
    assert base.asked == tuned.asked
    assert [len(questions) for questions in base.asked] == [20]
    shares = {(r.evidence_set, r.system): (r.n, r.right) for r in made["results"]}
    assert shares == {
        ("seen_questions", "base"): (8, 0),
        ("seen_questions", "tuned"): (8, 1),
        ("held_out_paraphrases", "base"): (8, 0),
        ("held_out_paraphrases", "tuned"): (8, 1),
        ("unseen_sections", "base"): (4, 0),
        ("unseen_sections", "tuned"): (4, 0),
    }
    seen, held_out, unseen = made["comparisons"]
    assert (held_out.a, held_out.b, held_out.only_a, held_out.only_b) == ("base", "tuned", 0, 8)
    assert held_out.p_value == pytest.approx(2 / 2**8)
    assert held_out.smallest_visible == 6 / 8
    assert seen.score_gain_low > 0
    assert (unseen.p_value, unseen.smallest_visible) == (1, None)
    assert made["leaks"] == []
    assert context.summary["publishable"] is True
    assert context.summary["questions"] == {
        "seen_questions": 8, "held_out_paraphrases": 8, "unseen_sections": 4
    }  # fmt: skip
    assert context.summary["right"]["held_out_paraphrases"] == {"base": 0, "tuned": 1}
    assert context.summary["cut_off"] == {"base": 20, "tuned": 4}


def test_a_prediction_names_the_page_and_is_stripped_before_it_is_graded(context_of):
    context = context_of(systems=("tuned",))
    evaluate(context, lambda _: AnswerBook(answers(rows(), "train")))
    row = next(p for p in tables(context)["predictions"] if p.page == 3)
    assert (row.question, row.prediction) == ("재택근무 담당 부서는 어디입니까?", "재택근무팀")
    assert (row.gold, row.right, row.score, row.source) == ("재택근무팀", True, 1, "규정.md")
    assert tables(context)["comparisons"] == []


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_tables(context_of):
    book = answers(rows(), "train")
    whole = context_of()
    evaluate(whole, lambda _: AnswerBook(book))
    expected = tables(whole)
    for path in whole.workspace.rglob("*.*"):
        path.unlink()
    first = AnswerBook(book, stop_after=4)
    killed = context_of()
    with pytest.raises(KeyboardInterrupt):
        evaluate(killed, lambda _: first)
    journal = killed.workspace / "journal" / "predictions.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    second = AnswerBook(book)
    opened = []
    evaluate(context_of(), lambda config: opened.append(config.label) or second)
    assert opened == ["base", "tuned"]
    # Four answers had been given, of which the last was cut in the journal.
    assert second.asked == [first.asked[0][:-3], first.asked[0]]
    assert tables(killed) == expected


def test_a_system_whose_answers_are_all_there_is_not_even_loaded(context_of):
    evaluate(context_of(), lambda _: AnswerBook({}))
    context = context_of()
    evaluate(context, opener({}))
    assert len(tables(context)["predictions"]) == 40


def test_copies_of_training_questions_are_listed_and_make_the_figures_unpublishable(context_of):
    table = rows()
    trained = table[0].example
    copy = example(trained.question.replace(" ", "").replace("?", " !"), "연차휴가팀")
    context = context_of([*table, SplitExample(example=copy, split="unseen_sections")])
    evaluate(context, lambda _: AnswerBook({}))
    (leak,) = tables(context)["leaks"]
    assert (leak.evidence_set, leak.evaluation_id, leak.train_id, leak.kind) == (
        "unseen_sections", copy.id, trained.id, "exact"
    )  # fmt: skip
    assert context.summary["publishable"] is False
    assert context.summary["leakage"] == {"held_out_paraphrases": 0, "unseen_sections": 0.2}
    assert len(tables(context)["results"]) == 6
    said = context.services.progress.messages
    assert re.search(r"20\.0% of unseen_sections .*limit 1\.0%.*jangin show leaks", said[0])


def test_leakage_within_the_limit_is_listed_but_does_no_harm(context_of):
    table = rows()
    copy = SplitExample(
        example=example(table[0].example.question, "다른 답"), split="unseen_sections"
    )
    context = context_of([*table, copy], max_leakage=0.2)
    evaluate(context, lambda _: AnswerBook({}))
    assert context.summary["publishable"] is True
    assert len(tables(context)["leaks"]) == 1


def test_evidence_that_is_missing_is_said(context_of):
    context = context_of([row for row in rows() if row.split == "train"])
    evaluate(context, lambda _: AnswerBook({}))
    said = "\n".join(context.services.progress.messages)
    assert re.findall(r"evaluate: (\w+) has no questions", said) == [
        "held_out_paraphrases",
        "unseen_sections",
    ]
    assert {row.evidence_set for row in tables(context)["results"]} == {"seen_questions"}


def test_no_question_at_all_is_an_error_that_says_what_to_set(context_of):
    only_trained = [row for row in rows() if row.split == "train"]
    with pytest.raises(StageError, match=r"of 8 .*seen_limit is 0.*seen_limit"):
        evaluate(context_of(only_trained, seen_limit=0), lambda _: AnswerBook({}))


def test_few_training_questions_are_drawn_by_the_seed_and_no_paraphrase_is_among_them():
    table = rows()
    trained_paraphrase = example("연차 쓰려면?", "연차휴가팀", kind="paraphrase")
    table.append(SplitExample(example=trained_paraphrase, split="train"))
    draws = {
        tuple(e.id for e in make_test_sets(table, EvaluateConfig(seen_limit=3, seed=seed))[
            "seen_questions"
        ])
        for seed in range(6)
    }  # fmt: skip
    assert {len(draw) for draw in draws} == {3}
    assert len(draws) > 1
    assert all(trained_paraphrase.id not in draw for draw in draws)


def test_every_answer_that_examples_give_to_one_prompt_counts(context_of):
    question = "회의실은 어디에 있습니까?"
    table = [
        SplitExample(example=example(question, answer), split="unseen_sections")
        for answer in ("2층", "별관")
    ]
    context = context_of(table, systems=("tuned",))
    evaluate(context, lambda _: AnswerBook({question: "별관"}))
    first, second = tables(context)["predictions"]
    assert (first.gold, first.other_golds, first.right) == ("2층", ("별관",), True)
    assert (second.gold, second.other_golds, second.right) == ("별관", ("2층",), True)


def test_other_right_answers_of_an_example_count_as_well(context_of):
    row = example("모임 이름은 무엇입니까?", "아미(ARMY)", answers=("아미",))
    table = [SplitExample(example=row, split="unseen_sections")]
    context = context_of(table, systems=("tuned",))
    evaluate(context, lambda _: AnswerBook({row.question: "아미"}))
    (prediction,) = tables(context)["predictions"]
    assert (prediction.other_golds, prediction.right) == (("아미",), True)


def predictions(texts, system="tuned", evidence_set="unseen_sections"):
    golds = [example(f"질문 {i}번", "답") for i in range(len(texts))]
    return [
        grade_prediction(gold, evidence_set, system, text)
        for gold, text in zip(golds, texts, strict=True)
    ]


def test_20_against_15_of_20_is_not_significant_and_20_against_11_is():
    plain = predictions(["답"] * 15 + ["모름"] * 5)
    augmented = predictions(["답"] * 20)
    comparison = compare_predictions(plain, augmented[::-1])
    assert (comparison.n, comparison.only_a, comparison.only_b) == (20, 0, 5)
    assert (comparison.p_value, comparison.smallest_visible) == (0.0625, 0.3)
    assert comparison.score_gain == pytest.approx(0.25)
    hosted = predictions(["답"] * 11 + ["모름"] * 9)
    assert compare_predictions(hosted, augmented).p_value == pytest.approx(0.0039, abs=5e-5)


def test_variants_that_were_asked_different_questions_are_not_compared():
    with pytest.raises(DataError, match="1 of 3 only in the first, 0 of 2 only in the second"):
        compare_predictions(predictions(["답"] * 3), predictions(["답"] * 2))
    other_set = predictions(["답"] * 2, evidence_set="seen_questions")
    with pytest.raises(DataError, match="different questions"):
        compare_predictions(other_set, predictions(["답"] * 2))


def test_the_same_questions_after_another_system_prompt_are_compared():
    plain = predictions(["답", "모름", "답"])
    briefed = [
        grade_prediction(
            Example.make(
                (
                    Message(role="system", content="짧게 답하세요."),
                    Message(role="user", content=row.question),
                ),
                Message(role="assistant", content=row.gold),
                kind="original",
            ),
            "unseen_sections",
            "tuned",
            "답",
        )
        for row in plain
    ]
    assert {row.example_id for row in plain}.isdisjoint(row.example_id for row in briefed)
    comparison = compare_predictions(plain, briefed[::-1])
    assert (comparison.n, comparison.only_a, comparison.only_b) == (3, 0, 1)
    with pytest.raises(DataError, match="1 of 3 only in the first"):
        compare_predictions(plain, briefed[1:])


def test_a_mixture_of_systems_or_nothing_is_not_compared():
    both = predictions(["답"]) + predictions(["답"], system="base")
    with pytest.raises(DataError, match=r"\b[02] predictions .*one system"):
        compare_predictions(both, both)
    with pytest.raises(DataError, match=r"\b[02] predictions .*one system"):
        compare_predictions([], [])
    twice = predictions(["답"]) * 2
    with pytest.raises(DataError, match="answered twice"):
        compare_predictions(twice, predictions(["답"]))


def test_the_interval_of_20_of_20_is_wilsons():
    (result,) = summarise(predictions(["답"] * 20))
    assert (result.right, result.right_high) == (1, 1)
    assert result.right_low == pytest.approx(0.839, abs=5e-4)


def test_where_and_how_fast_bears_no_identity_but_what_is_asked_does():
    assert "batch_size" not in EvaluateConfig().identity()
    assert EvaluateConfig(max_new_tokens=9).identity() != EvaluateConfig().identity()


def test_a_system_can_be_asked_only_once():
    with pytest.raises(ValidationError, match="more than once"):
        EvaluateConfig(systems=("base", "base"))


def test_the_plan_tells_how_many_questions_will_be_asked(context_of):
    assert STAGE.cost(context_of()).text == "20 questions to base, tuned"


def make_base(context, folder):
    """A starter of half a million random weights, as the artifact `base`."""
    texts = [text for row in rows() for text in (row.example.question, row.example.answer)]
    make_starter(
        folder / "model", texts, size="0.5M", vocabulary_size=500, context_length=128, seed=0
    )
    context.inputs["base"] = make_artifact(folder)


def fine_tune(context, folder, method, steps):
    """Train the base of `context` on its train split, as the artifact `model`."""
    config = SftConfig(
        method=method,
        learning_rate=3e-3,
        length=Steps(type="steps", steps=steps),
        precision="fp32",
    )
    folder.mkdir()
    SFT.run(StageContext(config, context.inputs, folder, context.services))
    context.inputs["model"] = make_artifact(folder)


@pytest.mark.slow
def test_a_tiny_model_that_learned_the_answers_by_heart_beats_its_base(context_of, tmp_path):
    context = context_of(max_new_tokens=12)
    make_base(context, tmp_path / "base")
    fine_tune(context, tmp_path / "tuned", Full(), steps=60)
    STAGE.run(context)
    assert context.summary["right"]["seen_questions"] == {"base": 0, "tuned": 1}
    assert context.summary["cut_off"]["tuned"] < context.summary["cut_off"]["base"]


@pytest.mark.slow
def test_an_adapter_is_put_on_its_base_before_it_is_asked(context_of, tmp_path):
    context = context_of(max_new_tokens=4)
    make_base(context, tmp_path / "base")
    fine_tune(context, tmp_path / "tuned", Lora(type="lora", r=8), steps=10)
    assert not (tmp_path / "tuned" / "model" / "config.json").exists()
    STAGE.run(context)
    base, tuned = (
        [p.prediction for p in tables(context)["predictions"] if p.system == system]
        for system in ("base", "tuned")
    )
    assert len(base) == len(tuned) == 20
    assert base != tuned


def test_what_so_few_questions_can_show_is_said_before_training(context_of):
    context = context_of()
    STAGE.check(context)
    seen, paraphrases, unseen = context.services.progress.messages
    assert "8 questions of seen_questions" in seen
    assert " 75 points" in seen
    assert "8 questions of held_out_paraphrases" in paraphrases
    assert "4 questions of unseen_sections" in unseen
    assert "points" not in unseen


def said(context):
    return "\n".join(context.services.progress.messages)


def table_rows(texts_and_answers, split):
    return [
        SplitExample(example=example(text, answer), split=split)
        for text, answer in texts_and_answers
    ]


REVIEWS = [
    (f"{word} 영화였습니다 {number}", star)
    for number in range(12)
    for word, star in (("최고의", "5"), ("지루한", "1"), ("그저 그런", "3"))
]
STARS = {"type": "labels", "labels": ("1", "2", "3", "4", "5"), "ordered": True, "good_from": "4"}


def test_labels_are_graded_by_their_distance_and_sliced_by_label(context_of):
    table = table_rows(REVIEWS[:18], "train") + table_rows(REVIEWS[18:], "test")
    context = context_of(table, task=STARS, systems=("base", "tuned"), seen_limit=0)
    wrong = {text: "4" for text, _ in REVIEWS}
    evaluate(context, opener({"base": AnswerBook(wrong), "tuned": AnswerBook(dict(REVIEWS))}))
    base, tuned = read_table(context.workspace / "label_results.parquet", LabelResult)
    assert (base.system, base.n, base.accuracy, base.off_by_one) == ("base", 18, 0, 2 / 3)
    assert base.good_or_bad == pytest.approx(1 / 3)
    assert (tuned.accuracy, tuned.weighted_kappa, tuned.constant_accuracy) == (1, 1, 1 / 3)
    (result, _) = tables(context)["results"]
    assert (result.measure, result.unparsable) == ("closeness", 0)
    assert result.score == pytest.approx((0.75 + 0.25 + 0.75) / 3)
    slices = read_table(context.workspace / "slices.parquet", Slice)
    by_label = [s for s in slices if s.dimension == "label" and s.system == "tuned"]
    assert sorted(s.value for s in by_label) == ["1", "3", "5"]
    assert all(s.p_holm == pytest.approx(3 * s.p_value) for s in by_label)


def test_an_answer_without_a_label_is_wrong_and_counted_and_not_dropped(context_of):
    context = context_of(table_rows(REVIEWS, "test"), task=STARS, systems=("base",))
    evaluate(context, lambda _: AnswerBook({}))
    (result,) = tables(context)["results"]
    assert (result.right, result.unparsable, result.n) == (0, 36, 36)


def test_numbers_are_graded_by_their_error(context_of):
    prices = [(f"상품 {price}번 가격은?", f"{price}") for price in (100, 200, 300, 400, 500, 600)]
    guesses = {prices[0][0]: "$110", prices[1][0]: "200원", prices[2][0]: "모름"}
    context = context_of(
        table_rows(prices, "test"), task={"type": "numbers"}, systems=("base", "tuned")
    )
    books = {"base": AnswerBook({q: "300" for q, _ in prices}), "tuned": AnswerBook(guesses)}
    evaluate(context, opener(books))
    base, tuned = read_table(context.workspace / "number_results.parquet", NumberResult)
    assert base.mean_error == pytest.approx((200 + 100 + 0 + 100 + 200 + 300) / 6)
    assert (tuned.unparsable, tuned.mean_error) == (4, 5)
    assert tuned.green == pytest.approx(2 / 6)
    (compared,) = tables(context)["comparisons"]
    assert (compared.measure, compared.score_n) == ("absolute_error", 2)
    assert compared.score_gain == pytest.approx((10 - 200 + 0 - 100) / 2)


def test_a_gold_answer_outside_the_task_is_named(context_of):
    context = context_of(table_rows([("별점은?", "6")], "test"), task=STARS, systems=("base",))
    with pytest.raises(DataError, match=r"1 of 1 question has .*\(1, 2, 3, 4, 5\): '6' \(1 x"):
        evaluate(context, lambda _: AnswerBook({}))
    context = context_of(
        table_rows([("가격은?", "싸다")], "test"), task={"type": "numbers"}, systems=("base",)
    )
    with pytest.raises(DataError, match=r"not a number: '싸다' \(1 x"):
        evaluate(context, lambda _: AnswerBook({}))


def test_all_labels_outside_the_set_are_counted_and_placed_before_anything_is_trained(context_of):
    asked = [(f"{n}번 글", str(n % 8 + 4)) for n in range(18)] + [("마지막 글", "11")]
    context = context_of(table_rows(asked, "test"), task=STARS, systems=("base",))
    with pytest.raises(DataError) as error:
        STAGE.check(context)
    said = str(error.value)
    assert re.search(r"13 of 19 questions .*\(1, 2, 3, 4, 5\): '11' \(3 x", said)
    assert "'6' (2 x, first 규정.md, '2번 글')" in said
    assert "'10' (" not in said
    assert said.count(" x, first ") == 5
    assert " and 1 more. " in said
    assert "`labels`" in said
    STAGE.check(context_of(table_rows(asked[:2], "test"), task=STARS))


def test_a_single_question_is_told_as_one(context_of):
    context = context_of(table_rows([("글", "1")], "test"), task=STARS)
    STAGE.check(context)
    assert "the only question of test is too few" in context.services.progress.messages[0]


def test_answers_that_are_all_one_are_said_once(context_of):
    table = table_rows([("가", "1"), ("나", "1")], "test") + table_rows([("다", " 1")], "train")
    for answer, times in (("1", 1), ("2", 0)):
        more = table_rows([("라", answer)], "test")
        context = context_of(table + more, task=STARS)
        STAGE.check(context)
        evaluate(context, lambda _: AnswerBook({}))
        said = "\n".join(context.services.progress.messages)
        assert said.count("all 4 answers are '1'") == times


@pytest.mark.slow
def test_baselines_stand_in_the_same_table(context_of):
    table = table_rows(REVIEWS[:18], "train") + table_rows(REVIEWS[18:], "test")
    methods = ("constant", "random", "nearest", "tfidf_logistic", "tfidf_svr", "forest")
    systems = tuple({"type": "baseline", "method": method} for method in methods)
    context = context_of(table, task=STARS, systems=systems, seen_limit=0)
    run(context)
    shares = {r.system: r.right for r in tables(context)["results"]}
    assert tuple(shares) == methods
    assert shares["constant"] == pytest.approx(1 / 3)
    assert shares["nearest"] == shares["tfidf_logistic"] == shares["tfidf_svr"] == 1


def test_baselines_of_numbers_are_fitted_on_numbers(context_of):
    words = ["작은", "보통", "커다란", "거대한"]
    prices = [(f"{words[i % 4]} 상품 " + "x" * i, f"{100 * (i % 4) + 50}") for i in range(40)]
    table = table_rows(prices[:28], "train") + table_rows(prices[28:], "test")
    methods = ("constant", "random", "nearest", "linear", "bow_linear", "tfidf_svr", "forest")
    systems = tuple({"type": "baseline", "method": method} for method in methods)
    context = context_of(table, task={"type": "numbers"}, systems=systems, seen_limit=0)
    run(context)
    errors = {
        r.system: r.mean_error
        for r in read_table(context.workspace / "number_results.parquet", NumberResult)
    }
    assert errors["constant"] == pytest.approx(100)
    assert errors["bow_linear"] < 30
    assert errors["forest"] < 20


def test_a_baseline_that_does_not_suit_the_task_says_which_do(context_of):
    table = table_rows([("질문", "답")], "train") + table_rows([("질문 2", "답")], "test")
    context = context_of(table, systems=({"type": "baseline", "method": "forest"},), seen_limit=0)
    with pytest.raises(SettingsError, match=r"forest .*answers.* constant, random, near"):
        run(context)


def test_a_hosted_model_is_asked_through_the_ledger_and_never_twice(context_of):
    fake = FakeChat(lambda request: dict(REVIEWS).get(request.messages[-1].content, "?"), model="m")
    table = table_rows(REVIEWS[:18], "train") + table_rows(REVIEWS[18:], "test")
    hosted = {"type": "hosted", "teacher": "gpt", "shots": 2, "instruction": "별점만 답하세요."}
    for _ in range(2):
        context = context_of(table, task=STARS, systems=(hosted,), seen_limit=0)
        chats = {"gpt": CachedChat(fake, context.services.ledger)}
        services = replace(context.services, chat=chats.__getitem__)
        run(replace(context, services=services))
        (result,) = tables(context)["results"]
        assert (result.system, result.right) == ("gpt 2-shot", 1)
        for path in context.workspace.rglob("predictions.*"):
            path.unlink()
    assert len(fake.calls) == 18
    assert [m.role for m in fake.calls[0].messages] == [
        "system", "user", "assistant", "user", "assistant", "user"
    ]  # fmt: skip


def test_an_endpoint_that_does_not_answer_is_no_wrong_answer(context_of):
    def fail(_request):
        raise ChatError("gone")

    context = context_of(
        table_rows(REVIEWS, "test"), task=STARS, systems=({"type": "hosted", "teacher": "gpt"},)
    )
    services = replace(context.services, chat=lambda _name: FakeChat(fail))
    with pytest.raises((StageError, ChatError)):
        run(replace(context, services=services))


def test_shots_come_before_the_question_and_never_show_its_own_answer():
    shots = [example(f"질문 {i}", f"답 {i}") for i in range(3)]
    asked = (Message(role="system", content="규칙"), *shots[1].prompt)
    turns = with_shots(asked, shots)
    assert [t.content for t in turns] == [
        "규칙",
        "질문 0",
        "답 0",
        "질문 1",
        "답 1",
        "질문 2",
        "답 2",
        "질문 1",
    ]
    shown = with_shots(shots[1].prompt, shots)
    assert [t.content for t in shown] == ["질문 0", "답 0", "질문 2", "답 2", "질문 1"]


def test_shots_are_originals_first_and_drawn_by_the_seed():
    table = [row.example for row in rows()]
    drawn = draw_shots(table, 5, seed=0)
    assert {shot.kind for shot in drawn} == {"original"}
    assert draw_shots(table, 5, seed=0) == drawn != draw_shots(table, 5, seed=1)


def test_similar_shots_are_searched_for_each_question_and_the_closest_comes_last():
    pairs = (
        ("연차휴가는 며칠인가요?", "15일"),
        ("병가는 며칠인가요?", "30일"),
        ("출장비 한도는?", "10만 원"),
    )
    rewrite = similar_before([example(*pair) for pair in pairs], 2)
    for question, shown in (
        ("병가 기간은 며칠인가요?", ["15일", "30일"]),
        ("연차휴가가 며칠인가요?", ["30일", "15일"]),
        (
            "병가는 며칠인가요?",
            ["15일"],
        ),  # its own answer is not shown, 출장비 has nothing in common
    ):
        asked = (Message(role="system", content="규칙"), Message(role="user", content=question))
        turns = rewrite(asked[1:])
        assert [turn.content for turn in turns if turn.role == "assistant"] == shown
        assert turns[-1].content == question
        assert rewrite(asked)[0] == asked[0]


@pytest.mark.parametrize(
    ("systems", "wanted"),
    [
        (("base", "tuned"), ("base", "model")),
        (("sft", "tuned"), ("base", "model", "sft_model")),
        (({"type": "baseline", "method": "constant"},), ()),
        (({"type": "few_shot"},), ("base",)),
        (({"type": "retrieval", "of": "tuned"},), ("base", "chunks", "model")),
    ],
)
def test_a_system_needs_what_it_is_made_of_and_no_more(systems, wanted):
    assert STAGE.wants(EvaluateConfig(systems=systems)) == wanted


def test_retrieval_puts_the_best_passage_next_to_the_question(context_of):
    chunks = [
        Chunk(
            id=str(place), document_id="d", source="규정.md", text=text,
            start=0, end=len(text), page=1, section="",
        )
        for place, text in enumerate(("연차휴가는 하루씩 15일이다.", "출장비는 하루 5만원이다."))
    ]  # fmt: skip
    inputs = SystemInputs(
        services=context_of().services, task=DEFAULT_TASK, train=(), language="ko",
        max_new_tokens=8, batch_size=None, seed=0, passages=lambda: Passages.of(chunks),
        models=LocalModels({}, print),
    )  # fmt: skip
    asked = (Message(role="user", content="출장비는 하루에 얼마입니까?"),)
    passage_prompt = RetrievalConfig(type="retrieval", of="gpt", passages=2).passage_prompt(inputs)
    (turn,), _ = passage_prompt.with_passages(inputs.passages(), asked)
    places = [turn.content.index(part) for part in ("15일", "5만원", "출장비는 하루에 얼마")]
    assert places == sorted(places)


JUDGE = {"judge": "gpt", "a": "tuned", "b": "base"}


def judged(context, reply):
    """Predictions of two answer books, judged by a fake that replies as told."""
    book = answers(rows(), "train")
    books = {"base": AnswerBook({}), "tuned": AnswerBook(book)}
    predictions = evaluate(context, opener(books))
    fake = FakeChat(reply, model="m")
    services = replace(
        context.services, chat=lambda _name: CachedChat(fake, context.services.ledger)
    )
    context = replace(context, services=services)
    failed = write_judgements(context, context.config.pairwise, predictions, "ko", 0)
    kinds = {"judgements": JudgedTwice, "pairwise": PairwiseResult}
    made = {
        kind: read_table(context.workspace / f"{kind}.parquet", record)
        for kind, record in kinds.items()
    }
    return fake, {**made, "failed": failed}


def test_a_judge_is_asked_in_both_orders_and_equal_answers_are_not_asked(context_of):
    def prefer_a_real_answer(request):
        first = request.messages[-1].content.split("[첫째 답변]\n")[1].split("\n")[0]
        return json.dumps(
            {"reason": "맞다", "winner": "second" if first == "모릅니다" else "first"}
        )

    fake, made = judged(context_of(pairwise=(JUDGE,)), prefer_a_real_answer)
    assert len(fake.calls) == 2 * 8
    by_set = {row.evidence_set: row for row in made["pairwise"]}
    seen, unseen = by_set["seen_questions"], by_set["unseen_sections"]
    assert (seen.n, seen.wins, seen.ties, seen.inconsistent) == (8, 8, 0, 0)
    assert (seen.win_rate, seen.first_shown) == (1, 0.5)
    assert seen.p_value == pytest.approx(2 / 2**8)
    assert (unseen.wins, unseen.ties) == (0, 4)


def test_a_judge_that_takes_whatever_comes_first_makes_ties(context_of):
    reply = json.dumps({"reason": "앞", "winner": "first"})
    _, made = judged(context_of(pairwise=(JUDGE,)), lambda _request: reply)
    seen = next(row for row in made["pairwise"] if row.evidence_set == "seen_questions")
    assert (seen.wins, seen.losses, seen.inconsistent, seen.win_rate) == (0, 0, 8, 0.5)
    assert seen.first_shown == 1


def test_a_verdict_that_cannot_be_read_is_counted_and_not_guessed(context_of):
    def mumble(request):
        topic = "병가" in request.messages[1].content
        return "음..." if topic else json.dumps({"reason": "-", "winner": "tie"})

    _, made = judged(context_of(pairwise=(JUDGE,)), mumble)
    seen = next(row for row in made["pairwise"] if row.evidence_set == "seen_questions")
    assert (seen.n, seen.unjudged) == (7, 1)
    assert len(made["failed"]) == 2


def test_a_judge_of_a_system_that_was_not_asked_is_refused(context_of):
    with pytest.raises(SettingsError, match=r"pairwise: .*'dpo'.* base, tuned"):
        judged(context_of(pairwise=({**JUDGE, "a": "dpo"},)), lambda _request: "")


def judged_by(context, models, verdicts, base_id=""):
    """Pairwise results; `models` is {teacher: model}, `verdicts` {teacher: preferred answer}."""
    book = answers(rows(), "train")
    books = {"base": AnswerBook({}), "tuned": AnswerBook(book), "gpt": AnswerBook(book)}
    predictions = evaluate(context, opener(books))

    def reply_of(name):
        def reply(request):
            first = request.messages[-1].content.split("[첫째 답변]\n")[1].split("\n")[0]
            liked = (first == "모릅니다") == (verdicts[name] == "모릅니다")
            return json.dumps({"reason": "-", "winner": "first" if liked else "second"})

        return reply

    def chat(name):
        fake = FakeChat(reply_of(name), model=models[name], source=name)
        return CachedChat(fake, context.services.ledger)

    inputs = dict(context.inputs)
    if base_id:
        manifest = inputs["splits"].manifest.model_copy(update={"summary": {"id": base_id}})
        inputs["base"] = Artifact(inputs["splits"].path, manifest)
    services = replace(context.services, chat=chat, progress=Progress())
    context = replace(context, services=services, inputs=inputs)
    write_judgements(context, context.config.pairwise, predictions, "ko", 0)
    found = read_table(context.workspace / "pairwise.parquet", PairwiseResult)
    return [r for r in found if r.evidence_set == "seen_questions"], services.progress.messages


HOSTED = {"type": "hosted", "teacher": "gpt"}
GPT_AGAINST_BASE = {"a": "gpt", "b": "base"}


def test_a_judge_that_is_a_contestant_is_named_and_held_against_those_that_are_not(context_of):
    context = context_of(
        systems=("base", HOSTED),
        pairwise=tuple({"judge": name, **GPT_AGAINST_BASE} for name in ("gpt", "claude")),
    )
    models = {"gpt": "gpt-5", "claude": "claude-5"}
    verdicts = {"gpt": "an answer", "claude": "모릅니다"}
    (own, other), said = judged_by(context, models, verdicts)
    assert (own.judge_model, own.kinship, own.kin) == ("gpt-5", "itself", "gpt")
    assert (own.own_win_rate, own.others_win_rate, own.self_preference) == (1, 0, 1)
    assert (own.own_n, own.self_preference_low, own.self_preference_high) == (8, 1, 1)
    assert (other.kinship, other.kin, other.own_win_rate) == ("none", "", None)
    (line,) = [line for line in said if "favour" in line]
    assert "judge gpt" in line


def test_without_another_judge_no_figure_of_self_preference_is_made_up(context_of):
    context = context_of(systems=("base", HOSTED), pairwise=({"judge": "gpt", **GPT_AGAINST_BASE},))
    (own,), _ = judged_by(context, {"gpt": "gpt-5"}, {"gpt": "an answer"})
    assert (own.kinship, own.kin) == ("itself", "gpt")
    assert (own.own_n, own.own_win_rate, own.self_preference) == (0, None, None)


@pytest.mark.parametrize(
    ("judge", "wrote", "kinship", "kin"),
    [
        ("Qwen3-0.6B", "", "itself", "base"),
        ("gpt-5", "gpt-5", "teacher", "tuned"),
        ("gpt-5", "gpt-4", "none", ""),
    ],
)
def test_a_judge_that_is_the_base_or_taught_the_tuned_model_is_named(
    judge, wrote, kinship, kin, context_of
):
    table = [
        row.model_copy(update={"example": row.example.model_copy(update={"teacher": wrote})})
        for row in rows()
    ]
    context = context_of(table, pairwise=({**JUDGE, "judge": "who"},))
    (found,), said = judged_by(
        context, {"who": judge}, {"who": "an answer"}, base_id="Qwen/Qwen3-0.6B"
    )
    assert (found.kinship, found.kin) == (kinship, kin)
    assert any("may favour it" in line for line in said) == (kinship != "none")


def test_the_base_of_a_tuned_model_is_its_kin_where_only_tuned_models_compete(context_of):
    few_shot = {"type": "few_shot", "of": "tuned", "shots": 2}
    context = context_of(systems=("tuned", HOSTED, few_shot))
    manifest = context.inputs["splits"].manifest.model_copy(update={"summary": {"id": "a/m"}})
    inputs = {**context.inputs, "base": Artifact(context.inputs["splits"].path, manifest)}
    services = replace(context.services, chat=lambda name: FakeChat(str, model=name))
    context = replace(context, inputs=inputs, services=services)
    assert judge_relation(context, "m", ("tuned", "gpt")) == JudgeRelation("base", "tuned")
    assert judge_relation(context, "m", ("tuned", "tuned 2-shot")) == JudgeRelation("base", "")
    assert judge_relation(context, "gpt", ("tuned", "gpt")) == JudgeRelation("itself", "gpt")
    assert judge_relation(context, "neutral", ("tuned", "gpt")) == JudgeRelation()


def test_a_label_that_begins_with_a_blank_is_that_label():
    task = LabelsTask(type="labels", labels=("1", "2"), ordered=True)
    asked = example("별로예요", " 1")
    predictions = [
        grade_prediction(asked, "test", system, answer, task=task)
        for system, answer in (("base", "2"), ("tuned", "1"))
    ]
    assert [p.right for p in predictions] == [False, True]
    base, tuned = label_results(predictions, task)
    assert (base.accuracy, tuned.accuracy) == (0, 1)
    slices = [s for s in slice_predictions(predictions, task) if s.dimension == "label"]
    assert {s.value for s in slices} <= {"1"}


def general_file(folder, lines):
    path = folder / "general.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "invalid JSON"),
        ('{"text": ""}', "neither a text nor a question"),
        ('{"question": "q"}', "neither a text nor a question"),
        ("[1]", "neither a text nor a question"),
    ],
)
def test_a_wrong_line_of_the_general_material_is_named(tmp_path, line, problem):
    path = general_file(tmp_path, ['{"text": "fine"}', "", line])
    with pytest.raises(DataError, match=rf"general\.jsonl:3: {problem}"):
        read_general(path)


def test_forgetting_is_the_change_of_log_loss_against_the_base():
    texts = ["a" * 10, "b" * 20, "c"]
    base = [(10.0, 5), (20.0, 10), (0.0, 0)]
    tuned = [(15.0, 5), (20.0, 10), (0.0, 0)]
    row = forgetting_result("tuned", texts, tuned, base, [True, False], [True, True], 0)
    assert row.perplexity == pytest.approx(math.exp(35 / 15))
    assert row.bits_per_character == pytest.approx(35 / math.log(2) / 30)
    assert row.log_loss_change == pytest.approx(0.5)
    assert (row.questions, row.right, row.p_value) == (2, 0.5, 1)
    none = forgetting_result("tuned", [], [], [], [], [], 0)
    assert none.perplexity is None
    assert none.right is None


@pytest.mark.slow
def test_a_tuned_model_is_held_against_its_base_on_general_texts(context_of, tmp_path):
    general_file(
        tmp_path,
        [
            '{"text": "회사의 모든 직원은 서로 존중한다."}',
            '{"question": "수도는?", "answer": "서울"}',
        ],
    )
    models = {}
    for name in ("base", "model"):
        make_starter(
            tmp_path / name / "model",
            ["회사의 규칙", "직원은 존중한다"],
            size="0.5M",
            vocabulary_size=300,
            context_length=64,
            seed=len(models),
        )
        models[name] = make_artifact(tmp_path / name)
    context = context_of(
        systems=("base", "tuned"), max_new_tokens=2, seen_limit=1,
        forgetting={"type": "file", "path": "general.jsonl"},
    )  # fmt: skip
    run(replace(context, inputs={**context.inputs, **models}))
    base, tuned = read_table(context.workspace / "forgetting.parquet", ForgettingResult)
    assert (base.system, base.log_loss_change, base.questions) == ("base", 0, 1)
    assert base.perplexity > 1
    assert tuned.log_loss_change == pytest.approx(
        math.log(tuned.perplexity) - math.log(base.perplexity)
    )
    assert tuned.log_loss_change != 0


def test_slices_call_nothing_significant_that_unclear_answers_could_turn():
    def graded(system, number, **fields):
        asked = example(f"{number:02}번 규정", "8회", source=f"{number % 2}.md")
        row = grade_prediction(asked, "test", system, "8회")
        return row.model_copy(update=fields)

    base = [graded("base", n, right=False, unclear=n % 6 in (0, 4)) for n in range(24)]
    rows = base + [graded("tuned", n) for n in range(24)]
    even, odd = [
        s for s in slice_predictions(rows, DEFAULT_TASK)
        if s.system == "tuned" and s.dimension == "document"
    ]  # fmt: skip
    assert (even.value, even.p_holm, even.p_unclear) == ("0.md", 4 / 2**12, 2 / 2**4)
    assert (even.hangs_on_unclear, odd.hangs_on_unclear) == (True, False)
    assert odd.p_unclear is None
