"""What an engine beside this process is given to load."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from jangin.core.records import Message
from jangin.inference.served_weights import served_model
from jangin.models.catalog import Local
from jangin.models.references import write_local_reference
from jangin.models.starter import make_starter
from jangin.models.tokens.rendering import render_texts

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
    assert command[command.index("--model") + 1] == "org/name"
    assert command[command.index("--revision") + 1] == "c" * 40
