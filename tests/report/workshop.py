"""Small artifacts of every stage, for tests of what is made from them."""

import json

from jangin.core.digest import digest_value
from jangin.core.parquet import write_table
from jangin.core.records import Chunk, Document, Dropped, Example, Message, Page, SplitExample
from jangin.core.store import Store
from jangin.documents.load import DoubtfulRow
from jangin.documents.readers.folder import UnreadableFile
from jangin.evaluation.results import (
    Comparison,
    Leak,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.tasks.task import Prediction
from jangin.examples.synthesis.coverage import Coverage, cover, figures
from jangin.llm.replies import Failed
from jangin.project.file import open_project
from jangin.training.loop.config import StepMetrics

HOSTILE = "<script>alert('question')</script>"
PROJECT = """
name: handbook
teachers:
  writer: {type: endpoint, model: t, base_url: "http://teacher.internal:9/v1"}
documents:
  load: {folder: secret-folder}
  chunk:
examples:
  synthesize: {teacher: writer}
  curate:
  split:
models:
  catalog:
  sft:
  evaluate:
"""
VARIANTS = """
variants:
  plain: {examples: {split: {training_paraphrases: 0}}}
  paraphrased:
"""
ORDER = ("load", "chunk", "synthesize", "curate", "split", "catalog", "sft", "evaluate")


def example(number, kind="original", family="", question=""):
    return Example.make(
        (Message(role="user", content=question or f"{number}번 휴가는 며칠입니까? {kind}"),),
        Message(role="assistant", content=f"{number}일"),
        (f"c{number % 4}",),
        family,
        kind=kind,
        source="규정/취업 규칙.pdf",
        page=number + 1,
        section=f"제{number}조",
    )


ORIGINALS = [example(0, question=HOSTILE), *(example(n) for n in range(1, 12))]
PARAPHRASES = [example(n, "paraphrase", o.id) for n, o in enumerate(ORIGINALS)]


def predictions(right, unseen_right=0):
    """12 held-out paraphrases of which `right` are right, and 4 unseen questions."""
    asked = [("held_out_paraphrases", e) for e in PARAPHRASES]
    asked += [("unseen_sections", example(n)) for n in range(20, 24)]
    rows = []
    for system, held_out, unseen in (("base", 0, 0), ("tuned", right, unseen_right)):
        left = {"held_out_paraphrases": held_out, "unseen_sections": unseen}
        for name, asked_example in asked:
            left[name] -= 1
            text = asked_example.answer if left[name] >= 0 else "모릅니다"
            rows.append(grade_prediction(asked_example, name, system, text))
    return rows


class Workshop:
    """Publishes small artifacts of every stage."""

    def __init__(self, folder):
        self.folder = folder
        self.store = Store(folder / "store")

    def open(self, text=PROJECT + VARIANTS):
        path = self.folder / "project.yaml"
        path.write_text(text)
        return open_project(path)

    def publish(self, stage, tables=None, summary=None, config=None, inputs=None, files=None):
        key = digest_value([stage, summary, config, inputs])
        folder = self.store.workspace(stage, key, keep=False)
        for name, (record_type, rows) in (tables or {}).items():
            write_table(folder / f"{name}.parquet", record_type, rows)
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return self.store.publish(stage, 1, key, config or {}, inputs or {}, summary or {})

    def examples_stages(self, language="ko"):
        ocr = {"method": "ocr", "confidence": 90.0, "reason": "no text layer"}
        pages = tuple(
            Page(number=n, start=n - 1, end=n, **(ocr if n in (2, 3, 5) else {"method": "text"}))
            for n in range(1, 7)
        )
        source = "규정/취업 규칙.pdf"
        document = Document(id="d", source=source, text="휴가", pages=pages, language=language)
        chunks = [
            Chunk(
                id=f"c{n}", document_id="d", source=source, text="가" * (50 + n), start=100 * n,
                end=100 * n + 50 + n, page=1, section=f"제{n}조",
            )
            for n in range(5)
        ]  # fmt: skip
        lost = [
            Dropped(example=example(30 + n), rule="near_duplicate", reason="alike", twin=o.id)
            for n, o in enumerate(ORIGINALS[:5])
        ]
        lost.append(Dropped(example=example(40), rule="empty", reason="no answer"))
        reasons = ("evidence supported to 0.31 < 0.90", "evidence supported to 0.52 < 0.90")
        failed = [Failed(subject="c1", request="r", reason=r, reply=HOSTILE) for r in reasons]
        coverage = cover(chunks, ORIGINALS, failed, {})
        misread = DoubtfulRow(
            source="스캔.pdf", page=3, text="부품 48-8ㅅＬ-07", second="HB-BAL-07",
            confidence=61.0, doubt="readings differ",
        )  # fmt: skip
        locked = UnreadableFile(source="잠김.pdf", reason="it has a password.", remedy="Open it.")
        return {
            "load": self.publish(
                "load",
                {
                    "documents": (Document, [document]),
                    "unreadable": (UnreadableFile, [locked]),
                    "doubtful": (DoubtfulRow, [misread]),
                },
                {"copies": {"b.md": "a.md"}, "reordered_pages": 4},
                inputs={"machine:tesseract": "5.3.0"},
            ),
            "chunk": self.publish("chunk", {"chunks": (Chunk, chunks)}),
            "synthesize": self.publish(
                "synthesize",
                {
                    "examples": (Example, ORIGINALS),
                    "failed": (Failed, failed),
                    "coverage": (Coverage, coverage),
                },
                figures(coverage, chunks, ORIGINALS),
            ),
            "curate": self.publish(
                "curate",
                {"examples": (Example, ORIGINALS + PARAPHRASES), "dropped": (Dropped, lost)},
                {"tokens": {"p5": 11, "p50": 22, "p95": 33, "p100": 44}},
            ),
        }

    def models_stages(self, variant, rows, leakage=0.0):
        splits = [SplitExample(example=e, split="train") for e in ORIGINALS]
        splits += [SplitExample(example=e, split="held_out_paraphrases") for e in PARAPHRASES]
        lines = [
            StepMetrics(
                step=step, epoch=1.0, train_loss=8.0 / step, train_mean_token_accuracy=0.5,
                valid_loss=9.0 / step if step == 20 else None, learning_rate=1e-3, grad_norm=1.0,
                trained_tokens=step,
            )
            for step in (10, 20)
        ]  # fmt: skip
        leak = Leak(
            evidence_set="held_out_paraphrases", evaluation_id="e", train_id="t",
            question="사본 질문", train_question="원래 질문", similarity=0.93, kind="near",
        )  # fmt: skip
        tables = {
            "predictions": (Prediction, rows),
            "results": (Result, summarise(rows)),
            "comparisons": (Comparison, compare_systems(rows)),
            "leaks": (Leak, [leak] if leakage else []),
        }
        summary = {
            "publishable": leakage <= 0.01,
            "leakage": {"held_out_paraphrases": leakage},
            "cut_off": {"base": 6, "tuned": 0},
        }
        trained = {"steps": 20, "rows": 12, "trained_tokens": 77}
        files = {
            "metrics.jsonl": "".join(f"{line.model_dump_json()}\n" for line in lines),
            "runtime/training.json": json.dumps(
                {
                    "torch": "2.13.0+made",
                    "device": "cpu",
                    "predicted_memory_bytes": 3 * 2**29,
                    "peak_memory_bytes": 2**31,
                    "layers": {
                        "mode": "compiled",
                        "eager_seconds_per_step": 0.51,
                        "compiled_seconds_per_step": 0.37,
                        "compiling_seconds": 38.2,
                        "break_even_steps": 1273,
                    },
                }
            ),
        }
        mine = {"variant": variant}
        split = {"splits": (SplitExample, splits)}
        config, inputs = {**mine, "max_leakage": 0.01}, {"base": "same"}
        return {
            "split": self.publish("split", split, {"unused": 3}, mine),
            "catalog": self.publish("catalog", None, {"type": "starter", "parameters": 3000}),
            "sft": self.publish("sft", None, trained, mine, files=files),
            "evaluate": self.publish("evaluate", tables, summary, config, inputs),
        }

    def made(self, **rows):
        """{variant: artifacts of every stage}, with these predictions for each variant."""
        shared = self.examples_stages()
        return {name: shared | self.models_stages(name, some) for name, some in rows.items()}
