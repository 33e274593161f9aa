"""Profile a data set: lengths, labels, languages, duplicates, personal data, other problems.

All of it is column work in polars, so a million rows take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jangin.text.language import SCRIPT_CLASSES
from jangin.text.numbers import read_number
from jangin.text.pii import PERSONAL_DATA, found_in

if TYPE_CHECKING:
    import polars as pl

MAX_LABELS = 50
"""Maximum number of different answers that count as labels."""
ROWS_PER_LABEL = 5
"""Minimum number of rows per label, on average."""
MAX_READ = 100_000
"""Maximum number of answers that are parsed as numbers."""
LETTERS_OF_A_UNIT = 4
"""Maximum number of letters beside a number."""
MAX_SHOWN = 10
SHOWN = 120
"""Number of characters of a long text that are kept."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Distribution of a number over rows."""

    least: float
    most: float
    mean: float
    percentiles: dict[int, float]
    """{percent: value}, for `PERCENTILES`."""
    values: Sequence[float] = field(repr=False, default=())
    """All values, for charts."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows with a common property, and samples of them."""

    name: str
    rows: int
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataDescription:
    """The profile of a data set."""

    rows: int
    prompt_characters: Distribution
    answer_characters: Distribution
    tokens: Distribution | None
    """Tokens of prompt and answer together; None without a tokenizer."""
    tokens_of: int
    """Number of rows whose tokens were counted."""
    labels: dict[str, int]
    """{answer: rows} if the answers look like labels, else empty."""
    numbers: Distribution | None
    """Set if nearly all answers are numbers and too many for labels."""
    duplicates: int
    """Rows with the prompt and answer of an earlier row."""
    repeated_prompts: int
    """Rows with the prompt of an earlier row."""
    conflicts: tuple[RowGroup, ...]
    """Prompts with different answers, the most frequent first; at most `MAX_SHOWN`."""
    conflicting_prompts: int
    languages: dict[str, int]
    """{script: rows in which it has most letters}."""
    personal: tuple[RowGroup, ...]
    longest: tuple[tuple[int, str, str], ...]
    """(number of characters, beginnings of prompt and answer) of the longest rows."""
    empty_prompts: int
    empty_answers: int
    too_long: int | None
    """Rows with more tokens than the model's context; None if unknown."""
    context: int | None


def describe(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokens: Sequence[int] | None = None,
    context: int | None = None,
) -> DataDescription:
    """The profile of rows with a prompt and an answer each.

    `tokens` is the number of tokens of each row, or of the first rows only; `context` is the
    context length of the model in tokens. Raises `ValueError` if there are no rows.
    """
    import polars as pl

    if not prompts:
        raise ValueError("no rows to describe")
    frame = pl.DataFrame(
        {"prompt": prompts, "answer": answers}, schema={"prompt": pl.String, "answer": pl.String}
    )
    frame = frame.with_columns(
        key=pl.col("prompt").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    )
    labels = _labels(frame)
    conflicts, conflicting = _conflicts(frame)
    characters = frame.select(
        p=pl.col("prompt").str.len_chars(), a=pl.col("answer").str.len_chars()
    )
    counted = list(tokens) if tokens is not None else []
    return DataDescription(
        rows=len(frame),
        prompt_characters=_distribution(characters["p"]),
        answer_characters=_distribution(characters["a"]),
        tokens=_distribution(pl.Series(counted)) if counted else None,
        tokens_of=len(counted),
        labels=labels,
        numbers=None if labels else _numbers(frame),
        duplicates=len(frame) - frame.select("prompt", "answer").n_unique(),
        repeated_prompts=len(frame) - frame["key"].n_unique(),
        conflicts=conflicts,
        conflicting_prompts=conflicting,
        languages=_languages(frame),
        personal=_personal(frame),
        longest=_longest(frame),
        empty_prompts=_empty(frame["prompt"]),
        empty_answers=_empty(frame["answer"]),
        too_long=sum(n > context for n in counted) if counted and context else None,
        context=context,
    )


def _distribution(values: "pl.Series") -> Distribution:
    quantiles = {
        percent: float(values.quantile(percent / 100, "nearest") or 0) for percent in PERCENTILES
    }
    mean = values.mean()
    return Distribution(
        least=float(values.min() or 0),  # type: ignore[arg-type]  # numbers only
        most=float(values.max() or 0),  # type: ignore[arg-type]  # numbers only
        mean=float(mean or 0),  # type: ignore[arg-type]  # numbers only
        percentiles=quantiles,
        values=values.to_list(),
    )


def _labels(frame: "pl.DataFrame") -> dict[str, int]:
    """{answer: rows} if there are few different answers with many rows each, else empty."""
    counts = frame["answer"].str.strip_chars().value_counts(sort=True)
    few = len(counts) <= MAX_LABELS and len(frame) >= ROWS_PER_LABEL * len(counts)
    if not few:
        return {}
    return dict(sorted(zip(counts["answer"], counts["count"], strict=True)))


def _numbers(frame: "pl.DataFrame") -> Distribution | None:
    """Distribution of the answers if nearly all are one number with at most a unit."""
    import polars as pl

    answers = frame["answer"].head(MAX_READ).str.strip_chars()
    beside = answers.str.replace_all(r"[\d\s\p{P}\p{S}]", "").str.len_chars()
    values = [
        value
        for answer, letters in zip(answers, beside, strict=True)
        if letters <= LETTERS_OF_A_UNIT and (value := read_number(answer)) is not None
    ]
    return _distribution(pl.Series(values)) if len(values) >= 0.9 * len(answers) else None


def _conflicts(frame: "pl.DataFrame") -> tuple[tuple[RowGroup, ...], int]:
    import polars as pl

    grouped = (
        frame.group_by("key")
        .agg(
            rows=pl.len(),
            answers=pl.col("answer").str.strip_chars().unique().sort(),
            prompt=pl.col("prompt").first(),
        )
        .filter(pl.col("answers").list.len() > 1)
        .sort(["rows", "prompt"], descending=[True, False])
    )
    shown = [
        RowGroup(row["prompt"], row["rows"], tuple(row["answers"][:MAX_SHOWN]))
        for row in grouped.head(MAX_SHOWN).iter_rows(named=True)
    ]
    return tuple(shown), len(grouped)


def _languages(frame: "pl.DataFrame") -> dict[str, int]:
    import polars as pl

    text = pl.col("prompt") + " " + pl.col("answer")
    counts = frame.select(
        **{name: text.str.count_matches(pattern) for name, pattern in SCRIPT_CLASSES.items()}
    )
    most = counts.max_horizontal()
    languages = {name: int(((counts[name] == most) & (most > 0)).sum()) for name in SCRIPT_CLASSES}
    languages["none"] = int((most == 0).sum())
    return {name: rows for name, rows in languages.items() if rows}


def _personal(frame: "pl.DataFrame") -> tuple[RowGroup, ...]:
    import polars as pl

    text = pl.col("prompt") + "\n" + pl.col("answer")
    groups = []
    for name in PERSONAL_DATA:
        hits = frame.select(hit=found_in(text, name)).drop_nulls()["hit"]
        if len(hits):
            masked = tuple(dict.fromkeys(map(mask, hits.head(100))))[:MAX_SHOWN]
            groups.append(RowGroup(name, len(hits), masked))
    return tuple(groups)


def mask(text: str) -> str:
    """The text with all but its first and last two characters hidden, as reports are shared."""
    if len(text) <= 4:
        return "•" * len(text)
    return text[:2] + "•" * (len(text) - 4) + text[-2:]


def _longest(frame: "pl.DataFrame") -> tuple[tuple[int, str, str], ...]:
    import polars as pl

    size = pl.col("prompt").str.len_chars() + pl.col("answer").str.len_chars()
    top = frame.with_columns(size=size).sort("size", descending=True).head(MAX_SHOWN)
    return tuple(
        (int(row["size"]), str(row["prompt"])[:SHOWN], str(row["answer"])[:SHOWN])
        for row in top.iter_rows(named=True)
    )


def _empty(column: "pl.Series") -> int:
    return int((column.str.strip_chars().str.len_chars() == 0).sum())
