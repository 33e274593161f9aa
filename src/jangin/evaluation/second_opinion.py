"""A judge model as a second opinion on single answers, beside the grader of facts.

The judge sees question, passage, reference answer and answer, neither the system nor the grade. It
is asked twice: with the reference answer and `right` first, and with the answer and `wrong` first.
A model that leans towards what comes first, be it a text or a verdict, then says one thing once and
the other thing then, and is counted as undecided (Zheng et al. 2023, Judging LLM-as-a-Judge,
section 3.4; Zheng et al. 2024, Large Language Models Are Not Robust Multiple Choice Selectors). One
that leans in both orders alike is seen only beside labels of people. An opinion changes no grade.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime
from jangin.core.digest import digest_value
from jangin.core.records import Record
from jangin.core.stage import StageContext
from jangin.evaluation.results import Evidence
from jangin.evaluation.tasks.task import Prediction, TestSet
from jangin.llm.replies import Failed, StructuredRequest, ask_structured, make_request
from jangin.metrics.agreement import Opinion
from jangin.text.language import language_of

PROMPTS = ("judge_answer", "judge_answer_swapped")
"""The reference answer first, and the answer first."""
NO_PASSAGE = "-"

Said = Literal["right", "wrong", "unusable"]
"""One reply; a refused or malformed one is unusable."""


Shown = tuple[str, tuple[str, ...], str, tuple[str, ...]]
"""(question, gold answers, answer, passages) as the judge sees them."""


class SecondOpinion(Config):
    """An LLM judge that says of single answers whether they are right; its grades are not used."""

    judge: str
    """Name of a model under `teachers`."""
    limit: int = Field(default=50, ge=1)
    """Maximum number of questions of each test set, drawn with the seed; two calls for the answer
    of each system."""
    max_tokens: int = Field(default=256, ge=16)
    """Maximum length of a verdict, in the judge's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of requests in flight at once."""


class Verdict(BaseModel):
    """A judge's reply."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1)]
    verdict: Literal["right", "wrong"]


@dataclass(frozen=True, slots=True)
class AnswerToJudge:
    """What the judge sees of an answer."""

    subject: str
    """Where it stands; the first word is the id of its example in an evaluation."""
    question: str
    golds: tuple[str, ...]
    answer: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The judge's replies in both orders."""

    reference_first: Said
    answer_first: Said
    reasons: tuple[str, str]
    """Empty for an unusable reply."""

    @property
    def opinion(self) -> Opinion:
        """What the judge says in both orders; undecided if that differs, or one is unusable."""
        if self.reference_first != self.answer_first or self.reference_first == "unusable":
            return "undecided"
        return self.reference_first

    @property
    def unusable(self) -> int:
        """Replies that were refused or malformed."""
        return (self.reference_first, self.answer_first).count("unusable")


class OpinionRow(Record):
    """One answer of an evaluation, its grade, and the judge's opinion."""

    evidence_set: TestSet
    example_id: str
    system: str
    judge: str
    question: str
    gold: str
    answer: str
    right: bool
    """The grade by facts."""
    opinion: Opinion
    differs: bool
    """The judge is decided, and says otherwise than the grade."""
    reference_first: Said
    answer_first: Said
    reason_reference_first: str
    reason_answer_first: str

    def beside(self, *, right: bool) -> "OpinionRow":
        """This row beside another grade of the same answer."""
        return self.model_copy(update={"right": right, "differs": differs(self.opinion, right)})


def differs(opinion: Opinion, right: bool) -> bool:
    """True where the judge is decided, and says otherwise than the grade."""
    return opinion != "undecided" and (opinion == "right") != right


def ask_judge(
    context: StageContext[Any], config: SecondOpinion, answers: Sequence[AnswerToJudge]
) -> tuple[list[JudgedAnswer], list[Failed]]:
    """(the judge's replies to each answer, failed requests). Equal answers are asked about once.

    Raises: as `ask_structured`; also what opening the judge raises.
    """
    chat = context.services.chat(config.judge)
    questions = requests_of(context, config, chat.model, answers)
    label = f"ask {config.judge} for a second opinion"
    replies, failures = ask_structured(context, chat, questions, Verdict, config.concurrency, label)
    verdicts = {subject: reply.value for subject, reply in replies.items()}
    judged = {shown: _judged(answer, verdicts) for shown, answer in _different(answers).items()}
    return [judged[_shown(answer)] for answer in answers], failures


def requests_of(
    context: StageContext[Any], config: SecondOpinion, model: str, answers: Sequence[AnswerToJudge]
) -> list[StructuredRequest]:
    """Two requests about each different answer, in the order of `PROMPTS`."""
    fields: dict[str, object] = {
        "model": model,
        "temperature": 0.0,
        "max_tokens": config.max_tokens,
    }
    prompts = context.services.prompts
    return [
        make_request(
            f"{answer.subject} {name}",
            prompts.find(name, language_of(question)),
            Verdict,
            fields,
            {
                "question": question,
                "reference": "\n".join(golds),
                "answer": text,
                "passage": "\n\n".join(evidence) or NO_PASSAGE,
            },
        )
        for (question, golds, text, evidence), answer in _different(answers).items()
        for name in PROMPTS
    ]


def judge_predictions(
    context: StageContext[Any],
    config: SecondOpinion,
    predictions: Sequence[Prediction],
    evidence: Evidence,
    seed: int,
) -> tuple[list[OpinionRow], list[Failed]]:
    """(one row for each answer that the judge was asked about, failed requests).

    Adds the counts of unusable replies and undecided answers to the summary.
    """
    chosen = draw(predictions, config.limit, seed)
    answers = [
        AnswerToJudge(
            f"{row.example_id} {row.system}",
            row.question,
            (row.gold, *row.other_golds),
            row.prediction,
            evidence.get(row.example_id, ()),
        )
        for row in chosen
    ]
    judged, failures = ask_judge(context, config, answers)
    rows = [
        OpinionRow(
            evidence_set=row.evidence_set,
            example_id=row.example_id,
            system=row.system,
            judge=config.judge,
            question=row.question,
            gold=row.gold,
            answer=row.prediction,
            right=row.right,
            opinion=said.opinion,
            differs=differs(said.opinion, row.right),
            reference_first=said.reference_first,
            answer_first=said.answer_first,
            reason_reference_first=said.reasons[0],
            reason_answer_first=said.reasons[1],
        )
        for row, said in zip(chosen, judged, strict=True)
    ]
    return rows, failures


def draw(predictions: Iterable[Prediction], limit: int, seed: int) -> list[Prediction]:
    """The answers of all systems to the same `limit` questions of each test set.

    Without empty answers. A larger draw contains a smaller one.
    """
    rows = list(predictions)
    ids: dict[TestSet, set[str]] = {}
    for row in rows:
        ids.setdefault(row.evidence_set, set()).add(row.example_id)
    drawn = {
        name: set(sorted(known, key=lambda i: digest_value([seed, "opinion", i]))[:limit])
        for name, known in ids.items()
    }
    return [
        row for row in rows if row.example_id in drawn[row.evidence_set] and row.prediction.strip()
    ]


def _different(answers: Iterable[AnswerToJudge]) -> dict[Shown, AnswerToJudge]:
    """{what the judge sees: the first answer of which it is so}."""
    different: dict[Shown, AnswerToJudge] = {}
    for answer in answers:
        different.setdefault(_shown(answer), answer)
    return different


def _shown(answer: AnswerToJudge) -> Shown:
    """What the judge sees; a quotation is left out where the passage around it is shown."""
    texts = [text.strip() for text in answer.evidence if text.strip()]
    passages = tuple(
        text
        for index, text in enumerate(texts)
        if not any(text in other and (text != other or i < index) for i, other in enumerate(texts))
    )
    golds = tuple(dict.fromkeys(answer.golds))
    return answer.question.strip(), golds, answer.answer.strip(), passages


def _judged(answer: AnswerToJudge, verdicts: Mapping[str, Verdict]) -> JudgedAnswer:
    replies = [verdicts.get(f"{answer.subject} {name}") for name in PROMPTS]
    said: list[Said] = [reply.verdict if reply else "unusable" for reply in replies]
    reasons = [reply.reason if reply else "" for reply in replies]
    return JudgedAnswer(said[0], said[1], (reasons[0], reasons[1]))
