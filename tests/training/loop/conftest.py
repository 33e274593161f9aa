"""Rows for the tests of the training loop."""

import pytest

from jangin.models.tokens.chat_template import render_rows


@pytest.fixture(scope="module")
def data(tokenizer, conversations):
    """All conversations, rendered."""
    return render_rows(tokenizer, conversations, [f"row {i}" for i in range(len(conversations))])
