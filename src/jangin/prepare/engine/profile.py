"""Look before training: what the examples are like, and what is wrong with them.

Column work in polars, so that a million rows take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jangin.text.numbers import read_number
from jangin.text.pii import PERSONAL_DATA, found_in

if TYPE_CHECKING:
    import polars as pl

MOST_LABELS = 50
"""Different answers up to which they are taken for labels."""
ROWS_PER_LABEL = 5
"""... when there are so many rows for each."""
MOST_READ = 100_000
"""Answers that are read as numbers."""
LETTERS_OF_A_UNIT = 4
MOST_SHOWN = 10
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
SCRIPTS = {"Hangul": r"\p{Hangul}", "Latin": r"\p{Latin}", "Han": r"\p{Han}", "kana": r"[ぁ-ヿ]"}


@dataclass(frozen=True, slots=True)
class Spread:
    """How a number is distributed over rows."""

    least: float
    most: float
    mean: float
    percentiles: dict[int, float]
    values: Sequence[float] = field(repr=False, default=())
    """All of them, to draw."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Rows that look alike for some reason, with a few of them."""

    name: str
    rows: int
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataDescription:
    """What a set of examples is like."""

    rows: int
    prompt_characters: Spread
    answer_characters: Spread
    tokens: Spread | None
    """Of prompt and answer together; None without a tokenizer."""
    tokens_of: int
    """Rows whose tokens were counted."""
    labels: dict[str, int]
    """{answer: rows} where answers look like labels; empty otherwise."""
    numbers: Spread | None
    """Where nearly all answers are numbers and there are too many for labels."""
    duplicates: int
    """Rows whose prompt and answer another row has."""
    repeated_prompts: int
    """Rows whose prompt an earlier row has."""
    conflicts: tuple[Suspect, ...]
    """Prompts with different answers, the most frequent first."""
    conflicting_prompts: int
    languages: dict[str, int]
    """{script: rows in which most letters are of it}."""
    personal: tuple[Suspect, ...]
    longest: tuple[tuple[int, str], ...]
    """(characters, beginning) of the longest rows."""
    empty_prompts: int
    empty_answers: int
    too_long: int | None
    """Rows with more tokens than the model's context; None where that is not known."""
    context: int | None


def describe(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokens: Sequence[int] | None = None,
    context: int | None = None,
) -> DataDescription:
    """Describe rows of a prompt and an answer; raises ValueError when there are none.

    `tokens` of each row, or of the first rows only; `context` of the model that will read them.
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
        prompt_characters=_spread(characters["p"]),
        answer_characters=_spread(characters["a"]),
        tokens=_spread(pl.Series(counted)) if counted else None,
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


def _spread(values: "pl.Series") -> Spread:
    quantiles = {
        percent: float(values.quantile(percent / 100, "nearest") or 0) for percent in PERCENTILES
    }
    mean = values.mean()
    return Spread(
        least=float(values.min() or 0),  # type: ignore[arg-type]  # numbers only
        most=float(values.max() or 0),  # type: ignore[arg-type]  # numbers only
        mean=float(mean or 0),  # type: ignore[arg-type]  # numbers only
        percentiles=quantiles,
        values=values.to_list(),
    )


def _labels(frame: "pl.DataFrame") -> dict[str, int]:
    """Answers as labels: few of them, each many times, or one word that most rows repeat."""
    counts = frame["answer"].str.strip_chars().value_counts(sort=True)
    few = len(counts) <= MOST_LABELS and len(frame) >= ROWS_PER_LABEL * len(counts)
    if not few:
        return {}
    return dict(sorted(zip(counts["answer"], counts["count"], strict=True)))


def _numbers(frame: "pl.DataFrame") -> Spread | None:
    """Answers as numbers: nearly all are one, with a unit at most beside it."""
    import polars as pl

    answers = frame["answer"].head(MOST_READ).str.strip_chars()
    beside = answers.str.replace_all(r"[\d\s\p{P}\p{S}]", "").str.len_chars()
    values = [
        value
        for answer, letters in zip(answers, beside, strict=True)
        if letters <= LETTERS_OF_A_UNIT and (value := read_number(answer)) is not None
    ]
    return _spread(pl.Series(values)) if len(values) >= 0.9 * len(answers) else None


def _conflicts(frame: "pl.DataFrame") -> tuple[tuple[Suspect, ...], int]:
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
        Suspect(row["prompt"], row["rows"], tuple(row["answers"][:MOST_SHOWN]))
        for row in grouped.head(MOST_SHOWN).iter_rows(named=True)
    ]
    return tuple(shown), len(grouped)


def _languages(frame: "pl.DataFrame") -> dict[str, int]:
    import polars as pl

    text = pl.col("prompt") + " " + pl.col("answer")
    counts = frame.select(
        **{name: text.str.count_matches(pattern) for name, pattern in SCRIPTS.items()}
    )
    most = counts.max_horizontal()
    found = {name: int(((counts[name] == most) & (most > 0)).sum()) for name in SCRIPTS}
    found["none"] = int((most == 0).sum())
    return {name: rows for name, rows in found.items() if rows}


def _personal(frame: "pl.DataFrame") -> tuple[Suspect, ...]:
    import polars as pl

    text = pl.col("prompt") + "\n" + pl.col("answer")
    suspects = []
    for name in PERSONAL_DATA:
        found = frame.select(hit=found_in(text, name)).drop_nulls()["hit"]
        if len(found):
            masked = tuple(dict.fromkeys(map(mask, found.head(100))))[:MOST_SHOWN]
            suspects.append(Suspect(name, len(found), masked))
    return tuple(suspects)


def mask(text: str) -> str:
    """The text with all but its beginning and its end hidden: a report goes around."""
    if len(text) <= 4:
        return "•" * len(text)
    return text[:2] + "•" * (len(text) - 4) + text[-2:]


def _longest(frame: "pl.DataFrame") -> tuple[tuple[int, str], ...]:
    import polars as pl

    size = pl.col("prompt").str.len_chars() + pl.col("answer").str.len_chars()
    top = frame.with_columns(size=size).sort("size", descending=True).head(MOST_SHOWN)
    return tuple((int(row["size"]), str(row["prompt"])[:120]) for row in top.iter_rows(named=True))


def _empty(column: "pl.Series") -> int:
    return int((column.str.strip_chars().str.len_chars() == 0).sum())
