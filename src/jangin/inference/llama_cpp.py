"""GGUF files run by llama.cpp, through the optional package `llama-cpp-python`."""

import ctypes
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jangin.core.errors import MachineError


def has_llama_cpp() -> bool:
    """True if llama-cpp-python is installed."""
    return find_spec("llama_cpp") is not None


class GgufModel:
    """A GGUF file in memory."""

    def __init__(self, path: Path, context_length: int) -> None:
        """Load `path`; a conversation has at most `context_length` tokens.

        Raises:
            MachineError: llama-cpp-python is missing, or refuses the file.

        """
        library = open_llama_cpp()
        try:
            self._model = library.Llama(
                model_path=str(path), n_ctx=context_length, verbose=False, n_gpu_layers=-1
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise MachineError(
                f"llama.cpp cannot load {path}: {error}. Update llama-cpp-python, or export the "
                "model again."
            ) from error

    def tokenize(self, text: str) -> list[int]:
        """Token ids of rendered text: control tokens are recognised, and no BOS is added."""
        ids: list[int] = self._model.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def answer(
        self, prompt: Sequence[int], max_new_tokens: int, stop_ids: Collection[int]
    ) -> list[int]:
        """The greedy answer to a prompt of token ids, with the stop token if it was reached."""
        self._model.reset()
        answer: list[int] = []
        for token in self._model.generate(list(prompt), top_k=1, temp=0.0, repeat_penalty=1.0):
            answer.append(token)
            if token in stop_ids or len(answer) == max_new_tokens:
                break
        return answer

    def close(self) -> None:
        """Free its memory."""
        self._model.close()


def quantize_file(source: Path, target: Path, kind: str) -> None:
    """Quantize a GGUF file of floats with llama.cpp; `kind` is such as `q4_k_m`.

    Raises:
        MachineError: llama-cpp-python is missing, or llama.cpp fails.

    """
    library = open_llama_cpp()
    settings = library.llama_model_quantize_default_params()
    settings.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    status = library.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(settings)
    )
    if status != 0 or not target.exists():
        raise MachineError(
            f"llama.cpp could not quantize the model to {kind} (status {status}). Export with "
            "`--quantize q8_0`, or update llama-cpp-python."
        )


def open_llama_cpp() -> Any:
    """The library, silent.

    Raises:
        MachineError: it is not installed, or does not load.

    """
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise MachineError(
            "llama.cpp is not installed for Python. Install it with: pip install "
            f"'jangin[llamacpp]', which compiles it and needs a C++ compiler ({error})."
        ) from error
    llama_cpp.llama_log_set(_silence(llama_cpp), None)
    return llama_cpp


_SILENT: list[Any] = []
"""The callback that llama.cpp holds; without a reference here it would be collected."""


def _silence(library: Any) -> Any:
    if not _SILENT:
        _SILENT.append(library.llama_log_callback(lambda _level, _text, _data: None))
    return _SILENT[0]
