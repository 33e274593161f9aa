"""Mode `answer`: answer questions from the snippets that a search returned for them.

A request holds several questions. A row of the reply belongs to the question that it repeats,
compared without punctuation, spacing and letter case; a row that repeats none is rejected.
Questions without a row are asked once more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.digest import short_digest
from jangin.core.reasons import Reason
from jangin.core.records import Example, Message, Query, RankedSnippet, Snippet
from jangin.core.stage import StageContext
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import AnswerRow, check_rows
from jangin.examples.synthesis.teacher import (
    CandidateExample,
    Estimate,
    ModeConfig,
    NoveltyFilter,
    SourceText,
    SynthesisMode,
    SynthesisOutput,
    TeacherSession,
)
from jangin.llm.replies import Failed, Parsed, StructuredRequest
from jangin.text.language import language_of
from jangin.text.normalize import letters_only, nfc

NOTHING_FOUND = {"ko": "(찾은 자료 없음)", "en": "(nothing was found)"}


class AnswerFromSnippets(ModeConfig):
    """Answers to the questions of a search, from its ranked snippets."""

    type: Literal["answer"]
    questions_per_call: int = Field(default=4, ge=1, le=50)
    """Number of questions in one request, each with its snippets."""
    max_words: int = Field(default=200, ge=5)
    """Longest answer, in words; longer ones are rejected."""
    without_snippets: Literal["answer", "skip"] = "skip"
    """What is done with questions for which the search returned nothing. `answer`: the teacher
    answers from its own knowledge, which cannot be checked. `skip`: they are listed as rejected."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class AnsweredQuestion(BaseModel):
    """The answer to one of the questions, and the numbers of the snippets that it uses."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    snippets: list[int]


class AnsweredQuestions(BaseModel):
    """A teacher's whole reply."""

    model_config = ConfigDict(extra="forbid")

    answers: list[AnsweredQuestion]


@dataclass(frozen=True, slots=True)
class SearchedQuestion:
    """A question and the snippets that a search returned for it, best first."""

    query: Query
    snippets: tuple[RankedSnippet, ...]

    @property
    def language(self) -> str:
        """Language of the question."""
        return language_of(self.query.text)

    @property
    def text(self) -> str:
        """The question followed by all of its snippets."""
        return "\n".join((self.query.text, *(r.snippet.text for r in self.snippets)))


def read_questions(context: StageContext[Any]) -> list[SearchedQuestion]:
    """Each question once, with its snippets by rank, in the order of the table `queries`."""
    queries = context.read("queries", Query)
    of_query: dict[str, list[RankedSnippet]] = {}
    for row in context.read("ranked", RankedSnippet):
        of_query.setdefault(row.snippet.query_id, []).append(row)
    unique = {letters_only(query.text): query for query in reversed(queries)}
    return [
        SearchedQuestion(query, tuple(sorted(of_query.get(query.id, ()), key=lambda row: row.rank)))
        for query in reversed(unique.values())
    ]


def make_answers(
    teacher: TeacherSession,
    config: AnswerFromSnippets,
    _passages: Sequence[Passage],
    novelty: NoveltyFilter,
) -> SynthesisOutput:
    """One example per answered question, in the order of the questions."""
    output = SynthesisOutput()
    searched = read_questions(teacher.context)
    open_questions = [item for item in searched if _is_answerable(config, item)]
    skipped = drop("no_snippets", Reason("no_snippets"))
    for item in searched:
        if not _is_answerable(config, item):
            output.reject(item.query.id, "", skipped, item.query.text)
    given: list[_Given] = []
    answered: set[str] = set()
    for label in ("teacher: answers", "teacher: answers, once more"):
        groups = _grouped(config, open_questions)
        answers, failures = teacher.ask_in_language(
            _questions(teacher, config, groups),
            AnsweredQuestions,
            label,
            {name: _source(group) for name, group in groups.items()},
            lambda reply: [(row.question, row.answer) for row in reply.answers],
        )
        for name, answer in answers.items():
            mine = _rows_of(config, groups[name], answer)
            given += mine
            answered |= {row.item.query.id for row in mine if row.item is not None}
        open_questions = [item for item in open_questions if item.query.id not in answered]
        if not open_questions:
            break
    rows = _checked(teacher, given, output)
    output.failed += _without_row(open_questions, failures, groups)
    ordered = [rows[item.query.id] for item in searched if item.query.id in rows]
    novelty.keep_new(ordered, output, distinct=teacher.thresholds.distinct)
    return output


def estimate(
    teacher: TeacherSession, config: AnswerFromSnippets, _passages: Sequence[Passage]
) -> Estimate:
    """One request per group of questions; the retry of questions without a row is not counted."""
    searched = read_questions(teacher.context)
    answerable = [item for item in searched if _is_answerable(config, item)]
    return Estimate(_questions(teacher, config, _grouped(config, answerable)))


def _is_answerable(config: AnswerFromSnippets, item: SearchedQuestion) -> bool:
    """True if the teacher gets the question: it has snippets, or the settings need none."""
    return bool(item.snippets) or config.without_snippets == "answer"


def _grouped(
    config: AnswerFromSnippets, searched: Sequence[SearchedQuestion]
) -> dict[str, list[SearchedQuestion]]:
    """{name of a request: its questions, all in one language}."""
    by_language: dict[str, list[SearchedQuestion]] = {}
    for item in searched:
        by_language.setdefault(item.language, []).append(item)
    size = config.questions_per_call
    groups = [
        items[start : start + size]
        for items in by_language.values()
        for start in range(0, len(items), size)
    ]
    return {short_digest([item.query.id for item in group]): group for group in groups}


def _questions(
    teacher: TeacherSession,
    config: AnswerFromSnippets,
    groups: Mapping[str, Sequence[SearchedQuestion]],
) -> list[StructuredRequest]:
    """One request per group."""
    return [
        teacher.question(
            name,
            "answer",
            group[0].language,
            AnsweredQuestions,
            {
                "questions": "\n\n".join(
                    _block(number, item) for number, item in enumerate(group, start=1)
                ),
                "max_words": config.max_words,
            },
        )
        for name, group in groups.items()
    ]


def _block(number: int, item: SearchedQuestion) -> str:
    """One question with its numbered snippets, one per line."""
    korean = item.language == "ko"
    lines = [f"{'질문' if korean else 'Question'} {number}: {item.query.text}"]
    lines += [
        f"[{rank}] {' '.join(row.snippet.text.split())}"
        for rank, row in enumerate(item.snippets, start=1)
    ]
    if not item.snippets:
        lines.append(NOTHING_FOUND["ko" if korean else "en"])
    return "\n".join(lines)


def _source(group: Sequence[SearchedQuestion]) -> SourceText:
    return SourceText("\n".join(item.text for item in group), group[0].language)


class _Given(NamedTuple):
    """A row of a reply: what there is to check, or why it is rejected."""

    subject: str
    """Id of its question; that of the first of its group where it has none."""
    item: SearchedQuestion | None
    """Its question; None for one that was not asked."""
    row: AnsweredQuestion
    answer: Parsed[AnsweredQuestions]
    result: AnswerRow | Decision


def _rows_of(
    config: AnswerFromSnippets,
    group: Sequence[SearchedQuestion],
    answer: Parsed[AnsweredQuestions],
) -> list[_Given]:
    """The rows of a reply, in its order."""
    by_text = {letters_only(item.query.text): item for item in group}
    answered: set[str] = set()
    given = []
    for row in answer.value.answers:
        item = by_text.get(letters_only(row.question))
        subject = (item or group[0]).query.id
        result: AnswerRow | Decision
        if item is None:
            result = drop("unasked", Reason("unasked", text=row.question))
        elif subject in answered:
            result = drop("repeated", Reason("asked_twice"))
        else:
            answered.add(subject)
            result = _row(config, item, row)
        given.append(_Given(subject, item, row, answer, result))
    return given


def _row(
    config: AnswerFromSnippets, item: SearchedQuestion, row: AnsweredQuestion
) -> AnswerRow | Decision:
    text = nfc(row.answer.strip())
    unknown = [rank for rank in row.snippets if not 1 <= rank <= len(item.snippets)]
    if unknown:
        return drop("snippets", Reason("snippet", figure=unknown[0], limit=len(item.snippets)))
    words = len(text.split())
    if words > config.max_words:
        return drop("too_long", Reason("too_many_words", figure=words, limit=config.max_words))
    used = _used(item, row)
    texts = (item.query.text, *(s.title for s in used), *(s.text for s in used))
    return AnswerRow(
        item.query.text, text, item.text, "\n".join(texts) if used else "", item.language
    )


def _used(item: SearchedQuestion, row: AnsweredQuestion) -> list[Snippet]:
    """The snippets that a row names; all of them where it names none."""
    snippets = [ranked.snippet for ranked in item.snippets]
    return [snippets[rank - 1] for rank in dict.fromkeys(row.snippets)] or snippets


def _checked(
    teacher: TeacherSession, given: Sequence[_Given], output: SynthesisOutput
) -> dict[str, CandidateExample]:
    """{id of a question: its example}; the other rows are added to the failures of `output`."""
    to_check = [each.result for each in given if isinstance(each.result, AnswerRow)]
    executor = teacher.context.services.executor
    decisions = iter(check_rows(to_check, teacher.thresholds, executor))
    rows: dict[str, CandidateExample] = {}
    for each in given:
        text, request = each.row.model_dump_json(), each.answer.request
        decision = next(decisions) if isinstance(each.result, AnswerRow) else each.result
        if isinstance(each.result, AnswerRow) and each.item is not None and decision.keep:
            used = _used(each.item, each.row)
            example = _example(each.item, each.result, used, decision, each.answer.made_by)
            rows[each.subject] = CandidateExample(each.subject, request, text, example)
        else:
            output.reject(each.subject, request, decision, text)
    return rows


def _example(
    item: SearchedQuestion,
    row: AnswerRow,
    used: Sequence[Snippet],
    decision: Decision,
    made_by: Mapping[str, Any],
) -> Example:
    first = used[0] if used else None
    return Example.make(
        prompt=(Message(role="user", content=nfc(item.query.text.strip())),),
        completion=Message(role="assistant", content=row.answer),
        kind="original",
        chunk_ids=tuple(dict.fromkeys(s.chunk_id for s in used if s.chunk_id)),
        document_id=first.document_id if first else "",
        source=(first.source or first.url) if first else "",
        page=first.page if first else 0,
        section=first.section if first else "",
        evidence="\n".join(s.text for s in used),
        scores=decision.scores,
        seed_word=item.query.seed_word,
        **made_by,
    )


def _without_row(
    unanswered: Sequence[SearchedQuestion],
    failures: Sequence[Failed],
    groups: Mapping[str, Sequence[SearchedQuestion]],
) -> list[Failed]:
    """A failure for each question without a row: that of its request, or that no reply had one."""
    of_query = {item.query.id: failure for failure in failures for item in groups[failure.subject]}
    return [
        of_query[item.query.id].model_copy(update={"subject": item.query.id})
        if item.query.id in of_query
        else Failed(
            subject=item.query.id,
            request="",
            reason=Reason("no_row", text=item.query.text),
            reply="",
            kind="unanswered",
            rule="no_row",
        )
        for item in unanswered
    ]


GROUNDED_ANSWERS = SynthesisMode(
    config=AnswerFromSnippets,
    templates=("answer",),
    make=make_answers,
    estimate=estimate,
    wants=("queries", "ranked"),
)
