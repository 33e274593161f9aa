"""One line of a page as text, with its place and type."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of a page's text, its position on the page, and the type it is set in."""

    text: str
    left: float
    """In points from the lower left corner of the page as it is read, upright; y grows upwards."""
    right: float
    bottom: float
    top: float
    size: float
    """Font size in points."""
    bold: bool
    """True if the whole line is bold."""
