"""Mode `multiple_choice`: questions with wrong answers; the right answer makes an example too."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.reasons import Reason
from jangin.core.records import Choice
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import PassageRow
from jangin.examples.synthesis.passage_rows import (
    Draft,
    ReplyFormat,
    ask_about_passages,
    check_drafts,
    passage_question,
)
from jangin.examples.synthesis.teacher import (
    CandidateExample,
    Estimate,
    ModeConfig,
    NoveltyFilter,
    SynthesisMode,
    SynthesisOutput,
    TeacherSession,
    repeats,
    same_answer,
)
from jangin.llm.replies import StructuredRequest
from jangin.text.grounding import word_is_in
from jangin.text.language import HANGUL_SYLLABLE
from jangin.text.normalize import folded_words, letters_only, nfc
from jangin.text.quantities import Quantity, quantities

# Checks for distractors: plausible, but neither right nor recognisable by their form.
#
# empty       it has no letters
# same        it is the right answer in other words, or another distractor
# form        it is a number where the answer is a name, or has another unit or script
# length      it is more than three times as long as the answer, or less than a third
# supported   it may be right: it is in the evidence, or in a sentence on the question's subject


LENGTHS = 3
"""Largest ratio of the lengths of distractor and answer."""
SHORT = 6
"""Number of characters by which lengths may differ at any ratio."""
ABOUT = 0.5
"""A sentence with at least this share of the question's words is on its subject."""
_SENTENCE = re.compile(r"[.!?。]\s+|\n+")
_LATIN = re.compile("[A-Za-z]")


def check_distractor(
    distractor: str, question: str, answer: str, others: list[str], evidence: str, text: str
) -> Decision:
    """Whether this can be offered beside the right answer.

    `others` are the distractors kept before, `text` is the passage.
    """
    if not letters_only(distractor):
        return drop("empty", Reason("distractor_empty"))
    for other, key in (
        (answer, "says_the_answer"),
        *((text, "says_a_distractor") for text in others),
    ):
        if same(distractor, other):
            return drop("same", Reason(key, text=distractor, other=other))
    if form_of(distractor) != form_of(answer):
        return drop(
            "form",
            Reason(
                "form",
                text=distractor,
                form=" ".join(form_of(distractor)),
                other=answer,
                kind=" ".join(form_of(answer)),
            ),
        )
    shorter, longer = sorted((len(distractor), len(answer)))
    if longer > LENGTHS * shorter and longer - shorter > SHORT:
        sizes = {"figure": len(distractor), "limit": len(answer)}
        return drop("length", Reason("length", text=distractor, **sizes))
    sentence = supporting(distractor, question, evidence, text)
    if sentence:
        return drop("supported", Reason("supported", text=distractor, sentence=sentence[:120]))
    return KEEP


def same(left: str, right: str) -> bool:
    """True if two short answers are equal: in letters, or in amounts and the words around them."""
    if letters_only(left) == letters_only(right):
        return True
    ours, theirs = quantities(left), quantities(right)
    if not ours or len(ours) != len(theirs):
        return False
    agree = all(a.agrees(b) for a, b in zip(ours, theirs, strict=True))
    return agree and _words(left, ours) == _words(right, theirs)


def form_of(text: str) -> tuple[str, ...]:
    """What kind of answer it is, in words: amounts with their units, Latin letters, or a text."""
    amounts = quantities(text)
    if amounts:
        return ("a number", *sorted(q.unit for q in amounts if q.unit))
    if _LATIN.search(text) and not HANGUL_SYLLABLE.search(text):
        return ("in Latin letters",)
    return ("a text",)


def supporting(distractor: str, question: str, evidence: str, text: str) -> str:
    """The sentence of the source that may support it; empty where there is none."""
    words = [word for word in folded_words(question) if len(word) > 1]
    for sentence in (evidence, *_SENTENCE.split(text)):
        if not _is_in(distractor, sentence):
            continue
        letters = letters_only(sentence)
        about = sum(word_is_in(word, letters) for word in words) / len(words) if words else 1.0
        if sentence is evidence or about >= ABOUT:
            return sentence.strip()
    return ""


def _is_in(distractor: str, sentence: str) -> bool:
    ours = quantities(distractor)
    if not ours:
        return letters_only(distractor) in letters_only(sentence)
    known = quantities(sentence)
    return all(any(q.value == k.value and q.unit == k.unit for k in known) for q in ours)


def _words(text: str, amounts: list[Quantity]) -> str:
    """The letters of a text without its amounts."""
    rest = text.lower()
    for quantity in amounts:
        rest = rest.replace(quantity.text, " ")
    return letters_only(rest)


class MultipleChoice(ModeConfig):
    """Questions with one right answer and wrong ones, from which `preferences` makes pairs."""

    type: Literal["multiple_choice"]
    per_chunk: int = Field(default=2, ge=1, le=20)
    """Largest number of questions that the request about a chunk asks for."""
    distractors: int = Field(default=3, ge=1, le=9)
    """Number of wrong answers to each question."""
    also_examples: bool = True
    """Make an example of each question and its right answer, too."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class ChoiceItem(BaseModel):
    """One question with its right answer, wrong ones, and the words that support the right one."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    distractors: list[str]
    evidence: str = Field(min_length=1)


class ChoiceItems(BaseModel):
    """A teacher's whole reply about one chunk."""

    model_config = ConfigDict(extra="forbid")

    items: list[ChoiceItem]


REPLY = ReplyFormat(
    ChoiceItems, lambda reply: reply.items, lambda item: (item.question, item.answer)
)


def make_choices(
    teacher: TeacherSession,
    config: MultipleChoice,
    passages: Sequence[Passage],
    novelty: NoveltyFilter,
) -> SynthesisOutput:
    """Choices of all chunks, and the examples of their right answers."""
    output = SynthesisOutput()
    questions = _questions(teacher, config, passages)
    label = "teacher: multiple choice"
    drafts = ask_about_passages(teacher, passages, questions, REPLY, label, output)
    candidates = check_drafts(drafts, _row, teacher, output)
    examples = [candidate.example for _, candidate in candidates]
    twins = novelty.find_twins(examples) if teacher.thresholds.distinct else {}
    chosen: set[str] = set()
    for index, (draft, candidate) in enumerate(candidates):
        example, twin = candidate.example, twins.get(index)
        same = twin is not None and same_answer(example.answer, twin.answer)
        if twin is not None and (not same or twin.id in chosen):
            output.reject(candidate.subject, candidate.request, repeats(twin), candidate.reply)
            continue
        if twin is None and config.also_examples:
            novelty.add(example)
            output.examples.append(example)
        # Wrong answers to a question that is an example already join that example's family.
        chosen.add(example.id if twin is None else twin.id)
        relative = twin or (example if config.also_examples else None)
        _add_choice(config, draft, candidate, relative.family if relative else "", output)
    return output


def estimate(
    teacher: TeacherSession, config: MultipleChoice, passages: Sequence[Passage]
) -> Estimate:
    """One request per passage."""
    return Estimate(_questions(teacher, config, passages))


def _questions(
    teacher: TeacherSession, config: MultipleChoice, passages: Sequence[Passage]
) -> list[StructuredRequest]:
    values = {"count": config.per_chunk, "distractors": config.distractors}
    return [passage_question(teacher, p, "choices", ChoiceItems, **values) for p in passages]


def _row(draft: Draft[ChoiceItem]) -> PassageRow:
    item = draft.item
    return draft.row(item.question, item.answer, item.evidence)


def _add_choice(
    config: MultipleChoice,
    draft: Draft[ChoiceItem],
    candidate: CandidateExample,
    family: str,
    output: SynthesisOutput,
) -> None:
    """Add the choice with the distractors that pass; reject the others one by one."""
    item, example, passage = draft.item, candidate.example, draft.passage
    kept: list[str] = []
    for text in item.distractors:
        distractor = nfc(text.strip())
        decision = check_distractor(
            distractor, item.question, example.answer, kept, item.evidence, passage.chunk.text
        )
        if decision.keep and len(kept) == config.distractors:
            decision = drop("too_many", Reason("too_many", count=config.distractors))
        if decision.keep:
            kept.append(distractor)
        else:
            decision = drop(f"distractor_{decision.rule}", decision.reason)
            output.reject(draft.subject, draft.request, decision, text)
    if not kept:
        decision = drop("no_distractors", Reason("no_distractors"))
        output.reject(draft.subject, draft.request, decision, draft.reply)
        return
    output.choices.append(
        Choice.make(
            example.prompt,
            example.answer,
            tuple(kept),
            family=family,
            **passage.provenance(item.evidence),
            teacher=str(draft.made_by["teacher"]),
            request=draft.request,
        )
    )


MULTIPLE_CHOICE = SynthesisMode(
    config=MultipleChoice,
    templates=("choices",),
    make=make_choices,
    estimate=estimate,
)
