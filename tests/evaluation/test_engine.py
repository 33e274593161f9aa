"""Models of the project behind another engine; answers of servers that may change their weights."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from jangin.core.errors import MachineError
from jangin.core.events import Progress
from jangin.core.parquet import read_table
from jangin.core.records import Example, Message, SplitExample
from jangin.core.stage import ShortTuning
from jangin.evaluation.evaluate import STAGE, EvaluateConfig
from jangin.evaluation.systems.hosted import is_near, own_scope
from jangin.evaluation.tasks.task import Prediction
from jangin.inference.served_weights import served_model
from jangin.llm.ask import CachedChat
from jangin.llm.endpoint import EndpointChat
from jangin.models.catalog import Local
from jangin.models.references import write_local_reference
from jangin.models.starter import make_starter
from jangin.models.tokens.rendering import render_texts
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig, tune_briefly
from tests.conftest import make_artifact
from tests.llm.engines.stand_in import make_python

VLLM = os.environ.get("JANGIN_VLLM", "")
FACTS = {f"{topic} 담당은?": f"{topic}팀" for topic in ("연차", "병가", "출장")}
LEARNED = {
    "연차는?": "15일",
    "병가는?": "진단서를 내고 30일까지",
    "주차권은?": "총무팀 창구",
    "회의실은?": "예약",
    "출장비는?": "하루 5만원, 숙박은 실비",
    "명함은?": "인사팀에 신청한다",
    "식대는?": "한 끼 9천원",
    "휴게실은?": "3층",
}


def rows(facts=FACTS):
    return [
        SplitExample(
            example=Example.make(
                (Message(role="user", content=question),),
                Message(role="assistant", content=answer),
                kind="original",
            ),
            split="train",
        )
        for question, answer in facts.items()
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
    tune_briefly(request, Progress())
    return {"base": make_artifact(tmp_path / "base"), "model": make_artifact(tmp_path / "tuned")}


def predictions(stage_context, models, name, facts=FACTS, **settings):
    config = EvaluateConfig(**{"systems": ("tuned",), "max_new_tokens": 6, **settings})
    context = stage_context(config, rows(facts), name)
    context = replace(context, inputs={**context.inputs, **models})
    STAGE.run(context)
    table = read_table(context.workspace / "predictions.parquet", Prediction)
    return {(row.system, row.question): (row.prediction, row.finished) for row in table}


@pytest.mark.slow
def test_an_engine_serves_the_merged_adapter_and_answers_as_this_process_does(
    stage_context, models, tmp_path
):
    (tmp_path / "venv").mkdir()
    engine = {"type": "vllm", "python": make_python(tmp_path / "venv")}
    local = predictions(stage_context, models, "local")
    assert predictions(stage_context, models, "vllm", engine=engine) == local
    assert (tmp_path / "vllm" / "journal" / "served" / "tuned" / "config.json").exists()


@pytest.fixture
def learned(tmp_path, stage_context):
    """Artifacts of a base and of an adapter that knows all of `LEARNED` by heart."""
    base = make_artifact(tmp_path / "base")
    make_starter(
        base.path / "model", [*LEARNED, *LEARNED.values()],
        size="0.5M", vocabulary_size=400, context_length=64, seed=0,
    )  # fmt: skip
    config = SftConfig(
        method={"type": "lora", "r": 16, "alpha": 32},
        learning_rate=1e-2,
        length={"type": "steps", "steps": 60},
        examples_per_step=len(LEARNED),
    )
    context = stage_context(config, rows(LEARNED), "tuned")
    SFT.run(replace(context, inputs={**context.inputs, "base": base}))
    return {"base": base, "model": make_artifact(context.workspace)}


@pytest.mark.skipif(not VLLM, reason="JANGIN_VLLM names no environment with vLLM")
@pytest.mark.timeout(1200)  # vLLM imports for minutes on a busy machine
def test_vllm_itself_answers_as_this_process_does(stage_context, learned, monkeypatch):
    """Base and tuned, on a CPU where there is no GPU; a cache of 1 GB is more than enough."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    arguments = ("--dtype", "float32", "--max-model-len", "64", "--enforce-eager")
    python = Path(VLLM).resolve() / "bin" / "python"
    engine = {"type": "vllm", "python": python, "arguments": arguments, "start_seconds": 1100}
    settings = {"facts": LEARNED, "systems": ("base", "tuned"), "max_new_tokens": 24}
    local = predictions(stage_context, learned, "local", **settings)
    served = predictions(stage_context, learned, "vllm", engine=engine, **settings)
    assert served == local
    tuned = {question: text for (system, question), (text, _) in local.items() if system == "tuned"}
    assert tuned == LEARNED


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


THINKS = (
    "{%- for m in messages %}{{ m.role }}: {{ m.content }}<|eot|>{% endfor %}"
    "{%- if add_generation_prompt %}assistant: {% if enable_thinking is not defined or "
    "enable_thinking %}<think>{% endif %}{% endif %}"
)


@pytest.fixture
def thinking_base(tmp_path):
    """A local base whose own template thinks, as the artifact of a project that does not."""
    weights, base = tmp_path / "weights", tmp_path / "base"
    make_starter(
        weights, ["What is due?"], size="0.5M", vocabulary_size=300, context_length=64, seed=0
    )
    (weights / "chat_template.jinja").write_text(THINKS)
    (base / "runtime").mkdir(parents=True)
    settings = Local(type="local", path=weights)
    location = base / "runtime" / "location.json"
    write_local_reference(base / "model", weights, location, settings, tmp_path)
    return weights, base


def test_a_base_is_served_with_the_weights_of_its_place_and_the_template_of_its_artifact(
    thinking_base, tmp_path
):
    weights, base = thinking_base
    served = served_model(base, None, tmp_path / "scratch")
    assert served.weights == str(weights)
    tokenizer = AutoTokenizer.from_pretrained(served.tokenizer)
    question = [Message(role="user", content="What is due?")]
    (text,) = render_texts(tokenizer, [question], ask=True)
    (own,) = render_texts(AutoTokenizer.from_pretrained(weights), [question], ask=True)
    assert own.endswith("<think>")
    assert "<think>" not in text


def test_a_hub_model_is_served_at_its_commit(tmp_path):
    (tmp_path / "model").mkdir()
    reference = {"type": "hub", "id": "org/name", "revision": "c" * 40}
    (tmp_path / "model" / "reference.json").write_text(json.dumps(reference))
    served = served_model(tmp_path, None, tmp_path / "scratch")
    command = served.command(Path("python"), "base", 1, [])
    assert "--trust-remote-code" not in command
    assert command[command.index("--model") + 1] == "org/name"
    assert command[command.index("--revision") + 1] == "c" * 40
    (tmp_path / "model" / "reference.json").write_text(
        json.dumps(reference | {"trust_remote_code": True})
    )
    trusted = served_model(tmp_path, None, tmp_path / "scratch")
    assert "--trust-remote-code" in trusted.command(Path("python"), "base", 1, [])
