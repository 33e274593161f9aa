"""Fixtures of the rooms that run models."""

from tests.model_fixtures import conversations, one_thread, tokenizer

__all__ = ("conversations", "one_thread", "tokenizer")
