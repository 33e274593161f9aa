"""The plan behind its page: computed beside the requests, again only where something changed."""

import time

import pytest

from jangin.report.i18n.translate import Words
from jangin.serving.pages.runs.planning import Plans, make_plan, version_of
from jangin.serving.pages.runs.views import Counts, plan_sentence, plan_steps
from jangin.serving.state.project import OpenProject

TEXT = """\
name: rules
budget: {usd: 5}
teachers:
  writer:
    type: endpoint
    model: m
    base_url: https://model.example/v1
    key_variable: JANGIN_NO_SUCH_KEY
    price: {input_usd_per_million: 1, output_usd_per_million: 4}
documents:
  load: {folder: documents}
  chunk: {measure: characters}
examples:
  synthesize: {teacher: writer}
  split:
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# 휴가\n\n연차는 15일이다.\n", "utf-8")
    (tmp_path / "project.yaml").write_text(TEXT, "utf-8")
    return tmp_path


def answer(plans, project):
    """The plan once it has been computed."""
    until = time.monotonic() + 100
    while (known := plans.ask(project)).working:
        assert time.monotonic() < until
        time.sleep(0.02)
    return known


def test_a_plan_says_what_is_open_what_it_costs_and_what_would_stop_it(folder):
    project = OpenProject(folder / "project.yaml")
    plan = make_plan(project, "v")
    assert [row.step.stage.name for row in plan.figures.open_rows] == [
        "load", "chunk", "synthesize", "split",
    ]  # fmt: skip
    assert plan.figures.most.count == 1
    assert (plan.figures.limit_usd, plan.figures.would_stop) == (5, False)
    assert any("JANGIN_NO_SUCH_KEY is not set" in text for text in plan.warnings)
    assert plan.figures.untimed == ("load", "synthesize")
    words = Words("en")
    assert "not known before their first run" in plan_sentence(plan.figures, words)
    assert [step.time for step in plan_steps(plan.figures, words, Counts())] == [""] * 4
    assert not (folder / "store").exists()


def test_it_is_computed_once_and_again_after_a_change(folder):
    project, plans = OpenProject(folder / "project.yaml"), Plans()
    first = plans.ask(project)
    assert (first.plan, first.working) == (None, True)
    known = answer(plans, project).plan
    assert plans.ask(project).plan is known
    before = version_of(project)
    (folder / "documents" / "b.txt").write_text("병가는 60일이다.", "utf-8")
    assert version_of(project) != before
    assert plans.ask(project).plan is known, "the old one is shown until the new one is there"
    assert answer(plans, project).plan is not known


def test_a_plan_that_cannot_be_computed_says_why(folder):
    (folder / "documents" / "a.md").unlink()
    project, plans = OpenProject(folder / "project.yaml"), Plans()
    known = answer(plans, project)
    assert known.plan is None
    assert "documents" in known.problem
