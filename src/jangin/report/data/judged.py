"""What people say of the present answers: single ones, and blind comparisons of two systems."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from jangin.evaluation.stored import read_opinions, read_predictions
from jangin.evaluation.systems.table import is_trained
from jangin.metrics.agreement import ENOUGH, Agreement, Calibration
from jangin.metrics.statistics import Interval, wilson_interval
from jangin.report.data.artifacts import Artifacts
from jangin.report.data.verdict import HEADLINE
from jangin.report.i18n.translate import Words

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
