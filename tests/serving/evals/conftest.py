"""The server of the tests of inference, whose model answers."""

from tests.serving.inference.conftest import (
    artifacts,
    conversations,
    one_thread,
    running,
    tokenizer,
)

__all__ = ("artifacts", "conversations", "one_thread", "running", "tokenizer")
