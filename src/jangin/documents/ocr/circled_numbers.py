"""Restore circled numbers such as ①, which Tesseract's Korean model cannot output."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jangin.documents.layout.gutters import Box
from jangin.documents.ocr.preparation import INK_BELOW, Grey


def erase_circles(image_HW: Grey, dpi: int) -> list[Box]:
    """Boxes of circles around numbers; erases them and enlarges the numbers.

    `image_HW` (uint8, 0 ink to 255 paper) is changed in place. A circle is a thin closed curve,
    as wide as high and as high as a letter, whose pixels are all about one radius from its centre.
    """
    labels_HW, _ = ndimage.label(image_HW < INK_BELOW + 40, structure=np.ones((3, 3)))
    rings = []
    for label, (rows, across) in enumerate(ndimage.find_objects(labels_HW), start=1):
        height, width = rows.stop - rows.start, across.stop - across.start
        if not (dpi // 12 <= height <= dpi // 4 and abs(height - width) <= 0.15 * height):
            continue
        crop_HW = image_HW[rows, across]
        ring_HW = labels_HW[rows, across] == label
        if not _is_ring(ring_HW) or not _holds_ink((crop_HW < INK_BELOW + 40) & ~ring_HW):
            continue
        crop_HW[labels_HW[rows, across] == label] = 255
        crop_HW[:] = _enlarged(crop_HW)
        rings.append(Box(rows.start, rows.stop, across.start, across.stop))
    return rings


def _is_ring(ink_HW: NDArray[np.bool_]) -> bool:
    height, width = ink_HW.shape
    y, x = np.nonzero(ink_HW)
    radius = np.hypot((y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width) * 2
    turns = np.arctan2(y - (height - 1) / 2, x - (width - 1) / 2)
    covered = np.unique(np.floor((turns + np.pi) / (2 * np.pi) * 23.99)).size
    return bool(np.quantile(radius, 0.1) > 0.72 and covered >= 22)


def _holds_ink(other_HW: NDArray[np.bool_]) -> bool:
    """True if something as large as a digit is inside; a ring without ink is the letter ㅇ."""
    height, width = other_HW.shape
    inner_HW = other_HW[height // 5 : height - height // 5, width // 5 : width - width // 5]
    rows = np.flatnonzero(inner_HW.any(axis=1))
    return bool(rows.size and rows[-1] - rows[0] >= 0.3 * height)


def _enlarged(crop_HW: Grey) -> Grey:
    """The content of the circle, scaled to 85 % of the circle's size."""
    ink_HW = crop_HW < INK_BELOW + 40
    if not ink_HW.any():
        return crop_HW
    rows, across = np.flatnonzero(ink_HW.any(axis=1)), np.flatnonzero(ink_HW.any(axis=0))
    inner = crop_HW[rows[0] : rows[-1] + 1, across[0] : across[-1] + 1].astype(np.float64)
    height, width = crop_HW.shape
    scale = min(0.85 * height / inner.shape[0], 0.85 * width / inner.shape[1])
    large = np.clip(ndimage.zoom(inner, scale, order=1, mode="nearest"), 0, 255).astype(np.uint8)
    out = np.full(crop_HW.shape, 255, dtype=np.uint8)
    top, left = (height - large.shape[0]) // 2, (width - large.shape[1]) // 2
    out[top : top + large.shape[0], left : left + large.shape[1]] = large
    return out
