"""Three finished projects whose artifacts are written by hand, so that no figure depends on a CPU.

Each artifact stands in the store under the key that a plan expects, and one run has found all of
them there. `handbook` is made of documents by a teacher in two variants, `reviews` of a table of
its own with labels, `prices` of chats with numbers, preference pairs and DPO.
"""

import json

from jangin.core.parquet import write_table
from jangin.core.records import (
    DroppedPair,
    Example,
    Message,
    PreferencePair,
    SplitExample,
)
from jangin.documents.load import DoubtfulRow
from jangin.evaluation.forgetting import ForgettingResult, forgetting_result
from jangin.evaluation.pairwise_judge import PairwiseResult
from jangin.evaluation.results import (
    Comparison,
    Leak,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.tasks.labels import LabelResult, LabelsTask, label_results
from jangin.evaluation.tasks.numbers import NumberResult, NumbersTask, number_results
from jangin.evaluation.tasks.task import Prediction
from jangin.examples.read import Unread
from jangin.project.file import open_project
from jangin.project.plan import open_step, stages_until
from jangin.project.session import open_session
from jangin.training.loop.config import DpoMetrics, StepMetrics
from tests.report.workshop import Workshop, predictions

HANDBOOK = """
name: handbook
teachers:
  writer:
    type: endpoint
    model: t
    base_url: "http://127.0.0.1:9/v1"
    price: {input_usd_per_million: 1, output_usd_per_million: 2}
budget: {usd: 3}
documents:
  load: {folder: documents}
  chunk: {measure: characters, max_characters: 400}
examples:
  synthesize: {teacher: writer}
  curate:
  split:
models:
  catalog: {base: {type: starter, size: 0.5M, vocabulary_size: 300}}
  sft: {method: {type: full}, length: {type: epochs, epochs: 3}, learning_rate: 0.001}
  evaluate:
variants:
  plain: {examples: {split: {training_paraphrases: 0}}}
  paraphrased:
"""
EDITED = (
    HANDBOOK.replace("epochs: 3", "epochs: 5")
    .replace("  curate:", "  curate: {threshold: 0.7}")
    .replace("{teacher: writer}", "{teacher: writer, pairs_per_chunk: 3}")
)
"""The handbook after a change of three settings, of which a plan says why what runs again."""
TABLE = """
examples:
  read:
    path: rows.csv
    format: {{type: table, prompt: "{{text}}", completion: "{{answer}}"}}
  split: {{unseen_sections: 0, held_out_paraphrases: 0, test: 0.2}}
models:
  catalog: {{base: {{type: starter, size: 0.5M, vocabulary_size: 300}}}}
  sft: {{method: {{type: full}}, learning_rate: 0.001}}
{stages}
  evaluate:
    task: {task}
    systems: [base, tuned, {{type: baseline, method: constant}}]
    seen_limit: 0
"""
STARS = LabelsTask(type="labels", labels=("1", "2", "3", "4", "5"), ordered=True, good_from="4")
PRICES = NumbersTask(type="numbers")
REVIEWS = "name: reviews" + TABLE.format(
    stages="",
    task='{type: labels, labels: ["1", "2", "3", "4", "5"], ordered: true, good_from: "4"}',
)
PAIRS = "name: prices" + TABLE.format(
    stages="""  preferences: {sources: [{type: other_answers}]}
  dpo: {method: {type: full}, learning_rate: 0.000005}""",
    task="{type: numbers}",
)
ROWS = "text,answer\n" + "".join(f"row {number},{number % 5 + 1}\n" for number in range(40))


class Bench(Workshop):
    """Keeps what a stage makes until the key is known under which a plan looks for it."""

    def publish(self, stage, tables=None, summary=None, config=None, inputs=None, files=None):
        return tables or {}, summary or {}, files or {}

    def place(self, text, variants):
        """Write a project file, what its stages made, and a run that finds all of it."""
        path = self.folder / "project.yaml"
        path.write_text(text, "utf-8")
        with open_session(open_project(path)) as session:
            for variant, made in variants.items():
                self._place(session, variant, made)
            session.run(list(variants))
        return path

    def _place(self, session, variant, made):
        by_kind = {}
        services = session.services(variant)
        for stage, config in stages_until(session.project.variants[variant], None):
            step = open_step(variant, stage, config, by_kind, session.store, services)
            artifact = step.artifact or self._write(step, *made[stage.name])
            by_kind |= dict.fromkeys(stage.makes, artifact)

    def _write(self, step, tables, summary, files):
        folder = self.store.workspace(step.stage.name, step.key, keep=False)
        for name, (record_type, rows) in tables.items():
            write_table(folder / f"{name}.parquet", record_type, rows)
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, "utf-8")
        identity = step.config.identity()
        made = (step.stage.version, step.key, identity, step.inputs, summary)
        return self.store.publish(step.stage.name, *made)


def write_handbook(folder):
    """The project of documents in two variants, one of which is better."""
    bench = Bench(folder)
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "규정.md").write_text("# 휴가\n\n휴가는 3일입니다.\n", "utf-8")
    made = bench.made(plain=predictions(2), paraphrased=predictions(11, unseen_right=1))
    for number, stages in enumerate(made.values()):
        stages["split"][0]["splits"][1].pop(number)
        stages["sft"] = metrics(4 + 2 * number)
        tables, summary, files = stages["evaluate"]
        leaks, cut_off = tables["leaks"], {"base": 6 * number, "tuned": 0}
        leaks[1].append(
            Leak(
                evidence_set="held_out_paraphrases", evaluation_id="e", train_id="t",
                question="사본 질문", train_question="원래 질문", similarity=0.93, kind="near",
            )
        )  # fmt: skip
        stages["evaluate"] = tables, summary | {"cut_off": cut_off}, files
    tables = made["plain"]["load"][0]
    tables["doubtful"][1].extend(
        DoubtfulRow(
            source="스캔.pdf", page=2, text=f"줄 {n}", second="", confidence=40.0, doubt="illegible"
        )
        for n in range(2)
    )
    return bench.place(HANDBOOK, made)


def row(number, answer, kind="original"):
    """An example of a table, with markup in its question."""
    prompt = (Message(role="user", content=f"{number}번 <b>후기</b> " + "x" * number),)
    completion = Message(role="assistant", content=answer)
    source = "a.csv" if number % 2 else "b.csv"
    return Example.make(prompt, completion, kind=kind, source=source, page=number + 1)


def graded(task, answers, golds):
    """Predictions of {system: answers} for the test set."""
    return [
        grade_prediction(row(number, gold), "test", system, answer, task=task)
        for system, given in answers.items()
        for number, (gold, answer) in enumerate(zip(golds, given, strict=True))
    ]


def metrics(count, rows=20, record_type=StepMetrics, **fields):
    """Files of a training of `count` logged steps, validated at every second of them."""
    lines = [
        record_type(
            step=5 * n, epoch=n / 2, train_loss=4 / n, train_mean_token_accuracy=1 - 1 / n,
            valid_loss=5 / n if n % 2 == 0 else None, learning_rate=1e-3, grad_norm=1.0,
            valid_mean_token_accuracy=0.5 if n % 2 == 0 else None, trained_tokens=70 * n, **fields,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip
    pace = [{"step": line.step, "tokens_per_second": 100.0 * line.step} for line in lines]
    files = {
        "metrics.jsonl": "".join(f"{line.model_dump_json()}\n" for line in lines),
        "runtime/pace.jsonl": "".join(f"{json.dumps(line)}\n" for line in pace),
    }
    summary = {"steps": 5 * count, "trained_tokens": 70 * count, "validation_rows": rows}
    return {}, summary, files


def evaluated(task, rows, result_type, of_task, **tables):
    """What `evaluate` makes of these predictions."""
    made = {
        "predictions": (Prediction, rows),
        "results": (Result, summarise(rows, 0, task.metric)),
        "comparisons": (Comparison, compare_systems(rows, 0, task.metric)),
        "slices": (Slice, slice_predictions(rows, task)),
        "leaks": (Leak, []),
        **tables,
    }
    name = "label_results" if result_type is LabelResult else "number_results"
    made[name] = (result_type, of_task(rows, task))
    return made, {"publishable": True}, {}


def table_stages(rows):
    """What the stages before a training make of a table, of which three rows were not read."""
    lost = [
        Unread(
            source="rows.csv", place=f"line {n}", reason=f"the answer {n} is empty", text=f"r{n}"
        )
        for n in (3, 14, 15)
    ]
    splits = [
        SplitExample(example=example, split="test" if n % 5 == 0 else "train")
        for n, example in enumerate(rows)
    ]
    return {
        "read": ({"examples": (Example, rows), "unread": (Unread, lost)}, {"unread": 3}, {}),
        "split": ({"splits": (SplitExample, splits)}, {"unused": 0}, {}),
        "catalog": ({}, {"type": "starter", "parameters": 3000}, {}),
        "sft": metrics(4, rows=10),
    }


def write_reviews(folder):
    """The project of labels: judged, compared with a constant, with a training that forgot."""
    bench = Bench(folder)
    bench.folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text(ROWS, "utf-8")
    golds = list("1234512345123451234512345")
    answers = {"base": ["5"] * 20 + ["?"] * 5, "constant": ["1"] * 25, "tuned": [*golds[:-1], "4"]}
    judged = PairwiseResult(
        evidence_set="test", judge="gpt", a="tuned", b="base", n=15, wins=10, losses=3, ties=2,
        inconsistent=2, unjudged=0, win_rate=0.733, win_rate_low=0.5, win_rate_high=0.9,
        p_value=0.0923, first_shown=0.533, longer_won=0.7, length_correlation=None,
    )  # fmt: skip
    kept = forgetting_result("base", ["글"], [(9.0, 3)], [(9.0, 3)], [True], [True], 0)
    lost = forgetting_result("tuned", ["글"], [(12.0, 3)], [(9.0, 3)], [False], [True], 0)
    made = table_stages([row(number, str(number % 5 + 1)) for number in range(25)])
    made["evaluate"] = evaluated(
        STARS,
        graded(STARS, answers, golds),
        LabelResult,
        label_results,
        pairwise=(PairwiseResult, [judged]),
        forgetting=(ForgettingResult, [kept, lost]),
    )
    return bench.place(REVIEWS, {"main": made})


def pair(number, chosen, rejected):
    """A preference pair."""
    return PreferencePair(
        id=f"pair{number}", prompt=row(number, chosen).prompt,
        chosen=Message(role="assistant", content=chosen),
        rejected=Message(role="assistant", content=rejected),
        origin="other_answer", family="f", example_id="e",
    )  # fmt: skip


def write_prices(folder):
    """The project of numbers, trained on pairs after rows."""
    bench = Bench(folder)
    bench.folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text(ROWS, "utf-8")
    golds = [str(price) for price in range(50, 1050, 50)]
    answers = {
        "base": ["?"] * 20,
        "constant": ["500"] * 20,
        "tuned": [f"${int(gold) * 1.1:.2f}" for gold in golds[:-1]] + ["5"],
    }
    made = table_stages([row(number, gold) for number, gold in enumerate(golds)])
    alike = [
        DroppedPair(pair=pair(n, "50", f"5{n}"), rule="too_similar", reason=f"alike to 0.9{n}")
        for n in range(5)
    ]
    made["preferences"] = (
        {
            "pairs": (PreferencePair, [pair(n, golds[n], golds[n + 1]) for n in range(9)]),
            "dropped_pairs": (DroppedPair, alike),
        },
        {"pairs": 9, "dropped": 5},
        {},
    )
    more = dict.fromkeys(DpoMetrics.model_fields.keys() - StepMetrics.model_fields.keys(), 0.1)
    made["dpo"] = metrics(3, 25, DpoMetrics, **more)
    made["evaluate"] = evaluated(
        PRICES, graded(PRICES, answers, golds), NumberResult, number_results
    )
    return bench.place(PAIRS, {"main": made})


PROJECTS = {"handbook": write_handbook, "reviews": write_reviews, "prices": write_prices}
