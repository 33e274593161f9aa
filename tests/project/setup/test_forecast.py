"""What a run would cost is told before the first one, without a key, a network or a store."""

import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.records import Example, Message
from jangin.documents.load import LoadConfig
from jangin.examples.reviews.log import append_decisions, decide
from jangin.llm.budget import SpendingLimit
from jangin.project.session import open_session
from jangin.project.setup.forecast import forecast
from jangin.project.setup.provisional import read_quickly
from jangin.report.terminal.tables import plan_total
from jangin.views.plan import plan_figures
from tests.tiny_project import ROWS, write_project

ARTICLE = (
    "## 제{n}조({name})\n\n{name}는 {n}일 전에 신청한다. 담당은 {name} 부서이고, 한도는 {n}만 "
    "원이다.\n\n"
)
PROJECT = """\
name: fresh
{budget}
teachers:
  writer:
    type: endpoint
    model: m
    base_url: https://model.example/v1
    key_variable: JANGIN_NO_SUCH_KEY
    {price}
documents:
  load: {{folder: documents}}
  chunk:
examples:
  synthesize: {{teacher: writer, pairs_per_chunk: 4}}
  paraphrase: {{source: {{type: teacher, teacher: writer, count: 6}}}}
  judge: {{teacher: writer}}
  curate: {{min_score: {{judge: 0.5}}}}
  split:
models:
  catalog: {{base: {{type: starter}}}}
  sft: {{length: {{type: epochs, epochs: 2}}}}
  evaluate:
"""
PRICE = "price: {input_usd_per_million: 1, output_usd_per_million: 4}"


@pytest.fixture
def project(tmp_path):
    def make(files=1, articles=12, price=PRICE, budget=""):
        folder = tmp_path / "documents"
        folder.mkdir(exist_ok=True)
        names = ("휴가", "병가", "출장", "교육", "경조", "당직")
        for number in range(files):
            text = "".join(
                ARTICLE.format(n=n, name=f"{names[n % 6]}{number}") for n in range(1, articles + 1)
            )
            (folder / f"{number}.md").write_text(f"# 규정 {number}\n\n{text}", encoding="utf-8")
        text = PROJECT.format(price=price, budget=budget)
        (tmp_path / "project.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture
def estimate():
    def make(path):
        with open_session(path, creates_store=False) as session:
            return forecast(session, ["main"]), session.budget.limit_usd

    return make


def by_stage(result):
    return {
        step.stage.name: (step, usual)
        for step, usual in zip(result.steps, result.likely, strict=True)
    }


def test_every_stage_of_a_fresh_project_is_estimated_and_nothing_is_left_behind(project, estimate):
    path = project()
    before = sorted(path.rglob("*"))
    result, _ = estimate(path)
    assert sorted(path.rglob("*")) == before
    assert result.unknown == []
    stages = by_stage(result)
    assert stages["synthesize"][0].calls.count == result.reading.chunks == 12
    questions = 12 * 4
    for name in ("judge", "paraphrase"):
        step, usual = stages[name]
        assert step.calls.count == questions, name
        assert 12 <= usual.count < questions, "a passage of two facts gives no four questions"
        assert 0 < usual.usd < step.calls.usd / 2
    assert "epochs of" in stages["sft"][0].cost.text
    assert "GiB" in stages["sft"][0].cost.text
    assert stages["sft"][0].cost.seconds > 0
    assert "questions to base, tuned" in stages["evaluate"][0].cost.text


def _total(result, limit, unpriced=0):
    figures = plan_figures(result.steps, SpendingLimit(limit), result.likely, unpriced)
    return plan_total(figures, result.unknown)


@pytest.mark.slow
def test_the_likely_cost_and_the_bound_are_set_against_the_budget(project, estimate):
    result, limit = estimate(project(budget="budget: {usd: 0.01}"))
    text = _total(result, limit)
    assert ", likely about $0.0" in text
    assert "that is left of the budget: would stop after about" in text
    assert _total(result, 100.0).endswith("$100.00.")
    usual, most = (sum(calls.usd for calls in side) for side in (
        result.likely, [step.calls for step in result.steps],
    ))  # fmt: skip
    between = _total(result, (usual + most) / 2)
    assert between.endswith("of the budget: it likely suffices.")


@pytest.mark.slow
def test_calls_at_an_unknown_price_are_never_called_free(project, estimate):
    result, _ = estimate(project(price=""))
    text = _total(result, None, 186)
    assert "price unknown" in text
    assert "likely about" not in text
    assert "Spent so far: $0.00 + 186 calls at an unknown price." in text


@pytest.mark.slow
def test_a_budget_that_cannot_limit_a_teacher_is_said_and_the_teacher_named(project, estimate):
    path = project(price="", budget="budget: {usd: 5}")
    result, _ = estimate(path)
    (refusal,) = result.refusals
    assert "a budget is set, but the price of model 'm'" in refusal
    assert "teachers: writer: price: {input_usd_per_million" in refusal
    shown = CliRunner().invoke(app, ["plan", "-p", str(path)])
    assert (shown.exit_code, refusal in shown.output) == (0, True)
    assert estimate(project(budget="budget: {usd: 5}"))[0].refusals == []


def test_a_big_folder_is_estimated_from_a_sample_and_said_so(project, ledger):
    path = project(files=12)
    config = LoadConfig(folder=path / "documents")
    whole, part = (read_quickly(config, path, ledger, seconds) for seconds in (60, 0))
    assert (whole.opened, whole.scale) == (12, 1.0)
    assert part.opened == 1
    assert part.scale == pytest.approx(12, rel=0.1)
    assert "1 of 12 files (a sample)" in part.text


@pytest.mark.slow
def test_chunks_of_a_sample_stand_for_all(project, estimate, monkeypatch):
    path = project(files=6)
    all_calls = by_stage(estimate(path)[0])["paraphrase"][0].calls.count
    monkeypatch.setattr("jangin.project.setup.provisional.SECONDS", 0)
    monkeypatch.setattr("jangin.project.setup.provisional.MOST_CHUNKS", 20)
    result, _ = estimate(path)
    assert result.reading.opened == 1
    assert by_stage(result)["paraphrase"][0].calls.count == pytest.approx(all_calls, rel=0.1)


SEARCH = """\
name: asked
teachers: {writer: {type: endpoint, model: m, base_url: "https://m.example/v1", key_variable: NONE}}
documents:
  queries: {source: {type: seed_words, file: words.txt, teacher: writer, per_word: 3}}
  search: {engine: {type: brave, results: 6}}
  rank: {top_k: 2}
examples:
  synthesize: {teacher: writer, modes: [{type: answer, questions_per_call: 4}]}
  split: {unseen_sections: 0, validation: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: hub, id: BASE}}
  sft: {method: {type: lora}, length: {type: epochs, epochs: 1}}
  preferences: {sources: [{type: other_answers}]}
  dpo: {method: {type: lora}, length: {type: epochs, epochs: 1}}
"""


@pytest.mark.parametrize(
    ("base", "text", "known"),
    [
        ("Qwen/Qwen3-0.6B", "downloads Qwen/Qwen3-0.6B; until then it is taken as", True),
        ("some/New_Model-1.5B-Instruct", "taken as a usual model of its size", True),
        ("some/giant-900B", "its size is not known", False),
        ("some/nameless", "its size is not known", False),
    ],
)
def test_search_pairs_and_a_hub_model_are_estimated_too(tmp_path, estimate, base, text, known):
    (tmp_path / "words.txt").write_text("휴가\n병가\n출장비\n", encoding="utf-8")
    (tmp_path / "project.yaml").write_text(SEARCH.replace("BASE", base), encoding="utf-8")
    result, _ = estimate(tmp_path)
    stages = {name: step for name, (step, _) in by_stage(result).items()}
    assert "9 requests to" in stages["search"].cost.text
    assert "snippets by bm25" in stages["rank"].cost.text
    assert stages["synthesize"].calls.count == 3
    assert text in stages["catalog"].cost.text
    assert ("GiB" in stages["sft"].cost.text) is known
    assert ("pairs of 7 examples" in stages["preferences"].cost.text) is known
    assert ("GiB" in stages["dpo"].cost.text) is known
    assert (result.unknown == []) is known


REVIEWED = """\
name: reviewed
examples:
  read: {path: rows.jsonl, format: {type: prompt_completion}}
  split: {review: required, unseen_sections: 0, validation: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: starter, size: 0.5M}}
  sft: {length: {type: epochs, epochs: 1}}
"""


def test_a_split_that_would_be_empty_without_a_review_is_said_with_what_to_do(tmp_path, estimate):
    write_project(tmp_path)
    (tmp_path / "project.yaml").write_text(REVIEWED, encoding="utf-8")
    result = by_stage(estimate(tmp_path)[0])
    assert "the split would be empty: review: required leaves none of 8" in cost_of(result, "split")
    assert "Accept some with `jangin review`" in cost_of(result, "split")
    assert cost_of(result, "sft") == ""
    rows = [Example.make((Message(role="user", content=row["prompt"]),),
                         Message(role="assistant", content=row["completion"]), kind="original")
            for row in ROWS[:3]]  # fmt: skip
    append_decisions(tmp_path / "reviews.jsonl", [decide(row, "accept", "me") for row in rows])
    result = by_stage(estimate(tmp_path)[0])
    assert cost_of(result, "split") == "estimated: review: required, 3 questions accepted"
    assert "of 3 rows" in cost_of(result, "sft")


def cost_of(result, stage):
    return result[stage][0].cost.text
