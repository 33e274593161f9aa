"""Token ids against the rows of the embedding, before they are looked up in it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jangin.core.errors import TrainingError

if TYPE_CHECKING:
    from jangin.models.tokens.chat_template import RenderedRows


def guard_vocabulary(base: Path, rows: "RenderedRows | None") -> None:
    """Refuse rows with tokens that the base model has no embedding for.

    Raises:
        TrainingError: names the first row and its token id.

    """
    config = json.loads((base / "model" / "config.json").read_text(encoding="utf-8"))
    size = (config.get("text_config") or config).get("vocab_size")
    if rows is None or not size or not len(rows.ids) or rows.ids.max() < size:
        return
    first = int(np.argmax(rows.ids >= size))
    row = int(np.searchsorted(rows.starts, first, side="right")) - 1
    raise TrainingError(
        f"{rows.names[row]}: token {rows.ids[first]} is not in the model, whose embedding has "
        f"{size:,} rows: the tokenizer beside it has more tokens than the model. Use the tokenizer "
        "that the model was trained with, or a `chat_template` without added tokens."
    )
