"""PP-OCR's recogniser: the letters of a Latin word, a code or a number that is cut out of a page.

It knows no Hangul: syllables come out as Chinese characters, as letters of low probability or not
at all. The model is PP-OCRv6_rec_small of PaddleOCR (Apache-2.0), from PyPI's package rapidocr.
"""

import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jangin.core.digest import digest_file

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey

MODEL = Path(sys.prefix, "share", "ppocr", "PP-OCRv6_rec_small.onnx")
"""`setup.sh` fetches it."""
HEIGHT = 48
"""Pixels to which a line is scaled."""
NARROWEST = 16
"""Pixels of width that the network needs."""


@dataclass(frozen=True, slots=True)
class Character:
    """One character, and the probability that the network gives it, 0 to 1."""

    text: str
    probability: float


def is_installed() -> bool:
    """True if the model is there and onnxruntime, which computes it."""
    return MODEL.is_file() and find_spec("onnxruntime") is not None


def name_of_model() -> str:
    """What a reading depends on; empty without the model."""
    return f"ppocr {_digest(MODEL, MODEL.stat().st_mtime_ns)}" if is_installed() else ""


@cache
def _digest(path: Path, _changed: int) -> str:
    return digest_file(path)[:12]


@cache
def _network(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The network on one thread, and the character of each class; class 0 is none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    return session, ("", *known, " ")


def recognize_characters(crop_HW: "Grey") -> list[Character]:
    """The characters of one line of type, (H, W) uint8, from left to right.

    Graves et al. 2006, "Connectionist Temporal Classification": the likeliest class of each column,
    repetitions and class 0 left out. The probability of a character is the highest of its columns.
    """
    from PIL import Image

    session, characters = _network(MODEL)
    height, width = crop_HW.shape
    size = (max(NARROWEST, round(HEIGHT * width / height)), HEIGHT)
    scaled_HW = np.asarray(Image.fromarray(crop_HW).resize(size, Image.Resampling.BILINEAR))
    input_BCHW = np.repeat((scaled_HW.astype(np.float32) / 127.5 - 1)[None, None], 3, axis=1)
    probabilities_TC = session.run(None, {session.get_inputs()[0].name: input_BCHW})[0][0]
    out: list[Character] = []
    last = 0
    for column_C in probabilities_TC:
        best = int(column_C.argmax())
        if best and best == last:
            out[-1] = Character(out[-1].text, max(out[-1].probability, float(column_C[best])))
        elif best:
            text = characters[best] if best < len(characters) else ""
            out.append(Character(text, float(column_C[best])))
        last = best
    return out
