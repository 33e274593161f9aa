"""Models of the project behind another engine; answers of servers that may change their weights."""

from dataclasses import replace
from functools import partial

import pytest

from jangin.core.errors import MachineError
from jangin.core.parquet import read_table
from jangin.core.records import Example, Message, SplitExample
from jangin.core.stage import ShortTuning, SilentProgress
from jangin.evaluation.evaluate import STAGE, EvaluateConfig
from jangin.evaluation.systems.hosted import is_near, own_scope
from jangin.evaluation.tasks.prediction import Prediction
from jangin.llm.ask import CachedChat
from jangin.llm.endpoint import EndpointChat
from jangin.models.starter import make_starter
from jangin.training.short_tuning import tune_briefly
from tests.evaluation.conftest import artifact
from tests.llm.engines.stand_in import make_python

FACTS = {f"{topic} 담당은?": f"{topic}팀" for topic in ("연차", "병가", "출장")}


def rows():
    return [
        SplitExample(
            example=Example.make(
                (Message(role="user", content=question),),
                Message(role="assistant", content=answer),
                kind="original",
            ),
            split="train",
        )
        for question, answer in FACTS.items()
    ]


@pytest.fixture
def models(tmp_path):
    """Artifacts of a base and of an adapter on it."""
    make_starter(
        tmp_path / "base" / "model", [*FACTS, *FACTS.values()],
        size="0.5M", vocabulary_size=400, context_length=64, seed=0,
    )  # fmt: skip
    examples = [row.example for row in rows()]
    request = ShortTuning(tmp_path / "base", examples, 2, 3, "lora", 0, tmp_path / "tuned")
    tune_briefly(request, SilentProgress())
    return {"base": artifact(tmp_path / "base"), "model": artifact(tmp_path / "tuned")}


def predictions(stage_context, models, name, **settings):
    config = EvaluateConfig(systems=("tuned",), max_new_tokens=6, **settings)
    context = stage_context(config, rows(), name)
    context = replace(context, inputs={**context.inputs, **models})
    STAGE.run(context)
    table = read_table(context.workspace / "predictions.parquet", Prediction)
    return {row.question: (row.prediction, row.finished) for row in table}


@pytest.mark.slow
def test_an_engine_serves_the_merged_adapter_and_answers_as_this_process_does(
    stage_context, models, tmp_path
):
    (tmp_path / "venv").mkdir()
    engine = {"type": "vllm", "python": make_python(tmp_path / "venv")}
    local = predictions(stage_context, models, "local")
    assert predictions(stage_context, models, "vllm", engine=engine) == local
    assert (tmp_path / "vllm" / "journal" / "served" / "tuned" / "config.json").exists()


def test_an_engine_that_is_not_installed_is_known_as_soon_as_there_are_questions(
    stage_context,
):
    config = EvaluateConfig(engine={"type": "vllm", "python": "nowhere/python"})
    with pytest.raises(MachineError, match=r"nowhere/python"):
        STAGE.check(stage_context(config, rows()))


def test_an_evaluation_without_an_engine_keeps_its_key():
    assert "engine" not in EvaluateConfig().identity()
    assert "engine" not in EvaluateConfig(engine={"type": "local"}).identity()
    one, two = (
        EvaluateConfig(engine={"type": "vllm", "python": python}).identity()["engine"]
        for python in ("a/python", "b/python")
    )
    assert one == two


@pytest.fixture
def hosted(ledger):
    def make(base_url, **settings):
        return CachedChat(EndpointChat(model="m", base_url=base_url, **settings), ledger)

    return make


def test_a_server_near_by_answers_each_evaluation_anew_unless_it_has_a_revision(hosted):
    notes = []
    scoped = partial(own_scope, notify=notes.append)
    near = hosted("http://localhost:8000/v1")
    one, two = scoped(near, "first"), scoped(near, "second")
    assert len({near.source, one.source, two.source}) == 3
    assert one.source == scoped(near, "first").source
    assert "http://localhost:8000/v1" in notes[0]
    assert "`revision`" in notes[0]
    notes.clear()
    revised = hosted("http://localhost:8000/v1", revision="3")
    assert scoped(revised, "first").source == scoped(revised, "second").source == revised.source
    assert "http://localhost:8000/v1" in revised.source
    assert revised.source != hosted("http://localhost:8000/v1", revision="4").source
    far = hosted("https://api.openai.com/v1")
    assert scoped(far, "first").source == far.source == ""
    assert notes == []


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://localhost:8000/v1", True), ("http://127.0.0.1/v1", True),
        ("http://192.168.0.7:8000/v1", True), ("http://gpu1:8000/v1", True),
        ("http://[::1]:8000/v1", True), ("http://box.local/v1", True),
        ("https://api.openai.com/v1", False), ("http://8.8.8.8/v1", False),
    ],
)  # fmt: skip
def test_servers_of_this_machine_or_network_are_near(url, near):
    assert is_near(url) == near
