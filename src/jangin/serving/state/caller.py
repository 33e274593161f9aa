"""Who sent a request."""

from dataclasses import dataclass

SCOPES = ("files", "jobs", "models", "inference", "batches", "pages", "runs", "metrics", "admin")
"""What a key may be allowed to do; `admin` includes all.

`pages` is to read and to review; `runs` is to change documents and rows, and to start and stop.
"""
LOCAL = "local"
"""The project, and the id of the key, of a server on loopback that asks for no key."""
DEFAULT_PROJECT = "default"
"""The project of keys that name no other."""
COMMAND_LINE = "command-line"
"""Id in the audit log, in place of a key's, for what `jangin keys` did."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The project and the rights of the key of a request."""

    project: str
    scopes: frozenset[str]
    key_id: str

    def may(self, scope: str) -> bool:
        """True if the key has this scope."""
        return scope in self.scopes or "admin" in self.scopes


LOCAL_CALLER = Caller(LOCAL, frozenset(SCOPES), LOCAL)
