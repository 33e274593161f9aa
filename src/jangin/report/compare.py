"""`jangin compare`: the variants in one table, each tested against a baseline."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args

from jangin import __version__
from jangin.core.errors import ConfigError, DataError, counted
from jangin.core.store import Artifact
from jangin.evaluation.grade_labels import people_decide
from jangin.evaluation.results import SIGNIFICANT, Comparison, Result, compare_predictions
from jangin.evaluation.stored import read_predictions, read_results, reading_once
from jangin.evaluation.tasks.task import Prediction, TestSet
from jangin.metrics.scores.table import find_metric
from jangin.metrics.statistics import holm
from jangin.project.file import LoadedProject
from jangin.project.stages import STAGES
from jangin.report.data.results import VariantCost
from jangin.report.data.verdict import HEADLINE, leaked_sets
from jangin.report.data.wordings import means_of, similarity_of_all, similarity_text
from jangin.report.i18n.translate import Language, Words, p_text
from jangin.report.page import forest_of, render_page, training_charts
from jangin.text.wordings import WordingSimilarity
from jangin.views.artifacts import (
    METRICS,
    Artifacts,
    differences,
    groups_with,
    guess_language,
)
from jangin.views.curves import EMPTY, trainings

TRAINED = ("steps", "trained_tokens", "train_loss", "valid_loss", "valid_accuracy")


@dataclass(frozen=True, slots=True)
class Measured:
    """One variant on one test set."""

    result: Result
    against: Comparison | None = None
    """The chosen variant (a) and this one (b); None for the chosen one itself."""
    p_holm: float | None = None
    p_unclear: float | None = None
    """The same with every unclear answer against the better system."""
    """McNemar's p, corrected for every comparison of the table."""
    score_p_holm: float | None = None
    """The permutation test's p of the mean score, corrected in the same way."""

    @property
    def hangs_on_unclear(self) -> bool:
        """True for a significant difference that unclear answers could turn."""
        return (self.p_holm or 0) < SIGNIFICANT <= (self.p_unclear or 0)


@dataclass(frozen=True, slots=True)
class VariantRow:
    """Settings, cost and results of one variant."""

    variant: str
    settings: Mapping[str, str]
    """Only the keys in which variants differ."""
    seconds: float
    """Of all its stages; a stage that variants share ran once and counts for each, as its cost."""
    cost: VariantCost
    steps: int | None
    """Of all its trainings together, as are the tokens."""
    trained_tokens: int | None
    train_loss: float | None
    """Nats per trained token, last measured."""
    valid_loss: float | None
    valid_accuracy: float | None
    """Share of validation tokens that were the first choice, last measured."""
    measured: Mapping[TestSet, Measured] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OtherQuestions:
    """A variant that was not asked the questions of the baseline."""

    variant: str
    baseline: str
    cause: str
    """From `find_cause`."""
    shared: Mapping[TestSet, tuple[int, int]]
    """{test set: (number of questions that both were asked, that this variant was asked)}."""

    def text(self, words: Words) -> str:
        """A sentence in one language."""
        parts = [
            words("compare_shared", set=_set_name(name, words), shared=shared, count=count)
            for name, (shared, count) in self.shared.items()
        ]
        return words(
            "compare_other_questions",
            variant=self.variant,
            baseline=self.baseline,
            cause=words.reason(self.cause),
            parts=", ".join(parts),
        )


def _set_name(name: TestSet, words: Words) -> str:
    """Name of a test set: as in files and terminals in English, translated in Korean."""
    return name.replace("_", " ") if words.language == "en" else words(f"name_{name}")


@dataclass(frozen=True, slots=True)
class ComparedVariants:
    """The whole table."""

    name: str
    system: str
    baseline: str
    rows: list[VariantRow]
    leaked: Mapping[str, Mapping[str, float]]
    """{variant: {test set: share that copies training questions}} over the limit."""
    other_questions: Mapping[str, OtherQuestions] = field(default_factory=dict)
    """{variant: why it was asked other questions than the baseline, and what was compared}."""
    similarity: Mapping[str, WordingSimilarity] = field(default_factory=dict)
    """{test set: how like its wordings are to trained ones}."""

    @property
    def test_sets(self) -> list[TestSet]:
        """Test sets of any variant, in the order of `HEADLINE`."""
        present = {name for row in self.rows for name in row.measured}
        return [name for name in HEADLINE if name in present]

    @property
    def measure(self) -> str:
        """Name of the metric of the second figure of every variant."""
        return next(m.result.measure for row in self.rows for m in row.measured.values())

    @property
    def has_unparsable(self) -> bool:
        """True if any answer could not be parsed, so that the page shows a column for it."""
        return any(one.result.unparsable for row in self.rows for one in row.measured.values())

    @property
    def has_form(self) -> bool:
        """True if answers are texts, whose form is a column of its own."""
        measured = [m for row in self.rows for m in row.measured.values()]
        return any(m.result.form is not None for m in measured)

    @property
    def comparisons(self) -> int:
        """Number of p-values that the correction is for."""
        return sum(m.p_holm is not None for row in self.rows for m in row.measured.values())


def compare_variants(
    loaded: LoadedProject,
    artifacts: Artifacts,
    seconds: Mapping[str, float],
    costs: Mapping[str, VariantCost],
    baseline: str | None = None,
    system: str = "tuned",
) -> ComparedVariants:
    """Compare every evaluated variant with `baseline`, by default the first.

    Variants that were asked other questions are compared on those that both were asked.

    Raises:
        ConfigError: there is no variant `baseline`.
        DataError: nothing was evaluated, or not with `system`.

    """
    evaluated = [name for name, stages in artifacts.items() if "evaluate" in stages]
    chosen = baseline or (evaluated[0] if evaluated else "")
    if baseline is not None and baseline not in loaded.variants:
        known = ", ".join(loaded.variants)
        raise ConfigError(f"{loaded.path} has no variant {baseline!r}. Known variants: {known}.")
    if chosen not in evaluated:
        why = f"{chosen} has no evaluation yet" if chosen else "no variant has an evaluation yet"
        raise DataError(
            f"there is nothing to compare: {why}. Run it with: jangin run --project {loaded.path}"
        )
    with people_decide(loaded.folder), reading_once():
        predictions = {
            name: _predictions(artifacts[name]["evaluate"], system, name) for name in evaluated
        }
        measured = {
            name: _measure(artifacts[name]["evaluate"], system, name, chosen, predictions)
            for name in evaluated
        }
    corrected = _corrected(measured)
    differ = differences(loaded.variants)
    rows = [
        VariantRow(
            variant=name,
            settings={key: values.get(name, "") for key, values in differ},
            seconds=seconds.get(name, 0.0),
            cost=costs[name],
            measured=corrected.get(name, {}),
            **_training(name, artifacts),
        )
        for name in artifacts
    ]
    leaked = {name: leaked_sets(artifacts[name]["evaluate"]) for name in evaluated}
    return ComparedVariants(
        loaded.name,
        system,
        chosen,
        rows,
        {k: v for k, v in leaked.items() if v},
        _other_questions(measured, artifacts, chosen),
        similarity_of_all(artifacts),
    )


def refuse_leaks(table: ComparedVariants) -> None:
    """Raise `DataError` where published figures would rest on questions that were trained on."""
    for variant, sets in table.leaked.items():
        for name, share in sets.items():
            raise DataError(
                f"{variant}: {share:.1%} of {name} copy training questions, so these figures must "
                "not be published. See the pairs with `jangin show leaks`, then raise the "
                "distance in split or drop the copies in curate."
            )


def _predictions(artifact: Artifact, system: str, variant: str) -> dict[TestSet, list[Prediction]]:
    by_set: dict[TestSet, list[Prediction]] = {}
    systems = []
    for prediction in read_predictions(artifact):
        systems.append(prediction.system)
        if prediction.system == system:
            by_set.setdefault(prediction.evidence_set, []).append(prediction)
    if not by_set:
        known = ", ".join(dict.fromkeys(systems))
        raise DataError(
            f"variant {variant} was not evaluated with the system {system!r}. "
            f"Known systems: {known}. Name one with --system."
        )
    return by_set


def _measure(
    artifact: Artifact,
    system: str,
    variant: str,
    baseline: str,
    predictions: Mapping[str, Mapping[TestSet, Sequence[Prediction]]],
) -> dict[TestSet, Measured]:
    results = read_results(artifact)
    by_set: dict[TestSet, Measured] = {}
    for result in results:
        if result.system != system:
            continue
        name = result.evidence_set
        theirs = predictions[baseline].get(name)
        against = None
        if variant != baseline and theirs is not None:
            pairs = _shared(theirs, predictions[variant][name])
            against = compare_predictions(*pairs, measure=result.measure) if pairs[0] else None
        by_set[name] = Measured(result, against)
    return by_set


def _shared(
    theirs: Sequence[Prediction], mine: Sequence[Prediction]
) -> tuple[list[Prediction], list[Prediction]]:
    """Predictions of both systems on the questions they share, matched by question and answer.

    All of them where the questions are the same.
    """
    if {p.example_id for p in theirs} == {p.example_id for p in mine}:
        return list(theirs), list(mine)
    ours = {(p.question, p.gold): p for p in mine}
    pairs = {(p.question, p.gold): p for p in theirs if (p.question, p.gold) in ours}
    return list(pairs.values()), [ours[key] for key in pairs]


def _other_questions(
    measured: Mapping[str, Mapping[TestSet, Measured]], artifacts: Artifacts, baseline: str
) -> dict[str, OtherQuestions]:
    """The variants that were not asked the questions of the baseline, by name."""
    others = {}
    for variant, sets in measured.items():
        counts: dict[TestSet, tuple[int, int]] = {}
        for name, row in sets.items():
            theirs = measured[baseline].get(name)
            if variant == baseline or theirs is None:
                continue
            shared = row.against.n if row.against else 0
            if shared < max(row.result.n, theirs.result.n):
                counts[name] = (shared, row.result.n)
        if counts:
            cause = find_cause(artifacts[baseline], artifacts[variant])
            others[variant] = OtherQuestions(variant, baseline, cause, counts)
    return others


def find_cause(theirs: Mapping[str, Artifact], mine: Mapping[str, Artifact]) -> str:
    """The first stage after the documents in which two variants differ, in words."""
    for stage in STAGES:
        one, two = theirs.get(stage.name), mine.get(stage.name)
        if stage.name in ("load", "catalog") or stage.name not in {**theirs, **mine}:
            continue
        if one is None or two is None:
            return f"because only one of them has {stage.name}"
        if one.manifest.content == two.manifest.content:
            continue
        bases = (one.manifest.inputs.get("base"), two.manifest.inputs.get("base"))
        if stage.name == "chunk" and bases[0] != bases[1]:
            return (
                "because chunks are limited in tokens of the base model and their base models "
                "differ; `documents: chunk: {measure: characters}` gives both the same chunks"
            )
        return f"because their {stage.name} differs"
    return "because their examples differ"


def _corrected(
    measured: Mapping[str, Mapping[TestSet, Measured]],
) -> dict[str, dict[TestSet, Measured]]:
    """The same with Holm's p for the whole family of comparisons, for each of the tests."""
    pairs = [
        (variant, name, row.against)
        for variant, sets in measured.items()
        for name, row in sets.items()
        if row.against is not None
    ]
    scored = [pair for pair in pairs if pair[2].score_n]
    right = holm([comparison.p_value for *_, comparison in pairs])
    unclear = holm([c.p_value if c.p_unclear is None else c.p_unclear for *_, c in pairs])
    score = holm([comparison.score_p for *_, comparison in scored])
    of_right = {pair[:2]: p for pair, p in zip(pairs, right, strict=True)}
    of_unclear = {pair[:2]: p for pair, p in zip(pairs, unclear, strict=True)}
    of_score = {pair[:2]: p for pair, p in zip(scored, score, strict=True)}
    return {
        variant: {
            name: replace(
                row,
                p_holm=of_right.get((variant, name)),
                p_unclear=of_unclear.get((variant, name)),
                score_p_holm=of_score.get((variant, name)),
            )
            for name, row in sets.items()
        }
        for variant, sets in measured.items()
    }


def _training(variant: str, artifacts: Artifacts) -> dict[str, Any]:
    """Steps and tokens of all trainings of a variant, and the losses of the last one.

    Losses of preference training are per pair: they are not comparable and are left out.
    """
    trained = [
        group.artifact.manifest.summary
        for group in groups_with({variant: artifacts[variant]}, METRICS)
    ]
    steps = [summary["steps"] for summary in trained if "steps" in summary]
    tokens = [summary["trained_tokens"] for summary in trained if "trained_tokens" in summary]
    on_tokens = [t for t in trainings({variant: artifacts[variant]}) if not t.on_pairs]
    curves = on_tokens[-1].curves if on_tokens else EMPTY
    return {
        "steps": sum(steps) if steps else None,
        "trained_tokens": sum(tokens) if tokens else None,
        "train_loss": curves.last("train_loss"),
        "valid_loss": curves.last("valid_loss"),
        "valid_accuracy": curves.last("valid_mean_token_accuracy"),
    }


def _cost(cost: VariantCost) -> dict[str, Any]:
    return {
        "cost": cost.text(Words("en")),
        "cost_usd": cost.usd,
        "model_calls": cost.bill.calls,
        "unpriced_calls": cost.bill.unpriced,
        "recorded_calls": cost.bill.recorded,
    }


def flat_rows(table: ComparedVariants) -> list[dict[str, Any]]:
    """One flat row per variant and test set, for CSV and JSON."""
    rows = []
    for row in table.rows:
        head = {"variant": row.variant, "seconds": row.seconds, **_cost(row.cost)}
        head |= {name: getattr(row, name) for name in TRAINED}
        for name in table.test_sets or [cast(TestSet, "")]:
            measured = row.measured.get(name)
            against = measured.against if measured else None
            result = measured.result if measured else None
            rows.append(
                {
                    **head,
                    **row.settings,
                    "evidence_set": name,
                    "n": result.n if result else None,
                    "right": result.right if result else None,
                    "right_low": result.right_low if result else None,
                    "right_high": result.right_high if result else None,
                    "form": result.form if result else None,
                    "form_low": result.form_low if result else None,
                    "form_high": result.form_high if result else None,
                    "measure": result.measure if result else None,
                    "score": result.score if result else None,
                    "unparsable": result.unparsable if result else None,
                    "baseline": table.baseline,
                    "only_baseline": against.only_a if against else None,
                    "only_this": against.only_b if against else None,
                    "p_value": against.p_value if against else None,
                    "p_holm": measured.p_holm if measured else None,
                    "score_gain": against.score_gain if against else None,
                    "score_gain_low": against.score_gain_low if against else None,
                    "score_gain_high": against.score_gain_high if against else None,
                    "score_p": against.score_p if against else None,
                    "score_p_holm": measured.score_p_holm if measured else None,
                }
            )
    return rows


def sentences(table: ComparedVariants) -> list[str]:
    """What the table means, one line for each variant and test set, in plain words."""
    lines = [other.text(Words("en")) for other in table.other_questions.values()]
    for row in table.rows:
        for name in table.test_sets:
            measured = row.measured.get(name)
            if measured is None or measured.against is None or measured.p_holm is None:
                continue
            comparison = measured.against
            points = 100 * (comparison.right_b - comparison.right_a)
            of_facts = "" if comparison.form_a is None else " in the facts"
            p = f"{p_text(measured.p_holm)}, corrected"
            better = "better" if points > 0 else "worse"
            change = f"{row.variant} is {abs(points):.1f} points {better} than "
            change += f"{table.baseline}{of_facts}"
            if not points:
                verdict = f"{row.variant} and {table.baseline} are right equally often ({p})"
            elif measured.hangs_on_unclear:
                verdict = f"{change}, which is open until someone reads the answers that the rules "
                verdict += f"could not grade ({p})"
            elif measured.p_holm < SIGNIFICANT:
                verdict = f"{change}, and the difference is statistically significant ({p})"
            else:
                verdict = f"{change}, but the difference could be due to chance ({p})"
            if comparison.smallest_visible is None:
                verdict += (
                    f"; {counted(comparison.n, 'question is', 'questions are')} too few to show "
                    "any difference"
                )
            lines.append(f"{Words('en')(f'name_{name}')}: {verdict}.")
            if find_metric(comparison.measure).gold != "text" and measured.score_p_holm is not None:
                change = _score_change(row.variant, table, comparison, measured.score_p_holm)
                lines.append(f"{Words('en')(f'name_{name}')}: {change}")
    return lines


def similarity_lines(table: ComparedVariants, words: Words) -> list[str]:
    """How like the held-out wordings are to trained ones, a line for each test set of them."""
    return [
        f"{words(f'name_{name}')}: {similarity_text(table.similarity[name], words)}"
        for name in table.test_sets
        if name in table.similarity
    ]


def page_sentences(table: ComparedVariants, words: Words) -> list[str]:
    """The change of the share of right answers of each variant, in the language of the page."""
    lines = [other.text(words) for other in table.other_questions.values()]
    for row in table.rows:
        for name in table.test_sets:
            measured = row.measured.get(name)
            if measured is None or measured.against is None or measured.p_holm is None:
                continue
            difference = measured.against.right_b - measured.against.right_a
            better = "better" if difference > 0 else "worse"
            chance = "real" if measured.p_holm < SIGNIFICANT else "chance"
            if measured.hangs_on_unclear:
                chance = "unclear"
            key = f"compare_{better}_{chance}" if difference else "compare_equal"
            change = words(
                key,
                variant=row.variant,
                baseline=table.baseline,
                points=words.points(abs(difference)),
            )
            p = p_text(measured.p_holm)
            lines.append(words("compare_sentence", set=words(f"name_{name}"), change=change, p=p))
    return lines


def _score_change(
    variant: str, table: ComparedVariants, comparison: Comparison, p_holm: float
) -> str:
    """The change of the score, for tasks where right or wrong is not the whole result."""
    metric = find_metric(comparison.measure)
    direction = "higher is better" if metric.higher_is_better else "lower is better"
    measure = f"{metric.display['en'].lower()} ({direction})"
    less, more = ("lower", "higher") if metric.is_share else ("smaller", "larger")

    def change(gain: float) -> str:
        return f"{abs(gain):,.{metric.digits}f} {more if gain > 0 else less}"

    gain = f"{change(comparison.score_gain)} than" if comparison.score_gain else "equal to"
    low, high = sorted((comparison.score_gain_low, comparison.score_gain_high), key=abs)
    significant = p_holm < SIGNIFICANT
    verdict = "is statistically significant" if significant else "could be due to chance"
    return (
        f"the {measure} of {variant} is {gain} that of {table.baseline} "
        f"(95 % interval {change(low)} to {change(high)}): the difference {verdict} (permutation "
        f"{p_text(p_holm)}, corrected)."
    )


def as_json(table: ComparedVariants) -> str:
    """The table as JSON."""
    data = {
        "project": table.name,
        "system": table.system,
        "baseline": table.baseline,
        "jangin": __version__,
        "leaked": table.leaked,
        "rows": flat_rows(table),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def as_csv(table: ComparedVariants) -> str:
    """The table as CSV with one header line."""
    rows = flat_rows(table)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_html(table: ComparedVariants, artifacts: Artifacts, language: str) -> str:
    """One self-contained page: the table, its bars, and all curves on one chart each."""
    if language not in ("auto", *get_args(Language)):
        raise ConfigError(f"there is no page in {language!r}. Choose ko, en or auto.")
    language = guess_language(artifacts) if language == "auto" else language
    words = Words(cast(Language, language))
    rows = [
        {"variant": row.variant, **row.measured[name].result.model_dump()}
        for name in table.test_sets
        for row in table.rows
        if name in row.measured
    ]
    keys = list(dict.fromkeys(key for row in table.rows for key in row.settings))
    return render_page(
        "compare.html.jinja",
        {
            "words": words,
            "p_text": p_text,
            "table": table,
            "keys": keys,
            "means": {name: means_of(name, table.similarity, words) for name in table.test_sets},
            "sentences": sentences(table) if language == "en" else page_sentences(table, words),
            "forest_chart": forest_of(rows, words),
            "curve_charts": training_charts(artifacts, words),
            "version": __version__,
        },
    )
