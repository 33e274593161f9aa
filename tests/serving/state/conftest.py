"""Databases of both kinds."""

import pytest

from jangin.serving.state.database import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/server.sqlite"
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def empty(url):
    database = Database(url)
    yield database
    database.close()
