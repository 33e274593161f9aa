"""Read SQuAD JSON (also KorQuAD 1.0): articles, paragraphs, questions with answers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from jangin.core.config import Config
from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.core.records import Example, Message
from jangin.text.normalize import nfc

_SENTENCE_END = re.compile(r"[.!?。](?=\s)|\n")


class Squad(Config):
    """The JSON format of SQuAD. A repeated question becomes one example with all its answers."""

    type: Literal["squad"]
    unit: Literal["paragraph", "article"] = "paragraph"
    """Unit that `split` holds out: single paragraphs, or whole articles."""


class _Answer(BaseModel):
    text: str
    answer_start: int = -1


class _Question(BaseModel):
    question: str
    answers: list[_Answer] = Field(default_factory=list)


class _Paragraph(BaseModel):
    context: str
    qas: list[_Question]


class _Article(BaseModel):
    title: str = ""
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: list[_Article]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A question that gives no example."""

    path: str
    """Such as `data[0].paragraphs[2].qas[1]`."""
    reason: str
    text: str


def read_squad(text: str, source: str, settings: Squad) -> tuple[list[Example], list[Unusable]]:
    """(examples in the order of the file, questions that gave none).

    Raises `DataError` with the path inside the file where it is not SQuAD's JSON.
    """
    try:
        articles = _File.model_validate_json(text).data
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{source}: {where + ': ' if where else ''}{first['msg']}. This is not "
            "SQuAD's JSON: {data: [{title, paragraphs: [{context, qas: [{question, answers}]}]}]}."
        ) from error
    by_question: dict[str, list[_Sighting]] = {}
    unusable: list[Unusable] = []
    for sighting in _sightings(articles, settings):
        question, texts = sighting.question, sighting.answers
        if question and texts:
            by_question.setdefault(question, []).append(sighting)
        else:
            reason = "the question is empty" if not question else "it has no answer"
            unusable.append(Unusable(sighting.path, reason, question))
    return [_example(sightings, source) for sightings in by_question.values()], unusable


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A question in one paragraph."""

    path: str
    question: str
    answers: tuple[str, ...]
    evidence: str
    section: str
    paragraph_id: str
    article_id: str


def _sightings(articles: list[_Article], settings: Squad) -> Iterator[_Sighting]:
    for a, article in enumerate(articles):
        title = nfc(article.title.replace("_", " ").strip()) or str(a + 1)
        article_id = short_digest([title, *(p.context for p in article.paragraphs)])
        for p, paragraph in enumerate(article.paragraphs):
            section = f"{title} > {p + 1}" if settings.unit == "paragraph" else title
            for q, item in enumerate(paragraph.qas):
                texts = [nfc(answer.text.strip()) for answer in item.answers]
                yield _Sighting(
                    path=f"data[{a}].paragraphs[{p}].qas[{q}]",
                    question=nfc(item.question.strip()),
                    answers=tuple(dict.fromkeys(text for text in texts if text)),
                    evidence=_sentence(paragraph.context, item.answers),
                    section=section,
                    paragraph_id=short_digest(paragraph.context),
                    article_id=article_id,
                )


def _sentence(context: str, answers: list[_Answer]) -> str:
    """The sentence with the first answer; empty where its offset is wrong."""
    if not answers or not 0 <= answers[0].answer_start < len(context):
        return ""
    start = answers[0].answer_start
    end = start + len(answers[0].text)
    if context[start:end] != answers[0].text:
        return ""
    before = [match.end() for match in _SENTENCE_END.finditer(context, 0, start)]
    after = _SENTENCE_END.search(context, end)
    first, last = before[-1] if before else 0, after.end() if after else len(context)
    return nfc(context[first:last].strip())


def _example(sightings: list[_Sighting], source: str) -> Example:
    """One example of all occurrences of a question; its first answer is the completion."""
    first = sightings[0]
    answers = dict.fromkeys(answer for sighting in sightings for answer in sighting.answers)
    completion, *others = answers
    return Example.make(
        prompt=(Message(role="user", content=first.question),),
        completion=Message(role="assistant", content=completion),
        chunk_ids=tuple(dict.fromkeys(sighting.paragraph_id for sighting in sightings)),
        kind="original",
        answers=tuple(others),
        document_id=first.article_id,
        source=source,
        section=first.section,
        evidence=first.evidence,
    )
