"""Degraded pages drawn on the fly: our own sentences in NanumGothic, as a scan at 200 dpi."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FONTS = Path("/usr/share/fonts/truetype/nanum")


class Drawing:
    """A page to draw on, in pixels."""

    def __init__(self, width: int = 1000, height: int = 520) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("L", (width, height), 255)
        self.pen: Any = ImageDraw.Draw(self.image)

    def text(
        self, x: int, y: int, line: str, points: float = 11, grey: int = 0, bold: bool = False
    ) -> None:
        """One line of text."""
        from PIL import ImageFont

        face = FONTS / f"NanumGothic{'Bold' if bold else ''}.ttf"
        font = ImageFont.truetype(str(face), round(points * 200 / 72))
        self.pen.text((x, y), line, fill=grey, font=font)

    def lines(self, lines: Sequence[str], x: int = 60, y: int = 50, step: int = 56) -> None:
        """Lines of ordinary text below each other."""
        for row, line in enumerate(lines):
            self.text(x, y + row * step, line)

    @property
    def pixels(self) -> Any:
        """(H, W) uint8."""
        return np.array(self.image)


@pytest.fixture
def drawing(korean_font: str) -> Callable[..., Drawing]:
    """Makes empty pages; skips without the font."""
    assert korean_font
    return Drawing
