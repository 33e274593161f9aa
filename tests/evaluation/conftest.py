"""Fixtures of the tests of evaluation: the context of a stage that reads `splits`."""

import pytest

from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.parquet import write_table
from jangin.core.records import SplitExample
from jangin.core.stage import Services, StageContext
from tests.conftest import make_artifact
from tests.model_fixtures import conversations, one_thread, tokenizer

__all__ = ("conversations", "one_thread", "tokenizer")


def no_chat(name):
    raise AssertionError(f"no chat model is asked without a teacher, least of all {name}")


@pytest.fixture
def stage_context(tmp_path):
    """Makes the context of a stage with these settings and rows of `splits`."""
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def make(config, rows, workspace="workspace"):
        inputs, folder = tmp_path / "splits", tmp_path / workspace
        inputs.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        write_table(inputs / "splits.parquet", SplitExample, rows)
        services = Services(tmp_path, no_chat, ledger, Progress())
        return StageContext(config, {"splits": make_artifact(inputs)}, folder, services)

    yield make
    ledger.close()
