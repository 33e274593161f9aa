"""The peers' virtual environments, one each under bench/.venvs, with what each needs on a CPU."""

import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

VENVS = Path(__file__).resolve().parent.parent / ".venvs"
TORCH = "torch==2.13.0"
"""Installed first, so that nothing after it pulls CUDA packages."""

_HUGGING_FACE = ("transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0", "peft==0.21.2")
# LLaMA-Factory asks for torchaudio and torchvision, whose builds do not fit this torch: it gets
# everything else it imports, itself without dependencies, and a stub for torchaudio.
_LLAMAFACTORY = (
    "accelerate==1.11.0",
    "av<=16.0.0",
    "datasets==4.0.0",
    "einops",
    "fire",
    "hf-transfer",
    "matplotlib",
    "modelscope",
    "numpy",
    "omegaconf",
    "pandas",
    "peft==0.18.1",
    "protobuf",
    "pydantic",
    "safetensors",
    "scipy",
    "sentencepiece",
    "sse-starlette",
    "tiktoken",
    "torchdata==0.11.0",
    "transformers==5.6.0",
    "trl==0.24.0",
    "tyro<0.9.0",
    "uvicorn",
    "fastapi",
)

INSTALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "trl": ((TORCH,), ("trl==1.16.0", *_HUGGING_FACE)),
    "llamafactory": ((TORCH,), _LLAMAFACTORY, ("--no-deps", "llamafactory==0.9.5")),
    "swift": ((TORCH,), ("ms-swift==4.6.0",)),
}
_STUBS = {"llamafactory": ("torchaudio",)}


def peer_python(peer: str, notify: Callable[[str], None]) -> tuple[Path | None, str]:
    """(the peer's interpreter, "") or (None, why there is none); made at the first call."""
    home = VENVS / peer
    python, done = home / "bin" / "python", home / "installed"
    if done.exists():
        return python, ""
    notify(f"installing {peer} into {home}, a matter of minutes")
    venv.create(home, with_pip=True, clear=True)
    for packages in INSTALLS[peer]:
        command = [python, "-m", "pip", "install", "--quiet", *packages]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            return None, f"not installed: {lines[0] if lines else result.stderr[-200:]}"
    for stub in _STUBS.get(peer, ()):
        _stub(home, stub)
    done.write_text("\n".join(" ".join(part) for part in INSTALLS[peer]) + "\n")
    return python, ""


def _stub(home: Path, name: str) -> None:
    """An empty package that answers to the name, for an import that is never used."""
    (site,) = home.glob("lib/python3*/site-packages")
    (site / name).mkdir(exist_ok=True)
    (site / name / "__init__.py").write_text('"""Empty: imported and never used here."""\n')
