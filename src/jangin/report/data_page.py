"""`jangin show data`: statistics of the rows, in the terminal and as an HTML page with charts."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jangin import __version__
from jangin.core.errors import DataError
from jangin.core.parquet import read_table
from jangin.core.records import Example, SplitExample
from jangin.core.store import Artifact
from jangin.models.shape import context_length
from jangin.prepare.engine.build import COMPLETION, apply_row_steps
from jangin.prepare.engine.profile import DataDescription, Distribution, describe
from jangin.prepare.options import PrepareOptions
from jangin.prepare.shapes import first_plan, left_out
from jangin.prepare.tables.readers import TableSettings, open_table
from jangin.prepare.tables.schema import REASON
from jangin.prepare.transforms.columns import open_tokenizer
from jangin.prepare.transforms.deduplicate import PROMPT
from jangin.prepare.transforms.pairs import pair_columns
from jangin.project.stages import STAGES
from jangin.project.tables import kinds
from jangin.report.charts import svg as charts
from jangin.report.i18n.translate import Language, Words
from jangin.report.page import render_page

if TYPE_CHECKING:
    import polars as pl

MOST_TOKENIZED = 20_000
"""Rows whose tokens are counted."""
MOST_BARS = 30


@dataclass(frozen=True, slots=True)
class DataView:
    """Description of a set of rows, with their name."""

    name: str
    description: DataDescription
    splits: Mapping[str, int]
    korean: bool
    left_out: tuple[str, ...] = ()
    """Columns of the file that are neither question nor answer."""


def view_file(path: Path, prompt: str = "", completion: str = "") -> DataView:
    """Rows of any file that `prepare` reads; raises `DataError` where it has none."""
    with tempfile.TemporaryDirectory() as name:
        table = open_table(path, TableSettings(), Path(name))
        options = PrepareOptions(prompt=prompt, completion=completion)
        if not prompt and not completion and pair_columns(table.columns) is not None:
            options = replace(options, format="preference")
        plan = first_plan(table, options, path)
        rows = apply_row_steps(table, plan, Path()).frame.select(REASON, PROMPT, COMPLETION)
        frame = rows.collect(engine="streaming")
    frame = frame.filter(_readable())
    if not len(frame):
        raise DataError(f"no row of {path} can be read. Check its format in an editor.")
    prompts, answers = frame[PROMPT].fill_null("").to_list(), frame[COMPLETION].fill_null("")
    view = describe_texts(path.name, prompts, answers.to_list(), {}, None)
    return replace(view, left_out=left_out(table, plan))


def _readable() -> "pl.Expr":
    """Rows with an empty prompt or answer are described too; malformed lines are not."""
    import polars as pl

    return pl.col(REASON).is_null() | pl.col(REASON).str.ends_with("is empty")


def view_project(name: str, artifacts: Mapping[str, Artifact]) -> DataView:
    """The newest examples of a variant, or its splits where it has any."""
    newest = {kind: artifact for kind, _, artifact in kinds(artifacts)}
    splits: dict[str, int] = {}
    if "splits" in newest:
        rows = read_table(newest["splits"].path / "splits.parquet", SplitExample)
        examples = [row.example for row in rows]
        counts = Counter(row.split for row in rows)
        first = ("train", "validation")
        splits = {n: counts[n] for n in sorted(counts, key=lambda n: (n not in first, n))}
    elif "examples" in newest:
        examples = read_table(newest["examples"].path / "examples.parquet", Example)
    else:
        raise DataError("there are no examples yet. Make them with: jangin run")
    if not examples:
        raise DataError("there are no examples to show: all were dropped. See: jangin report")
    bases = [artifacts[s.name].path for s in STAGES if "base" in s.makes and s.name in artifacts]
    prompts = [example.question for example in examples]
    return describe_texts(
        name,
        prompts,
        [example.answer for example in examples],
        splits,
        bases[-1] if bases else None,
    )


def describe_texts(
    name: str,
    prompts: list[str],
    answers: list[str],
    splits: Mapping[str, int],
    base: Path | None,
) -> DataView:
    """The view of questions and their answers; `base` is an artifact with a tokenizer."""
    tokens: list[int] | None = None
    context: int | None = None
    if base is not None and (base / "tokenizer.json").exists():
        encode = open_tokenizer(base)
        pairs = zip(prompts[:MOST_TOKENIZED], answers[:MOST_TOKENIZED], strict=True)
        tokens = [len(offsets) for offsets in encode([f"{p}\n{a}" for p, a in pairs])]
        context = _context(base)
    description = describe(prompts, answers, tokens, context)
    return DataView(
        name, description, splits, 2 * description.languages.get("Hangul", 0) >= description.rows
    )


def _context(base: Path) -> int | None:
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return context_length(config)


def findings(view: DataView, words: Words) -> list[tuple[str, int]]:
    """(finding in words, number of rows)."""
    description = view.description
    rows = [
        (words("data_duplicates"), description.duplicates),
        (words("data_repeated"), description.repeated_prompts),
        (words("data_conflicting"), description.conflicting_prompts),
        (words("data_empty_prompts"), description.empty_prompts),
        (words("data_empty_answers"), description.empty_answers),
    ]
    if description.too_long is not None:
        rows.append((words("data_too_long", context=description.context), description.too_long))
    return rows


def spreads(view: DataView, words: Words) -> list[tuple[str, Distribution]]:
    """(heading, distribution) of lengths, tokens and numbers; only those that exist."""
    description = view.description
    every = [
        (words("data_prompt_characters"), description.prompt_characters),
        (words("data_answer_characters"), description.answer_characters),
        (words("data_tokens"), description.tokens),
        (words("data_numbers"), description.numbers),
    ]
    return [(heading, spread) for heading, spread in every if spread is not None]


def sentence(spread: Distribution, words: Words) -> str:
    """A distribution in words."""
    shown = {f"p{p}": f"{spread.percentiles[p]:,.4g}" for p in (5, 50, 95, 99)}
    return words("data_spread", mean=f"{spread.mean:,.4g}", most=f"{spread.most:,.6g}", **shown)


def figures(view: DataView, words: Words) -> list[tuple[str, str, str]]:
    """(heading, description, chart as SVG) of every distribution."""
    description = view.description
    pictures = []
    for index, (heading, spread) in enumerate(spreads(view, words)):
        note = sentence(spread, words)
        if spread is description.tokens:
            note += " " + words("data_tokens_note", n=description.tokens_of)
        values = [round(value) for value in spread.values]
        chart = charts.histogram(f"spread-{index}", heading, note, values, index)
        pictures.append((heading, note, chart))
    if description.labels:
        heading, note = words("data_labels"), words("data_labels_description")
        counts = sorted(description.labels.items(), key=by_number)[:MOST_BARS]
        pictures.insert(0, (heading, note, charts.bars("labels", heading, note, counts)))
    return pictures


TextTable = tuple[str, str, tuple[str, ...], list[tuple[str, int, str]]]
"""(heading, note, heads, rows of text, figure, further text)."""


def text_tables(view: DataView, words: Words) -> list[TextTable]:
    """Conflicting answers, personal data and the longest rows."""
    description = view.description
    tables: list[TextTable] = []
    if description.conflicts:
        rows = [
            (c.name[:200], c.rows, " / ".join(sorted(c.samples, key=lambda a: by_number((a, 0)))))
            for c in description.conflicts
        ]
        heads = (words("data_text"), words("data_rows"), words("data_answers"))
        tables.append((words("data_conflicts"), "", heads, rows))
    if description.personal:
        rows = [
            (s.name.replace("_", " "), s.rows, ", ".join(s.samples)) for s in description.personal
        ]
        heads = (words("data_kind"), words("data_rows"), words("data_samples"))
        tables.append((words("data_personal"), words("data_personal_note"), heads, rows))
    longest = [(text, size, answer) for size, text, answer in description.longest]
    heads = (words("data_text"), words("data_characters"), words("data_answers"))
    tables.append((words("data_longest"), "", heads, longest))
    return tables


def as_html(view: DataView, language: Language) -> str:
    """One self-contained page."""
    words = Words(language)
    return render_page(
        "data.html.jinja",
        {
            "words": words,
            "name": view.name,
            "description": view.description,
            "splits": view.splits,
            "left_out": view.left_out,
            "findings": findings(view, words),
            "pictures": figures(view, words),
            "tables": text_tables(view, words),
            "version": __version__,
        },
    )


def by_number(item: tuple[str, int]) -> tuple[float, str]:
    """Sort key: answers that are numbers by value, then the others by name."""
    try:
        return float(item[0]), item[0]
    except ValueError:
        return float("inf"), item[0]
