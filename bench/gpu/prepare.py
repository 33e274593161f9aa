"""What a machine with a card and no network may lack, in a folder that is carried to it.

Its image has Python 3.12, torch and transformers. Nothing is installed there: `.site` is put on
PYTHONPATH by the three calls. Of bitsandbytes only the library for CUDA 13.0 is kept.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".site"
PACKAGES = (
    *("pydantic==2.14.3", "pydantic-core==2.50.4", "annotated-types", "typing-inspection"),
    *("bitsandbytes==0.50.2", "liger-kernel==0.8.5"),
    *("trl==1.16.0", "datasets==5.2.0", "dill<0.4.2", "multiprocess<0.70.20"),
)
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_24_x86_64", "any")
KEPT_LIBRARY = "libbitsandbytes_cuda130.so"


def command(folder: Path) -> list[str]:
    """Of pip: wheels for Python 3.12 on Linux, without what they depend on."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    words += ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    for abi in ("cp312", "abi3", "none"):
        words += ["--abi", abi]
    for platform in PLATFORMS:
        words += ["--platform", platform]
    return [*words, "--target", str(folder), *PACKAGES]


def prepare(folder: Path = SITE) -> int:
    """Make the folder anew and leave git alone with it; returns pip's exit status."""
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(command(folder), check=False)
    if done.returncode:
        return done.returncode
    for library in (folder / "bitsandbytes").glob("libbitsandbytes_*.so"):
        if library.name != KEPT_LIBRARY and "_cpu" not in library.name:
            library.unlink()
    (folder / ".gitignore").write_text("*\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sys.stdout.write(f"{folder} holds {size / 2**20:.0f} MiB. Next, there: call1.sh\n")
    return 0
