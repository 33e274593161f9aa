"""No stage can be forgotten: every page asks artifacts what they are, not a list of stages."""

import html
import json
from dataclasses import replace

import pytest

from jangin.core.ledger import Bill, CallCount
from jangin.core.parquet import write_table
from jangin.llm.replies import Failed
from jangin.project.stages import STAGES
from jangin.report.compare import compare_variants
from jangin.report.data.results import VariantCost
from jangin.report.i18n.translate import Words
from jangin.report.page import build_report, memory
from jangin.report.sections.data_flow import boxes
from jangin.training.loop.config import DpoMetrics, StepMetrics
from jangin.views.artifacts import versions
from jangin.views.curves import trainings
from jangin.views.losses import failed
from tests.report.workshop import PROJECT, Workshop, predictions

WORDS = Words("en")
NAMES = [stage.name for stage in STAGES]
PAIRS = [stage.name for stage in STAGES if "pairs" in stage.reads]
SUMMARY = {
    "queries": 1, "snippets": 1, "ranked": 1, "engine": "e", "ranker": "r", "copies": 0,
    "without_snippets": 0, "below_threshold": 0, "failed": 1, "judged": 1, "words": 1,
}  # fmt: skip


def metrics(stage):
    """One line of the metrics of a training; the loss of preference pairs has fields of its own."""
    line = {
        "step": 7, "epoch": 1.0, "train_loss": 0.5, "train_mean_token_accuracy": 0.5,
        "learning_rate": 1e-3, "grad_norm": 1.0, "trained_tokens": 70,
    }  # fmt: skip
    record_type = StepMetrics
    if stage in PAIRS:
        record_type = DpoMetrics
        line |= dict.fromkeys(DpoMetrics.model_fields.keys() - StepMetrics.model_fields.keys(), 0.1)
    return record_type(**line).model_dump_json()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """(artifacts, project): every stage has failed once, and has trained for 7 steps."""
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    stages = workshop.made(main=predictions(5))["main"]
    for number, name in enumerate(NAMES):
        if name not in stages:
            stages[name] = workshop.publish(name, summary=SUMMARY | {"number": number})
        path, manifest = stages[name].path, stages[name].manifest
        row = Failed(subject="s", request="r", reason=f"{name} broke", reply=f"reply of {name}")
        write_table(path / "failed.parquet", Failed, [row])
        (path / "metrics.jsonl").write_text(metrics(name) + "\n")
        (path / "runtime").mkdir(exist_ok=True)
        figures = {
            "predicted_memory_bytes": 2**30,
            "peak_memory_bytes": 2**30,
            "torch": f"t-{name}",
        }
        (path / "runtime" / "training.json").write_text(json.dumps(figures))
        summary = manifest.summary | {"steps": 7, "trained_tokens": 70}
        stages[name] = replace(
            stages[name], manifest=manifest.model_copy(update={"summary": summary})
        )
    return {"main": {name: stages[name] for name in NAMES}}, workshop.open(PROJECT)


def test_failed_rows_of_every_stage_are_listed(everything):
    artifacts, _ = everything
    assert [(row.group.stage, row.reason.general) for row in failed(artifacts)] == [
        (name, f"{name} broke") for name in NAMES
    ]


def test_curves_memory_and_versions_of_every_training_are_listed(everything):
    artifacts, _ = everything
    assert [run.stage for run in trainings(artifacts)] == NAMES
    assert [run.stage for run in trainings(artifacts) if run.on_pairs] == PAIRS == ["dpo"]
    assert [row.stage for row in memory(artifacts)] == NAMES
    recorded = {row.version for row in versions(artifacts) if row.recorded}
    assert {f"t-{name}" for name in NAMES} <= recorded


def test_the_data_flow_has_a_box_for_every_stage_and_counts_its_failed_rows(everything):
    artifacts, _ = everything
    drawn = boxes(artifacts, WORDS)
    assert [box.title for box in drawn] == [WORDS(f"stage_{name}") for name in NAMES]
    note = WORDS("note_failed", count=1)
    assert all(note in flow.notes for box in drawn for flow in box.flows)


def test_the_page_shows_the_failed_rows_and_a_curve_of_every_stage(everything):
    artifacts, project = everything
    page = build_report(project, artifacts, CallCount(requests=1, answered=1, asked_again=0), "en")
    for name in NAMES:
        assert f"reply of {name}" in page
        for kind in ("loss", "accuracy"):
            title = html.escape(f"{WORDS(f'stage_{name}')}: {WORDS(kind)}")
            assert f"<h3>{title}</h3>" in page


def test_a_comparison_counts_the_steps_and_tokens_of_every_training(everything):
    artifacts, project = everything
    table = compare_variants(project, artifacts, {}, {"main": VariantCost(Bill())})
    (row,) = table.rows
    assert (row.steps, row.trained_tokens) == (7 * len(NAMES), 70 * len(NAMES))


def test_losses_per_pair_are_not_compared_with_losses_per_token(tmp_path):
    workshop = Workshop(tmp_path)
    artifacts = workshop.made(main=predictions(5))
    artifacts["main"]["dpo"] = workshop.publish(
        "dpo",
        summary={"steps": 7, "trained_tokens": 70},
        files={"metrics.jsonl": metrics("dpo") + "\n"},
    )
    project = workshop.open(PROJECT)
    (row,) = compare_variants(project, artifacts, {}, {"main": VariantCost(Bill())}).rows
    assert (row.steps, row.trained_tokens, row.train_loss) == (27, 147, 0.4)
