"""What OCR returns for a page, and the constants that identify how it was read."""

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

MODES = (6, 4, 3)
"""Page segmentation modes in the order of the attempts; mode 3, the default, loses Korean lines."""
SURE = 88.0
"""Word confidence from which on OCR can contradict a text layer."""

Doubt = Literal["illegible", "readings differ"]
"""`illegible`: low confidence, such as a drawing read as letters. `readings differ`: two language
models read another number or code."""


@dataclass(frozen=True, slots=True)
class DoubtfulLine:
    """A line that is probably wrong, and not part of the page's text unless it is kept."""

    text: str
    """As it was read first."""
    second: str
    """What the second reading made of the part in doubt; empty for an illegible line."""
    confidence: float
    """Mean word confidence, 0 to 100."""
    doubt: Doubt
    number: int = -1
    """Number of the line in the reading's `complete` text, from 0."""
    is_kept: bool = False
    """It is part of the page's text all the same: readings differ in a word in Hangul alone, or
    it is a row of a table of which much else is right."""
    rest: str = ""
    """What of a kept row is in the page's text: the row without its doubtful cells."""

    @property
    def kept(self) -> str:
        """What of the line is in the page's text."""
        return (self.rest or self.text) if self.is_kept else ""


@dataclass(frozen=True, slots=True)
class OcrReading:
    """OCR result of one page. The fields are stored in the ledger."""

    text: str
    """Without the doubtful lines."""
    confidence: float
    """Mean word confidence, weighted by length, 0 to 100; doubtful lines count too."""
    weight: float
    """Sum of (confidence - 50) over all characters: higher is better."""
    sure: str = ""
    """The words with confidence `SURE` or more; a line break for every other word."""
    doubtful: tuple[DoubtfulLine, ...] = ()
    complete: str = ""
    """The text with the doubtful lines in their places; empty if there are none."""
    read_by: str = ""
    """The vision model that transcribed the page; empty for Tesseract."""
    lines: int = 0
    """Lines that were read."""
    checked: int = 0
    """Those that other models read, too; see `cross_check`."""
    crossed: int = 0
    """Lines across what may be a gutter between columns."""

    def to_json(self) -> str:
        """The form in the ledger."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The reading that `to_json` wrote."""
        fields = json.loads(text)
        lines = tuple(DoubtfulLine(**line) for line in fields.pop("doubtful"))
        return cls(**fields, doubtful=lines)
