"""The final model of a small project of table rows, end to end through the command line."""

from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import DataError
from jangin.core.parquet import read_table
from jangin.core.records import SplitExample
from jangin.core.store import Artifact
from jangin.examples.split import SplitConfig
from jangin.project.file import Examples, Models, Project
from jangin.project.release.finish import Twin, derive_final, final_session, open_twin
from jangin.project.session import open_session
from jangin.project.stages import row_trainers
from jangin.training.loop.config import EarlyStopping, Never, Steps, TrainingKeys
from tests.conftest import make_manifest
from tests.model_fixtures import PAIRS

pytestmark = pytest.mark.slow

TRAINING = {
    name: kind
    for name, field in Models.model_fields.items()
    for kind in get_args(field.annotation)
    if issubclass(kind, TrainingKeys)
}
"""{stage: its settings} of all that train, from the settings of the section `models`."""


def test_the_final_model_is_trained_on_all_rows_and_quotes_its_twin(project, tmp_path):
    out = tmp_path / "model"
    done = CliRunner().invoke(app, ["finish", str(out), "-p", str(project)])
    assert done.exit_code == 0, done.output
    card = (out / "README.md").read_text()
    assert f"all {len(PAIRS)} rows" in card
    assert "was not measured itself" in card
    assert "'main'" in card
    assert "| test | tuned |" in card
    assert "| Validation rows | 0 |" in card
    with open_session(project) as session:
        twin = open_twin(session, "main")
        final, name = final_session(session, twin, len(PAIRS))
        artifacts = final.artifacts(name)
        splits = read_table(artifacts["split"].path / "splits.parquet", SplitExample)
        assert {row.split for row in splits} == {"train"}
        assert len(splits) == len(PAIRS)
        for stage in ("read", "catalog"):
            assert artifacts[stage].path == twin.artifacts[stage].path
        # As many passes: the steps grow as the rows do.
        steps = artifacts["sft"].manifest.summary["steps"]
        assert steps == round(4 * len(PAIRS) / twin.trained)
        assert {step.state for step in final.plan(name)} == {"cached"}
    again = CliRunner().invoke(app, ["finish", str(out), "-p", str(project)])
    assert isinstance(again.exception, Exception)
    assert "exists already" in str(again.exception)


def test_a_plan_trains_nothing(project, tmp_path):
    options = ["finish", str(tmp_path / "m"), "--plan", "-p", str(project)]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert "sft" in done.output
    assert not (tmp_path / "m").exists()


def test_a_twin_that_kept_an_earlier_step_gives_fewer_passes(project):
    with open_session(project) as session:
        twin = open_twin(session, "main")
        settings = session.project.variants["main"]
        manifest = twin.artifacts["sft"].manifest
        summary = manifest.summary | {"kept_step": 2}
        changed = manifest.model_copy(update={"summary": summary})
        artifacts = dict(twin.artifacts)
        artifacts["sft"] = type(artifacts["sft"])(artifacts["sft"].path, changed)
        early = type(twin)(twin.variant, artifacts, twin.trained)
        final = derive_final(settings, early, 2 * twin.trained)
    assert final.models.sft.length == Steps(type="steps", steps=4)
    assert final.models.sft.keep == "last"
    assert final.models.evaluate is None


def test_a_variant_that_has_not_run_is_refused(project, tmp_path):
    with (
        open_session(project, tmp_path / "empty") as session,
        pytest.raises(DataError, match="has not run"),
    ):
        open_twin(session, "main")


def test_no_training_of_the_final_model_validates_and_those_on_rows_train_as_often():
    assert set(TRAINING) >= {"pretrain", "sft", "continue_sft", "dpo"}
    length = Steps(type="steps", steps=10)
    models = {name: kind(length=length, keep="last") for name, kind in TRAINING.items()}
    for name in row_trainers():
        validated = {"keep": "best", "early_stopping": EarlyStopping(type="validation_loss")}
        models[name] = models[name].model_copy(update=validated)
    models["pretrain"] = models["pretrain"].model_copy(update={"validation_share": 0.1})
    project = Project(name="all", examples=Examples(split=SplitConfig(test=0.2)))
    project = project.model_copy(update={"models": Models(**models)})
    artifacts = {
        name: Artifact(Path(), make_manifest(stage=name, summary={"steps": 10}))
        for name in TRAINING
    }
    final = derive_final(project, Twin("main", artifacts, 100), 150)
    for name in TRAINING:
        config = getattr(final.models, name)
        assert (config.keep, config.early_stopping) == ("last", Never())
        assert getattr(config, "validation_share", 0) == 0
        assert config.length.steps == (15 if name in row_trainers() else 10)
    assert {*row_trainers()} == {"sft", "continue_sft"}
