"""Evaluation in detail: per label, numeric errors, slices, judges, forgetting, changed answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jangin.core.store import Artifact
from jangin.evaluation.forgetting import ForgettingResult
from jangin.evaluation.grounded import Grounding, SearchLimit
from jangin.evaluation.pairwise_judge import PairwiseResult
from jangin.evaluation.recall import Recall
from jangin.evaluation.results import DEFAULT_MEASURE, Comparison, compare_predictions
from jangin.evaluation.select import Candidate
from jangin.evaluation.slices import Slice
from jangin.evaluation.stored import read_predictions, read_results, read_slices
from jangin.evaluation.systems.table import is_trained
from jangin.evaluation.tasks.labels import LabelResult
from jangin.evaluation.tasks.numbers import NumberResult
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.regression import Bands
from jangin.metrics.statistics import bootstrap_mean, holm
from jangin.report.charts import svg as charts
from jangin.report.charts.grades import Guess, confusion, scatter
from jangin.report.data.verdict import HEADLINE
from jangin.report.i18n.translate import Words
from jangin.text.numbers import read_number
from jangin.views.artifacts import Artifacts, Group, groups_of, groups_with, rows_of

MOST_SLICES = 12
MOST_CHANGED = 5
MOST_POINTS = 1_000
POINTS_OF_RUNNING_MEAN = 40


@dataclass(frozen=True, slots=True)
class Changed:
    """A question that exactly one of two systems answered correctly."""

    question: str
    gold: str
    first: str
    """Answer of the first system."""
    second: str
    """Answer of the second system."""
    source: str
    page: int
    section: str


@dataclass(frozen=True, slots=True)
class Rival:
    """Paired comparison of another system with the system that the report is about."""

    system: str
    comparison: Comparison
    """`a` is the other system, `b` the system that the report is about."""
    p_holm: float
    """Exact McNemar p, corrected by Holm over all rivals."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation and the variants that share it."""

    variants: tuple[str, ...]
    labels: list[LabelResult]
    numbers: list[NumberResult]
    same: list[tuple[str, str]]
    """(system, variants that already show the same figures of it)."""
    confusions: list[tuple[str, str]]
    """(system, SVG)."""
    scatters: list[tuple[str, str]]
    running: str
    """SVG of the running mean error; empty without numbers."""
    rivals: list[Rival]
    """Every other system compared with `second`, on the headline test set."""
    slices: list[Slice]
    pairwise: list[PairwiseResult]
    forgetting: list[ForgettingResult]
    recall: list[Recall]
    """How often the index finds the passage of a question."""
    limits: list[SearchLimit]
    """When a search score says that the documents do not have the answer."""
    grounding: list[Grounding]
    """Answers that were given with passages."""
    first: str
    second: str
    """First of the two systems that `gained` and `lost` compare."""
    gained: list[Changed]
    """Questions that only the second system answered correctly; at most `MOST_CHANGED`."""
    lost: list[Changed]
    """Questions that only the first system answered correctly; at most `MOST_CHANGED`."""
    gained_count: int
    lost_count: int


def evaluations(artifacts: Artifacts, words: Words) -> list[Evaluated]:
    """Every distinct evaluation, with its charts; repeated figures are shown once."""
    seen: dict[str, str] = {}
    return [
        _evaluated(index, group, words, seen)
        for index, group in enumerate(groups_of(artifacts, "evaluate"))
    ]


def candidates(artifacts: Artifacts) -> list[tuple[tuple[str, ...], list[Candidate]]]:
    """(variants, candidates) of every table of base models that the stage `select` compared."""
    return [
        (group.variants, rows_of(group.artifact, "candidates", Candidate))
        for group in groups_with(artifacts, "candidates.parquet")
    ]


def _evaluated(index: int, group: Group, words: Words, seen: dict[str, str]) -> Evaluated:
    artifact = group.artifact
    predictions = read_predictions(artifact)
    present = {p.evidence_set for p in predictions}
    headline = next((name for name in HEADLINE if name in present), "")
    mine = [p for p in predictions if p.evidence_set == headline]
    labels = rows_of(artifact, "label_results", LabelResult)
    numbers = rows_of(artifact, "number_results", NumberResult)
    shown = _shown_systems(mine)
    first, second = (shown[0], shown[-1]) if shown else ("", "")
    gained, lost = _changes(mine, first, second)
    drawn = _drawn_systems(shown, [*labels, *numbers], headline)
    graded = [r for r in numbers if r.evidence_set == headline and r.system in drawn]
    same = _repeated([*labels, *numbers], ", ".join(group.variants), seen)
    labels = [row for row in labels if row.system not in same]
    numbers = [row for row in numbers if row.system not in same]
    slices = read_slices(artifact)
    results = read_results(artifact)
    return Evaluated(
        variants=group.variants,
        labels=labels,
        numbers=numbers,
        same=list(same.items()),
        confusions=[
            (row.system, _confusion(f"confusion{index}-{row_index}", row, words))
            for row_index, row in enumerate(labels)
            if row.evidence_set == headline and row.system in drawn
        ],
        scatters=[
            (row.system, _scatter(f"scatter{index}-{row_index}", row.system, mine, artifact, words))
            for row_index, row in enumerate(graded)
            if row.system not in same
        ],
        running=_running(f"running{index}", mine, [r.system for r in graded], words)
        if graded
        else "",
        rivals=_rivals(mine, second, results[0].measure if results else DEFAULT_MEASURE),
        slices=_largest([s for s in slices if s.evidence_set == headline and s.system == second]),
        pairwise=rows_of(artifact, "pairwise", PairwiseResult),
        forgetting=rows_of(artifact, "forgetting", ForgettingResult),
        recall=rows_of(artifact, "recall", Recall),
        limits=rows_of(artifact, "limits", SearchLimit),
        grounding=rows_of(artifact, "grounding", Grounding),
        first=first,
        second=second,
        gained=gained[:MOST_CHANGED],
        lost=lost[:MOST_CHANGED],
        gained_count=len(gained),
        lost_count=len(lost),
    )


def _repeated(
    rows: Sequence[LabelResult | NumberResult], variants: str, seen: dict[str, str]
) -> dict[str, str]:
    """{system: variants} of systems whose figures those variants already show; updates `seen`.

    These are baselines and base models on the same test set. Trained systems are never left out:
    two trainings with the same figures are worth showing.
    """
    repeated = {}
    for system in dict.fromkeys(row.system for row in rows):
        figures = repr([row for row in rows if row.system == system])
        if figures in seen and not is_trained(system):
            repeated[system] = seen[figures]
        seen.setdefault(figures, variants)
    return repeated


def _shown_systems(predictions: Sequence[Prediction]) -> list[str]:
    """The base (otherwise the first system) and the tuned system (otherwise the last)."""
    systems = list(dict.fromkeys(p.system for p in predictions))
    first = "base" if "base" in systems else systems[0] if systems else ""
    last = "tuned" if "tuned" in systems else systems[-1] if systems else ""
    return list(dict.fromkeys(name for name in (first, last) if name))


def _drawn_systems(
    shown: Sequence[str], rows: Sequence[LabelResult | NumberResult], headline: str
) -> list[str]:
    """The shown systems and the best other one, without those with over half unparsable answers."""
    readable = [r for r in rows if r.evidence_set == headline and 2 * r.unparsable <= r.n]
    others = [row for row in readable if row.system not in shown]
    best = max(others, key=_grade, default=None)
    names = [*shown, *([best.system] if best else [])]
    return [row.system for row in readable if row.system in names]


def _grade(row: LabelResult | NumberResult) -> float:
    return row.accuracy if isinstance(row, LabelResult) else -(row.mean_error or 0.0)


def _rivals(predictions: Sequence[Prediction], system: str, measure: str) -> list[Rival]:
    """One comparison per other system; none for two systems, which the result table covers."""
    answers: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        answers.setdefault(prediction.system, []).append(prediction)
    if len(answers) < 3:
        return []
    mine = answers.pop(system)
    comparisons = [
        compare_predictions(theirs, mine, measure=measure) for theirs in answers.values()
    ]
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [Rival(c.a, c, p) for c, p in zip(comparisons, corrected, strict=True)]


def _changes(
    predictions: Sequence[Prediction], first: str, second: str
) -> tuple[list[Changed], list[Changed]]:
    """(questions that only `second` answered correctly, questions that only `first` did)."""
    before = {p.example_id: p for p in predictions if p.system == first}
    gained: list[Changed] = []
    lost: list[Changed] = []
    for after in predictions:
        if after.system != second or first == second:
            continue
        earlier = before[after.example_id]
        if after.right != earlier.right:
            changed = Changed(
                question=after.question,
                gold=after.gold,
                first=earlier.prediction,
                second=after.prediction,
                source=after.source,
                page=after.page,
                section=after.section,
            )
            (gained if after.right else lost).append(changed)
    return gained, lost


def _largest(slices: Sequence[Slice]) -> list[Slice]:
    """The `MOST_SLICES` largest slices of each dimension."""
    kept: list[Slice] = []
    for dimension in dict.fromkeys(s.dimension for s in slices):
        part = [s for s in slices if s.dimension == dimension]
        largest = sorted(part, key=lambda s: -s.n)[:MOST_SLICES]
        if dimension == "label":  # ordinal labels such as 1 to 5 stars
            largest.sort(key=lambda s: s.value)
        elif dimension == "length":
            largest.sort(key=lambda s: _length(s.value))
        kept += largest
    return kept


def _length(part: str) -> tuple[int, bool]:
    """Sort key of `≤ 45`, `46–59` and `> 59`."""
    return int(re.findall(r"\d+", part)[0]), part.startswith(">")


def _bands(artifact: Artifact) -> Bands:
    task: Mapping[str, Any] = artifact.manifest.config.get("task") or {}
    names = ("green", "green_share", "orange", "orange_share")
    return Bands(**{name: float(task[name]) for name in names if name in task})


def _confusion(name: str, row: LabelResult, words: Words) -> str:
    return confusion(
        name,
        words("confusion"),
        words("confusion_description"),
        row.labels,
        row.confusion,
        (words("truth"), words("given"), words("unparsable_answers")),
    )


def _scatter(
    name: str, system: str, predictions: Sequence[Prediction], artifact: Artifact, words: Words
) -> str:
    bands, guesses = _bands(artifact), []
    task: Mapping[str, Any] = artifact.manifest.config.get("task") or {}
    decimal = task.get("decimal", "point")
    for prediction in predictions:
        truth = read_number(prediction.gold, decimal)
        guess = read_number(prediction.prediction, decimal)
        if prediction.system == system and truth is not None and guess is not None:
            label = f"{truth:,.6g} → {guess:,.6g}: {prediction.question[-60:]}"
            guesses.append(Guess(truth, guess, bands.band(guess, truth), label))
    text = words("scatter_description", n=len(guesses))
    axes = (words("truth"), words("given"))
    return scatter(name, words("scatter"), text, guesses[:MOST_POINTS], axes)


def _running(
    name: str, predictions: Sequence[Prediction], systems: Sequence[str], words: Words
) -> str:
    """Chart of the mean error over the first n questions, with its 95 % interval dashed."""
    lines = []
    for colour, system in enumerate(systems):
        errors = [p.score for p in predictions if p.system == system and p.score is not None]
        if not errors:
            continue
        stride = max(1, len(errors) // POINTS_OF_RUNNING_MEAN)
        counts = sorted({*range(stride, len(errors) + 1, stride), len(errors)})
        means = {
            n: bootstrap_mean(errors[:n], list(map(str, range(n))), resamples=500) for n in counts
        }
        label = words.system(system)
        lines.append(charts.Curve(label, _points(means, "estimate"), colour))
        for end in ("low", "high"):
            part = f"{label} · 95 % {words(f'end_{end}')}"
            lines.append(charts.Curve(part, _points(means, end), colour, dashed=True))
    return charts.curves(
        name, words("running"), words("running_description"), lines, words("questions")
    )


def _points(means: Mapping[int, Any], end: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(n), float(getattr(mean, end))) for n, mean in means.items())
