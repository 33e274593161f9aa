"""Answers of local models in this process, and in groups elsewhere."""

from dataclasses import replace

import pytest

from jangin.core.events import Progress
from jangin.core.executor import InProcess
from jangin.evaluation.evaluate import JOURNAL, STAGE
from jangin.evaluation.systems import local
from jangin.evaluation.tasks.task import Prediction
from jangin.models.starter import make_starter
from tests.conftest import make_artifact
from tests.elsewhere import Elsewhere
from tests.evaluation.test_evaluate import context_of, general_file
from tests.evaluation.test_evaluate import rows as split_rows

__all__ = ("context_of",)
"""Fixtures of other files."""


@pytest.fixture
def context(context_of, tmp_path):
    """An evaluation of two starters with a check for forgetting."""
    general_file(
        tmp_path,
        [
            '{"text": "회사의 모든 직원은 서로 존중한다."}',
            '{"question": "수도는?", "answer": "서울"}',
        ],
    )
    given = context_of(
        max_new_tokens=6, few_shot=0, forgetting={"type": "file", "path": "general.jsonl"}
    )
    texts = [text for row in split_rows() for text in (row.example.question, row.example.answer)]
    for seed, kind in enumerate(("base", "model")):
        folder = tmp_path / kind
        make_starter(
            folder / "model", texts, size="0.5M", vocabulary_size=500, context_length=128, seed=seed
        )
        given.inputs[kind] = make_artifact(folder)
    return given


def on(context, executor, name):
    """The same evaluation in another workspace, on another executor."""
    workspace = context.workspace.parent / name
    workspace.mkdir(exist_ok=True)
    services = replace(context.services, executor=executor, progress=Progress())
    return replace(context, workspace=workspace, services=services, summary={})


def tables(context):
    """The bytes of every table."""
    return {path.name: path.read_bytes() for path in sorted(context.workspace.glob("*.parquet"))}


@pytest.mark.slow
def test_groups_elsewhere_give_the_tables_of_this_process_also_after_a_kill(context, monkeypatch):
    monkeypatch.setattr(local, "PROMPTS_AT_ONCE", 3)
    here = on(context, InProcess(), "here")
    STAGE.run(here)
    killed = on(context, Elsewhere(groups=[], most=2), "there")
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(killed)
    assert len(killed.done(JOURNAL, Prediction)) == 6
    groups = []
    there = on(context, Elsewhere(groups=groups), "there")
    STAGE.run(there)
    assert groups[:5] == [3, 3, 3, 3, 2]  # what was known is not asked again
    assert tables(there) == tables(here)
    assert there.summary == here.summary
    predictions = [p.prediction for p in there.done(JOURNAL, Prediction)]
    assert len(predictions) == 40
    assert len(set(predictions)) > 2


def test_the_plan_says_that_local_models_answer_on_nodes(context):
    assert STAGE.maps(context.config)
    served = {"type": "endpoint", "base_url": "http://a/v1", "models": {}}
    settings = type(context.config)
    assert not STAGE.maps(settings(engine=served))
    assert not STAGE.maps(settings(systems=({"type": "baseline", "method": "constant"},)))
