"""Fixtures of the tests of training, and what a training wrote."""

import pytest

from jangin.core.digest import digest_file
from jangin.models.starter import make_starter
from jangin.training.loop.weights import Start
from tests.model_fixtures import conversations, one_thread, tokenizer

__all__ = ("conversations", "one_thread", "tokenizer")


@pytest.fixture(scope="module")
def start(tmp_path_factory, conversations):
    """A starter to train."""
    base = tmp_path_factory.mktemp("base")
    texts = [message.content for pair in conversations for message in pair]
    shape = {"size": "0.5M", "vocabulary_size": 400, "context_length": 128, "seed": 0}
    make_starter(base / "model", texts, **shape)
    return Start(base)


def content(folder):
    """{path: digest} of what a training wrote, without what differs from run to run."""
    return {
        path.relative_to(folder).as_posix(): digest_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in ("runtime", "journal")
    }
