import json

import pytest
from pydantic import TypeAdapter

from jangin.core.errors import ConfigError, MachineError
from jangin.core.events import Progress
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.llm.ask import CachedChat, ask_all, budget_of
from jangin.llm.batch_api import BatchChat
from jangin.llm.budget import SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.prices import FREE, Price
from jangin.llm.recorded import RecordingChat
from jangin.models.starter import make_starter
from jangin.project.teachers import Teacher, TeacherRegistry, open_endpoint, open_teacher
from tests.forked import wait_until_ended
from tests.llm.engines.stand_in import make_python

URL = "http://127.0.0.1:1/v1"
OPENAI = "https://api.openai.com/v1"
LUNA = "gpt-6-luna"
FLEX = {"parameters": {"service_tier": "flex"}}
LITELLM = {
    "sample_spec": {"litellm_provider": "one of https://docs.litellm.ai/docs/providers"},
    LUNA: {
        "litellm_provider": "openai",
        "input_cost_per_token": 1.1e-7,
        "output_cost_per_token": 5.1e-7,
        "input_cost_per_token_flex": 6e-8,
        "output_cost_per_token_flex": 2.6e-7,
    },
    "g": {"litellm_provider": "vertex", "input_cost_per_token": 1, "output_cost_per_token": 1},
    "gemini/g": {
        "litellm_provider": "gemini",
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 2e-6,
        "cache_read_input_token_cost": 1e-7,
        "cache_creation_input_token_cost": 1.25e-6,
    },
}
"""Rows in the form of litellm's model_prices_and_context_window.json."""


def teacher(**fields):
    address = {} if "provider" in fields else {"base_url": URL}
    given = {"type": "endpoint", "model": "m", **address, **fields}
    return TypeAdapter(Teacher).validate_python(given)


@pytest.fixture
def registry(tmp_path, ledger):
    def make(limit=None, **fields):
        return TeacherRegistry(tmp_path, ledger, Progress(), SpendingLimit(limit), **fields)

    return make


def test_every_setting_of_a_teacher_reaches_the_client():
    given = {
        "key_variable": "K",
        "structured": "none",
        "timeout_seconds": 7.0,
        "retries": 3,
        "parameters": {"top_p": 0.5},
        "length_name": "max_completion_tokens",
        "stream": True,
        "context_tokens": 9,
        "tokens_per_character": 1.5,
        "requests_per_minute": 60.0,
        "tokens_per_minute": 600.0,
        "patience_seconds": 8.0,
        "largest_reply_bytes": 5000,
    }
    client = open_endpoint(teacher(**given, concurrency=5))
    assert {name: getattr(client, name) for name in given} == given
    assert client.max_concurrency == 5


def test_only_what_changes_replies_is_identity():
    fields = teacher(parameters={"top_p": 0.5}, price=FREE, stream=True).identity()
    assert fields == {"type": "endpoint", "model": "m", "parameters": {"top_p": 0.5}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"base_url": OPENAI, "model": LUNA}, (0.1, 0.5)),
        ({"base_url": OPENAI, "model": LUNA, "mode": "batch"}, (0.05, 0.25)),
        ({"provider": "openai", "model": LUNA}, (0.1, 0.5)),
        ({**FLEX, "base_url": OPENAI, "model": LUNA}, (0.05, 0.25)),
        ({"parameters": {"service_tier": "priority"}, "base_url": OPENAI, "model": LUNA}, None),
        ({"base_url": OPENAI, "model": "unheard-of"}, None),
        ({"provider": "ollama", "model": "qwen3"}, (0, 0)),
        ({"provider": "openai", "model": LUNA, "price": "prices.json"}, (0.11, 0.51)),
        ({**FLEX, "provider": "openai", "model": LUNA, "price": "prices.json"}, (0.06, 0.26)),
        ({"provider": "gemini", "model": "g", "price": "prices.json"}, (1, 2)),
        ({"price": {"input_usd_per_million": 1, "output_usd_per_million": 2}}, (1, 2)),
    ],
)
def test_the_price_is_the_one_set_or_the_known_one_at_half_for_batches(fields, expected, tmp_path):
    (tmp_path / "prices.json").write_text(json.dumps(LITELLM))
    price = teacher(**fields).known_price(tmp_path)
    if expected is None:
        assert price is None
    else:
        assert (price.input_usd_per_million, price.output_usd_per_million) == expected


def test_an_endpoint_is_paid_out_of_the_budget_by_name(registry):
    price = Price(input_usd_per_million=1, output_usd_per_million=2)
    at = registry(5)
    chat = open_teacher("writer", teacher(price=price), at)
    budget = budget_of(chat)
    assert (budget.teacher, budget.price) == ("writer", price)
    assert budget.limit is at.budget
    assert isinstance(chat.inner, EndpointChat)
    assert chat.inner.on_lost == chat.charge_lost


def test_a_batch_teacher_is_one_and_knows_whom_to_tell(registry):
    chat = open_teacher("writer", teacher(mode="batch", poll_seconds=3), registry())
    assert isinstance(chat.inner, BatchChat)
    assert chat.inner.poll_seconds == 3
    assert chat.inner.on_resumed == chat.uncount_resumed


def test_a_budget_without_a_price_is_told(registry):
    with pytest.raises(ConfigError, match="price of model 'm'"):
        open_teacher("writer", teacher(), registry(5))
    assert open_teacher("writer", teacher(), registry()).model == "m"


def test_a_recorded_teacher_is_free_and_records_from_its_endpoint(registry, tmp_path):
    (tmp_path / "r.jsonl").write_text("")
    recorded = TypeAdapter(Teacher).validate_python(
        {"type": "recorded", "model": "m", "replies": "r.jsonl"}
    )
    assert budget_of(open_teacher("w", recorded, registry(5))).price == FREE
    with pytest.raises(ConfigError, match="has no endpoint to record from"):
        open_teacher("w", recorded, registry(record=True))
    live = recorded.model_copy(update={"record_from": teacher()})
    chat = open_teacher("w", live, registry(record=True))
    assert isinstance(chat, RecordingChat)
    assert isinstance(chat.inner, CachedChat)


def test_a_model_in_this_process_is_told_when_its_folder_holds_none(registry):
    given = {"type": "model", "base": {"type": "local", "path": "nowhere"}}
    with pytest.raises(ConfigError, match=r"nowhere .*config.json"):
        open_teacher("w", TypeAdapter(Teacher).validate_python(given), registry())


def vllm_teacher(tmp_path, *arguments, with_vllm=True):
    """A teacher whose model, in the folder `teacher`, a vLLM server serves."""
    folder = tmp_path / "venv"
    if not folder.exists():
        folder.mkdir()
        make_python(folder, with_vllm=with_vllm)
    engine = {"type": "vllm", "python": "venv/python", "arguments": arguments}
    base = {"type": "local", "path": "teacher"}
    return TypeAdapter(Teacher).validate_python({"type": "model", "base": base, "engine": engine})


@pytest.mark.slow
def test_a_teacher_behind_vllm_starts_is_asked_stops_and_is_asked_anew_with_other_weights(
    registry, tmp_path
):
    asked = ("연차는 며칠인가요?", "병가는 며칠인가요?")
    pids = tmp_path / "pids"

    def replies(seed):
        """(replies, processes of the server): with weights of this seed."""
        pids.unlink(missing_ok=True)
        folder = tmp_path / "teacher"
        make_starter(
            folder, list(asked), size="0.5M", vocabulary_size=300, context_length=128, seed=seed
        )
        # What the server answers from its weights is proven in `llm/engines/test_served_chat`.
        options = ("--stand-in-child", str(pids), "--stand-in-says", "15일")
        chat = open_teacher("t", vllm_teacher(tmp_path, *options), registry())
        requests = [
            ChatRequest(
                model=chat.model, messages=(Message(role="user", content=each),), max_tokens=4
            )
            for each in asked
        ]
        got = {}
        ask_all(chat, requests, 2, got.__setitem__)
        return got, pids.read_text().split() if pids.exists() else []

    first, processes = replies(0)
    assert all(isinstance(reply, ChatReply) for reply in first.values()), first
    assert len(processes) == 2
    wait_until_ended(processes)
    assert replies(0) == (first, [])
    _, processes = replies(1)
    assert processes
    wait_until_ended(processes)


def test_a_teacher_behind_vllm_that_is_not_installed_is_one_sentence(registry, tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text("{}")
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"weights")
    teacher = vllm_teacher(tmp_path, with_vllm=False)
    with pytest.raises(MachineError, match=r"not installed for .*venv/python.*pip install vllm"):
        open_teacher("t", teacher, registry())
