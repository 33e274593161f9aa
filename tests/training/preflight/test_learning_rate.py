"""`learning_rate: auto`: the rate by method and size of the base, and its part in cache keys."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from jangin.core.errors import ConfigError
from jangin.core.events import Progress
from jangin.core.store import Artifact
from jangin.project.file import open_project
from jangin.project.plan import inputs_of, key_of
from jangin.training.continue_sft import STAGE as CONTINUE
from jangin.training.continue_sft import ContinueSftConfig
from jangin.training.dpo import STAGE as DPO
from jangin.training.dpo import DpoConfig
from jangin.training.preflight.learning_rate import auto_rate, with_rate
from jangin.training.pretrain import STAGE as PRETRAIN
from jangin.training.pretrain import PretrainConfig
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig
from tests.conftest import make_manifest

SIZES = {
    "starter": (128, 4, 4096),
    "270M": (1024, 16, 65_536),
    "1B": (2048, 16, 128_256),
    "8B": (4096, 32, 128_256),
    "70B": (8192, 80, 128_256),
}
STAGES = (
    (SFT, SftConfig, 2e-4),
    (CONTINUE, ContinueSftConfig, 2e-4),
    (PRETRAIN, PretrainConfig, 1e-4),
    (DPO, DpoConfig, 5e-6),
)


@pytest.fixture
def base(tmp_path):
    def make(size):
        hidden, layers, vocabulary = SIZES[size]
        folder = tmp_path / size / "model"
        folder.mkdir(parents=True, exist_ok=True)
        heads = hidden // 64
        config = {
            "model_type": "llama", "hidden_size": hidden, "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocabulary,
            "num_key_value_heads": heads, "tie_word_embeddings": True,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        return folder.parent

    return make


@pytest.mark.parametrize(
    ("kind", "method", "rates"),
    [
        (SftConfig, "full", [2e-4, 5e-5, 2e-5, 1e-5, 1e-5]),
        (SftConfig, "lora", [2e-4, 2e-4, 2e-4, 2e-4, 1e-4]),
        (SftConfig, "qlora", [2e-4, 2e-4, 2e-4, 2e-4, 1e-4]),
        (PretrainConfig, "full", [1e-4, 5e-5, 2e-5, 1e-5, 1e-5]),
        (DpoConfig, "full", [5e-6, 1e-6, 5e-7, 5e-7, 5e-7]),
        (DpoConfig, "lora", [5e-6] * 5),
    ],
)
def test_the_rate_fits_the_method_and_falls_with_the_size_of_the_base(base, kind, method, rates):
    config = kind(method={"type": method})
    assert [auto_rate(config, base(size)) for size in SIZES] == rates


def test_a_family_of_unknown_sizes_is_trained_like_the_largest(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "new"}))
    assert auto_rate(SftConfig(), tmp_path) == 1e-5


def test_a_derived_rate_is_reported_and_a_given_one_is_kept(base):
    progress = Progress()
    assert with_rate(SftConfig(learning_rate=3e-4), base("270M"), progress).rate == 3e-4
    assert with_rate(SftConfig(), base("starter"), progress).rate == 2e-4
    assert progress.messages == []
    assert with_rate(SftConfig(), base("270M"), progress).learning_rate == 5e-5
    (line,) = progress.messages
    assert "5e-05" in line
    assert "`learning_rate`" in line


def key(stage, config, base, services):
    manifest = make_manifest(content="same for all")
    kinds = {kind: Artifact(base, manifest) for kind in stage.reads}
    return key_of(stage, config, inputs_of(stage, config, kinds, services))


@pytest.mark.parametrize(("stage", "kind", "old_default"), STAGES)
def test_a_starter_keeps_its_key_and_a_pretrained_base_gets_one_for_its_rate(
    base, make_context, stage, kind, old_default
):
    services = make_context(kind(), {}).services
    fixed = kind(learning_rate=old_default)
    assert kind().identity() == fixed.identity()
    assert key(stage, kind(), base("starter"), services) == key(
        stage, fixed, base("starter"), services
    )
    keys = {
        key(stage, kind(), base("270M"), services), key(stage, kind(), base("8B"), services),
        key(stage, fixed, base("8B"), services),
    }  # fmt: skip
    assert len(keys) == 3
    assert key(stage, fixed, base("270M"), services) == key(stage, fixed, base("8B"), services)


def test_a_rate_is_a_positive_number_or_auto():
    for wrong in (0, -1e-4, "fast"):
        with pytest.raises(ValidationError):
            SftConfig(learning_rate=wrong)


def test_a_mistaken_rate_is_one_sentence_with_its_line(tmp_path):
    file = Path(tmp_path) / "project.yaml"
    file.write_text("name: x\nmodels:\n  sft:\n    learning_rate: fast\n")
    with pytest.raises(ConfigError) as raised:
        open_project(file)
    lines = [line for line in str(raised.value).splitlines() if "learning_rate" in line]
    assert len(lines) == 1
    assert f"{file}:4: models.sft.learning_rate: " in lines[0]
    assert "'fast'" in lines[0]
