"""LLM judge comparing the answers of two systems, shown in both orders.

Method: Zheng et al. 2023, Judging LLM-as-a-Judge with MT-Bench, section 3.4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime
from jangin.core.digest import digest_value
from jangin.core.errors import SettingsError
from jangin.core.records import Record, SplitExample
from jangin.core.stage import StageContext
from jangin.evaluation.systems.system import SystemConfig
from jangin.evaluation.tasks.task import Prediction, TestSet
from jangin.llm.replies import Failed, StructuredRequest, ask_structured, make_request
from jangin.metrics.pairwise import (
    Judgement,
    PairwiseReport,
    SelfPreference,
    Winner,
    pairwise_report,
    self_preference,
)

# Judges related to a system that they judge, and how much they prefer it.
#
# Models are compared by name only: the same weights under another name are not recognised.


Relation = Literal["none", "itself", "base", "teacher"]
"""The judge is the system, is the base that it was tuned from, or wrote what it was tuned on."""

BY_STRENGTH: tuple[Relation, ...] = ("itself", "base", "teacher")
POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}
"""Points of system `a` by winner."""


@dataclass(frozen=True, slots=True)
class JudgeRelation:
    """The strongest relation of a judge to one of the two systems."""

    relation: Relation = "none"
    system: str = ""
    """Label of that system; empty if the judge is related to both in the same way."""


def judge_relation(context: StageContext[Any], judge: str, pair: tuple[str, str]) -> JudgeRelation:
    """Relation of the judge, a name under `teachers`, to the systems with the labels `pair`."""
    model = _name(context.services.chat(judge).model)
    base = ""
    if context.has("base"):
        base = _name(str(context.inputs["base"].manifest.summary.get("id", "")))
    rows = context.read("splits", SplitExample)
    teachers = {_name(row.example.teacher) for row in rows if row.split == "train"}
    systems = {system.label: system for system in context.config.system_configs}

    def relation_to(system: SystemConfig) -> Relation:
        if system.endpoint:
            hosted = _name(context.services.chat(system.endpoint).model)
            return "itself" if model == hosted else "none"
        local = system.local_model
        if local is not None and model == base:
            return "itself" if local == "base" else "base"
        trained = local is not None and local != "base"
        return "teacher" if trained and model in teachers else "none"

    relations = {label: relation_to(systems[label]) for label in pair}
    for relation in BY_STRENGTH:
        related = [label for label in pair if relations[label] == relation]
        if related:
            return JudgeRelation(relation, related[0] if len(related) == 1 else "")
    return JudgeRelation()


def _name(model: str) -> str:
    """The name without its owner, case-folded: `Qwen/Qwen3-0.6B` is `qwen3-0.6b`."""
    return model.rsplit("/", maxsplit=1)[-1].casefold()


def preference_for(
    system: str,
    judge: str,
    judged: Mapping[str, Sequence[Any]],
    clusters: Mapping[str, str],
    seed: int,
) -> SelfPreference | None:
    """How much more often `system` wins with the related judge than with unrelated judges.

    `judged` is {judge: its `JudgedTwice`s of one test set}, where all but `judge` are unrelated;
    `clusters` is {example id: family}. None if no question was judged by all of them.
    """
    points = {}
    for name, rows in judged.items():
        of_system = [row for row in rows if system in (row.a, row.b)]
        points[name] = {
            row.example_id: POINTS[row.winner] if row.a == system else 1 - POINTS[row.winner]
            for row in of_system
        }
    return self_preference({n: p for n, p in points.items() if p}, judge, clusters, seed)


Shown = Literal["first", "second", "tie"]


class PairwiseJudge(Config):
    """One LLM judge that compares two systems."""

    judge: str
    """Name of a model under `teachers`."""
    a: str = "tuned"
    """Label of the system whose wins are counted, as in the result table."""
    b: str = "base"
    """Label of the system that it is compared with."""
    limit: int = Field(default=50, ge=1)
    """Maximum number of questions of each test set, drawn with the seed; two calls each."""
    max_tokens: int = Field(default=256, ge=16)
    """Maximum length of a verdict, in the judge's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of requests in flight at once."""


class Verdict(BaseModel):
    """A judge's reply."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1)]
    winner: Shown


class JudgedTwice(Record):
    """One question and the judge's verdicts in both orders."""

    evidence_set: TestSet
    example_id: str
    judge: str
    a: str
    b: str
    question: str
    gold: str
    answer_a: str
    answer_b: str
    a_first: Winner
    """Verdict when the answer of `a` was shown first."""
    b_first: Winner
    reason_a_first: str
    reason_b_first: str
    winner: Winner
    """The winner in both orders; a tie if the verdicts differ."""


class PairwiseResult(Record):
    """One judge on one test set."""

    evidence_set: TestSet
    judge: str
    a: str
    b: str
    n: int
    wins: int
    losses: int
    ties: int
    inconsistent: int
    """Questions with different winners in the two orders; they count as ties."""
    unjudged: int
    """Questions without a usable verdict in one of the orders."""
    win_rate: float
    """(wins + ties / 2) / n of `a`, with a 95 % bootstrap interval over families."""
    win_rate_low: float
    win_rate_high: float
    p_value: float
    """Exact sign test on the questions that one side won."""
    first_shown: float | None
    """Share of verdicts that went to the answer shown first; 0.5 is no bias."""
    longer_won: float | None
    """Share of won questions that the longer answer won."""
    length_correlation: float | None
    judge_model: str = ""
    kinship: Relation = "none"
    """The judge is one of the two systems, the base of one, or the teacher of one."""
    kin: str = ""
    """Label of that system; empty if the judge is related to both in the same way, or to none."""
    own_n: int = 0
    """Questions that unrelated judges of the same two systems have judged too."""
    own_win_rate: float | None = None
    """Win rate of `kin` with this judge on these questions; None without an unrelated judge."""
    others_win_rate: float | None = None
    """Mean win rate of `kin` with the unrelated judges."""
    self_preference: float | None = None
    """The difference, with a paired 95 % bootstrap interval over families."""
    self_preference_low: float | None = None
    self_preference_high: float | None = None


def write_judgements(
    context: StageContext[Any],
    configs: Sequence[PairwiseJudge],
    predictions: Sequence[Prediction],
    language: str,
    seed: int,
) -> list[Failed]:
    """Write the tables `judgements` and `pairwise` of every judge; returns the failed requests."""
    judged: list[JudgedTwice] = []
    results: list[PairwiseResult] = []
    failures: list[Failed] = []
    for config in configs:
        rows, summed, failed = judge_pairs(context, config, predictions, language, seed)
        judged += rows
        results += summed
        failures += failed
    family = {p.example_id: p.family for p in predictions}
    results = [_with_self_preference(r, results, judged, family, seed) for r in results]
    for line in dict.fromkeys(filter(None, map(relation_warning, results))):
        context.services.progress.message(f"evaluate: {line}")
    context.write("judgements", JudgedTwice, judged)
    context.write("pairwise", PairwiseResult, results)
    return failures


def _with_self_preference(
    result: PairwiseResult,
    results: Sequence[PairwiseResult],
    judged: Sequence[JudgedTwice],
    family: Mapping[str, str],
    seed: int,
) -> PairwiseResult:
    """The result with self-preference filled in, if the judge is related to one system."""
    pair = {result.a, result.b}
    neutral = {r.judge for r in results if r.kinship == "none" and {r.a, r.b} == pair}
    rows: dict[str, list[JudgedTwice]] = {name: [] for name in (*neutral, result.judge)}
    for row in judged:
        same = row.evidence_set == result.evidence_set and {row.a, row.b} == pair
        if same and row.judge in rows:
            rows[row.judge].append(row)
    preference = None
    if result.kin:
        preference = preference_for(result.kin, result.judge, rows, family, seed)
    if preference is None:
        return result
    return result.model_copy(
        update={
            "own_n": preference.n,
            "own_win_rate": preference.own,
            "others_win_rate": preference.others,
            "self_preference": preference.gain.estimate,
            "self_preference_low": preference.gain.low,
            "self_preference_high": preference.gain.high,
        }
    )


def relation_warning(result: PairwiseResult) -> str:
    """A sentence about a judge that is related to a system; empty if it is not."""
    if result.kinship == "none":
        return ""
    system = result.kin or f"{result.a} and {result.b}"
    what = {
        "itself": f"the judge {result.judge} is one of the systems: it judges {system}, itself",
        "base": f"the judge {result.judge} is the base model of {system}",
        "teacher": f"the judge {result.judge} wrote answers that {system} was trained on",
    }[result.kinship]
    return f"{what}, so its verdicts may favour it."


def judge_pairs(
    context: StageContext[Any],
    config: PairwiseJudge,
    predictions: Sequence[Prediction],
    language: str,
    seed: int,
) -> tuple[list[JudgedTwice], list[PairwiseResult], list[Failed]]:
    """(judged pairs, one result per test set, failed requests) of one judge.

    Equal answers are ties without a request.

    Raises: SettingsError: one of the two systems is not in `predictions`.
    """
    pairs = _pairs(config, predictions, seed)
    chat = context.services.chat(config.judge)
    questions = [
        _question(context, config, chat.model, pair, language, first=first)
        for pair in pairs
        if pair[0].prediction != pair[1].prediction
        for first in ("a", "b")
    ]
    answers, failures = ask_structured(
        context, chat, questions, Verdict, config.concurrency, f"judge {config.a} and {config.b}"
    )
    verdicts = {subject: answer.value for subject, answer in answers.items()}
    judged = [row for pair in pairs if (row := _judged(config, pair, verdicts)) is not None]
    relation = judge_relation(context, config.judge, (config.a, config.b))
    results = []
    for test_set in dict.fromkeys(a.evidence_set for a, _ in pairs):
        rows = [row for row in judged if row.evidence_set == test_set]
        total = sum(a.evidence_set == test_set for a, _ in pairs)
        if rows:
            family = {a.example_id: a.family for a, _ in pairs}
            result = _result(config, rows, family, total - len(rows), seed)
            update = {
                "judge_model": chat.model,
                "kinship": relation.relation,
                "kin": relation.system,
            }
            results.append(result.model_copy(update=update))
    return judged, results, failures


def _pairs(
    config: PairwiseJudge, predictions: Sequence[Prediction], seed: int
) -> list[tuple[Prediction, Prediction]]:
    by_system = {
        name: {p.example_id: p for p in predictions if p.system == name}
        for name in (config.a, config.b)
    }
    for name, rows in by_system.items():
        if not rows:
            known = ", ".join(dict.fromkeys(p.system for p in predictions))
            raise SettingsError(
                f"evaluate.pairwise: no system has the label {name!r}. Choose one of: {known}."
            )
    chosen = []
    first, second = by_system[config.a], by_system[config.b]
    for test_set in dict.fromkeys(p.evidence_set for p in first.values()):
        ids = sorted(
            (i for i, p in first.items() if p.evidence_set == test_set and i in second),
            key=lambda i: digest_value([seed, "judge", i]),
        )
        chosen += [(first[i], second[i]) for i in ids[: config.limit]]
    return chosen


def _question(
    context: StageContext[Any],
    config: PairwiseJudge,
    model: str,
    pair: tuple[Prediction, Prediction],
    language: str,
    *,
    first: str,
) -> StructuredRequest:
    a, b = pair
    shown = (a, b) if first == "a" else (b, a)
    return make_request(
        subject=f"{a.example_id} {first}",
        prompt=context.services.prompts.find("judge_pair", language),
        reply_type=Verdict,
        request_fields={"model": model, "temperature": 0.0, "max_tokens": config.max_tokens},
        values={
            "question": a.question,
            "reference": a.gold,
            "first": shown[0].prediction,
            "second": shown[1].prediction,
        },
    )


def _judged(
    config: PairwiseJudge,
    pair: tuple[Prediction, Prediction],
    verdicts: Mapping[str, Verdict],
) -> JudgedTwice | None:
    a, b = pair
    if a.prediction == b.prediction:
        same = Verdict(reason="the answers are equal", winner="tie")
        shown: tuple[Verdict | None, Verdict | None] = (same, same)
    else:
        shown = verdicts.get(f"{a.example_id} a"), verdicts.get(f"{a.example_id} b")
    first, second = shown
    if first is None or second is None:
        return None
    a_first: Winner = {"first": "a", "second": "b", "tie": "tie"}[first.winner]  # type: ignore[assignment]  # the values are Winners
    b_first: Winner = {"first": "b", "second": "a", "tie": "tie"}[second.winner]  # type: ignore[assignment]  # the values are Winners
    return JudgedTwice(
        evidence_set=a.evidence_set,
        example_id=a.example_id,
        judge=config.judge,
        a=config.a,
        b=config.b,
        question=a.question,
        gold=a.gold,
        answer_a=a.prediction,
        answer_b=b.prediction,
        a_first=a_first,
        b_first=b_first,
        reason_a_first=first.reason,
        reason_b_first=second.reason,
        winner=a_first if a_first == b_first else "tie",
    )


def _result(
    config: PairwiseJudge,
    rows: Sequence[JudgedTwice],
    family: Mapping[str, str],
    unjudged: int,
    seed: int,
) -> PairwiseResult:
    report: PairwiseReport = pairwise_report(
        [
            Judgement(
                row.example_id,
                family[row.example_id],
                row.a_first,
                row.b_first,
                len(row.answer_a),
                len(row.answer_b),
            )
            for row in rows
        ],
        seed,
    )
    return PairwiseResult(
        evidence_set=rows[0].evidence_set,
        judge=config.judge,
        a=config.a,
        b=config.b,
        n=report.n,
        wins=report.wins,
        losses=report.losses,
        ties=report.ties,
        inconsistent=report.inconsistent,
        unjudged=unjudged,
        win_rate=report.win_rate.estimate,
        win_rate_low=report.win_rate.low,
        win_rate_high=report.win_rate.high,
        p_value=report.p_value,
        first_shown=report.first_shown.estimate if report.first_shown else None,
        longer_won=report.longer_won.estimate if report.longer_won else None,
        length_correlation=report.length_correlation,
    )
