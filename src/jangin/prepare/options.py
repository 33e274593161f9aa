"""Options of `jangin prepare` on columns and splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Options of the command line on columns and splits."""

    format: Literal["chat", "completion", "preference"] = "chat"
    prompt: str = ""
    completion: str = ""
    rejected: str = ""
    system: str = ""
    validation: float = 0.1
    test: float = 0.1
    group: str = ""
    seed: int = 42
    order: Literal["as_given", "shuffled", "sorted"] = "as_given"
    tokenizer: Path | None = None
    context: int = 0
    """Maximum number of tokens of a row; 0: at most 10,000 characters."""
    balance: int = 0
    """Maximum number of rows per answer; 0: no limit."""
    near_copies: float | None = None
    """Similarity from which on prompts stay in one split; None: only copies do."""
