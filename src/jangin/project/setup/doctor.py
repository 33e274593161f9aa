"""`jangin doctor`: what this machine has, what is missing, and how to install it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.documents import formats

GIB = 1024**3
LEAST_DISK_GIB = 3
LEAST_MEMORY_GIB = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    name: str
    state: Literal["ok", "warning", "missing"]
    text: str
    remedy: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Check Python, packages, GPU, Tesseract, memory, and the disk of `folder`."""
    yield _python()
    for package, extra in (
        ("torch", "train"),
        ("transformers", "train"),
        ("peft", "train"),
        *formats.packages(),
        ("kiwipiepy", "documents"),
    ):
        yield _package(package, extra)
    yield _gpu()
    yield from _tesseract()
    yield _memory()
    yield _disk(folder)
    yield _threads()


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _package(package: str, extra: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(package, "missing", "not installed", f"pip install 'jangin[{extra}]'")
    names = importlib.metadata.packages_distributions().get(package, [package])
    return Finding(package, "ok", importlib.metadata.version(names[0]))


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding(
            "GPU", "ok", "none; training runs on the CPU, which is enough for small models"
        )
    listed = subprocess.run(  # noqa: S603  # a fixed program found on PATH
        [program, "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    text = "; ".join(listed.stdout.split("\n")).strip("; ")
    return Finding("GPU", "ok" if text else "warning", text or "nvidia-smi lists none")


def _tesseract() -> Iterator[Finding]:
    program = shutil.which("tesseract")
    remedy = (
        "Debian, Ubuntu: apt-get install tesseract-ocr tesseract-ocr-kor; "
        "macOS: brew install tesseract tesseract-lang"
    )
    if program is None:
        yield Finding("Tesseract", "missing", "not installed; scanned pages cannot be read", remedy)
        return
    listed = subprocess.run(  # noqa: S603  # a fixed program found on PATH
        [program, "--list-langs"], capture_output=True, text=True, timeout=20, check=False
    )
    languages = [word for word in (listed.stdout + listed.stderr).split() if len(word) == 3]
    yield Finding("Tesseract", "ok", f"{program}; languages {' '.join(sorted(set(languages)))}")
    if "kor" not in languages:
        yield Finding("Tesseract kor", "warning", "no Korean; Korean scans cannot be read", remedy)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if total < LEAST_MEMORY_GIB:
        return Finding(
            "memory", "warning", f"{total:.1f} GiB", "Choose a smaller base model, or QLoRA."
        )
    return Finding("memory", "ok", f"{total:.1f} GiB, {os.cpu_count()} cores")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / GIB
    if free < LEAST_DISK_GIB:
        return Finding(
            "disk",
            "warning",
            f"{free:.1f} GiB free",
            "Free some space, or use another disk with --store.",
        )
    return Finding("disk", "ok", f"{free:.1f} GiB free at {folder}")


def _threads() -> Finding:
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if policy.upper() != "PASSIVE":
        return Finding(
            "OpenMP",
            "warning",
            f"OMP_WAIT_POLICY={policy}; waiting threads spin",
            "Unset OMP_WAIT_POLICY; jangin then sets PASSIVE.",
        )
    return Finding("OpenMP", "ok", "waiting threads sleep (OMP_WAIT_POLICY=PASSIVE)")
