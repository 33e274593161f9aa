"""What an export as GGUF costs in points: its answers to evaluation questions, graded and compared.

The unquantized model's answers are those of the evaluation artifact, to the same questions.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from jangin.core.digest import digest_value
from jangin.core.errors import StoreError
from jangin.core.events import Progress
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Example, Record, SplitExample
from jangin.core.store import Artifact
from jangin.evaluation.evaluate import EvaluateConfig
from jangin.evaluation.results import (
    Comparison,
    compare_systems,
    evidence_of,
    grade_prediction,
)
from jangin.evaluation.stored import read_predictions
from jangin.evaluation.tasks.task import Prediction, golds_of_same_prompt
from jangin.metrics.statistics import wilson_interval
from jangin.project.session import Session

FILE = "quantization.json"
FOLDER = "exports"
"""In the store: for each model, what its files cost, for the report."""
_UNQUANTIZED = "tuned"
_CONTEXT = 4096


class QuantizationCost(Record):
    """A GGUF file that was asked the questions of the evaluation."""

    file: str
    bytes: int
    comparisons: tuple[Comparison, ...]
    """`a` is the model before, `b` the file."""


def measure_gguf(
    session: Session, variant: str, file: Path, questions: int, progress: Progress
) -> list[Comparison]:
    """Ask the GGUF file at most this many of the questions that the tuned model was asked.

    Held-out questions come first. Writes the comparisons to quantization.json beside the file, to
    the model card and, for the report, into the store; returns them, none where the variant has no
    evaluation of the tuned model.

    Raises `MachineError` where llama.cpp cannot load the file, `LlamaCppCrashError` where it dies.
    """
    config = session.project.variants[variant].models.evaluate
    evaluation = session.artifacts(variant).get("evaluate")
    if config is None or evaluation is None:
        return []
    before = read_predictions(evaluation)
    before = _drawn([p for p in before if p.system == _UNQUANTIZED], questions, config.seed)
    if not before:
        return []
    rows = read_table(session.find(variant, "split").path / "splits.parquet", SplitExample)
    after = _answers(session, variant, file, before, rows, config, progress)
    comparisons = compare_systems([*before, *after], config.seed, config.task.metric)
    content = [row.model_dump(mode="json") for row in comparisons]
    (file.parent / FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
    _keep(session.maker(variant, "model"), file, comparisons)
    with (file.parent / "README.md").open("a", encoding="utf-8") as card:
        card.write(f"\n## Cost of this format\n\n{describe(comparisons)}\n")
    return comparisons


def _keep(model: Artifact, file: Path, comparisons: Sequence[Comparison]) -> None:
    cost = QuantizationCost(
        file=file.name, bytes=file.stat().st_size, comparisons=tuple(comparisons)
    )
    folder = _folder_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{file.name}.json").write_text(cost.model_dump_json(indent=2), encoding="utf-8")


def quantization_costs(model: Artifact) -> list[QuantizationCost]:
    """What was measured on the GGUF files of a model, by file name.

    Raises:
        StoreError: a record cannot be read.

    """
    costs = []
    for path in sorted(_folder_of(model).glob("*.json")):
        try:
            costs.append(QuantizationCost.model_validate_json(path.read_bytes()))
        except ValueError as error:
            raise StoreError(
                f"{path} is damaged. Delete it, and measure the file again with `jangin merge`."
            ) from error
    return costs


def _folder_of(model: Artifact) -> Path:
    stage_folder = model.path.parent
    return stage_folder.parent / FOLDER / f"{stage_folder.name}-{model.path.name}"


def describe(comparisons: Sequence[Comparison]) -> str:
    """Markdown table of both models' shares of right answers, with Wilson's interval."""
    lines = [
        "| questions | n | model | right (95 %) | file | right (95 %) | points | p (McNemar) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in comparisons:
        shares = []
        for share in (row.right_a, row.right_b):
            interval = wilson_interval(round(share * row.n), row.n)
            shares.append(f"{share:.1%} ({interval.low:.1%} to {interval.high:.1%})")
        points = 100 * (row.right_b - row.right_a)
        cells = (row.evidence_set, row.n, row.a, shares[0], row.b, shares[1], f"{points:+.1f}")
        lines.append(f"| {' | '.join(map(str, cells))} | {row.p_value:.3g} |")
    return "\n".join(lines)


def _drawn(predictions: Sequence[Prediction], questions: int, seed: int) -> list[Prediction]:
    """A seeded sample, held-out questions before training questions."""
    order = sorted(
        predictions,
        key=lambda p: (
            p.evidence_set == "seen_questions",
            digest_value([seed, "gguf", p.example_id]),
        ),
    )
    return order[:questions]


def _stops(model: Path) -> frozenset[int]:
    """Tokens that end an answer: those of the generation config that training wrote."""
    for name in ("model", "adapter"):
        path = model / name / "generation_config.json"
        if path.exists():
            listed = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            return frozenset(listed if isinstance(listed, list) else [listed])
    return frozenset()


def _answers(
    session: Session,
    variant: str,
    file: Path,
    before: Sequence[Prediction],
    rows: Sequence[SplitExample],
    config: EvaluateConfig,
    progress: Progress,
) -> list[Prediction]:
    from jangin.inference.llama_cpp import GgufModel
    from jangin.inference.reasoning import AnswerReader
    from jangin.models.loading import load_tokenizer
    from jangin.models.tokens.chat_template import render_prompt

    folder = session.maker(variant, "model").path
    tokenizer = load_tokenizer(folder)
    stops = _stops(folder)
    examples: dict[str, Example] = {row.example.id: row.example for row in rows}
    golds = golds_of_same_prompt(rows) if config.task.gold == "text" else {}
    chunk = session.artifacts(variant).get("chunk")
    chunks = read_table(chunk.path / "chunks.parquet", Chunk) if chunk is not None else []
    evidence = evidence_of(examples.values(), chunks)
    reader, graded = AnswerReader(tokenizer), []
    bar = progress.start(f"answer with {file.name}", len(before))
    with GgufModel(file, _CONTEXT) as model:
        for each in before:
            example = examples[each.example_id]
            prompt = render_prompt(tokenizer, example.prompt)
            ids = model.answer(prompt, config.max_new_tokens, stops)
            text = tokenizer.decode(ids, skip_special_tokens=True).strip()
            answer = reader.read(prompt, ids, text)
            graded.append(
                grade_prediction(
                    example,
                    each.evidence_set,
                    file.name,
                    answer.text,
                    finished=bool(ids) and ids[-1] in stops,
                    reasoning=answer.reasoning,
                    reasoning_tokens=answer.reasoning_tokens,
                    reasoning_ended=answer.reasoning_ended,
                    other_golds=golds.get(example.id, ()),
                    task=config.task,
                    evidence=evidence[example.id],
                )
            )
            progress.advance(bar)
    progress.stop(bar)
    return graded
