"""Forgetting: perplexity and accuracy on general data, before and after tuning.

The file is JSON Lines: a row with `text` is read for perplexity, a row with `question` and
`answer` is asked.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from jangin.core.config import Config, Runtime
from jangin.core.errors import DataError
from jangin.core.executor import ONE_GPU, map_all
from jangin.core.jsonl import read_json_lines
from jangin.core.records import Message, Record
from jangin.core.stage import StageContext
from jangin.evaluation.systems.local_models import Folders, LocalModels
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

    from jangin.models.forward.likelihood import negative_log_likelihoods

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


class GeneralLosses(NamedTuple):
    """One model on the general material, row by row."""

    losses: list[tuple[float, int]]
    """As of `log_losses`."""
    right: list[bool]
    """As of `answers_of`."""
    lines: Sequence[str] = ()
    """To be printed."""


def measure_general(
    models: LocalModels,
    rows: Sequence[GeneralRow],
    max_tokens: int,
    max_new_tokens: int,
    system: str,
) -> GeneralLosses:
    """One of the models on the general material."""
    model, tokenizer = models.use(system)
    texts = [row.text for row in rows if row.text]
    questions = [row for row in rows if row.question]
    losses = log_losses(model, tokenizer, texts, max_tokens)
    return GeneralLosses(losses, answers_of(model, tokenizer, questions, max_new_tokens))


def measure_general_elsewhere(
    folders: Mapping[str, Folders],
    rows: Sequence[GeneralRow],
    max_tokens: int,
    max_new_tokens: int,
    system: str,
) -> GeneralLosses:
    """The same measurement as a function for an executor, in a process without a model."""
    lines: list[str] = []
    models = LocalModels(folders, lines.append)
    measured = measure_general(models, rows, max_tokens, max_new_tokens, system)
    models.drop()
    return measured._replace(lines=lines)


def write_forgetting(
    context: StageContext[Any],
    path: Path,
    max_tokens: int,
    models: LocalModels,
    max_new_tokens: int,
    seed: int,
) -> None:
    """Write the table `forgetting` of all models, of which the base is the first."""
    rows = read_general(path)
    systems, executor = list(models.folders), context.services.executor
    work = (
        partial(measure_general_elsewhere, models.folders, rows, max_tokens, max_new_tokens)
        if executor.has_nodes
        else partial(measure_general, models, rows, max_tokens, max_new_tokens)
    )
    each = map_all(executor, work, systems, "read the general material", ONE_GPU)
    measured = dict(context.track(each, "general material", len(systems)))
    texts, base = [row.text for row in rows if row.text], measured[0]
    results = []
    for number, system in enumerate(systems):
        one = measured[number]
        models.say(one.lines)
        results.append(
            forgetting_result(system, texts, one.losses, base.losses, one.right, base.right, seed)
        )
    context.write("forgetting", ForgettingResult, results)
