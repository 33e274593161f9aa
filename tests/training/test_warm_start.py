"""The stage that takes a tuned model from elsewhere."""

import pytest

from jangin.core.errors import ConfigError
from jangin.core.stage import Services, StageContext
from jangin.training.warm_start import STAGE, WarmStartConfig


def context(tmp_path, path):
    workspace = tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    config = WarmStartConfig(path=path)
    return StageContext(config, {}, workspace, Services(tmp_path, None, None))


@pytest.mark.parametrize(
    ("part", "config"), [("model", "config.json"), ("adapter", "adapter_config.json")]
)
def test_the_files_of_a_tuned_model_are_linked_and_identify_it(tmp_path, part, config):
    tuned = tmp_path / "tuned" / part
    tuned.mkdir(parents=True)
    (tuned / config).write_text("{}")
    (tuned / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "tuned" / "metrics.jsonl").write_text("")
    one = context(tmp_path, tmp_path / "tuned")
    assert set(STAGE.sources(one.config, tmp_path)) == {config, "weights.safetensors"}
    STAGE.run(one)
    linked = one.workspace / part / "weights.safetensors"
    assert linked.samefile(tuned / "weights.safetensors")
    STAGE.run(one)
    assert linked.read_bytes() == b"weights"


@pytest.mark.slow
def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"empty holds no tuned model.*models: warm_start: path"):
        STAGE.sources(WarmStartConfig(path="empty"), tmp_path)
