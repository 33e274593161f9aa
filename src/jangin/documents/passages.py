"""Passages that are found for a question: the same for training, evaluation and serving."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self, overload

from jangin.core.digest import digest_value
from jangin.core.model_protocols import TextEncoder
from jangin.core.parquet import read_columns
from jangin.core.prompts import Prompt
from jangin.core.records import Chunk, Example, Message, Record
from jangin.documents.bm25 import Hit, PassageIndex
from jangin.text.grounding import check_answer
from jangin.text.normalize import letters_and_digits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyarrow import Table

TABLE = "passages.parquet"
VECTORS = "vectors.npy"
SETTINGS = "settings.json"
PROMPT_FILE = "passages.json"
"""Beside the weights of a model that was trained with passages."""
RANK_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)."""
FUSED = 100
"""Best passages of each ranking that are joined."""


class StoredChunks(Sequence[Chunk]):
    """The rows of a table, of which only those that are asked for become records."""

    def __init__(self, table: "Table") -> None:
        """Rows with the columns of `Chunk`."""
        self._table = table

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> list[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | list[Chunk]:
        """One row, or some."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        (row,) = self._table.slice(range(len(self))[index], 1).to_pylist()
        return Chunk.model_validate(row)

    def ids(self) -> list[str]:
        """The id of each row."""
        return [str(each) for each in self._table.column("id").to_pylist()]


@dataclass(frozen=True, slots=True)
class PassageHit:
    """A passage that was found for a question."""

    chunk: Chunk
    score: float
    """BM25, as a share of the maximum for the question, 0 to 1."""
    similarity: float | None
    """Cosine of the embeddings; None without an encoder."""
    words: tuple[str, ...]
    """Words of the question that the passage has, those first that count most."""
    text: str
    """What is read: the passage, with its neighbours of the same section where they fit."""


def quotation(hit: PassageHit, answer: str = "") -> str:
    """The sentence of a passage that has the answer, else that with most words of the question."""
    sentences = [part.strip() for part in re.split(r"(?<=[.!?。])\s+|\n", hit.text)]
    wanted = letters_and_digits(answer)

    def fit(sentence: str) -> tuple[bool, int]:
        letters = letters_and_digits(sentence)
        words = sum(letters_and_digits(word) in letters for word in hit.words)
        return bool(wanted) and wanted in letters, words

    return max(filter(None, sentences), key=fit, default="")


def cited(hits: Sequence[PassageHit], answer: str) -> PassageHit | None:
    """The passage that supports an answer best; the better one of the search among equal ones.

    One that has the answer letter by letter comes first, then those with most of its numbers, names
    and words. None without passages.
    """
    wanted = letters_and_digits(answer)

    def fit(hit: PassageHit) -> tuple[bool, float, float]:
        has = check_answer(answer, hit.text)
        whole = bool(wanted) and wanted in letters_and_digits(hit.text)
        return whole, has.grounded, has.words

    return max(hits, key=fit, default=None)


class Passages:
    """Passages of a project's documents, to be searched."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        index: PassageIndex,
        *,
        language: str = "en",
        section_characters: int = 0,
        encoder: TextEncoder | None = None,
        vectors: "NDArray[np.float32] | None" = None,
    ) -> None:
        """`vectors`: unit vectors of the passages by `encoder`, (passages, width).

        `language`: of the template that a model is asked with. `section_characters`: up to this
        length, the neighbours of a passage in its section are read with it.
        """
        self.chunks, self.language = chunks, language
        self._index, self._encoder, self._vectors = index, encoder, vectors
        self._section_characters = section_characters
        self._rows: dict[str, int] | None = None

    @classmethod
    def of(cls, chunks: Sequence[Chunk], language: str = "en") -> Self:
        """Passages that are indexed now, by BM25 alone.

        Raises: MachineError: kiwipiepy is not installed.
        """
        index = PassageIndex.build([chunk.text for chunk in chunks])
        return cls(chunks, index, language=language)

    @classmethod
    def open(cls, folder: Path, encoder: TextEncoder | None) -> Self:
        """Those of an `index` artifact; `encoder` as `encoder_of` says."""
        import numpy as np

        settings = json.loads((folder / SETTINGS).read_text("utf-8"))
        return cls(
            StoredChunks(read_columns(folder / TABLE)),
            PassageIndex.load(folder),
            language=settings["language"],
            section_characters=settings["section_characters"],
            encoder=encoder,
            vectors=None if encoder is None else np.load(folder / VECTORS, mmap_mode="r"),
        )

    def search(self, questions: Sequence[str], limit: int) -> Iterator[list[PassageHit]]:
        """At most `limit` passages for each question, best first.

        With an encoder, its ranking and that of BM25 are joined by reciprocal rank.
        """
        for question, hits in zip(questions, self.hits(questions, limit), strict=True):
            matched = self._index.matched(question, [hit.index for hit, _ in hits])
            yield [
                PassageHit(
                    self.chunks[hit.index], hit.score, similarity, words, self.text(hit.index)
                )
                for (hit, similarity), words in zip(hits, matched, strict=True)
            ]

    def hits(
        self, questions: Sequence[str], limit: int
    ) -> Iterator[list[tuple[Hit, float | None]]]:
        """As `search`: (position of a passage and its score, cosine)."""
        if self._encoder is None or self._vectors is None or not len(self.chunks):
            for hits in self._index.search(questions, limit):
                yield [(hit, None) for hit in hits]
            return
        vectors = self._encoder.encode(questions, "query")
        by_terms = self._index.search(questions, max(limit, FUSED))
        for vector, hits in zip(vectors, by_terms, strict=True):
            yield _joined(hits, self._vectors @ vector, limit)

    @property
    def by_terms(self) -> "Passages":
        """The same passages, ranked by BM25 alone."""
        return Passages(self.chunks, self._index, language=self.language)

    @property
    def has_encoder(self) -> bool:
        """Whether the ranking of an encoder is joined with that of BM25."""
        return self._encoder is not None

    def row_of(self, chunk_id: str) -> int | None:
        """Position of a passage; None where it is not among them."""
        if self._rows is None:
            stored = self.chunks
            ids = stored.ids() if isinstance(stored, StoredChunks) else [c.id for c in stored]
            self._rows = {each: row for row, each in enumerate(ids)}
        return self._rows.get(chunk_id)

    def text(self, row: int) -> str:
        """A passage with its neighbours in the same section, as many as fit."""
        first = last = row
        chunk = self.chunks[row]
        room, parts = self._section_characters - len(chunk.text), [chunk]
        grown = True
        while room > 0 and grown:
            grown = False
            for position in (last + 1, first - 1):
                near = self.chunks[position] if 0 <= position < len(self.chunks) else None
                if near is None or not _same_section(near, chunk) or len(near.text) > room:
                    continue
                room, grown = room - len(near.text), True
                parts = [*parts, near] if position > last else [near, *parts]
                first, last = min(first, position), max(last, position)
        return _whole(parts)


def _joined(
    hits: Sequence[Hit], cosines: "NDArray[np.float32]", limit: int
) -> list[tuple[Hit, float | None]]:
    """The best of two rankings by the sum of 1 / (60 + rank)."""
    import numpy as np

    nearest = np.argsort(-cosines, kind="stable")[:FUSED]
    points: dict[int, float] = {}
    for ranking in ([hit.index for hit in hits], map(int, nearest)):
        for rank, row in enumerate(ranking, 1):
            points[row] = points.get(row, 0.0) + 1 / (RANK_CONSTANT + rank)
    scores = {hit.index: hit.score for hit in hits}
    best = sorted(points, key=lambda row: (-points[row], row))[:limit]
    return [(Hit(row, scores.get(row, 0.0)), round(float(cosines[row]), 6)) for row in best]


def _same_section(one: Chunk, other: Chunk) -> bool:
    return one.document_id == other.document_id and one.section == other.section


def _whole(parts: Sequence[Chunk]) -> str:
    """Neighbouring passages as one text, without what the later of two repeats."""
    texts = [parts[0].text]
    for before, part in pairwise(parts):
        repeated = 0 if part.table else max(0, before.end - part.start)
        texts.append(part.text[repeated:].strip("\n"))
    return "\n".join(texts)


class PassagePrompt(Record):
    """How a model is asked with passages: how many, and the template around them."""

    count: int
    template: Prompt

    def write(self, model: Path) -> None:
        """Record it with a model that was trained so."""
        (model / PROMPT_FILE).write_text(self.model_dump_json(indent=2), "utf-8")

    @classmethod
    def read(cls, model: Path) -> Self | None:
        """What is recorded with a model; None for one that was trained without passages."""
        path = model / PROMPT_FILE
        return cls.model_validate_json(path.read_bytes()) if path.is_file() else None

    def prompt(self, prompt: Sequence[Message], texts: Sequence[str]) -> tuple[Message, ...]:
        """A prompt with passages before its last turn."""
        *before, question = prompt
        passages = "\n\n".join(texts)
        return (*before, *self.template.messages(passages=passages, question=question.content))

    def with_passages(
        self, passages: Passages, prompt: Sequence[Message]
    ) -> tuple[tuple[Message, ...], list[PassageHit]]:
        """(the prompt with the best passages for its last turn, those passages, best first).

        The best one comes last, next to the question.
        """
        (hits,) = passages.search([prompt[-1].content], self.count)
        return self.prompt(prompt, [each.text for each in reversed(hits)]), hits


@dataclass(frozen=True, slots=True)
class TaughtPassages:
    """Puts passages before the questions of training rows, as they will be asked."""

    passages: Passages
    passage_prompt: PassagePrompt
    gold: float
    """Share of the rows whose own passage is among them."""
    seed: int

    def rows(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with the best passages for each; their own is added or taken away."""
        questions = [example.prompt[-1].content for example in examples]
        count = self.passage_prompt.count
        every = self.passages.hits(questions, count + max(map(_passages_of, examples), default=0))
        nearest = ([hit.index for hit, _ in hits] for hits in every)
        return [self._row(*pair) for pair in zip(examples, nearest, strict=True)]

    def rows_unsearched(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with passages of the usual lengths: an estimate needs no search."""
        total, taken = len(self.passages.chunks), self.passage_prompt.count + 1
        steps = range(0, total, max(1, total // taken))
        rows = [*steps][:taken]
        return [self._row(example, rows) for example in examples]

    def own(self, example: Example) -> list[int]:
        """Positions of the passages that an example was written from; those that are there."""
        rows = (self.passages.row_of(each) for each in example.chunk_ids)
        return [row for row in rows if row is not None]

    def _row(self, example: Example, nearest: Sequence[int]) -> Example:
        own = self.own(example)[: self.passage_prompt.count]
        others = [row for row in nearest if row not in own]
        kept = [*own, *others] if self.has_own(example) else others
        order = sorted(
            kept[: self.passage_prompt.count],
            key=lambda row: digest_value([self.seed, "order", example.id, row]),
        )
        prompt = self.passage_prompt.prompt(
            example.prompt, [self.passages.text(row) for row in order]
        )
        added = len(prompt) - len(example.prompt)
        weights = example.weights
        if added and weights:  # a system message of the template, which is no answer
            weights = (*weights[:-2], *[0] * added, *weights[-2:])
        return example.model_copy(update={"prompt": prompt, "weights": weights})

    def has_own(self, example: Example) -> bool:
        """Whether a row is one of those with their own passage."""
        drawn = int(digest_value([self.seed, "own", example.id])[:8], 16) / 16**8
        return drawn < self.gold


def _passages_of(example: Example) -> int:
    return len(example.chunk_ids)
