"""The projects `reviews` and `price`, whole but short: from a file of rows to a comparison."""

import csv
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from jangin.core.ledger import Bill, CallCount
from jangin.core.parquet import read_table
from jangin.core.records import Example, SplitExample
from jangin.evaluation.results import Comparison, Leak, Result
from jangin.evaluation.tasks.labels import LabelResult
from jangin.evaluation.tasks.numbers import NumberResult
from jangin.evaluation.tasks.task import Prediction
from jangin.examples.read import Unread
from jangin.metrics.classification import grade_labels
from jangin.project.runner import run
from jangin.project.session import open_session
from jangin.report.compare import as_csv, as_html, compare_variants
from jangin.report.data.results import VariantCost
from jangin.report.i18n.translate import Words
from jangin.report.page import build_report

PROJECTS = Path(__file__).parents[2] / "projects"


def run_small(folder, name, change):
    """(opened project, {variant: artifacts}, seconds) of a project with less of everything."""
    project = yaml.safe_load((PROJECTS / name / "project.yaml").read_text(encoding="utf-8"))
    project["models"]["catalog"]["base"] |= {"size": "0.5M", "vocabulary_size": 600}
    change(project)
    (folder / "project.yaml").write_text(
        yaml.safe_dump(project, allow_unicode=True), encoding="utf-8"
    )
    with open_session(folder / "project.yaml", folder / "store") as session:
        names = session.choose(None)
        run(session.project, session.store, session.services, names)
        made = {variant: session.artifacts(variant) for variant in names}
        return session.project, made, session.seconds(made)


def rows_of(made, variant, stage, table, record):
    return read_table(made[variant][stage].path / f"{table}.parquet", record)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviews")
    lines = (PROJECTS / "reviews" / "reviews.csv").read_text(encoding="utf-8").splitlines()
    (folder / "reviews.csv").write_text("\n".join(lines[:201]) + "\n", encoding="utf-8")

    def change(project):
        del project["variants"]["larger"]
        continued = project["variants"]["continued"]["models"]["continue_sft"]
        continued["length"]["epochs"] = 1
        continued["examples_per_step"] = project["models"]["sft"]["examples_per_step"] = 8
        project["models"]["evaluate"]["systems"][4:] = []

    return run_small(folder, "reviews", change)


@pytest.fixture(scope="module")
def price(tmp_path_factory):
    folder = tmp_path_factory.mktemp("price")
    lines = (PROJECTS / "price" / "products.jsonl").read_text(encoding="utf-8").splitlines()
    few = lines[:90] + lines[295:305]
    (folder / "products.jsonl").write_text("\n".join(few) + "\n", encoding="utf-8")

    def change(project):
        del project["variants"]["lora"]
        project["variants"]["six_epochs"]["models"]["sft"]["length"]["epochs"] = 2
        slow = ("forest", "nearest", "random")
        systems = project["models"]["evaluate"]["systems"]
        project["models"]["evaluate"]["systems"] = [
            system
            for system in systems
            if isinstance(system, str) or system.get("method") not in slow
        ]

    return run_small(folder, "price", change)


@pytest.mark.slow
def test_reviews_are_cleaned_and_every_row_that_is_left_out_says_why(reviews):
    _, made, _ = reviews
    examples = rows_of(made, "shuffled", "read", "examples", Example)
    unread = rows_of(made, "shuffled", "read", "unread", Unread)
    assert len(examples) + len(unread) == 200
    assert not any("\u200b" in e.question or "\u00a0" in e.question for e in examples)
    assert all(e.question.endswith("\n\n###\n\n") and e.answer in "12345" for e in examples)
    reasons = {row.reason for row in unread}
    assert {"same text as an earlier row", "another answer to the same text"} <= reasons
    assert len({e.question for e in examples}) == len(examples)


@pytest.mark.slow
def test_all_variants_of_the_reviews_keep_the_same_rows_for_the_test(reviews):
    _, made, _ = reviews
    kept = [
        {
            (row.example.question, row.example.answer)
            for row in rows_of(made, variant, "split", "splits", SplitExample)
            if row.split == "test"
        }
        for variant in made
    ]
    assert kept[0]
    assert all(rows == kept[0] for rows in kept)
    assert rows_of(made, "sorted", "evaluate", "leaks", Leak) == []


@pytest.mark.slow
def test_sorted_reviews_are_trained_in_the_order_of_their_stars(reviews):
    _, made, _ = reviews
    trained = [
        row.example.answer
        for row in rows_of(made, "sorted", "split", "splits", SplitExample)
        if row.split == "train"
    ]
    assert trained == sorted(trained)
    assert made["sorted"]["sft"].manifest.config["order"] == "as_given"


@pytest.mark.slow
def test_a_system_prompt_is_in_one_variant_only(reviews):
    _, made, _ = reviews
    roles = {
        variant: rows_of(made, variant, "read", "examples", Example)[0].prompt[0].role
        for variant in made
    }
    assert {variant for variant, role in roles.items() if role == "system"} == {"system_prompt"}


@pytest.mark.slow
def test_predictions_are_keyed_by_row_whatever_order_they_came_in(reviews):
    _, made, _ = reviews
    gold = {
        row.example.id: row.example.answer
        for row in rows_of(made, "shuffled", "split", "splits", SplitExample)
        if row.split == "test"
    }
    predictions = rows_of(made, "shuffled", "evaluate", "predictions", Prediction)
    for system in ("base", "tuned", "constant", "tfidf_logistic"):
        mine = {p.example_id: p for p in predictions if p.system == system}
        assert {name: p.gold for name, p in mine.items()} == gold
        backwards = {name: mine[name].parsed or None for name in reversed(mine)}
        report = grade_labels(gold, backwards, "12345", ordered=True, good_from="4")
        (row,) = [
            r
            for r in rows_of(made, "shuffled", "evaluate", "label_results", LabelResult)
            if r.system == system
        ]
        assert row.accuracy == report.accuracy.estimate
        assert row.confusion == report.confusion
        assert sum(map(sum, row.confusion)) == row.n == len(gold)
        assert (row.off_by_one, row.good_or_bad) != (None, None)


@pytest.mark.slow
def test_the_variants_of_the_reviews_stand_in_one_table(reviews):
    opened, made, seconds = reviews
    table = compare_variants(opened, made, seconds, dict.fromkeys(made, VariantCost(Bill())))
    assert [row.variant for row in table.rows] == list(made)
    assert table.comparisons == 3
    others = [row.measured["test"] for row in table.rows[1:]]
    assert all(m.against.n == m.result.n and m.p_holm >= m.against.p_value for m in others)
    steps = {row.variant: row.steps for row in table.rows}
    assert 2 * steps["shuffled"] == 2 * steps["sorted"] == steps["continued"]
    lines = list(csv.DictReader(as_csv(table).splitlines()))
    assert [line["variant"] for line in lines] == list(made)
    assert "examples.read.format.order.type" in lines[0]
    assert as_html(table, made, "ko").count("<figure>") >= 2


@pytest.mark.slow
def test_the_report_says_what_predictors_without_a_model_reach(reviews):
    opened, made, _ = reviews
    page = build_report(opened, made, CallCount(0, 0, 0), "en")
    assert "tfidf_logistic" in page
    assert Words("en")("rivals", system=Words("en").system("tuned")) in page


@pytest.mark.slow
def test_prices_are_read_scrubbed_and_asked_up_to_the_dollar_sign(price):
    _, made, _ = price
    examples = rows_of(made, "one_epoch", "read", "examples", Example)
    assert all(e.question.endswith("\n\nPrice is $") for e in examples)
    assert all(0.5 <= float(e.answer) <= 1000 and e.answer.endswith(".00") for e in examples)
    texts = [e.question.split("\n\n")[1] for e in examples]
    assert all(0 < len(text) <= 480 for text in texts)
    assert not any("Batteries" in text or "By Manufacturer" in text for text in texts)
    unread = rows_of(made, "one_epoch", "read", "unread", Unread)
    assert len(examples) + len(unread) == 100
    reasons = " ".join(row.reason for row in unread)
    assert "price is no number" in reasons
    assert "no JSON object" in reasons


@pytest.mark.slow
def test_every_system_guesses_the_prices_of_the_same_rows(price):
    _, made, _ = price
    predictions = rows_of(made, "one_epoch", "evaluate", "predictions", Prediction)
    asked = {}
    for prediction in predictions:
        asked.setdefault(prediction.system, set()).add(prediction.example_id)
    assert list(asked) == [
        *("base", "base 2-shot", "tuned", "constant", "linear", "bow_linear", "tfidf_svr"),
    ]
    assert len({frozenset(rows) for rows in asked.values()}) == 1
    for row in rows_of(made, "one_epoch", "evaluate", "number_results", NumberResult):
        assert row.green + row.orange + row.red == pytest.approx(1)
        assert (row.mean_error is None) == (row.unparsable == row.n)
    results = rows_of(made, "one_epoch", "evaluate", "results", Result)
    pairs = rows_of(made, "one_epoch", "evaluate", "comparisons", Comparison)
    assert len(pairs) == len(results) * (len(results) - 1) // 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("project", "script", "data"),
    [
        ("reviews", "make_reviews.py", "reviews.csv"),
        ("price", "make_products.py", "products.jsonl"),
    ],
)
def test_the_shipped_data_is_what_its_script_writes(project, script, data, tmp_path):
    shutil.copy(PROJECTS / project / script, tmp_path)
    code = compile((tmp_path / script).read_text(encoding="utf-8"), script, "exec")
    exec(code, {"__name__": "__main__", "__file__": str(tmp_path / script)})
    assert (tmp_path / data).read_bytes() == (PROJECTS / project / data).read_bytes()


@pytest.mark.slow
def test_some_prices_are_broken_on_purpose():
    prices = []
    for line in (PROJECTS / "price" / "products.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            prices.append(json.loads(line)["price"])
        except ValueError:
            prices.append("torn")
    assert {"torn", "", "N/A", "Currently unavailable", "$12.99 - $45.00"} <= set(prices)
    assert any("," in price for price in prices)


def chats_of_our_listings():
    for line in (PROJECTS / "price" / "products.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        parts = [row["title"], *(row.get("description") or ()), *(row.get("features") or ())]
        text = f"Give a price.\n\nTitle: {' '.join(parts)}\nCategory: Automotive"
        price = {"role": "assistant", "content": f"${row.get('price')}"}
        yield json.dumps({"messages": [{"role": "user", "content": text}, price]})


@pytest.mark.slow
def test_the_published_price_recipe_reads_chats_with_its_own_settings(tmp_path, monkeypatch):
    project = (PROJECTS / "price" / "real.yaml").read_text(encoding="utf-8")
    (tmp_path / "real.yaml").write_text(project, encoding="utf-8")
    lines = list(chats_of_our_listings())[:60]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    script = PROJECTS / "price" / "make_tokenizer.py"
    few = tmp_path / "few.jsonl"  # of all of them it would learn whole phrases as one token
    few.write_text("\n".join(lines[:2]), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(script), str(few)])
    runpy.run_path(str(script), run_name="__main__")
    with open_session(tmp_path / "real.yaml", tmp_path / "store") as session:
        run(session.project, session.store, session.services, ["main"], "split")
        made = {"main": session.artifacts("main")}
        sft = session.project.variants["main"].stage_config("sft")
    examples = rows_of(made, "main", "read", "examples", Example)
    assert all(e.question.startswith("How much does this cost to the nea") for e in examples)
    assert all(e.question.endswith("\n\nPrice is $") for e in examples)
    assert all(e.answer.endswith(".00") and 1 <= float(e.answer) <= 999 for e in examples)
    assert not any("Give a price" in e.question for e in examples)
    reasons = {row.reason for row in rows_of(made, "main", "read", "unread", Unread)}
    assert len(examples) > 5
    assert "text is below 301 characters" in reasons
    assert "completion is no number" in reasons
    method = sft.method
    assert (method.type, method.double_quant, method.r, method.alpha) == ("qlora", True, 32, 64)
    assert method.targets == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert (method.dropout, sft.learning_rate, sft.schedule) == (0.1, 1e-4, "cosine")
    assert (sft.warmup_fraction, sft.weight_decay, sft.max_gradient_norm) == (0.03, 0.001, 0.3)
    assert (sft.train_on, sft.precision) == ("completion", "bf16")
