"""What a run tells its trackers; event files are read back with TensorBoard's own reader."""

import importlib.util
import json

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jangin.core.errors import ConfigError
from jangin.project import tracked
from jangin.project.file import Project, open_project
from jangin.project.tracked import parameters
from jangin.project.tracking.table import config_of
from tests.project.tracking.conftest import PROJECT, STEPS


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Trackers have a low priority: beside busy tests, importing one can take minutes."""
    monkeypatch.setattr(tracked, "_PATIENCE_SECONDS", 250.0)


@pytest.mark.slow
def test_a_run_is_in_the_event_files_with_its_settings_metrics_and_results(tracking, tmp_path):
    assert tracking(["tensorboard"]) == []
    (run,) = (tmp_path / "store" / "tensorboard").iterdir()
    assert run.name == "main-sft-abababab"
    read = EventAccumulator(str(run))
    read.Reload()
    sent = [(event.step, event.wall_time, event.value) for event in read.Scalars("train_loss")]
    assert sent == [(step, 100.0 + step, pytest.approx(3 / step)) for step in STEPS]
    for name in ("valid_loss", "learning_rate", "tokens_per_second"):
        assert len(read.Scalars(name)) == len(STEPS), name
    (low,) = read.Scalars("evaluate/test/tuned/right_low")
    assert low.value == pytest.approx(0.53)
    shown = [
        read.Tensors(name)[0].tensor_proto.string_val[0].decode()
        for name in ("parameters", "results")
    ]
    assert "| sft.learning_rate | 0.001 |" in shown[0]
    assert "| split.test | 0.2 |" in shown[0]
    assert "| test | tuned | 20 | 0.75 | 0.53 | 0.89 |" in shown[1]


@pytest.mark.slow
def test_what_a_tracker_cannot_take_is_kept_and_sent_by_the_next_run(tracking, tmp_path):
    folder = tmp_path / "events"
    folder.write_text("a file where the folder should be")
    said = tracking([{"type": "tensorboard", "folder": str(folder)}])
    assert len(said) == 2
    assert "next `jangin run` sends the rest" in said[1]
    folder.unlink()
    assert tracking([{"type": "tensorboard", "folder": str(folder)}]) == []
    assert list(folder.iterdir())


def test_a_missing_package_stops_nothing_and_names_the_pip_extra(tracking):
    kinds = ("trackio", "wandb", "mlflow")
    kind = next((k for k in kinds if not importlib.util.find_spec(config_of(k).package)), None)
    if kind is None:
        pytest.skip("all trackers are installed here")
    (said,) = tracking([kind])
    assert f"pip install 'jangin[{kind}]'" in said


@pytest.mark.parametrize("wrong", ["mlfow", {"type": "mlfow"}, {"type": "mlflow", "url": "x"}])
def test_an_unknown_tracker_or_setting_is_named_with_its_line(tmp_path, wrong):
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(PROJECT | {"track": [wrong]}, sort_keys=False))
    with pytest.raises(ConfigError, match=r"project\.yaml:\d+: track") as error:
        open_project(path)
    assert "mlflow" in str(error.value) or "uri" in str(error.value)


def test_parameters_hold_settings_but_no_addresses_and_no_later_stages():
    given = PROJECT | {
        "teachers": {
            "w": {
                "type": "endpoint",
                "model": "m",
                "base_url": "http://u:p@h/v1",
                "key_variable": "K",
            }
        }
    }
    told = parameters(Project.model_validate_json(json.dumps(given)), "sft")
    assert told["teachers.w.model"] == "m"
    assert told["sft.method.type"] == "full"
    assert not any("p@h" in str(value) for value in told.values())
    assert not any(name.startswith("evaluate") for name in told)
