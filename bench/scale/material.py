"""Generated documents and examples: every document is about a name of its own, as real ones are.

A vocabulary that does not grow with the corpus would make every word frequent in a large one, and
the search for near copies would measure that instead of the code.
"""

import hashlib
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jangin.core.parquet import arrow_schema
from jangin.core.records import Example

PER_DOCUMENT = 5
"""Examples of each document: two questions, the first with two paraphrases, the second with one."""
FOLDER_OF = 1000
"""Documents in one folder."""
BATCH = 20_000
PARTICLES = ("", "은", "는", "이", "가", "을", "를", "에", "에서", "으로", "도", "까지")
ENDINGS = ("됩니까?", "합니까?", "입니까?", "있습니까?", "나요?")


def _syllables(chance: random.Random, count: int) -> str:
    return "".join(chr(0xAC00 + 28 * chance.randrange(399)) for _ in range(count))


class Words:
    """30,000 words, the n-th one 1/n as often, and a name for each document."""

    def __init__(self) -> None:
        chance = random.Random(7)
        self.words = [_syllables(chance, chance.randint(2, 4)) for _ in range(30_000)]
        self.weights = list(accumulate(1 / (n + 10) for n in range(len(self.words))))

    def some(self, chance: random.Random, count: int) -> list[str]:
        """Words with particles."""
        drawn = chance.choices(self.words, cum_weights=self.weights, k=count)
        particles = chance.choices(PARTICLES, k=count)
        return [word + particle for word, particle in zip(drawn, particles, strict=True)]

    def sentence(self, chance: random.Random, name: str) -> str:
        """A sentence about a name."""
        return " ".join([name, *self.some(chance, chance.randint(6, 14))]) + "다."


def name_of(number: int) -> str:
    return _syllables(random.Random(f"name {number}"), 5)


def write_documents(folder: Path, count: int) -> None:
    """Markdown files of about 3 kB, with three headings each."""
    words = Words()
    for number in range(count):
        chance, name = random.Random(number), name_of(number)
        lines = [f"# {name} 규정"]
        for heading in range(3):
            lines += ["", f"## 제{heading + 1}조({words.some(chance, 1)[0]})"]
            for _ in range(chance.randint(2, 3)):
                lines += ["", " ".join(words.sentence(chance, name) for _ in range(4))]
        path = folder / f"{number // FOLDER_OF:04}" / f"{number % FOLDER_OF:03}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_examples(folder: Path, documents: int, per_part: int) -> None:
    """`PER_DOCUMENT` examples for each document; one question in ten is there twice.

    One file, or parts of `per_part` documents each.
    """
    schema = arrow_schema(Example)
    cuts = range(0, documents, per_part or documents)
    for part, first in enumerate(cuts):
        path = folder / "examples.parquet"
        if per_part:
            path.mkdir(exist_ok=True)
            path = path / f"part-{part:05}.parquet"
        last = min(documents, first + (per_part or documents))
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            rows: list[dict[str, object]] = []
            for row in _examples(range(first, last)):
                rows.append(row)
                if len(rows) == BATCH:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _id(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _examples(numbers: range) -> Iterator[dict[str, object]]:
    words = Words()
    for number in numbers:
        chance, name = random.Random(number), name_of(number)
        for question in range(2):
            drawn = words.some(chance, 7)
            answer = words.sentence(chance, name)
            family = _id(number, question)
            for wording in range(3 - question):
                if wording:
                    drawn = [*drawn]
                    for index in chance.sample(range(7), 3):
                        drawn[index] = words.some(chance, 1)[0]
                text = f"{name} {' '.join(drawn)} {chance.choice(ENDINGS)}"
                if not wording and chance.random() < 0.1:
                    copy = _id(number, question, "copy")
                    yield _row(number, question, copy, f"{text} ", answer, "", 9)
                parent = family if wording else ""
                row_id = family if not wording else _id(number, question, wording)
                yield _row(number, question, row_id, text, answer, parent, wording)


def _row(
    number: int, question: int, row_id: str, text: str, answer: str, parent: str, wording: int
) -> dict[str, object]:
    return {
        "id": row_id,
        "prompt": [
            {"role": "system", "content": "문서에 따라 답합니다."},
            {"role": "user", "content": text},
        ],
        "completion": {"role": "assistant", "content": answer},
        "family": parent or row_id,
        "kind": "paraphrase" if parent else "original",
        "answers": [],
        "weights": [],
        "chunk_ids": [_id("chunk", number, question)],
        "document_id": _id("document", number),
        "source": f"{number // FOLDER_OF:04}/{number % FOLDER_OF:03}.md",
        "page": 1,
        "section": f"규정 > 제{question + 1}조",
        "evidence": answer[:40],
        "scores": [{"scorer": "grounding", "kind": "rule", "value": 1.0, "reason": ""}],
        "teacher": "generated",
        "request": _id("request", number, question, wording),
        "template": "synthesize ko",
        "temperature": 0.7,
        "sample": 0,
        "parent": parent,
        "operation": "",
        "seed_word": "",
    }
