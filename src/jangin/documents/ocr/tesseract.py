"""The program Tesseract: what is installed, and one image through it."""

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.core.digest import digest_file, digest_value
from jangin.core.errors import MachineError
from jangin.documents.ocr.latin_recognizer import name_of_model

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey

KOREAN = "kor"
UNICHARSET = 21
"""Number of the part of a language's file that lists the characters of its neural model."""
OTHER_MODELS = Path(sys.prefix, "share", "tessdata_best")
"""Folder of models of Korean and English beside Tesseract's own; `setup.sh` fills it."""
OTHERS = ("kor.traineddata", "eng.traineddata")
INSTALL = "apt-get install tesseract-ocr tesseract-ocr-kor tesseract-ocr-eng"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of Tesseract's TSV output; box in pixels."""

    line: tuple[int, int, int]
    left: int
    top: int
    width: int
    height: int
    confidence: float
    text: str


_lists: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}
"""{(program, setting of its folder): (time of the folder's last change, its languages)}."""


def version() -> str:
    """Tesseract's version and languages in one line, and all other models; or `absent`."""
    program = shutil.which("tesseract")
    if program is None:
        return "absent"
    first = _first_line(program, Path(program).stat().st_mtime_ns)
    folder = other_models()
    others = f", tessdata_best {_digest_of(_files(folder))}" if folder else ""
    codes = f", {name}" if (name := name_of_model()) else ""
    return f"{first} ({'+'.join(installed_languages())}){others}{codes}"


def other_models() -> Path | None:
    """Folder of a second model of Korean and one of English; None unless both are there."""
    return OTHER_MODELS if all(OTHER_MODELS.joinpath(name).is_file() for name in OTHERS) else None


def _files(folder: Path) -> tuple[tuple[Path, int], ...]:
    """Both models, each with the time of its last change."""
    return tuple((folder / name, (folder / name).stat().st_mtime_ns) for name in OTHERS)


@cache
def _digest_of(files: tuple[tuple[Path, int], ...]) -> str:
    return digest_value([digest_file(path) for path, _ in files])[:12]


@cache
def _first_line(program: str, _changed: int) -> str:
    return _run([program, "--version"]).split("\n")[0].strip()


def installed_languages() -> tuple[str, ...]:
    """Codes of the installed language models, such as `kor`; empty without Tesseract.

    Each page asks several times, and Tesseract takes 25 ms, so it lists a folder again only once
    that has changed.
    """
    program = shutil.which("tesseract")
    if program is None:
        return ()
    key = (program, os.environ.get("TESSDATA_PREFIX", ""))
    folder = _folder(*key)
    changed = folder.stat().st_mtime_ns if folder and folder.is_dir() else -1
    if changed == -1 or _lists.get(key, (-1,))[0] != changed:
        _lists[key] = changed, tuple(sorted(_run([program, "--list-langs"]).split("\n")[1:]))
    return _lists[key][1]


@cache
def _folder(program: str, _setting: str) -> Path | None:
    """The folder of the language models."""
    named = re.search('"(.+)"', _run([program, "--list-langs"]).split("\n")[0])
    return Path(named[1]) if named else None


@cache
def alphabet(language: str) -> frozenset[str]:
    """The characters that the model of a language can write; empty if it is unknown.

    They are the part `lstm-unicharset` of its file: a table of offsets, then the parts.
    """
    program = shutil.which("tesseract")
    folder = _folder(program, os.environ.get("TESSDATA_PREFIX", "")) if program else None
    if folder is None:
        return frozenset()
    try:
        data = (folder / f"{language}.traineddata").read_bytes()
        count = int.from_bytes(data[:4], "little")
        offsets = [*struct.unpack_from(f"<{count}q", data, 4), len(data)]
        start = offsets[UNICHARSET]
        stop = min(one for one in offsets if one > start)
        rows = data[start:stop].decode().split("\n")[1:]
    except (OSError, struct.error, IndexError, ValueError):
        return frozenset()
    return frozenset(row.split(" ")[0] for row in rows) if start > 0 else frozenset()


def require(languages: Iterable[str]) -> None:
    """Raise `MachineError` unless Tesseract and these languages are installed."""
    if shutil.which("tesseract") is None:
        raise MachineError(
            "a page needs OCR, but Tesseract is not installed. "
            f"Install it: {INSTALL}; or set load.ocr.type to never."
        )
    missing = [code for code in languages if code not in installed_languages()]
    if missing:
        packages = " ".join(map(package_of, missing))
        raise MachineError(
            f"Tesseract lacks the language {', '.join(missing)}. "
            f"Install it: apt-get install {packages}."
        )


def package_of(language: str) -> str:
    """Debian's package of a language."""
    return f"tesseract-ocr-{language.replace('_', '-')}"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - own arguments
    return (done.stdout or done.stderr).strip()


def recognize(
    image_HW: "Grey", dpi: int, languages: tuple[str, ...], mode: int, folder: Path | None = None
) -> str:
    """Tesseract's TSV output for one image, followed by its text output; on one thread.

    `folder`: that of the language models; None for Tesseract's own.

    Raises: MachineError: Tesseract fails.
    """
    where = ("--tessdata-dir", str(folder)) if folder else ()
    outputs = ("-c", "tessedit_create_tsv=1", "-c", "tessedit_create_txt=1")
    how = ("--psm", str(mode), "-l", "+".join(languages), *outputs)
    done = _read_image(image_HW, dpi, *where, *how)
    if done.returncode:
        raise MachineError(
            f"Tesseract failed: {done.stderr.decode(errors='replace').strip()[-300:]}. "
            f"Reinstall it ({INSTALL}), or set load.ocr.type to never."
        )
    return done.stdout.decode(errors="replace")


def orientation(image_HW: "Grey", dpi: int) -> int:
    """Degrees by which to turn the page clockwise so that it is upright: 0, 90, 180 or 270.

    0 also where Tesseract finds none, or its model `osd` is not installed.
    """
    done = _read_image(image_HW, dpi, "--psm", "0", "-l", "osd")
    turn = re.search(rb"^Rotate: (90|180|270)$", done.stdout, re.MULTILINE)
    return int(turn[1]) if turn and not done.returncode else 0


def script(image_HW: "Grey", dpi: int) -> str:
    """Name of the script of a page, such as `Latin`; empty where Tesseract cannot tell.

    Empty also where its model `osd` is not installed.
    """
    done = _read_image(image_HW, dpi, "--psm", "0", "-l", "osd")
    name = re.search(rb"^Script: (\w+)$", done.stdout, re.MULTILINE)
    return name[1].decode() if name and not done.returncode else ""


def _read_image(
    image_HW: "Grey", dpi: int, *arguments: str
) -> "subprocess.CompletedProcess[bytes]":
    height, width = image_HW.shape
    command = ["tesseract", "-", "-", "--dpi", str(dpi), *arguments]
    return subprocess.run(  # noqa: S603 - own arguments
        command,
        input=b"P5 %d %d 255\n" % (width, height) + image_HW.tobytes(),
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )


def words_of(tsv: str) -> list[Word]:
    """Words of TSV output: rows of level 5 (level, page, block, paragraph, line, word, box ...)."""
    words = []
    for row in tsv.split("\n")[1:]:
        cells = row.split("\t")
        if len(cells) == 12 and cells[0] == "5" and cells[11].strip():
            line = (int(cells[2]), int(cells[3]), int(cells[4]))
            left, top, width, height = (int(cell) for cell in cells[6:10])
            text = cells[11].strip()
            words.append(Word(line, left, top, width, height, float(cells[10]), text))
    return words


def lines_of(output: str) -> dict[str, str]:
    """{line without spaces: line} of the text output.

    TSV output splits Korean words into syllables; only the text output has the right spaces.
    """
    rows = [row.strip() for row in output.split("\n") if "\t" not in row]
    return {re.sub(r"\s", "", row): row for row in rows}
