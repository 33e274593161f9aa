"""What OCR returns for a page, and the constants that identify how it was read."""

from dataclasses import dataclass

MODES = (6, 4, 3)
"""Page segmentation modes in the order of the attempts; mode 3, the default, loses Korean lines."""
SURE = 88.0
"""Word confidence from which on OCR can contradict a text layer."""


@dataclass(frozen=True, slots=True)
class OcrReading:
    """OCR result of one page. The fields are stored in the ledger."""

    text: str
    confidence: float
    """Mean word confidence, weighted by length, 0 to 100."""
    weight: float
    """Sum of (confidence - 50) over all characters: higher is better."""
    sure: str = ""
    """The words with confidence `SURE` or more; a line break for every other word."""
