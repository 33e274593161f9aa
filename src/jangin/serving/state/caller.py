"""Who sent a request."""

from collections.abc import Iterable
from dataclasses import dataclass

SCOPES = ("files", "jobs", "models", "inference", "batches", "review", "runs", "metrics", "admin")
"""What a key may be allowed to do; `admin` includes all.

`review` is to see the project and to decide; `runs`, beside it, is to start and stop runs and to
change documents and settings.
"""
EARLIER = {"pages": "review"}
"""{name of a scope in keys of earlier versions: what it is now}."""
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


def current_scopes(names: Iterable[str]) -> frozenset[str]:
    """Scopes by the names that they have now."""
    return frozenset(EARLIER.get(name, name) for name in names)


LOCAL_CALLER = Caller(LOCAL, frozenset(SCOPES), LOCAL)
