"""Names of the internal columns, and cleaned names for those of a file."""

import re

ROW, REASON, RAW = "__row", "__reason", "__raw"
"""Line in the file (Int64); drop reason, null for a kept row; the line as text if it could not be
parsed."""
INTERNAL_COLUMNS = (ROW, REASON, RAW)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")


def clean_names(cells: "list[str]") -> tuple[str, ...]:
    """Unique column names without surrounding spaces and invisible characters."""
    names: list[str] = []
    for position, cell in enumerate(cells, start=1):
        name = _INVISIBLE.sub("", cell).replace("\u00a0", " ").strip() or f"column_{position}"
        names.append(name if name not in names else f"{name}_{position}")
    return tuple(names)
