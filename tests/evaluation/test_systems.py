"""A system of one class and one row, taken from the project file's settings to the reports."""

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
from pydantic import ValidationError

from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Chunk, Example, Message, SplitExample
from jangin.evaluation.evaluate import STAGE, EvaluateConfig
from jangin.evaluation.grounded import Grounding
from jangin.evaluation.results import Comparison, Result
from jangin.evaluation.systems import table
from jangin.evaluation.systems.local import FormExamples, examples_before
from jangin.evaluation.systems.system import MODEL_KINDS, SystemAnswer, SystemConfig
from jangin.evaluation.systems.table import SYSTEMS, is_trained, system_type, uses_language_model
from jangin.llm.ask import CachedChat
from jangin.models.starter import make_starter
from jangin.report.data.results import collect_results
from jangin.report.data.verdict import judge
from jangin.report.i18n.translate import Words
from tests.conftest import make_artifact

WORDS = ("기러기", "토마토", "연차", "병가", "출장", "경조금")
BASELINE = {"type": "baseline", "method": "constant"}


class Reverser:
    def answer(self, prompts):
        for index, prompt in enumerate(prompts):
            yield {index: SystemAnswer(prompt[-1].content[::-1], finished=True)}


class ReversedConfig(SystemConfig):
    """Answers with the question reversed."""

    labels_without_model: ClassVar[tuple[str, ...]] = ("reversed",)

    type: Literal["reversed"]

    @property
    def label(self):
        return "reversed"

    def open(self, inputs):
        assert inputs.max_new_tokens == 48
        return Reverser()


class EchoConfig(SystemConfig):
    """Asks an endpoint and a local model's artifacts, for the plan."""

    type: Literal["echo"]

    @property
    def label(self):
        return "tuned echo"

    @property
    def local_model(self):
        return "tuned"

    @property
    def endpoint(self):
        return "gpt"

    @property
    def artifacts(self):
        return ("chunks",)

    @property
    def prompts(self):
        return ("retrieval",)

    def open(self, inputs):
        raise NotImplementedError


@pytest.fixture
def config_type(monkeypatch):
    """The settings of `evaluate` as its module makes them when the table has two more rows."""
    monkeypatch.setattr(table, "SYSTEMS", (*SYSTEMS, ReversedConfig, EchoConfig))

    class WithToys(EvaluateConfig):
        systems: tuple[system_type(), ...] = ("base", "tuned")

    return WithToys


def rows():
    return [
        SplitExample(
            example=Example.make(
                (Message(role="user", content=word),),
                Message(role="assistant", content=word[::-1]),
                kind="original",
                source="규정.md",
            ),
            split=split,
        )
        for split, words in (("train", ("사과", "배")), ("test", WORDS))
        for word in words
    ]


def test_a_system_of_one_class_and_one_row_is_asked_graded_and_compared(config_type, stage_context):
    config = config_type(systems=(BASELINE, {"type": "reversed"}), seen_limit=0)
    context = stage_context(config, rows())
    STAGE.run(context)
    results = read_table(context.workspace / "results.parquet", Result)
    assert [(r.system, r.evidence_set, r.n, r.right) for r in results] == [
        ("constant", "test", 6, 0),
        ("reversed", "test", 6, 1),
    ]
    (compared,) = read_table(context.workspace / "comparisons.parquet", Comparison)
    assert (compared.b, compared.only_b, compared.p_value) == ("reversed", 6, 2 / 2**6)
    evaluation = replace(context.inputs["splits"], folder=context.workspace)
    rows_shown = collect_results({"a": {"evaluate": evaluation}}).rows
    assert [(row["p_value"], row["p_against"]) for row in rows_shown] == [
        (None, "constant"),
        (2 / 2**6, "constant"),
    ]
    assert STAGE.cost(context).calls == 0
    assert "6 questions" in STAGE.cost(context).text
    assert "constant, reversed" in STAGE.cost(context).text


def test_reports_take_a_system_without_a_model_for_a_baseline(config_type, stage_context):
    context = stage_context(config_type(systems=({"type": "reversed"},)), rows())
    STAGE.run(context)
    assert not uses_language_model("reversed")
    assert uses_language_model("tuned echo")
    evaluations = dict.fromkeys(("a", "b"), context.inputs["splits"])
    evaluations = {name: replace(e, folder=context.workspace) for name, e in evaluations.items()}
    results = collect_results({name: {"evaluate": e} for name, e in evaluations.items()})
    assert {(row["system"], row["variant"]) for row in results.rows} == {("reversed", "(any)")}
    assert judge(results, evaluations, Words("en")).tone == "none"


def test_plan_and_artifacts_of_a_system_come_from_its_settings(config_type, stage_context):
    config = config_type(systems=({"type": "echo"},), seen_limit=0)
    assert STAGE.wants(config) == ("base", "chunks", "model")
    assert STAGE.teachers(config) == ("gpt",)
    assert STAGE.prompts(config) == ("retrieval",)
    assert STAGE.cost(stage_context(config, rows())).calls == len(WORDS)


def test_settings_of_a_row_are_checked_like_any_other(config_type):
    with pytest.raises(ValidationError, match=r"reversed\.speed"):
        config_type(systems=({"type": "reversed", "speed": 2},))
    with pytest.raises(ValidationError, match="reversed"):
        EvaluateConfig(systems=({"type": "reversed"},))
    plain = config_type(systems=({"type": "reversed"}, "base")).identity()
    assert plain["systems"] == [{"type": "reversed"}, "base"]


def test_trained_models_are_known_by_the_begin_of_a_label():
    assert [m for m in MODEL_KINDS if is_trained(f"{m} 4-shot")] == ["sft", "tuned"]


def test_every_kind_names_itself_and_what_answers_in_its_label():
    types = [row.model_fields["type"].annotation.__args__[0] for row in SYSTEMS]
    assert types == ["few_shot", "retrieval", "hosted", "baseline"]
    settings = EvaluateConfig(
        systems=(
            "sft",
            {"type": "few_shot", "of": "tuned", "shots": 2},
            {"type": "few_shot", "selection": "similar"},
            {"type": "retrieval"},
            {"type": "retrieval", "of": "gpt"},
            {"type": "hosted", "teacher": "gpt"},
            BASELINE,
        )
    )
    assert [(s.label, s.local_model, s.endpoint) for s in settings.system_configs] == [
        ("sft", "sft", ""),
        ("tuned 2-shot", "tuned", ""),
        ("base 4-shot similar", "base", ""),
        ("base + retrieval", "base", ""),
        ("gpt + retrieval", None, "gpt"),
        ("gpt", None, "gpt"),
        ("constant", None, ""),
    ]
    assert settings.identity()["systems"][:3] == [
        "sft",
        {"type": "few_shot", "of": "tuned", "shots": 2},
        {"type": "few_shot", "of": "base", "shots": 4, "selection": "similar"},
    ]


def test_an_opened_endpoint_needs_no_local_model(stage_context):
    config = EvaluateConfig(systems=({"type": "hosted", "teacher": "gpt"},), seen_limit=0)
    fake = FakeChat(lambda request: request.messages[-1].content[::-1], model="m")
    context = stage_context(config, rows())
    services = replace(context.services, chat=lambda _: CachedChat(fake, context.services.ledger))
    STAGE.run(replace(context, services=services))
    (result,) = read_table(context.workspace / "results.parquet", Result)
    assert (result.system, result.right) == ("gpt", 1)


def test_a_hosted_model_gets_passages_before_the_question_and_examples_before_them(
    stage_context, tmp_path
):
    config = EvaluateConfig(systems=({"type": "retrieval", "of": "gpt"},), seen_limit=0)
    fake = FakeChat(lambda request: request.messages[-1].content[-3:][::-1], model="m")
    context = stage_context(config, rows())
    (tmp_path / "chunks").mkdir()
    texts = [f"{word}: {word[::-1]}" for word in WORDS]
    chunks = [
        Chunk(
            id=word, document_id="d", source="규정.md", text=text, start=0, end=len(text), page=1,
            section="",
        )
        for word, text in zip(WORDS, texts, strict=True)
    ]  # fmt: skip
    write_table(tmp_path / "chunks" / "chunks.parquet", Chunk, chunks)
    services = replace(context.services, chat=lambda _: CachedChat(fake, context.services.ledger))
    inputs = {**context.inputs, "chunks": make_artifact(tmp_path / "chunks")}
    context = replace(context, services=services, inputs=inputs)
    STAGE.run(context)
    assert len(fake.calls) == len(WORDS)
    for request in fake.calls:
        *before, asked = request.messages
        assert [turn.content for turn in before] == ["사과", "과사", "배", "배"] or [
            turn.content for turn in before
        ] == ["배", "배", "사과", "과사"]
        (word,) = [word for word in WORDS if asked.content.endswith(word)]
        assert f"{word}: {word[::-1]}" in asked.content
    (row,) = read_table(context.workspace / "grounding.parquet", Grounding)
    assert (row.system, row.n, row.known) == ("gpt + retrieval", 6, 0)


def example(question, answer):
    prompt = (Message(role="user", content=question),)
    return Example.make(prompt, Message(role="assistant", content=answer), kind="original")


FORM = {"systems": ({"type": "hosted", "teacher": "gpt"}, "base", "tuned")}


def test_base_and_hosted_see_examples_of_the_form_and_zero_keeps_the_old_identity():
    config = EvaluateConfig(**FORM)
    assert config.shown_examples == ["gpt", "base"]
    assert config.identity()["few_shot"] == 3
    none = EvaluateConfig(**FORM, few_shot=0)
    assert "few_shot" not in none.identity()
    for other in ({"systems": ("tuned",)}, {**FORM, "task": {"type": "numbers"}}):
        assert "few_shot" not in EvaluateConfig(**other).identity()
    shots = {"type": "hosted", "teacher": "gpt", "shots": 2}
    assert EvaluateConfig(systems=(shots,)).shown_examples == []


def test_retrieval_sees_the_examples_that_its_model_sees_and_only_then_is_evaluated_again():
    def identity(**settings):
        return EvaluateConfig(**settings).identity()

    mark = "examples_beside_passages"
    of_base, of_tuned = {"type": "retrieval"}, {"type": "retrieval", "of": "tuned"}
    assert EvaluateConfig(systems=("base", of_base, of_tuned)).shown_examples == [
        "base", "base + retrieval",
    ]  # fmt: skip
    assert identity(systems=(of_base,))[mark]
    assert identity(systems=(of_base,))["few_shot"] == 3
    for others in (("base", "tuned"), ("base", of_tuned)):
        assert mark not in identity(systems=others)
    assert mark not in identity(systems=("base", of_base), few_shot=0)
    assert mark not in identity(systems=(of_base,), task={"type": "numbers"})


def test_a_hosted_model_sees_the_form_but_no_example_that_asks_the_same(stage_context):
    taught = [
        f"{word}은 며칠 전에 신청하나요?" for word in ("연차", "병가", "출장", "교육", "휴직")
    ]
    table = [SplitExample(example=example(q, "3일"), split="train") for q in taught]
    table += [
        SplitExample(example=example(f"{q[:2]} 신청은?", "3일"), split="test") for q in taught
    ]
    config = EvaluateConfig(systems=({"type": "hosted", "teacher": "gpt"},), seen_limit=0)
    fake = FakeChat(lambda _request: "3일", model="m")
    context = stage_context(config, table)
    services = replace(context.services, chat=lambda _: CachedChat(fake, context.services.ledger))
    STAGE.run(replace(context, services=services))
    assert len(fake.calls) == 5
    for call in fake.calls:
        *shown, asked = call.messages
        assert [m.role for m in shown] == ["user", "assistant"] * 3
        assert not any(m.content.startswith(asked.content[:2]) for m in shown)
    assert context.summary["few_shot"] == {"gpt": 3}


def test_no_example_of_the_family_of_a_question_is_shown_before_it_however_unlike():
    def wording(question, family):
        answer = Message(role="assistant", content="1인당 35만 원")
        prompt = (Message(role="user", content=question),)
        return Example.make(prompt, answer, (), kind="original", family=family)

    train = [wording("종합건강검진 비용은 얼마까지 지원되나요?", "검진")]
    train += [wording(f"{name} 수당은 얼마인가요?", name) for name in ("식사", "야간", "자격")]
    asked = (Message(role="user", content="몸이 괜찮은지 살펴볼 때 나라는 얼마를 보태 줍니까?"),)
    shown = FormExamples(train, 3, 0, {asked: "검진"}).before(asked)
    assert sorted(shot.family for shot in shown) == ["식사", "야간", "자격"]
    assert "검진" in [shot.family for shot in FormExamples(train, 4, 0).before(asked)]


def test_the_base_sees_as_many_examples_as_its_context_holds(tmp_path):
    make_starter(
        tmp_path / "model", ["연차는 며칠인가요? 15일"], size="0.5M", vocabulary_size=300,
        context_length=96, seed=0,
    )  # fmt: skip
    train = [example(f"{n}번 {'긴 ' * 8}질문", f"{n}일") for n in range(4)]
    inputs = SimpleNamespace(
        models=SimpleNamespace(folders={"base": (tmp_path, None)}),
        train=train, families={}, few_shot=3, seed=0, max_new_tokens=8,
    )  # fmt: skip
    rewrite = examples_before("base", inputs)
    asked = (Message(role="user", content="왜?"),)
    longer = rewrite(asked)
    assert 1 < len(longer) < 7
    assert longer[-1:] == asked
    full = (Message(role="user", content="왜? " * 200),)
    assert rewrite(full) == full
    passages = (Message(role="user", content="자료. 왜?"),)
    with_passages = examples_before("base", inputs, lambda _prompt: passages)
    assert with_passages(asked) == (*longer[:-1], *passages)
