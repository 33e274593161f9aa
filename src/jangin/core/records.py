"""Records that stages exchange, one per table row. They are immutable; ids are content digests."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from jangin.core.digest import short_digest
from jangin.core.reasons import Reason

Role = Literal["system", "user", "assistant"]
Split = Literal[
    "train", "validation", "held_out_paraphrases", "held_out_styles", "unseen_sections", "test"
]


class Record(BaseModel):
    """One row of a table; immutable, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class OrderDoubt(Record):
    """A sign that the lines of a page are not in the order in which they are read."""

    reason: Literal["articles_fall", "columns_crossed", "sentences_cut", "lines_parted"]
    """`articles_fall`: the number of an article is lower than that of the one before it;
    `columns_crossed`: lines go across a white strip that others keep free; `sentences_cut`: many
    lines end inside a sentence that the next line does not go on with; `lines_parted`: such lines
    are not followed by the one right below them."""
    values: tuple[int, ...] = ()
    """`articles_fall`: the number before, and that after it; else: lines, of how many."""


class Page(Record):
    """Range of a page in its document's text, in characters, and how the text was extracted."""

    number: int
    """Position in the file, from 1; printed page numbers are ignored."""
    start: int
    end: int
    method: Literal["text", "ocr"]
    confidence: float | None = None
    """Mean word confidence of OCR, 0 to 100; None if the text layer was used."""
    reason: str = ""
    """Why OCR was used, or how a disordered text layer was sorted; otherwise empty."""
    doubts: tuple[OrderDoubt, ...] = ()
    """Why the order of its lines is doubtful; such a page is flagged."""
    lines: int = 0
    """Lines that OCR read."""
    checked: int = 0
    """Those that other models read, too."""


class Document(Record):
    """One source file. `id` is the digest of its bytes and does not depend on its path."""

    id: str
    source: str
    """Path relative to the source folder, with forward slashes."""
    text: str
    """NFC, with `\\n` as line separator."""
    pages: tuple[Page, ...]
    """They cover the text in order; formats without pages have one page."""
    language: str
    """ISO 639-1 code by the most frequent script, such as `ko` or `en`."""


class Chunk(Record):
    """A passage of a document: `text == document.text[start:end]`, offsets in characters.

    Where the passage continues a table, its text begins with the header row of that table, and
    only what follows the header is at `start`.
    """

    id: str
    document_id: str
    source: str
    text: str
    start: int
    end: int
    page: int
    """Number of the page on which the chunk begins."""
    section: str
    """Heading path, such as `제3장 휴가 > 제12조(연차휴가)`; empty without headings."""
    table: bool = False
    """True if more than half of the text are rows of a Markdown table."""


class Message(Record):
    """One chat message, with the roles of the OpenAI API."""

    role: Role
    content: str


def earlier_turns(prompt: Iterable[tuple[str, str]]) -> str:
    """What was said before the last of the messages, each (role, content): a line for each role.

    System messages are left out; empty for a prompt of one turn.
    """
    turns = [(role, content) for role, content in prompt if role != "system"]
    return "\n".join(f"{role}: {content}" for role, content in turns[:-1])


class Query(Record):
    """A search query and the seed word that it was written for."""

    id: str
    text: str
    seed_word: str
    teacher: str = ""
    """Model that wrote it; empty if it was read from a file."""
    request: str = ""
    """Digest of the request whose reply contains it."""
    template: str = ""
    """Label of the prompt of that request."""

    @classmethod
    def make(cls, text: str, seed_word: str, **fields: object) -> Self:
        """A query; its id is the digest of `seed_word` and `text`."""
        query_id = short_digest({"text": text, "seed_word": seed_word})
        return cls.model_validate({"id": query_id, "text": text, "seed_word": seed_word, **fields})


class Snippet(Record):
    """One search result of a query."""

    id: str
    """Digest of query and text."""
    query_id: str
    place: int
    """Rank by the engine, from 1."""
    text: str
    title: str = ""
    url: str = ""
    """Address of a web result; empty for the project's own documents."""
    engine: str
    chunk_id: str = ""
    """Id of the chunk, if the project's own documents were searched."""
    document_id: str = ""
    source: str = ""
    page: int = 0
    section: str = ""


class RankedSnippet(Record):
    """A snippet that was kept, with its rank from 1 within its query and its score."""

    snippet: Snippet
    rank: int
    score: float
    """In units of the ranker: cosine similarity for encoders."""
    ranker: str


class Score(Record):
    """One judgement by a rule, a model or a human, 0 (worst) to 1 (best)."""

    scorer: str
    kind: Literal["rule", "model", "human"]
    value: float = Field(ge=0, le=1)
    reason: str = ""


class Example(Record):
    """One supervised sample in prompt/completion form, with its provenance.

    An example and its paraphrases share `family`, so that a split can keep them together.
    """

    id: str
    prompt: tuple[Message, ...]
    completion: Message
    family: str
    """Id of the original example; an original has its own id."""
    kind: Literal["original", "paraphrase", "evolved"]
    answers: tuple[str, ...] = ()
    """Further correct answers, accepted by grading and not used for training."""
    weights: tuple[int, ...] = ()
    """0 or 1 for each message of prompt and completion, like OpenAI's `weight`: 0 excludes it
    from the loss. Empty: 1 for every message."""
    chunk_ids: tuple[str, ...] = ()
    document_id: str = ""
    source: str = ""
    page: int = 0
    """First page of the source passage; 0 without pages."""
    section: str = ""
    evidence: str = ""
    """Quotation from the chunk that supports the answer."""
    scores: tuple[Score, ...] = ()
    teacher: str = ""
    """Model that wrote it."""
    request: str = ""
    """Digest of the request whose reply contains it."""
    template: str = ""
    """Label of the prompt: name, language and digest of the wording."""
    temperature: FiniteFloat = 0.0
    sample: int = 0
    """Index of the teacher's sample, from 0."""
    parent: str = ""
    """Id of the example that it rewrites; empty for one written from a source."""
    operation: str = ""
    """How it was rewritten, such as `deepening`; of a paraphrase its style, if it has one."""
    seed_word: str = ""
    """Seed word of its question; examples that share it stay in one split."""

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
        """An example; its id is the digest of its messages, `chunk_ids` and any `weights`."""
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
        """Text of the last user message; empty without one."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")

    @property
    def style(self) -> str:
        """Style of a paraphrase, such as `spoken`; empty without one."""
        named = self.kind == "paraphrase" and self.operation != "paraphrase"
        return self.operation if named else ""

    @property
    def earlier_turns(self) -> str:
        """The conversation before the last message, as `earlier_turns` writes it."""
        return earlier_turns((m.role, m.content) for m in self.prompt)

    @property
    def answer(self) -> str:
        """Text of the completion."""
        return self.completion.content


class Dropped(Record):
    """An example that was dropped: by which rule, why, and in favour of which duplicate."""

    example: Example
    rule: str
    reason: Reason
    twin: str = ""
    """Id of the example that was kept instead; empty if there is none."""


class Choice(Record):
    """A multiple-choice question: one correct answer and distractors."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    distractors: tuple[str, ...]
    """Plausible wrong answers."""
    family: str
    """Id of the example with the same question; its own id if there is none."""
    chunk_ids: tuple[str, ...] = ()
    document_id: str = ""
    source: str = ""
    page: int = 0
    section: str = ""
    teacher: str = ""
    """Model that wrote it."""
    request: str = ""
    """Digest of the request whose reply contains it."""

    @classmethod
    def make(
        cls,
        prompt: tuple[Message, ...],
        answer: str,
        distractors: tuple[str, ...],
        family: str = "",
        **fields: object,
    ) -> Self:
        """A choice; its id is the digest of its prompt and options."""
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
    """A prompt with a preferred and a rejected answer."""

    id: str
    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    origin: Literal["sampling", "distractor", "other_answer", "file"]
    """Source of the rejected answer: the model itself, a distractor, another question's answer, or
    a file of pairs."""
    family: str
    """Id of the original question."""
    example_id: str
    """Id of the example or choice with the prompt and the chosen answer."""
    chunk_ids: tuple[str, ...] = ()
    document_id: str = ""
    source: str = ""
    page: int = 0
    section: str = ""
    scores: tuple[Score, ...] = ()
    """Scores of the rejected answer, compared with the chosen one."""

    @classmethod
    def make(
        cls, prompt: tuple[Message, ...], chosen: Message, rejected: Message, **fields: object
    ) -> Self:
        """A pair; its id is the digest of its messages."""
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
    """A pair that was dropped: by which rule, and why."""

    pair: PreferencePair
    rule: str
    reason: Reason


class SplitExample(Record):
    """An example and the split that it belongs to."""

    example: Example
    split: Split
