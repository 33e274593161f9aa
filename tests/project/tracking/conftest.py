"""A project whose trackers are told of a training that did not really happen."""

from dataclasses import replace

import pytest
import yaml

from jangin.core.events import Progress, StepBegins, StepEnds
from jangin.core.parquet import write_table
from jangin.evaluation.evaluate import STAGE as EVALUATE
from jangin.evaluation.results import Comparison, Result
from jangin.project.plan import PlannedStage
from jangin.project.session import open_session
from jangin.project.tracked import tracked
from jangin.training.loop.config import Pace, StepMetrics
from jangin.training.sft import STAGE as SFT

PROJECT = {
    "name": "small",
    "examples": {"read": {"path": "rows.csv", "format": {"type": "squad"}}, "split": {"test": 0.2}},
    "models": {
        "catalog": {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 320}},
        "sft": {"method": {"type": "full"}, "learning_rate": 1e-3},
        "evaluate": {"seen_limit": 4},
    },
}
STEPS = (10, 20, 30)


def metrics(step):
    return StepMetrics(
        step=step,
        epoch=step / 30,
        train_loss=3 / step,
        train_mean_token_accuracy=0.5,
        valid_loss=4 / step,
        learning_rate=1e-3,
        grad_norm=1.0,
        trained_tokens=7 * step,
    )


RESULT = Result(
    evidence_set="test",
    system="tuned",
    n=20,
    right=0.75,
    right_low=0.53,
    right_high=0.89,
    measure="closeness",
    score=None,
    score_low=None,
    score_high=None,
    unparsable=0,
)


def write_metrics(folder, steps):
    (folder / "runtime").mkdir(exist_ok=True)
    with (
        (folder / "metrics.jsonl").open("a") as lines,
        (folder / "runtime/pace.jsonl").open("a") as p,
    ):
        for step in steps:
            p.write(
                Pace(step=step, at=100.0 + step, tokens_per_second=9.0).model_dump_json() + "\n"
            )
            lines.write(metrics(step).model_dump_json() + "\n")


def publish(store, stage, key):
    return store.publish(stage, 1, key, {}, {}, {})


@pytest.fixture
def tracking(tmp_path):
    """Tell the trackers of a training and an evaluation; returns the messages of the run."""

    def run(track):
        (tmp_path / "project.yaml").write_text(yaml.safe_dump(PROJECT | {"track": track}))
        progress = Progress()
        with open_session(tmp_path, progress=progress) as session:
            models, store = session.project.variants["main"].models, session.store
            sft = PlannedStage("main", SFT, models.sft, "run", key="ab" * 32)
            evaluate = PlannedStage("main", EVALUATE, models.evaluate, "run", key="cd" * 32)
            with tracked(session.project, store, progress) as trackers:
                if store.find("sft", sft.key) is None:
                    trackers.take(StepBegins(sft))
                    write_metrics(store.workspace("sft", sft.key, keep=True), STEPS)
                    publish(store, "sft", sft.key)
                    folder = store.workspace("evaluate", evaluate.key, keep=True)
                    write_table(folder / "results.parquet", Result, [RESULT])
                    write_table(folder / "comparisons.parquet", Comparison, [])
                    publish(store, "evaluate", evaluate.key)
                for step in (sft, evaluate):
                    finished = replace(step, artifact=store.find(step.stage.name, step.key))
                    trackers.take(StepEnds(finished))
        return progress.messages

    return run
