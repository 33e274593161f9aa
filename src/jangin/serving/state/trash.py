"""What no row of the database names goes to the trash, and returns when a row names it again.

A database that is older than the files beside it, such as one from a backup, lacks rows of files
and models that somebody needs. So nothing is deleted at once.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from jangin.serving.state.installation import MARK
from jangin.serving.state.storage import PARTIAL

TRASH = "trash-"
"""Beginning of the names of what is in the trash; it stays in its place."""
DAYS = 30
"""How long something stays in the trash."""
LARGEST_SHARE = 0.5
"""Of what is stored: where no row names more than this, the database is more likely wrong."""
_SHOWN = 5
log = logging.getLogger("jangin.serving")
_kept_back: dict[str, int] = {}


class Kept(Protocol):
    """Files or folders by name."""

    def names(self) -> Iterator[tuple[str, float]]:
        """(name, Unix time of the last change) of everything."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give it another name, and the time of now; no error if it is gone."""
        ...

    def delete(self, name: str) -> None:
        """Delete it; no error if it is gone."""
        ...


def trash_of(kept: Kept) -> dict[str, float]:
    """{name: Unix time at which it was moved there} of what is in the trash."""
    return {name: at for name, at in kept.names() if name.startswith(TRASH)}


def sweep(
    kept: Kept,
    known: Collection[str],
    what: str,
    *,
    young_seconds: int,
    deleted: Callable[[Collection[str]], Collection[str]] = lambda _: (),
) -> None:
    """Move to the trash what is unknown, back what is known again, and delete what lay there long.

    Args:
        kept: the files or folders.
        known: names that rows of the database have.
        what: `files` or `models`, for the log.
        young_seconds: what is younger may belong to a request or job that is not finished.
        deleted: which of the unknown names were deleted on purpose; these are deleted at once.

    """
    now = time.time()
    changed = {name: at for name, at in kept.names() if name != MARK}
    trash = {name: at for name, at in changed.items() if name.startswith(TRASH)}
    for name in [name for name in trash if name.removeprefix(TRASH) in known]:
        kept.rename(name, name.removeprefix(TRASH))
        del trash[name]
        log.warning("%s %s is known again: taken out of the trash", what, name.removeprefix(TRASH))
    for name in [name for name, at in trash.items() if now - at > DAYS * 86_400]:
        kept.delete(name)
        log.warning("%s: %s lay in the trash for %d days: deleted", what, name, DAYS)
    present = changed.keys() - trash.keys()
    without_row = present - set(known)
    gone = set(deleted(without_row)) if without_row else set()
    for name in gone:
        kept.delete(name)
    present -= gone
    unknown = sorted(name for name in without_row - gone if now - changed[name] > young_seconds)
    for name in [name for name in unknown if name.endswith(PARTIAL)]:
        kept.delete(name)  # a killed process was writing it, and no client was told of it
        unknown.remove(name)
    if len(unknown) > LARGEST_SHARE * len(present):
        if _kept_back.get(what) == len(unknown):
            return  # the log says it already
        _kept_back[what] = len(unknown)
        log.warning(
            "%d of %d %s have no row in the database, more than a sweep may move to the trash. "
            "Is it the right database? They stay where they are",
            *(len(unknown), len(present), what),
        )
        return
    for name in unknown:
        kept.rename(name, TRASH + name)
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        log.warning(
            "%d %s without a row in the database moved to the trash for %d days: %s%s",
            *(len(unknown), what, DAYS, ", ".join(unknown[:_SHOWN]), more),
        )
