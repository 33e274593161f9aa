"""Errors that a page shows."""

from typing import Any

from jangin.core.errors import JanginError


class PageError(JanginError):
    """A request that a page cannot answer, with the key of its sentence."""

    def __init__(self, status: int, key: str, **values: Any) -> None:
        """`values` are filled into the sentence."""
        super().__init__(key)
        self.status = status
        self.key = key
        self.values = values


class NothingYetError(PageError):
    """A page about what is not there yet: no mistake, so a browser gets a page that says so."""

    def __init__(self, key: str, **values: Any) -> None:
        """`values` are filled into the sentence."""
        super().__init__(404, key, **values)


class NameNeededError(JanginError):
    """A decision of a person who has not said who they are; they are asked first."""


class SignInError(JanginError):
    """The browser has to sign in with a key first."""
