"""The verdict: the result of a project in one sentence for readers without statistics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jangin.core.store import Artifact
from jangin.evaluation.blind_judgements import (
    LOG,
    BlindLine,
    BlindStanding,
    Contestant,
    Judged,
    ShownAnswer,
    collect_judgements,
    read_judgements,
    standings,
)
from jangin.evaluation.grade_labels import LOG as GRADES
from jangin.evaluation.grade_labels import (
    CheckedGrades,
    CheckedJudge,
    check_grades,
    check_judges,
    graded_answers,
    judge_opinions,
    read_labels,
)
from jangin.evaluation.results import SIGNIFICANT, Comparison
from jangin.evaluation.stored import read_comparisons, read_opinions, read_predictions
from jangin.evaluation.systems.table import is_trained, uses_language_model
from jangin.evaluation.tasks.task import TestSet
from jangin.metrics.agreement import ENOUGH, Agreement, Calibration
from jangin.metrics.statistics import Interval, wilson_interval
from jangin.report.data.results import SHARED, Results
from jangin.report.i18n.translate import Words, p_text
from jangin.views.artifacts import Artifacts

HEADLINE: tuple[TestSet, ...] = (
    "test",
    "held_out_styles",
    "held_out_paraphrases",
    "unseen_sections",
    "seen_questions",
)
"""Test sets in order of preference: the verdict is about the first that was evaluated."""

FEW = 20
"""Number of questions below which only differences above 30 points can be significant."""

RELEVANT = 0.1
"""Difference of shares that matters in practice.

A test set that cannot detect it is too small to show that two systems are equally good.
"""

Tone = Literal["good", "unsure", "bad", "none"]


@dataclass(frozen=True, slots=True)
class Headline:
    """The sentence, further sentences, and the tone that sets the colour."""

    tone: Tone
    text: str
    more: tuple[str, ...] = ()
    has_unclear: bool = False
    """True if people should read answers that the rules could not grade."""


def judge(results: Results, evaluations: Mapping[str, Artifact], words: Words) -> Headline:
    """The verdict over all evaluated variants; leaked test questions take precedence."""
    if not evaluations:
        return Headline("none", words("no_evaluation"))
    leak = _leak(evaluations, words)
    if leak is not None:
        return leak
    tuned = [row for row in results.rows if row["system"] == "tuned"]
    headline = next((s for s in HEADLINE if any(r["evidence_set"] == s for r in tuned)), None)
    if headline is None:
        return Headline("none", words("no_tuned"))
    rows = [row for row in results.rows if row["evidence_set"] == headline]
    tuned = sorted(
        (row for row in rows if row["system"] == "tuned"), key=lambda row: -float(row["right"])
    )
    if len(tuned) == 1:
        verdict = _one_variant(tuned[0], rows, words)
    else:
        verdict = _variants(tuned, rows, results, words)
    questions = int(tuned[0]["n"])
    if questions < FEW and verdict.tone in ("unsure", "none"):
        verdict = replace(verdict, text=f"{verdict.text} {words('too_few', n=questions)}")
    comparisons = read_comparisons(evaluations[tuned[0]["variant"]])
    verdict = _with_unclear(verdict, rows, words)
    verdict = _with_form(verdict, tuned[0], _base_of(tuned[0], rows), words)
    return _beside_others(verdict, tuned[0], rows, comparisons, words)


def _with_unclear(verdict: Headline, rows: Sequence[Mapping[str, Any]], words: Words) -> Headline:
    """The verdict with how many answers the rules cannot judge, of which system."""
    unclear = [row for row in rows if row.get("unclear")]
    if not unclear:
        return verdict
    most = max(unclear, key=lambda row: int(row["unclear"]) / int(row["n"]))
    system = words.system(most["system"])
    if len({row["variant"] for row in rows}) > 1:
        system = f"{most['variant']} · {system}"
    text = words(
        "unclear_answers",
        count=sum(int(row["unclear"]) for row in unclear),
        n=sum(int(row["n"]) for row in rows),
        system=system,
        share=words.percent(most["right"]),
        most=words.percent(most["right"] + int(most["unclear"]) / int(most["n"])),
    )
    return replace(verdict, more=(text, *verdict.more), has_unclear=True)


def _with_form(
    verdict: Headline,
    tuned: Mapping[str, Any],
    base: Mapping[str, Any] | None,
    words: Words,
) -> Headline:
    """The verdict with what right means, and how many answers have the form as taught."""
    if tuned.get("form") is None:
        return verdict
    share = words.percent(tuned["form"])
    text = words("form_was", share=share)
    if base is not None and base.get("form") is not None:
        text = words("form_were", share=share, base=words.percent(base["form"]))
    return replace(verdict, more=(text, *verdict.more))


def _beside_others(
    verdict: Headline,
    tuned: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    words: Words,
) -> Headline:
    """The verdict with a sentence each on the best systems without a language model, or training.

    The tone `good` becomes `unsure` unless the tuned model is significantly better than both.
    """
    simple = [row for row in rows if not uses_language_model(row["system"])]
    untrained = [
        row
        for row in rows
        if row not in simple and row["system"] != "base" and not is_trained(row["system"])
    ]
    for others, lack in ((simple, "lack_model"), (untrained, "lack_training")):
        if others:
            verdict = _beside_best(verdict, tuned, others, comparisons, lack, words)
    return verdict


def _beside_best(
    verdict: Headline,
    tuned: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    lack: str,
    words: Words,
) -> Headline:
    best = max(others, key=lambda row: float(row["right"]))
    pair = _paired(comparisons, str(best["evidence_set"]), str(best["system"]))
    key = _beside(best, tuned, pair)
    text = words(
        key,
        system=words.system(best["system"]),
        lack=words(lack),
        share=words.percent(best["right"]),
        interval=words.interval(best["right_low"], best["right_high"]),
        p=p_text(pair.p_value) if pair else "",
        n=pair.n if pair else 0,
        points=words.points(pair.smallest_visible or 1) if pair else "",
    )
    tone: Tone = verdict.tone
    if tone == "good" and key != "baseline_behind":
        tone = "unsure"
    return replace(verdict, tone=tone, more=(*verdict.more, text))


def _beside(best: Mapping[str, Any], tuned: Mapping[str, Any], pair: Comparison | None) -> str:
    """Key of the sentence that the paired test of baseline and tuned model supports."""
    if pair is None:
        return "baseline_unpaired"
    ahead = best["right"] >= tuned["right"]
    if pair.hangs_on_unclear:
        return "baseline_unclear"
    if pair.p_value < SIGNIFICANT:
        return "baseline_ahead" if ahead else "baseline_behind"
    if pair.n < FEW or pair.smallest_visible is None:
        return "baseline_few"
    if ahead and pair.smallest_visible <= RELEVANT:
        return "baseline_enough"
    return "baseline_level" if ahead else "baseline_chance"


def _paired(comparisons: Sequence[Comparison], evidence_set: str, system: str) -> Comparison | None:
    """The comparison of a system with the tuned one, in either order; None if there is none."""
    return next(
        (
            row
            for row in comparisons
            if row.evidence_set == evidence_set and {row.a, row.b} == {system, "tuned"}
        ),
        None,
    )


def leaked_sets(evaluation: Artifact) -> dict[str, float]:
    """{test set: share of copied training questions}, for the sets above the limit."""
    limit = float(evaluation.manifest.config.get("max_leakage", 0))
    shares = evaluation.manifest.summary.get("leakage", {})
    return {name: share for name, share in shares.items() if share > limit}


def _leak(evaluations: Mapping[str, Artifact], words: Words) -> Headline | None:
    for variant, artifact in evaluations.items():
        if artifact.manifest.summary.get("publishable", True):
            continue
        limit = float(artifact.manifest.config.get("max_leakage", 0))
        texts = [
            words(
                "leak",
                variant=variant,
                set=words(f"set_{name}"),
                share=words.percent(share, 1),
                limit=words.percent(limit, 1),
            )
            for name, share in leaked_sets(artifact).items()
        ]
        if texts:
            return Headline("bad", " ".join(texts), (words("leak_remedy"),))
    return None


def _one_variant(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], words: Words
) -> Headline:
    """Verdict on one tuned model, compared with its base model."""
    base = _base_of(row, rows)
    p_value = row.get("p_value")
    if base is None or p_value is None:
        return Headline("none", _sentence("tuned_only", words, row))
    text = _sentence("tuned_base", words, row, base)
    if p_value >= SIGNIFICANT:
        return Headline("unsure", f"{text} {words('chance', p=p_text(p_value))}")
    if (row.get("p_unclear") or 0) >= SIGNIFICANT:
        return Headline("unsure", f"{text} {words('unclear_real', p=p_text(p_value))}")
    if row["right"] < base["right"]:
        return Headline("bad", f"{text} {words('worse', p=p_text(p_value))}")
    return Headline("good", f"{text} {words('real', p=p_text(p_value))}")


def _variants(
    tuned: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    results: Results,
    words: Words,
) -> Headline:
    """Verdict on several variants: the best compared with the second best."""
    best, other = tuned[:2]
    equal = best["right"] == other["right"]
    text = _sentence("same_share" if equal else "two_variants", words, best, other)
    more = []
    if len(tuned) > 2:
        names = {"better": best["variant"], "other": other["variant"]}
        more.append(words("best_of", count=len(tuned), **names))
    base = _base_of(best, rows)
    if base is not None:
        interval = words.interval(base["right_low"], base["right_high"])
        more.append(words("base_was", share=words.percent(base["right"]), interval=interval))
    pair = {best["variant"], other["variant"]}
    comparison = next(
        (
            versus.comparison
            for versus in results.versus
            if versus.evidence_set == best["evidence_set"]
            and {versus.variant_a, versus.variant_b} == pair
        ),
        None,
    )
    if comparison is None:
        return Headline("unsure", f"{text} {words('not_comparable')}", tuple(more))
    if comparison.hangs_on_unclear:
        unclear = words("unclear_real", p=p_text(comparison.p_value))
        return Headline("unsure", f"{text} {unclear}", tuple(more))
    if comparison.p_value < SIGNIFICANT:
        return Headline(
            "good", f"{text} {words('real', p=p_text(comparison.p_value))}", tuple(more)
        )
    if comparison.smallest_visible is None:
        limit = words("invisible", n=comparison.n)
    else:
        limit = words("visible", n=comparison.n, points=words.points(comparison.smallest_visible))
    if not best["right"]:
        return Headline("bad", f"{text} {words('none_right')}", tuple(more))
    if not equal:
        text = f"{text} {words('chance', p=p_text(comparison.p_value))}"
    return Headline("unsure", text, (limit, *more))


def _base_of(
    tuned: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The row of the base model of a variant, which several variants may share."""
    return next(
        (
            row
            for row in rows
            if row["system"] == "base"
            and (row["variant"] == SHARED or tuned["variant"] in row["variant"].split(", "))
        ),
        None,
    )


def _sentence(
    key: str, words: Words, better: Mapping[str, Any], other: Mapping[str, Any] | None = None
) -> str:
    values = {}
    for name, row in (("better", better), ("other", other or better)):
        values[name] = row["variant"]
        values[f"share_{name}"] = words.percent(row["right"])
        values[f"interval_{name}"] = words.interval(row["right_low"], row["right_high"])
    key = key if better.get("form") is None else f"by_facts_{key}"
    return words(key, set=words(f"set_{better['evidence_set']}"), **values)


# What people say of the present answers: single ones, and blind comparisons of two systems.


AnswerText = Callable[[Contestant, str, str], str | None]
"""(system, test set, example) -> its present answer; None where it was not asked."""


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Judgements of people on two systems."""

    a: Contestant
    b: Contestant
    standings: tuple[BlindStanding, ...]
    """Of all questions, then by test set; at least one."""
    not_blind: int
    """Judgements made after the names were shown; they do not count."""


@dataclass(frozen=True, slots=True)
class PeoplesJudgements:
    """The judgements of a project."""

    pairs: tuple[JudgedPair, ...]
    outdated: int
    """Judgements of answers that a system would not give any more; they do not count."""

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.pairs) or bool(self.outdated)


@dataclass(frozen=True, slots=True)
class GradesChecked:
    """What people say of the grades, for a page."""

    text: str
    by_people: bool
    """False where nobody has looked yet."""
    judges: tuple[CheckedJudge, ...]
    """Second opinions; none without `evaluate.second_opinion`."""
    opinions: tuple[str, ...]
    """A sentence on each judge for the verdict: what it says of the systems where people's labels
    show that it can tell right from wrong, else that they do not."""


def grades_checked(folder: Path, artifacts: Artifacts, words: Words) -> GradesChecked | None:
    """How often grader and judges agree with people; None where no free answer was graded."""
    evaluations = {
        name: stages["evaluate"] for name, stages in artifacts.items() if "evaluate" in stages
    }
    rows = graded_answers(evaluations)
    if not rows:
        return None
    lines = read_labels(folder / GRADES)
    checked = check_grades(lines, rows)
    judges = check_judges(lines, judge_opinions(evaluations))
    opinions = tuple(_verdict_line(judge, evaluations, words) for judge in judges)
    text = grades_text(checked, words)
    return GradesChecked(text, checked is not None, tuple(judges), opinions)


def _verdict_line(judge: CheckedJudge, evaluations: Mapping[str, Artifact], words: Words) -> str:
    lines = [words("opinion_of", judge=judge.judge)]
    if judge.calibration.standing in ("behind", "level"):
        lines.append(_shares_by_judge(judge.judge, evaluations, words))
    lines.append(_standing(judge.calibration, words))
    return " ".join(lines)


def _shares_by_judge(judge: str, evaluations: Mapping[str, Artifact], words: Words) -> str:
    """What share of each system's answers the judge calls right, on the set of the verdict."""
    rows = [
        (f"{variant} · " if is_trained(row.system) and len(evaluations) > 1 else "", row)
        for variant, artifact in evaluations.items()
        for row in read_opinions(artifact)
        if row.judge == judge and row.opinion != "undecided"
    ]
    present = {row.evidence_set for _, row in rows}
    headline = next(name for name in HEADLINE if name in present)
    said: dict[str, dict[str, bool]] = {}
    for variant, row in rows:
        if row.evidence_set == headline:
            system = said.setdefault(variant + words.system(row.system), {})
            system[row.example_id] = row.opinion == "right"
    shares = [
        f"{name} {share_text(wilson_interval(sum(of.values()), len(of)), words)}"
        for name, of in said.items()
    ]
    return words("opinion_verdict", set=words(f"name_{headline}"), shares="; ".join(shares))


def grades_text(checked: CheckedGrades | None, words: Words) -> str:
    """The agreement in two sentences, or that nobody has looked yet."""
    if checked is None or not checked.grader.n:
        return words("grades_unchecked")
    agreement = checked.grader
    share = agreement.agreement
    return words(
        "grades_checked",
        n=agreement.n,
        share=words.percent(share.estimate),
        interval=words.interval(share.low, share.high),
        wrong=agreement.wrong,
        false_rights=agreement.false_rights,
        right=agreement.right,
        false_wrongs=agreement.false_wrongs,
    )


def opinion_lines(judges: Iterable[CheckedJudge], words: Words) -> list[str]:
    """Each judge in sentences: where it differs from the grader, and what people's labels say."""
    return [line for judge in judges for line in _opinion_lines(judge, words)]


def _opinion_lines(judge: CheckedJudge, words: Words) -> list[str]:
    sentences = [words("opinion_of", judge=judge.judge)]
    if judge.decided:
        agreed = wilson_interval(judge.decided - len(judge.differing), judge.decided)
        share = share_text(agreed, words)
        sentences.append(words("opinion_agrees", share=share, count=judge.decided))
    sentences.append(
        words(
            "opinion_undecided",
            undecided=judge.answers - judge.decided,
            count=judge.answers,
            unusable=judge.unusable,
            replies=2 * judge.answers,
        )
    )
    lines = [
        " ".join(sentences),
        *calibration_lines(judge.calibration, words),
    ]
    if disputes := judge.disputes.n:
        wrong = judge.disputes.false_rights + judge.disputes.false_wrongs
        lines.append(words("opinion_disputes", n=disputes, grader=disputes - wrong, judge=wrong))
    return lines


def calibration_lines(calibration: Calibration, words: Words) -> list[str]:
    """Grader, judge and both beside people, and what the labels say of the judge."""
    lines = []
    for name, part in calibration.parts.items():
        if not part.n:
            continue
        covers = share_text(wilson_interval(part.n, calibration.n), words)
        figures = agreement_lines(part, words)
        title = words("opinion_covers", part=words(f"opinion_{name}"), share=covers)
        lines.append("; ".join((title, *figures)))
    return [*lines, _standing(calibration, words)]


def _standing(calibration: Calibration, words: Words) -> str:
    return words(f"opinion_{calibration.standing}", n=calibration.n, enough=ENOUGH)


def agreement_lines(agreement: Agreement, words: Words) -> list[str]:
    """Agreement, false rights and false wrongs, each with its interval and counts.

    Without shares of no answers.
    """
    lines = [words("grade_agreement", share=share_text(agreement.agreement, words))]
    for key, share, part, whole in (
        ("rights", agreement.false_right, agreement.false_rights, agreement.wrong),
        ("wrongs", agreement.false_wrong, agreement.false_wrongs, agreement.right),
    ):
        if whole:
            shown = share_text(share, words)
            lines.append(words(f"grade_false_{key}", share=shown, part=part, whole=whole))
    if agreement.unclear:
        counts = {"unclear": agreement.unclear, "part": agreement.false_wrongs}
        lines.append(words("grade_unclear_wrongs", **counts))
    return lines


def share_text(share: Interval, words: Words) -> str:
    """`62.0 % [50.1 to 73.4 %]`."""
    return f"{words.percent(share.estimate, 1)} [{words.interval(share.low, share.high, 1)}]"


def of_present_answers(lines: Iterable[BlindLine], text_of: AnswerText) -> tuple[list[Judged], int]:
    """(judgements whose two answers are still the same, number of the others)."""
    judged = collect_judgements(lines)
    kept = [one for one in judged if all(_is_same(one, shown, text_of) for shown in _shown(one))]
    return kept, len(judged) - len(kept)


def _shown(judged: Judged) -> tuple[ShownAnswer, ...]:
    return tuple(shown for shown in (judged.line.first, judged.line.second) if shown is not None)


def _is_same(judged: Judged, shown: ShownAnswer, text_of: AnswerText) -> bool:
    line = judged.line
    return text_of(shown.of, str(line.evidence_set), line.question_id) == shown.text


def judged_pairs(judged: Iterable[Judged]) -> tuple[JudgedPair, ...]:
    """What was judged, by pair of systems; the pair that was judged first comes first."""
    rows = list(judged)
    systems = {one.line.pair: (one.line.a, one.line.b) for one in reversed(rows)}
    pairs = []
    for pair, (a, b) in reversed(systems.items()):
        ranked = standings(rows, a, b)
        not_blind = sum(one.line.pair == pair and not one.blind for one in rows)
        if ranked:
            pairs.append(JudgedPair(a, b, tuple(ranked), not_blind))
    return tuple(pairs)


def peoples_judgements(folder: Path, artifacts: Artifacts) -> PeoplesJudgements:
    """The judgements beside a project file, of the answers of its present evaluations."""
    lines = read_judgements(folder / LOG)
    if not lines:
        return PeoplesJudgements((), 0)
    wanted = {
        (shown.of, str(line.evidence_set), line.question_id)
        for line in lines
        for shown in (line.first, line.second)
        if shown is not None
    }
    texts = _present_texts(artifacts, wanted)
    judged, outdated = of_present_answers(lines, lambda *key: texts.get(key))
    return PeoplesJudgements(judged_pairs(judged), outdated)


def _present_texts(
    artifacts: Artifacts, wanted: set[tuple[Contestant, str, str]]
) -> Mapping[tuple[Contestant, str, str], str]:
    variants = {contestant.variant for contestant, _, _ in wanted}
    texts = {}
    for variant, stages in artifacts.items():
        if variant in variants and "evaluate" in stages:
            for row in read_predictions(stages["evaluate"]):
                contestant = Contestant(variant=variant, system=row.system)
                key = (contestant, str(row.evidence_set), row.example_id)
                if key in wanted:
                    texts[key] = row.prediction
    return texts
