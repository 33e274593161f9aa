"""A small project of table rows that has run."""

import csv

import pytest
import yaml
from typer.testing import CliRunner

from jangin.cli.main import app
from tests.model_fixtures import PAIRS

PROJECT = {
    "name": "small",
    "examples": {
        "read": {
            "path": "rows.csv",
            "format": {"type": "table", "prompt": "{question}", "completion": "{answer}"},
        },
        "split": {"unseen_sections": 0, "validation": 0.1, "test": 0.2},
    },
    "models": {
        "catalog": {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 320}},
        "sft": {
            "method": {"type": "full"},
            "length": {"type": "steps", "steps": 4},
            "validate_every_steps": 2,
            "learning_rate": 1e-3,
            "threads": 1,
        },
        "evaluate": {"max_new_tokens": 8, "seen_limit": 4},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A finished project."""
    folder = tmp_path_factory.mktemp("project")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("question", "answer"), *PAIRS])
    (folder / "project.yaml").write_text(yaml.safe_dump(PROJECT))
    assert CliRunner().invoke(app, ["run", "-p", str(folder)]).exit_code == 0
    return folder
