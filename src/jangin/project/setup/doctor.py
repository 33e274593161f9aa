"""`jangin doctor`: what this machine has, what is missing, and how to install it."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.core.errors import counted
from jangin.documents import formats
from jangin.documents.ocr.latin_recognizer import MODEL, is_installed
from jangin.documents.ocr.tesseract import OTHER_MODELS, other_models
from jangin.llm.learned import FILE, LearnedFile
from jangin.llm.offers import available
from jangin.llm.providers import PROVIDERS
from jangin.models.device import (
    KERNELS_VARIABLE,
    are_kernels_enabled,
    cpu_flags,
    has_bf16_tiles,
    native_precision,
)
from jangin.project.tracking.table import TRACKERS, config_of, type_of

GIB = 1024**3
LEAST_DISK_GIB = 3
LEAST_MEMORY_GIB = 4
_INSTALL_TORCH = "pip install torch --index-url https://download.pytorch.org/whl"


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
    yield from _gpu()
    yield _instructions()
    yield from _tesseract()
    yield _memory()
    yield _disk(folder)
    yield _threads()
    yield _trackers()
    yield _hub()
    yield from _teachers()
    yield from _learned(folder)


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _package(package: str, extra: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(package, "missing", "not installed", f"pip install 'jangin[{extra}]'")
    names = importlib.metadata.packages_distributions().get(package, [package])
    return Finding(package, "ok", importlib.metadata.version(names[0]))


def _gpu() -> Iterator[Finding]:
    """The GPU, and whether torch's build fits it."""
    build = _torch_build()
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding(
            "GPU", "ok", "none; training runs on the CPU, which is enough for small models"
        )
        if build.startswith("cu"):
            yield Finding(
                "torch build", "warning", f"for CUDA ({build}), but there is no GPU",
                f"It works; the build for CPUs is gigabytes smaller: {_INSTALL_TORCH}/cpu",
            )  # fmt: skip
        return
    listed = subprocess.run(  # noqa: S603  # a fixed program found on PATH
        [program, "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    text = "; ".join(listed.stdout.split("\n")).strip("; ") if not listed.returncode else ""
    yield Finding("GPU", "ok" if text else "warning", text or "nvidia-smi lists none")
    if text and build == "cpu":
        yield Finding(
            "torch build", "warning", "for CPUs only, so the GPU is not used",
            f"Replace it by the build for your driver, such as: {_INSTALL_TORCH}/cu130",
        )  # fmt: skip


def _torch_build() -> str:
    """`cpu`, or a CUDA version such as `cu130`; empty if unknown. Without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    cuda = re.search(r"^cuda.*= *['\"]([\d.]+)", text, re.MULTILINE)
    if cuda:
        return f"cu{cuda[1].replace('.', '')}"
    return "cpu" if re.search(r"^cuda.*= *None", text, re.MULTILINE) else ""


def _instructions() -> Finding:
    """What the CPU can do for training."""
    flags = cpu_flags()
    machine = platform.machine()
    if has_bf16_tiles():
        text = "AVX512 with bf16: training in bf16, with the compiled kernels"
    elif native_precision() == "bf16":
        text = "training in bf16, natively on this device"
    else:
        known = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")
        text = f"{known}: training in fp32, without the compiled kernels for bf16"
    off = "" if are_kernels_enabled() else f"; {KERNELS_VARIABLE}=off"
    return Finding("CPU", "ok", f"{machine}, {text}{off}")


def _trackers() -> Finding:
    """Trackers that `track` can name here; none is needed."""
    installed = [
        type_of(row)
        for row in TRACKERS
        if importlib.util.find_spec(config_of(type_of(row)).package) is not None
    ]
    text = ", ".join(installed) or "none installed; they are optional"
    return Finding("trackers", "ok", text)


def _hub() -> Finding:
    """Whether `publish` and gated models have a token; it is neither read out nor sent."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return Finding("Hub", "ok", "no huggingface_hub; only models on this machine can be used")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    stored = Path(os.environ.get("HF_TOKEN_PATH", home / "token")).exists()
    token = (
        "token set"
        if os.environ.get("HF_TOKEN") or stored
        else ("no token; gated models and `jangin publish` need one (hf auth login)")
    )
    offline = "; HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    return Finding("Hub", "ok", f"{token}{offline}")


def _teachers() -> Iterator[Finding]:
    """Providers whose key is known, and servers on this machine; no key is read out."""
    teachers = available()
    for each in teachers:
        if each.problem:
            yield Finding("teacher", "warning", f"{each.provider.title}: {each.problem}")
        elif each.offers:
            models = counted(len(each.offers), "model")
            text = f"{each.provider.title} at {each.provider.base_url}, {models}"
            yield Finding("teacher", "ok", text)
        else:
            text = (
                f"{each.provider.title}: a key is set, but {each.provider.base_url} did not answer"
            )
            yield Finding("teacher", "warning", text)
    if not teachers:
        variables = ", ".join(row.key_variable for row in PROVIDERS if row.key_variable)
        text = f"none: no server on this machine answers, and no key is set ({variables})"
        yield Finding("teacher", "ok", text)


def _learned(folder: Path) -> Iterator[Finding]:
    """What endpoints of this folder's project refused."""
    path = folder / "store" / FILE
    for name, learned in LearnedFile(path).read().items():
        text = (
            f"{name}: left out {', '.join(learned.refused) or 'nothing'}, "
            f"{learned.thinking_tokens:,} tokens for reasoning, since {learned.since}; delete "
            f"{path} to try again"
        )
        yield Finding("endpoint", "ok", text)


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
    elif other_models():
        text = f"every line of Korean scans is also read by those in {OTHER_MODELS}"
        yield Finding("OCR models", "ok", text)
    else:
        yield Finding(
            "OCR models",
            "warning",
            "none; more letters of Korean scans are doubtful, or wrong and not noticed",
            "Put kor.traineddata and eng.traineddata of Tesseract's tessdata_best into "
            f"{OTHER_MODELS}; `make ocr-models` does it with npm.",
        )
    if is_installed():
        text = f"Latin words, codes and numbers of Korean scans are also read by {MODEL}"
        yield Finding("OCR of codes", "ok", text)
    else:
        yield Finding(
            "OCR of codes",
            "warning",
            "no recogniser; more codes and numbers of Korean scans are doubtful",
            f"Run `make ocr-models`, which puts PP-OCR's into {MODEL.parent} and installs "
            "onnxruntime.",
        )


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if total < LEAST_MEMORY_GIB:
        return Finding(
            "memory", "warning", f"{total:.1f} GiB", "Choose a smaller base model, or QLoRA."
        )
    return Finding("memory", "ok", f"{total:.1f} GiB, {counted(os.cpu_count() or 1, 'core')}")


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
