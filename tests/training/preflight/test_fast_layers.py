import json

import pytest

from jangin.training.loop.config import TrainingKeys
from jangin.training.preflight import memory
from jangin.training.preflight.memory import TrainingLoad, cost_of, fast_packages, slow_layers_note

SIZES = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "vocab_size": 300, "dtype": "float32",
}  # fmt: skip


def base_of(tmp_path, family):
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "config.json").write_text(json.dumps(SIZES | {"model_type": family}))
    return tmp_path


@pytest.mark.parametrize(
    ("family", "packages"),
    [
        ("qwen3_next", ("causal_conv1d", "fla")),
        ("qwen3_5_text", ("causal_conv1d", "fla")),
        ("granitemoehybrid", ("causal_conv1d", "mamba_ssm")),
        ("lfm2", ("causal_conv1d",)),
        ("llama", ()),
        ("unknown", ()),
    ],
)
def test_the_packages_are_those_that_transformers_falls_back_from(family, packages):
    assert fast_packages(family) == packages


def test_the_plan_of_a_hybrid_on_a_gpu_says_what_to_install_and_no_other_does(
    tmp_path, monkeypatch
):
    work = TrainingLoad([20, 30], 0.5, "sft")

    def planned(family):
        return cost_of(base_of(tmp_path, family), TrainingKeys(), work).text

    assert "pip install" not in planned("qwen3_next")
    monkeypatch.setattr(memory, "has_cuda", lambda: True)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 80 * memory.GIB)
    install = "pip install causal-conv1d flash-linear-attention"
    assert install in planned("qwen3_next")
    assert "pip install" not in planned("llama")


def test_what_is_installed_is_not_named(tmp_path, monkeypatch):
    (tmp_path / "fla").mkdir()
    (tmp_path / "fla" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    note = slow_layers_note(base_of(tmp_path, "qwen3_next"))
    assert "causal-conv1d" in note
    assert "flash-linear-attention" not in note
