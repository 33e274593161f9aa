"""What `jangin gc` prints."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from jangin.core.errors import counted
from jangin.report.terminal.console import heading
from jangin.report.terminal.lines import duration

_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
DAY = 86400.0


def size(count: int) -> str:
    """Bytes in words: `1.2 GB`."""
    for unit, bytes_of in _UNITS:
        if count >= bytes_of:
            return f"{count / bytes_of:.1f} {unit}"
    return f"{count} bytes"


def age(seconds: float) -> str:
    """How long ago: `12 days`, below a day as a duration."""
    days = int(seconds / DAY)
    return counted(days, "day") if days else duration(seconds)


def variant_sizes(inventory: Any) -> Table:
    """What each variant takes in the store."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(heading("project file"), overflow="fold")
    table.add_column(heading("variant"), overflow="fold")
    for title in ("takes", "alone"):
        table.add_column(heading(title), justify="right")
    for row in inventory.variants:
        name = escape(row.project.name)
        table.add_row(name, escape(row.variant), size(row.bytes), size(row.own_bytes))
    total = size(inventory.used_bytes)
    table.add_row(heading("together"), "", total, "", style="bold")
    return table


def unused_folders(folders: Sequence[Any]) -> Table:
    """Folders that nothing uses, with size and age."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(heading("unused"), overflow="fold")
    table.add_column(heading("what"))
    table.add_column(heading("size"), justify="right")
    table.add_column(heading("unchanged for"), justify="right")
    for folder in folders:
        what = heading("artifact" if folder.finished else "unfinished work")
        name = f"{folder.stage}/{folder.path.name}"
        table.add_row(name, what, size(folder.bytes), age(folder.age))
    return table


def inventory_notes(inventory: Any, days: float) -> Iterator[str]:
    """Which files count, what is kept for now, what is left of an interrupted call."""
    if inventory.others:
        files = ", ".join(str(path) for path in inventory.others)
        yield f"What these files of the same store use is kept, too: {files}."
    for path in inventory.gone:
        yield f"{path} ran in this store and is not there any more: what it alone used is unused."
    if inventory.waiting:
        count = len(inventory.waiting)
        total = size(sum(folder.bytes for folder in inventory.waiting))
        what = f"{count} folder{'' if count == 1 else 's'} of unfinished work ({total})"
        yield f"{what} that no variant resumes: kept until {days:g} days old."
    if inventory.trash_bytes:
        yield f"{size(inventory.trash_bytes)} are left of an interrupted gc."
    if inventory.cache_bytes:
        kept = size(inventory.cache_bytes)
        yield f"{kept} of pictures and tables that the pages keep: made again when they are needed."
