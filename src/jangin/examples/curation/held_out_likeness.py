"""How like the held-out wordings of a split are to its trained ones."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from jangin.core.digest import seeded_rank
from jangin.core.parquet import read_batches
from jangin.text.wordings import Likeness, likeness

WORDINGS = ("held_out_paraphrases", "held_out_styles")
"""Splits that hold other wordings of trained questions."""
MOST = 2_000
"""Questions that are looked at, by a seeded draw."""


def held_out_likeness(splits: Path) -> dict[str, Likeness]:
    """{split: likeness of its wordings}, of those of `WORDINGS` that have any.

    `splits`: the table of that name.
    """
    held: dict[str, list[tuple[str, str]]] = {name: [] for name in WORDINGS}
    for split, family, question in _rows(splits):
        if split in held:
            held[split].append((family, question))
    families = {family for rows in held.values() for family, _ in rows}
    if not families:
        return {}
    drawn = set(sorted(families, key=lambda family: seeded_rank(0, "likeness", family))[:MOST])
    trained: dict[str, list[str]] = defaultdict(list)
    for split, family, question in _rows(splits):
        if split == "train" and family in drawn:
            trained[family].append(question)
    known = {
        name: likeness(trained, [row for row in rows if row[0] in drawn])
        for name, rows in held.items()
    }
    return {name: each for name, each in known.items() if each is not None}


def _rows(splits: Path) -> Iterator[tuple[str, str, str]]:
    """(split, family, question) of every row."""
    for batch in read_batches(splits):
        example = batch.column("example")
        for split, family, prompt in zip(
            batch.column("split").to_pylist(),
            example.field("family").to_pylist(),
            example.field("prompt").to_pylist(),
            strict=True,
        ):
            users = [turn["content"] for turn in prompt if turn["role"] == "user"]
            yield split, family, users[-1] if users else ""
