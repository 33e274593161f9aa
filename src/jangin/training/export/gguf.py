"""Convert an exported folder to GGUF with llama.cpp's own script, in a process of its own.

The script tells tokenizers apart by a hash of what they make of one text, which depends on the
vocabulary: a starter's tokenizer, trained on the project's own text, is never on its list. How it
splits text into words is on the list all the same, so for starters the script is told that name:
run as `python -m jangin.training.export.gguf SCRIPT ...`, this module adds it. llama.cpp does not
compose characters (NFC) as the starter's tokenizer does; text that is composed already is not
affected.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jangin.core.errors import ExportError, MachineError

CONVERTER = "convert_hf_to_gguf.py"
_MAGIC = b"GGUF"
_SPLITS_LIKE = "smollm"
"""llama.cpp's name for digits one by one, then GPT-2's expression, spaces left alone."""
_METHOD = "get_vocab_base_pre"


def find_converter() -> Path:
    """llama.cpp's script, from $LLAMA_CPP (its folder or the script) or the PATH.

    Raises `MachineError` where it is neither.
    """
    named = os.environ.get("LLAMA_CPP")
    if named:
        path = Path(named) / CONVERTER if Path(named).is_dir() else Path(named)
        found: str | None = str(path) if path.is_file() else None
    else:
        found = shutil.which(CONVERTER)
    if found is None:
        # Its own requirements pin an older transformers, which would break this installation.
        raise MachineError(
            f"GGUF needs llama.cpp's {CONVERTER}, and it is neither in $LLAMA_CPP nor on the PATH. "
            "Clone https://github.com/ggml-org/llama.cpp, `pip install gguf sentencepiece`, and "
            "set LLAMA_CPP to that folder."
        )
    return Path(found)


def convert(converter: Path, folder: Path, name: str, kind: str) -> None:
    """Turn the weights in `folder` into one GGUF file, and leave nothing else there.

    `kind` is the script's `--outtype`: f32, bf16 or f16. Raises `MachineError` where the script
    fails, `ExportError` where it writes something else.
    """
    target = folder / f"{name}.gguf"
    through = ["-m", "jangin.training.export.gguf"] if _splits_like_a_starter(folder) else []
    words = [str(converter), str(folder), "--outfile", str(target), "--outtype", kind]
    command = [sys.executable, *through, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  the user's own script
    if done.returncode != 0 or not target.exists():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        missing = re.search(r"No module named '([\w.]+)'", last)
        remedy = f"Run: pip install {missing[1]}" if missing else "Update llama.cpp"
        raise MachineError(f"{converter} failed: {last}. {remedy}, or export as `merged`.")
    with target.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ExportError(f"{converter} wrote no GGUF file. Update llama.cpp.")
    for path in folder.iterdir():
        if path != target:
            path.unlink()


def _splits_like_a_starter(folder: Path) -> bool:
    """True for a BPE tokenizer that takes digits one by one, then GPT-2's expression."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return False
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    parts = (content.get("pre_tokenizer") or {}).get("pretokenizers") or []
    found = [
        (part["type"], part.get("individual_digits"), part.get("add_prefix_space"))
        for part in parts
    ]
    plain = all(part.get("use_regex", True) for part in parts)
    wanted = [("Digits", True, None), ("ByteLevel", None, False)]
    return plain and found == wanted and content["model"]["type"] == "BPE"


def _run(words: Sequence[str]) -> None:
    """Run the script as if it had been called, with one more tokenizer that it knows."""
    script = str(Path(words[0]).resolve())
    sys.argv = [script, *words[1:]]
    sys.path.insert(0, str(Path(script).parent))
    # Under another name than __main__ it only defines what it needs.
    names = runpy.run_path(script, run_name=Path(script).stem)
    # Where its models are defined: in the script itself once, in a package beside it since.
    package = sys.modules.get("conversion.base")
    for one in (*names.values(), *(vars(package).values() if package else ())):
        if isinstance(one, type) and _METHOD in vars(one):
            setattr(one, _METHOD, _knowing(getattr(one, _METHOD)))
    names["main"]()


def _knowing(original: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """The same method, which names the starter's way where it would have refused."""

    def name(model: Any, tokenizer: Any) -> str:
        try:
            return original(model, tokenizer)
        except NotImplementedError:
            return _SPLITS_LIKE

    return name


if __name__ == "__main__":
    _run(sys.argv[1:])
