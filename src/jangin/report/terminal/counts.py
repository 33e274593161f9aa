"""What a stage made, in a few counts for its line."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jangin.project.failures import failed_rows
from jangin.report.i18n.translate import Words

MADE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "load": (("documents", "documents"), ("pages", "pages"), ("unreadable", "unreadable")),
    "read": (("examples", "rows"), ("unread", "unread")),
    "chunk": (("chunks", "chunks"), ("documents", "documents")),
    "queries": (("queries", "queries"),),
    "search": (("snippets", "snippets"),),
    "rank": (("ranked", "snippets kept"),),
    "synthesize": (("examples", "questions"), ("choices", "multiple-choice questions")),
    "evolve": (("evolved", "evolved questions"),),
    "paraphrase": (("paraphrases", "paraphrases"), ("originals", "questions")),
    "judge": (("judged", "judged"), ("read", "questions")),
    "curate": (("kept", "rows kept"), ("dropped", "dropped")),
    "split": (
        ("train", "to train on"),
        ("validation", "validation"),
        ("held_out_paraphrases", "held-out paraphrases"),
        ("held_out_styles", "in held-out styles"),
        ("unseen_sections", "unseen sections"),
        ("test", "test"),
    ),
    "select": (("chosen", "chosen:"), ("questions", "questions")),
    "pretrain": (("steps", "steps"), ("rows", "rows")),
    "sft": (("steps", "steps"), ("rows", "rows"), ("lost_rows", "lost rows")),
    "continue_sft": (("steps", "steps"), ("rows", "rows"), ("lost_rows", "lost rows")),
    "preferences": (("pairs", "pairs"), ("dropped", "dropped")),
    "dpo": (("steps", "steps"), ("pairs", "pairs")),
    "evaluate": (("questions", "questions"),),
}
"""{stage: (key of its summary, words after the figure)}; a mapping of counts is added up."""
NOT_SHOWN = frozenset(("failed", "rejected", "left_out", "content_match_version", "facts_version"))
"""Keys of summaries that `failed` and `rejected` summarise, and the version of a measure."""


def what_was_made(step: Any) -> Iterator[str]:
    """Counts of what the stage made and lost, most important first, then its other figures."""
    if step.artifact is None:
        return
    summary = dict(step.artifact.manifest.summary)
    for key, words in MADE.get(step.stage.name, ()):
        value = summary.pop(key, None)
        if isinstance(value, str):
            yield f"{words} {value}"
        elif value or key not in ("test", "held_out_styles"):
            yield from _count(value, words)
    failed = failed_rows(step.artifact)
    rejected = int(summary.get("failed") or 0) - len(failed)
    if failed:
        yield f"{len(failed):,} failed"
    if rejected > 0:
        yield f"{rejected:,} rejected"
    for name, value in summary.items():
        figure = isinstance(value, int | float) and not isinstance(value, bool)
        if figure and name not in NOT_SHOWN:
            yield f"{name.replace('_', ' ')} {_figure(value)}"


def figures_made(step: Any, words: Words) -> Iterator[str]:
    """The same in another language: the names of the figures, as the pages have them."""
    if step.artifact is None:
        return
    summary = step.artifact.manifest.summary
    for key, _ in MADE.get(step.stage.name, ()):
        value = summary.get(key)
        if isinstance(value, dict):
            value = sum(part for part in value.values() if isinstance(part, int))
        if isinstance(value, int | float) and (
            value or key not in ("unread", "unreadable", "test")
        ):
            yield f"{words.figure(key)} {_figure(value)}"
    failed = failed_rows(step.artifact)
    if failed:
        yield f"{words('terminal_failed')} {len(failed):,}"


def _count(value: object, words: str) -> Iterator[str]:
    if isinstance(value, dict):
        value = sum(part for part in value.values() if isinstance(part, int))
    if isinstance(value, int | float) and (value or words not in ("unread", "unreadable")):
        shown = re.sub(r"s( kept)?$", r"\1", words) if value == 1 else words
        yield f"{_figure(value)} {shown}"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
