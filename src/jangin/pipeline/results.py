"""The result table of a project: every variant and system on every evidence set, side by side."""

from dataclasses import dataclass
from typing import Any

EVIDENCE_ORDER = ("seen_questions", "held_out_paraphrases", "unseen_sections")


@dataclass(frozen=True, slots=True)
class Results:
    """Rows for the table, and what they mean in sentences."""

    rows: list[dict[str, Any]]
    sentences: list[str]
