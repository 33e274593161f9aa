"""The rows of the finished project, and an empty log for every test."""

import re

import pytest

from jangin.examples.reviews.log import LOG, read_log


@pytest.fixture(autouse=True)
def log(project):
    """The log of decisions, which does not exist yet."""
    path = project / LOG
    for name in (LOG, f".{LOG}.leases"):
        (project / name).unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def decisions(log):
    """Reads the log."""
    return lambda: read_log(log)


def row_of(response):
    """Id of the row that a page shows."""
    return re.search(r"/review/items/([0-9a-f]{16})", str(response.url))[1]


def token_of(response):
    """What the page says about the state of its row."""
    return re.search(r'name="token" value="(\w*)"', response.text)[1]
