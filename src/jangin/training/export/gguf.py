"""Convert an exported folder to GGUF with llama.cpp's own script, in a subprocess.

The script identifies pre-tokenizers by a hash of the token ids of one text. The ids depend on the
vocabulary, so the tokenizer of a starter, which is trained on the project's text, is never in its
list. Its pre-tokenization is one that llama.cpp has, though. Run as
`python -m jangin.training.export.gguf SCRIPT ...`, this module returns that name where the script
finds none. llama.cpp does not apply NFC, as the starter's tokenizer does; text that is in NFC is
not affected.
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
_STARTER_PRE_TOKENIZER = "smollm"
"""llama.cpp's name for single digits, then GPT-2's regular expression, without prefix space."""
_METHOD = "get_vocab_base_pre"
"""Method of llama.cpp's models that returns the name of a pre-tokenizer."""


def find_converter() -> Path:
    """Path of llama.cpp's script: from $LLAMA_CPP (its folder or the script), else the PATH.

    Raises `MachineError` where the script is not there.
    """
    named = os.environ.get("LLAMA_CPP")
    if named:
        path = Path(named) / CONVERTER if Path(named).is_dir() else Path(named)
        script, searched = (str(path) if path.is_file() else None), f"$LLAMA_CPP ({named})"
    else:
        script, searched = shutil.which(CONVERTER), "$LLAMA_CPP (unset) or on the PATH"
    if script is None:
        # Its own requirements pin an older transformers, which would break this installation.
        raise MachineError(
            f"GGUF needs {CONVERTER} of llama.cpp, which is not in {searched}. "
            "Clone https://github.com/ggml-org/llama.cpp, run `pip install gguf sentencepiece`, "
            "and set LLAMA_CPP to the clone."
        )
    return Path(script)


def convert(converter: Path, folder: Path, target: Path, kind: str) -> None:
    """Write the model in `folder` to the GGUF file `target`.

    `kind` is the script's `--outtype`: f32, bf16, f16 or q8_0.

    Raises `MachineError` where the script fails, `ExportError` where it writes something other
    than GGUF.
    """
    wrapper = ["-m", "jangin.training.export.gguf"] if _has_starter_tokenizer(folder) else []
    arguments = [str(converter), str(folder), "--outfile", str(target), "--outtype", kind]
    command = [sys.executable, *wrapper, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  the user's own script
    if done.returncode != 0 or not target.exists():
        last = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
        missing = re.search(r"No module named '([\w.]+)'", last)
        remedy = f"Run: pip install {missing[1]}" if missing else "Update llama.cpp"
        raise MachineError(
            f"{converter} failed with exit status {done.returncode}: {last}. {remedy}, "
            "or export as `merged`."
        )
    with target.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ExportError(
                f"{converter} wrote a file that is not GGUF. Update llama.cpp, or export as "
                "`merged`."
            )


def _has_starter_tokenizer(folder: Path) -> bool:
    """True for BPE that splits single digits, then by GPT-2's regular expression."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return False
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    parts = (content.get("pre_tokenizer") or {}).get("pretokenizers") or []
    splitters = [
        (part["type"], part.get("individual_digits"), part.get("add_prefix_space"))
        for part in parts
    ]
    regex = all(part.get("use_regex", True) for part in parts)
    expected = [("Digits", True, None), ("ByteLevel", None, False)]
    return regex and splitters == expected and content["model"]["type"] == "BPE"


def _run(arguments: Sequence[str]) -> None:
    """Run the script with these arguments; it accepts the starter's tokenizer as well."""
    script = str(Path(arguments[0]).resolve())
    sys.argv = [script, *arguments[1:]]
    sys.path.insert(0, str(Path(script).parent))
    # With another name than __main__ the script only defines its functions.
    names = runpy.run_path(script, run_name=Path(script).stem)
    # Old versions define the models in the script, new ones in a package beside it.
    package = sys.modules.get("conversion.base")
    for value in (*names.values(), *(vars(package).values() if package else ())):
        if isinstance(value, type) and _METHOD in vars(value):
            setattr(value, _METHOD, _with_starter_fallback(getattr(value, _METHOD)))
    names["main"]()


def _with_starter_fallback(original: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """`original`, but an unknown pre-tokenizer gets the starter's name instead of an error."""

    def pre_tokenizer(model: Any, tokenizer: Any) -> str:
        try:
            return original(model, tokenizer)
        except NotImplementedError:
            return _STARTER_PRE_TOKENIZER

    return pre_tokenizer


if __name__ == "__main__":
    _run(sys.argv[1:])
