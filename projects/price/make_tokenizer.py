"""Write tokenizer.json beside a file of rows, learned from its own words, for `real.yaml`.

    python projects/price/make_tokenizer.py chats.jsonl

It replaces the tokenizer of a real base model, by whose tokens the recipe cuts texts.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from jangin.models.starter import train_tokenizer

VOCABULARY_SIZE = 4096


def texts_of(value: object) -> Iterator[str]:
    """Every text in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    texts = [text for row in rows for text in texts_of(row)]
    tokenizer = train_tokenizer(texts, VOCABULARY_SIZE, context_length=512)
    tokenizer.backend_tokenizer.save(str(path.with_name("tokenizer.json")))
