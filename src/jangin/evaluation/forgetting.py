"""Forgetting: perplexity and accuracy on general data, before and after tuning.

The file is JSON Lines: a row with `text` is read for perplexity, a row with `question` and
`answer` is asked.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime
from jangin.core.errors import DataError
from jangin.core.jsonl import read_json_lines
from jangin.core.records import Message, Record
from jangin.core.stage import StageContext
from jangin.metrics.statistics import bootstrap_mean, mcnemar_p, wilson_interval
from jangin.metrics.text import contains
from jangin.text.normalize import nfc


class NoForgetting(Config):
    """No check for forgetting."""

    type: Literal["none"] = "none"


class GeneralSet(Config):
    """General texts and questions that have nothing to do with what is taught."""

    type: Literal["file"]
    path: Runtime[Path]
    """JSON Lines with `text`, or with `question` and `answer`."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longer texts are truncated to this number of tokens."""


Forgetting = Annotated[NoForgetting | GeneralSet, Field(discriminator="type")]


class ForgettingResult(Record):
    """One model on the general material."""

    system: str
    texts: int
    tokens: int
    perplexity: float | None
    """exp of the mean negative log-likelihood per token; None without texts."""
    bits_per_character: float | None
    """The same in a unit that does not depend on the tokenizer."""
    log_loss_change: float | None
    """Mean over texts of nats per token more than the base; with a 95 % bootstrap interval."""
    log_loss_change_low: float | None
    log_loss_change_high: float | None
    questions: int
    right: float | None
    """Share of questions whose gold answer occurs in the answer, with Wilson's interval."""
    right_low: float | None
    right_high: float | None
    p_value: float | None
    """Exact McNemar against the base."""


class GeneralRow(Record):
    """One line of the file."""

    text: str = ""
    question: str = ""
    answer: str = ""


def read_general(path: Path) -> list[GeneralRow]:
    """All rows; raises `DataError` naming file and line."""
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Name a JSON Lines file under evaluate.forgetting.path."
        )
    remedy = 'Write {"text": "..."} or {"question": "...", "answer": "..."} on each line.'
    return [_row(value, f"{path}:{line}", remedy) for line, value in read_json_lines(path, remedy)]


def _row(data: object, location: str, remedy: str) -> GeneralRow:
    fields = {
        name: nfc(str(data[name])).strip()
        for name in ("text", "question", "answer")
        if isinstance(data, dict) and data.get(name)
    }
    row = GeneralRow(**fields)
    if not row.text and not (row.question and row.answer):
        raise DataError(f"{location}: neither a text nor a question with its answer. {remedy}")
    return row


def log_losses(
    model: Any, tokenizer: Any, texts: Sequence[str], max_tokens: int
) -> list[tuple[float, int]]:
    """(summed negative log-likelihood in nats, tokens predicted) of each text, one at a time."""
    import numpy as np

    from jangin.models.likelihood import negative_log_likelihoods

    encoded = [
        np.array(tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"], np.int64)
        for text in texts
    ]
    nats = negative_log_likelihoods(model, [(ids, None) for ids in encoded])
    return [(total, max(0, len(ids) - 1)) for total, ids in zip(nats, encoded, strict=True)]


def answers_of(
    model: Any, tokenizer: Any, rows: Sequence[GeneralRow], max_new_tokens: int
) -> list[bool]:
    """True for each question whose gold answer occurs in the model's greedy answer."""
    from jangin.inference.generate import generate

    if not rows:
        return []
    prompts = [(Message(role="user", content=row.question),) for row in rows]
    answers = generate(model, tokenizer, prompts, max_new_tokens)
    return [contains(a.text, row.answer) == 1 for a, row in zip(answers, rows, strict=True)]


def forgetting_result(
    system: str,
    texts: Sequence[str],
    losses: Sequence[tuple[float, int]],
    base_losses: Sequence[tuple[float, int]],
    right: Sequence[bool],
    base_right: Sequence[bool],
    seed: int,
) -> ForgettingResult:
    """Sum up one model; for the base itself both halves are the same."""
    tokens = sum(count for _, count in losses)
    total = sum(loss for loss, _ in losses)
    characters = sum(len(text) for text, (_, count) in zip(texts, losses, strict=True) if count)
    changes = [
        loss / count - base / base_count
        for (loss, count), (base, base_count) in zip(losses, base_losses, strict=True)
        if count and base_count
    ]
    clusters = [str(index) for index in range(len(changes))]
    change = bootstrap_mean(changes, clusters, seed=seed) if changes else None
    share = wilson_interval(sum(right), len(right)) if right else None
    only = sum(r and not b for r, b in zip(right, base_right, strict=True))
    only_base = sum(b and not r for r, b in zip(right, base_right, strict=True))
    return ForgettingResult(
        system=system,
        texts=len(texts),
        tokens=tokens,
        perplexity=math.exp(total / tokens) if tokens else None,
        bits_per_character=total / math.log(2) / characters if characters else None,
        log_loss_change=change.estimate if change else None,
        log_loss_change_low=change.low if change else None,
        log_loss_change_high=change.high if change else None,
        questions=len(right),
        right=share.estimate if share else None,
        right_low=share.low if share else None,
        right_high=share.high if share else None,
        p_value=mcnemar_p(only, only_base) if right else None,
    )


def write_forgetting(
    context: StageContext[Any],
    path: Path,
    max_tokens: int,
    models: Mapping[str, Callable[[], tuple[Any, Any]]],
    max_new_tokens: int,
    seed: int,
) -> None:
    """Write the table `forgetting`; `models` opens (model, tokenizer) by system, the base first."""
    rows = read_general(path)
    texts = [row.text for row in rows if row.text]
    questions = [row for row in rows if row.question]
    results: list[ForgettingResult] = []
    base_losses: list[tuple[float, int]] = []
    base_right: list[bool] = []

    def measure(
        open_model: Callable[[], tuple[Any, Any]],
    ) -> tuple[list[tuple[float, int]], list[bool]]:
        # In a function, so that no variable holds a model when the next one is opened.
        model, tokenizer = open_model()
        losses = log_losses(model, tokenizer, texts, max_tokens)
        return losses, answers_of(model, tokenizer, questions, max_new_tokens)

    for system, open_model in context.track(list(models.items()), "general material"):
        losses, right = measure(open_model)
        if not results:
            base_losses, base_right = losses, right
        results.append(
            forgetting_result(system, texts, losses, base_losses, right, base_right, seed)
        )
    context.write("forgetting", ForgettingResult, results)
