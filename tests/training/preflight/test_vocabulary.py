import json

import pytest

from jangin.core.errors import TrainingError
from jangin.models.tokens.chat_template import render_rows
from jangin.training.preflight.vocabulary import guard_vocabulary


@pytest.mark.parametrize("nested", [False, True], ids=["text model", "vision model"])
def test_a_token_without_an_embedding_names_its_row(tmp_path, tokenizer, conversations, nested):
    names = [f"row {number}" for number in range(len(conversations))]
    rows = render_rows(tokenizer, conversations, names)
    (tmp_path / "model").mkdir()
    config = tmp_path / "model" / "config.json"

    def guard(size):
        sizes = {"vocab_size": size}
        config.write_text(json.dumps({"text_config": sizes} if nested else sizes))
        guard_vocabulary(tmp_path, rows)

    largest = int(rows.ids.max())
    guard(largest + 1)
    first = next(n for n in range(len(rows)) if largest in rows.row(n)[0])
    with pytest.raises(TrainingError, match=rf"^row {first}: token {largest} .* {largest} rows"):
        guard(largest)
