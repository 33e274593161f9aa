"""How like the held-out wordings of a split are to its trained ones."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jangin.core.digest import seeded_rank
from jangin.core.parquet import read_batches
from jangin.text.normalize import text_key
from jangin.text.wordings import WordingSimilarity, lookup_hits, wording_similarity

WORDINGS = ("held_out_paraphrases", "held_out_styles")
"""Splits that hold other wordings of trained questions."""
MOST = 2_000
"""Questions that are looked at, by a seeded draw."""


def held_out_similarity(splits: Path) -> dict[str, WordingSimilarity]:
    """{split: similarity of its wordings}, of those of `WORDINGS` that have any.

    `splits`: the table of that name.
    """
    held: dict[str, list[tuple[str, str, str]]] = {name: [] for name in WORDINGS}
    for split, family, question, answer in _rows(splits):
        if split in held:
            held[split].append((family, question, answer))
    families = {family for rows in held.values() for family, _, _ in rows}
    if not families:
        return {}
    drawn = set(sorted(families, key=lambda family: seeded_rank(0, "similarity", family))[:MOST])
    trained: dict[str, list[str]] = defaultdict(list)
    texts, answers = [], []
    for split, family, question, answer in _rows(splits):
        if split == "train" and family in drawn:
            trained[family].append(question)
            texts.append(question)
            answers.append(answer)
    known: dict[str, WordingSimilarity] = {}
    for name, rows in held.items():
        own = [row for row in rows if row[0] in drawn]
        each = wording_similarity(trained, [(family, question) for family, question, _ in own])
        if each is not None:
            hits = lookup_hits(texts, answers, [(question, answer) for _, question, answer in own])
            known[name] = replace(each, lookup=hits)
    return known


def _rows(splits: Path) -> Iterator[tuple[str, str, str, str]]:
    """(split, family, question, key of the answer) of every row."""
    for batch in read_batches(splits):
        example = batch.column("example")
        for split, family, prompt, answer in zip(
            batch.column("split").to_pylist(),
            example.field("family").to_pylist(),
            example.field("prompt").to_pylist(),
            example.field("completion").field("content").to_pylist(),
            strict=True,
        ):
            users = [turn["content"] for turn in prompt if turn["role"] == "user"]
            yield split, family, users[-1] if users else "", text_key(answer)
