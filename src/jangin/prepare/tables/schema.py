"""Columns of ours beside those of a file, and the names of theirs."""

import re

ROW, REASON, RAW = "__row", "__reason", "__raw"
"""Line in the file; why it was set aside, null while it is kept; the line, where it is torn."""
OURS = (ROW, REASON, RAW)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")


def clean_names(cells: "list[str]") -> tuple[str, ...]:
    """Names without blanks and invisible characters at their ends, each of them once."""
    names: list[str] = []
    for place, cell in enumerate(cells, start=1):
        name = _INVISIBLE.sub("", cell).replace("\u00a0", " ").strip() or f"column_{place}"
        names.append(name if name not in names else f"{name}_{place}")
    return tuple(names)
