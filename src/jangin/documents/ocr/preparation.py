"""Prepare a page image for OCR: straight lines, white paper, dark type.

Shape letters: H rows, W columns of pixels, top left first; grey levels 0 (ink) to 255 (paper).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]

INK_BELOW = 150
"""Grey level below which a pixel is ink, after the background was made white."""
TILE = 12
"""Side, in pixels, of the tiles whose bright part estimates the background."""
WHITE_FROM = 215
"""Grey level from which a pixel beside pale type is paper."""
DARK_BELOW = 120
"""Grey level that a stroke of ordinary type reaches somewhere; pale type nowhere does."""
PALEST = 200
"""Grey level, over 3 x 3 pixels, up to which a stroke is pale type; grain alone is brighter."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page image, and what was made of it; all are (H, W)."""

    page_HW: Grey
    """Deskewed, otherwise as it was scanned."""
    background_HW: NDArray[np.float64]
    """Brightness of the paper at each pixel."""
    clean_HW: Grey
    """Black on white: without shadows and shading, pale type as dark as the rest."""
    skew: float = 0.0
    """Degrees by which the scan was turned, as `scipy.ndimage.rotate` counts them."""


def prepare(page_HW: Grey, dpi: int) -> Sheet:
    """The page deskewed, on white paper, with dark type."""
    skew = skew_of(page_HW)
    if skew:
        turned_HW = ndimage.rotate(page_HW, skew, reshape=False, order=1, mode="nearest")
        page_HW = np.asarray(turned_HW, dtype=np.uint8)
    background_HW = _background(page_HW)
    clean_HW = np.minimum(page_HW / background_HW * 255, 255).astype(np.uint8)
    return Sheet(page_HW, background_HW, _darkened(clean_HW, dpi), skew)


def _darkened(clean_HW: Grey, dpi: int) -> Grey:
    """The page with pale type made dark; ordinary type and what is near it stay as they are.

    Pale type is stretched from its own darkest level, so its edges are those of black type. What is
    barely pale is barely stretched: on a soft scan, where some strokes of a word are just dark
    enough, the others would be black beside them.
    """
    nearest_HW = ndimage.minimum_filter(clean_HW, size=(dpi // 16, dpi // 10))
    is_dark_HW = nearest_HW < DARK_BELOW
    curve = (255 * np.minimum(np.arange(256) / WHITE_FROM, 1.0) ** 3).astype(np.uint8)
    pale_HW = np.where(is_dark_HW, np.uint8(255), clean_HW)
    around = (dpi // 4, dpi // 2)
    ink_HW = np.minimum(ndimage.minimum_filter(pale_HW, size=around), PALEST).astype(np.int32)
    is_type_HW = ndimage.minimum_filter(ndimage.uniform_filter(pale_HW, 3), size=around) <= PALEST
    black_HW = DARK_BELOW * np.maximum(INK_BELOW - ink_HW, 0) // (INK_BELOW - DARK_BELOW)
    stretched_HW = black_HW + (255 - black_HW) * (clean_HW - ink_HW) // (255 - ink_HW)
    darkened_HW = np.where(is_type_HW, np.clip(stretched_HW, 0, 255), curve[clean_HW])
    return np.where(is_dark_HW, clean_HW, darkened_HW).astype(np.uint8)


def has_ink(page_HW: Grey) -> bool:
    """False for a blank page, on which nothing is darker than its surroundings."""
    ink_HW = page_HW < _background(page_HW) * 0.7
    return int(ink_HW.sum()) > max(20, page_HW.size // 20_000)


def skew_of(page_HW: Grey) -> float:
    """The angle in degrees, up to 3.4, at which lines of text are sharpest; 0 where it is small."""
    height, width = page_HW.shape
    strip = 16
    strips = width // strip
    ink_HS = 255.0 - page_HW[:, : strips * strip].reshape(height, strips, strip).mean(axis=2)
    rows_H1 = np.arange(height)[:, None]
    middle_S = (np.arange(strips) + 0.5) * strip - width / 2

    def sharpness(degrees: float) -> float:
        shift_S = np.rint(middle_S * np.tan(np.radians(degrees))).astype(int)
        shifted_HS = ink_HS[np.clip(rows_H1 + shift_S, 0, height - 1), np.arange(strips)]
        return float(np.square(np.diff(shifted_HS.sum(axis=1))).sum())

    best = max(np.arange(-3, 3.01, 0.5), key=sharpness)
    best = max(np.arange(best - 0.4, best + 0.41, 0.1), key=sharpness)
    if abs(best) < 0.15 or sharpness(best) < 1.05 * sharpness(0.0):
        return 0.0
    return float(best)


def _background(page_HW: Grey) -> NDArray[np.float64]:
    """Brightness of the paper at each pixel, (H, W) float64: shading and shadows without ink."""
    height, width = page_HW.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.pad(page_HW, ((0, rows * TILE - height), (0, columns * TILE - width)), mode="edge")
    tiles = padded.reshape(rows, TILE, columns, TILE).transpose(0, 2, 1, 3)
    bright = np.quantile(tiles.reshape(rows, columns, -1), 0.85, axis=2)
    bright = ndimage.median_filter(ndimage.grey_closing(bright, size=3), size=3)
    smooth_HW = np.repeat(np.repeat(bright, TILE, axis=0), TILE, axis=1)[:height, :width]
    return np.asarray(np.maximum(smooth_HW, 120.0), dtype=np.float64)
