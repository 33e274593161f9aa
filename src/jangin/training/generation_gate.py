"""Share of training questions that a model answers exactly, before and after training."""

from collections.abc import Sequence
from typing import Any

from jangin.core.digest import digest_value
from jangin.core.records import Example, Message, SplitExample
from jangin.inference.generate import generate
from jangin.metrics.text import exact_match
from jangin.text.reasoning import without_reasoning

_BATCH_SIZE = 32


def draw_gate_questions(splits: Sequence[SplitExample], limit: int, seed: int) -> list[Example]:
    """At most `limit` original questions of the train split, drawn by the seed."""
    originals = [r.example for r in splits if r.split == "train" and r.example.kind == "original"]
    originals.sort(key=lambda example: digest_value([seed, "probe", example.id]))
    return originals[:limit]


def exact_share(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Example],
    splits: Sequence[SplitExample],
    max_new_tokens: int,
) -> float:
    """Share of questions whose greedy answer equals one of the prompt's answers in the splits."""
    golds: dict[tuple[Message, ...], list[str]] = {}
    for row in splits:
        golds.setdefault(row.example.prompt, []).extend((row.example.answer, *row.example.answers))
    prompts = [example.prompt for example in questions]
    answers = generate(model, tokenizer, prompts, max_new_tokens, batch_size=_BATCH_SIZE)
    exact = [
        max(exact_match(answer.text, without_reasoning(gold)) for gold in golds[prompt])
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return sum(exact) / len(exact)
