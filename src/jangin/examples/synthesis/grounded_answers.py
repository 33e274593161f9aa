"""Mode `answer`: questions answered from the snippets that a search found for them.

Several questions stand in one request. A row of the reply belongs to the question that it repeats,
punctuation, spacing and letter case aside; one that repeats none is rejected. What got no row is
asked once more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.digest import short_digest
from jangin.core.records import Example, Message, Query, RankedSnippet, Score
from jangin.examples.checks.row_checks import Rejection, answer_problem, question_problem
from jangin.examples.synthesis.modes import AnswerFromSnippets
from jangin.examples.synthesis.novelty import Asked, Row
from jangin.examples.synthesis.teacher import Made, Origin, Teaching
from jangin.llm.structured import Answer, Failed, Question
from jangin.text.language import language_of
from jangin.text.normalize import compact, normalise

NOTHING_FOUND = {"ko": "(찾은 자료 없음)", "en": "(nothing was found)"}


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
class Found:
    """A question and what was found for it, best first."""

    query: Query
    snippets: tuple[RankedSnippet, ...]

    @property
    def language(self) -> str:
        """Of the question."""
        return language_of(self.query.text)

    @property
    def text(self) -> str:
        """The question with everything that was found for it."""
        return "\n".join((self.query.text, *(r.snippet.text for r in self.snippets)))


def gather(queries: Sequence[Query], ranked: Sequence[RankedSnippet]) -> list[Found]:
    """Each question once, with its snippets by rank; questions in their order."""
    of_query: dict[str, list[RankedSnippet]] = {}
    for row in ranked:
        of_query.setdefault(row.snippet.query_id, []).append(row)
    unique = {compact(query.text): query for query in reversed(queries)}
    return [
        Found(query, tuple(sorted(of_query.get(query.id, ()), key=lambda row: row.rank)))
        for query in reversed(unique.values())
    ]


def make_answers(
    teaching: Teaching, mode: AnswerFromSnippets, found: Sequence[Found], asked: Asked
) -> Made:
    """One example per answered question, in the order of the questions."""
    made = Made()
    left = []
    for item in found:
        if item.snippets or mode.without_snippets == "answer":
            left.append(item)
        else:
            skipped = Rejection("no_snippets", "the search found nothing for this question")
            made.reject(item.query.id, "", skipped, item.query.text)
    rows: dict[str, Row] = {}
    answered: set[str] = set()
    for label in ("teacher: answers", "teacher: answers, once more"):
        groups = grouped(mode, left)
        answers, failures = teaching.ask(
            answer_questions(teaching, mode, groups),
            AnsweredQuestions,
            label,
            {name: _origin(group) for name, group in groups.items()},
            lambda reply: [(row.question, row.answer) for row in reply.answers],
        )
        for name, answer in answers.items():
            answered |= _take(teaching, mode, groups[name], answer, rows, made)
        left = [item for item in left if item.query.id not in answered]
        if not left:
            break
    made.failed += _without_row(left, failures, groups)
    ordered = [rows[item.query.id] for item in found if item.query.id in rows]
    asked.keep_new(ordered, made, distinct=teaching.limits.distinct)
    return made


def grouped(mode: AnswerFromSnippets, found: Sequence[Found]) -> dict[str, list[Found]]:
    """{name of the group: questions of one language that are asked together}."""
    by_language: dict[str, list[Found]] = {}
    for item in found:
        by_language.setdefault(item.language, []).append(item)
    size = mode.questions_per_call
    groups = [
        items[start : start + size]
        for items in by_language.values()
        for start in range(0, len(items), size)
    ]
    return {short_digest([item.query.id for item in group]): group for group in groups}


def answer_questions(
    teaching: Teaching, mode: AnswerFromSnippets, groups: Mapping[str, Sequence[Found]]
) -> list[Question]:
    """One request per group."""
    return [
        teaching.question(
            name,
            "answer",
            group[0].language,
            AnsweredQuestions,
            {
                "questions": "\n\n".join(
                    _block(number, item) for number, item in enumerate(group, start=1)
                ),
                "max_words": mode.max_words,
            },
        )
        for name, group in groups.items()
    ]


def _block(number: int, item: Found) -> str:
    """One question with its numbered snippets, each on a line of its own."""
    korean = item.language == "ko"
    lines = [f"{'질문' if korean else 'Question'} {number}: {item.query.text}"]
    lines += [
        f"[{place}] {' '.join(row.snippet.text.split())}"
        for place, row in enumerate(item.snippets, start=1)
    ]
    if not item.snippets:
        lines.append(NOTHING_FOUND["ko" if korean else "en"])
    return "\n".join(lines)


def _origin(group: Sequence[Found]) -> Origin:
    return Origin("\n".join(item.text for item in group), group[0].language)


def _take(
    teaching: Teaching,
    mode: AnswerFromSnippets,
    group: Sequence[Found],
    answer: Answer[AnsweredQuestions],
    rows: dict[str, Row],
    made: Made,
) -> set[str]:
    """Sort a reply's rows out; returns the ids of the questions that got one, good or bad."""
    asked = {compact(item.query.text): item for item in group}
    answered: set[str] = set()
    for reply in answer.value.answers:
        item = asked.get(compact(reply.question))
        found: Example | Rejection
        if item is None:
            found = Rejection("unasked", f"nobody asked {reply.question!r}")
        elif item.query.id in answered:
            found = Rejection("repeated", "a second answer to the same question")
        else:
            answered.add(item.query.id)
            found = _example(teaching, mode, item, reply, answer)
        text = reply.model_dump_json()
        subject = group[0].query.id if item is None else item.query.id
        if isinstance(found, Rejection):
            made.reject(subject, answer.request, found, text)
        else:
            rows[subject] = Row(subject, answer.request, text, found)
    return answered


def _example(
    teaching: Teaching,
    mode: AnswerFromSnippets,
    item: Found,
    reply: AnsweredQuestion,
    answer: Answer[AnsweredQuestions],
) -> Example | Rejection:
    text, limits = normalise(reply.answer.strip()), teaching.limits
    unknown = [number for number in reply.snippets if not 1 <= number <= len(item.snippets)]
    if unknown:
        reason = f"names snippet {unknown[0]} of {len(item.snippets)}"
        return Rejection("snippets", reason)
    words = len(text.split())
    if words > mode.max_words:
        return Rejection("too_long", f"{words} words, limit {mode.max_words}")
    problem = question_problem(item.query.text, text, item.text, item.language, limits)
    if problem is not None:
        return problem
    used = [item.snippets[number - 1].snippet for number in dict.fromkeys(reply.snippets)]
    used = used or [row.snippet for row in item.snippets]
    scores: tuple[Score, ...] = ()
    if used:
        source = "\n".join((item.query.text, *(s.title for s in used), *(s.text for s in used)))
        found = answer_problem(text, source, limits)
        if isinstance(found, Rejection):
            return found
        scores = found
    first = used[0] if used else None
    return Example.make(
        prompt=(Message(role="user", content=normalise(item.query.text.strip())),),
        completion=Message(role="assistant", content=text),
        kind="original",
        chunk_ids=tuple(dict.fromkeys(s.chunk_id for s in used if s.chunk_id)),
        document_id=first.document_id if first else "",
        source=(first.source or first.url) if first else "",
        page=first.page if first else 0,
        section=first.section if first else "",
        evidence="\n".join(s.text for s in used),
        scores=scores,
        seed_word=item.query.seed_word,
        **answer.made_by,
    )


def _without_row(
    left: Sequence[Found], failures: Sequence[Failed], groups: Mapping[str, Sequence[Found]]
) -> list[Failed]:
    """A failure for each question without a row: its group's, or that it was passed over twice."""
    of_query = {item.query.id: failure for failure in failures for item in groups[failure.subject]}
    return [
        of_query[item.query.id].model_copy(update={"subject": item.query.id})
        if item.query.id in of_query
        else Failed(
            subject=item.query.id,
            request="",
            reason=f"the reply has no row for {item.query.text!r}, twice",
            reply="",
            kind="unanswered",
            rule="no_row",
        )
        for item in left
    ]
