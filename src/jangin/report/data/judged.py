"""What people judged of the present answers: blind comparisons of two systems."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from jangin.evaluation.grade_labels import (
    LOG as GRADES,
)
from jangin.evaluation.grade_labels import (
    GradeAgreement,
    agreement_of,
    graded_answers,
    read_labels,
)
from jangin.evaluation.stored import read_predictions
from jangin.report.data.artifacts import Artifacts
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


def checked_grades(folder: Path, artifacts: Artifacts, words: Words) -> tuple[str, bool] | None:
    """(how often the grader agrees with people, or that nobody looked yet; whether anybody did).

    None where no free answer was graded.
    """
    evaluations = {
        name: stages["evaluate"] for name, stages in artifacts.items() if "evaluate" in stages
    }
    rows = graded_answers(evaluations)
    if not rows:
        return None
    agreement = agreement_of(read_labels(folder / GRADES), rows)
    return agreement_text(agreement, words), agreement is not None


def agreement_text(agreement: GradeAgreement | None, words: Words) -> str:
    """The agreement in two sentences, or that nobody has looked yet."""
    if agreement is None:
        return words("grades_unchecked")
    return words(
        "grades_checked",
        n=agreement.n,
        share=words.percent(agreement.agree.estimate),
        interval=words.interval(agreement.agree.low, agreement.agree.high),
        wrong=agreement.wrong,
        false_rights=agreement.false_rights,
        right=agreement.right,
        false_wrongs=agreement.false_wrongs,
    )


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
