"""The records that travel between stages. Ids are content digests; nothing is ever changed."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from jangin.core.digest import short_digest

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation", "held_out_paraphrases", "unseen_sections", "test"]


class Record(BaseModel):
    """One row of a table: unknown fields are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Page(Record):
    """Where a page stands in its document's text, and how its text was won."""

    number: int
    """From 1, as a reader counts."""
    start: int
    end: int
    method: Literal["text", "ocr"]
    confidence: float | None = None
    """OCR's mean word confidence, 0 to 100; None where the text layer was used."""
    reason: str = ""
    """Why OCR was used, or how a disordered text layer was put in order; empty for plain text."""


class Document(Record):
    """One source text. `id` is the digest of its bytes, so moving a file changes nothing."""

    id: str
    source: str
    """Path inside the source folder, with forward slashes."""
    text: str
    """NFC, `\\n` line ends."""
    pages: tuple[Page, ...]
    """Cover the text in order; formats without pages have one."""
    language: str
    """ISO 639-1 code of the most frequent script, such as `ko` or `en`."""


class Chunk(Record):
    """A passage of a document: `text == document.text[start:end]`, offsets in characters."""

    id: str
    document_id: str
    source: str
    text: str
    start: int
    end: int
    page: int
    """Number of the page on which the chunk begins."""
    section: str
    """Heading path, such as `제3장 휴가 > 제12조(연차휴가)`; empty where there is none."""


class Message(Record):
    """One chat turn, in OpenAI's wire terms."""

    role: Role
    content: str


class Query(Record):
    """A question to look up, and the word it grew from."""

    id: str
    text: str
    seed_word: str
    teacher: str = ""
    """Model that wrote it; empty where it was read from a file."""
    request: str = ""
    """Digest of the request it was written in reply to."""
    template: str = ""
    """Prompt it was asked for with."""

    @classmethod
    def make(cls, text: str, seed_word: str, **fields: object) -> Self:
        """A query whose id is the digest of its word and its text."""
        query_id = short_digest({"text": text, "seed_word": seed_word})
        return cls.model_validate({"id": query_id, "text": text, "seed_word": seed_word, **fields})


class Snippet(Record):
    """One thing that a search found for a query."""

    id: str
    """Digest of query and text."""
    query_id: str
    place: int
    """From 1, in the order of the engine."""
    text: str
    title: str = ""
    url: str = ""
    """Where a web engine found it; empty for the project's own documents."""
    engine: str
    chunk_id: str = ""
    """The chunk it is, where the project's own documents were searched."""
    document_id: str = ""
    source: str = ""
    page: int = 0
    section: str = ""


class RankedSnippet(Record):
    """A snippet that was kept, its rank from 1 within its query, and why."""

    snippet: Snippet
    rank: int
    score: float
    """Of the ranker, in its own units: cosine for encoders."""
    ranker: str


class Score(Record):
    """One judgement by a rule, a model or a human."""

    scorer: str
    kind: Literal["rule", "model", "human"]
    value: float = Field(ge=0, le=1)
    reason: str = ""


class Example(Record):
    """One supervised sample in prompt/completion form, with where it came from.

    An example and its paraphrases share `family`, so a split can keep them together.
    """

    id: str
    prompt: tuple[Message, ...]
    completion: Message
    family: str
    """Id of the original question; its own id for an original."""
    kind: Literal["original", "paraphrase", "evolved"]
    answers: tuple[str, ...] = ()
    """Other answers that are right as well, for grading; nothing is trained on them."""
    weights: tuple[int, ...] = ()
    """0 or 1 for each message of prompt and completion, as OpenAI's `weight`: 0 keeps a message out
    of the loss. Empty for 1 everywhere."""
    chunk_ids: tuple[str, ...] = ()
    document_id: str = ""
    source: str = ""
    page: int = 0
    """First page that the answer rests on; 0 where there are no pages."""
    section: str = ""
    evidence: str = ""
    """The passage that supports the answer, as it stands in the chunk."""
    scores: tuple[Score, ...] = ()
    teacher: str = ""
    """Model that wrote it."""
    request: str = ""
    """Digest of the request it was written in reply to."""
    template: str = ""
    """Prompt it was asked for with: name, language and digest of the wording."""
    temperature: FiniteFloat = 0.0
    sample: int = 0
    """Number of the teacher's draw."""
    parent: str = ""
    """Id of the example it was rewritten from; empty for one made from a source."""
    operation: str = ""
    """How it was rewritten, such as `deepening`."""
    seed_word: str = ""
    """Word that its question grew from; what shares it stays in one split."""

    @classmethod
    def make(
        cls,
        prompt: tuple[Message, ...],
        completion: Message,
        chunk_ids: tuple[str, ...] = (),
        family: str = "",
        weights: tuple[int, ...] = (),
        **fields: object,
    ) -> Self:
        """An example whose id is the digest of its messages, chunks and weights, if it has any."""
        identity: dict[str, object] = {
            "prompt": [message.model_dump() for message in prompt],
            "completion": completion.model_dump(),
            "chunk_ids": list(chunk_ids),
        }
        if weights:
            identity["weights"] = list(weights)
        example_id = short_digest(identity)
        return cls.model_validate(
            {
                "id": example_id,
                "prompt": prompt,
                "completion": completion,
                "chunk_ids": chunk_ids,
                "family": family or example_id,
                "weights": weights,
                **fields,
            }
        )

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")

    @property
    def answer(self) -> str:
        """Text of the completion."""
        return self.completion.content


class Dropped(Record):
    """An example that was left out: by which rule, why, and in favour of which twin."""

    example: Example
    rule: str
    reason: str
    twin: str = ""
    """Id of the example kept in its place; empty where there is none."""


class Choice(Record):
    """A multiple-choice question: one right answer and wrong ones."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    distractors: tuple[str, ...]
    """Wrong answers that could be taken for right."""
    family: str
    """Id of the example that asks the same; its own id where none does."""
    chunk_ids: tuple[str, ...] = ()
    document_id: str = ""
    source: str = ""
    page: int = 0
    section: str = ""
    teacher: str = ""
    """Model that wrote it."""
    request: str = ""
    """Digest of the request it was written in reply to."""

    @classmethod
    def make(
        cls,
        prompt: tuple[Message, ...],
        answer: str,
        distractors: tuple[str, ...],
        family: str = "",
        **fields: object,
    ) -> Self:
        """A choice whose id is the digest of its question and options."""
        choice_id = short_digest(
            {
                "prompt": [message.model_dump() for message in prompt],
                "answer": answer,
                "distractors": list(distractors),
            }
        )
        return cls.model_validate(
            {
                "id": choice_id,
                "prompt": prompt,
                "answer": answer,
                "distractors": distractors,
                "family": family or choice_id,
                **fields,
            }
        )


class PreferencePair(Record):
    """Two answers to one prompt, of which the first is better."""

    id: str
    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    origin: Literal["sampling", "distractor", "other_answer"]
    """Where the rejected answer comes from: the model itself, a wrong option, another question."""
    family: str
    """Id of the original question."""
    example_id: str
    """Example or choice that the prompt and the chosen answer come from."""
    chunk_ids: tuple[str, ...] = ()
    document_id: str = ""
    source: str = ""
    page: int = 0
    section: str = ""
    scores: tuple[Score, ...] = ()
    """Of the rejected answer, against the chosen one."""

    @classmethod
    def make(
        cls, prompt: tuple[Message, ...], chosen: Message, rejected: Message, **fields: object
    ) -> Self:
        """A pair whose id is the digest of its messages."""
        messages = {
            "prompt": [message.model_dump() for message in prompt],
            "chosen": chosen.model_dump(),
            "rejected": rejected.model_dump(),
        }
        return cls.model_validate(
            {
                "id": short_digest(messages),
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                **fields,
            }
        )


class DroppedPair(Record):
    """A pair that was left out: by which rule, and why."""

    pair: PreferencePair
    rule: str
    reason: str


class SplitExample(Record):
    """An example and the split it fell into."""

    example: Example
    split: Split
