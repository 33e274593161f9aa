"""GGUF files run by llama.cpp, through the optional package `llama-cpp-python`.

llama.cpp runs in a process of its own, `python -m jangin.inference.llama_cpp`, which reads requests
and writes replies as lines of JSON: compiled for another CPU it dies of a signal, which would take
an export or an evaluation with it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Self

from jangin.core.errors import MachineError

_QUOTED = 300
"""Most characters of llama.cpp's own message that an error quotes."""


class LlamaCppCrashError(MachineError):
    """The process that runs llama.cpp died. Names the signal and what llama.cpp was asked to do."""


def has_llama_cpp() -> bool:
    """True if llama-cpp-python is installed."""
    return find_spec("llama_cpp") is not None


def check_llama_cpp() -> None:
    """Load llama.cpp in a process of its own.

    Raises:
        MachineError: it is not installed, or does not load.
        LlamaCppCrashError: it crashes.

    """
    with _Process() as process:
        process.ask("loaded its library", "load")


def quantize_file(source: Path, target: Path, kind: str) -> None:
    """Quantize a GGUF file of floats with llama.cpp; `kind` is such as `q4_k_m`.

    Raises:
        MachineError: llama-cpp-python is missing, or llama.cpp fails.
        LlamaCppCrashError: it crashes.

    """
    with _Process() as process:
        status = process.ask(f"wrote {target.name}", "quantize", str(source), str(target), kind)
    if status != 0 or not target.exists():
        raise MachineError(
            f"llama.cpp could not quantize the model to {kind} (status {status}). Export with "
            "`--quantize q8_0`, or update llama-cpp-python."
        )


class GgufModel:
    """A GGUF file in the memory of a process of its own.

    Every method raises `LlamaCppCrashError` where that process dies.
    """

    def __init__(self, path: Path, context_length: int) -> None:
        """Load `path`; a conversation has at most `context_length` tokens.

        Raises:
            MachineError: llama-cpp-python is missing, or refuses the file.

        """
        self._name = path.name
        self._process = _Process()
        try:
            self._process.ask(f"loaded {path.name}", "open", str(path), context_length)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """The model itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process."""
        self.close()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of rendered text: control tokens are recognised, and no BOS is added."""
        ids: list[int] = self._process.ask(f"tokenized a text for {self._name}", "tokenize", text)
        return ids

    def answer(
        self, prompt: Sequence[int], max_new_tokens: int, stop_ids: Collection[int]
    ) -> list[int]:
        """The greedy answer to a prompt of token ids, with the stop token if it was reached."""
        answer: list[int] = self._process.ask(
            f"answered a question with {self._name}",
            "answer",
            list(prompt),
            max_new_tokens,
            sorted(stop_ids),
        )
        return answer

    def close(self) -> None:
        """Free its memory."""
        self._process.close()


class _Process:
    """llama.cpp in a process of its own, which answers one request after the other."""

    def __init__(self) -> None:
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jangin.inference.llama_cpp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, what: str, request: str, *values: object) -> Any:
        """The reply to a request; `what` llama.cpp did if it crashes, as part of a sentence."""
        assert self._process.stdin is not None  # noqa: S101  both are pipes
        assert self._process.stdout is not None  # noqa: S101  as above
        try:
            self._process.stdin.write(json.dumps([request, *values]).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._crash(what)
        reply = json.loads(line)
        if "error" in reply:
            raise MachineError(reply["error"])
        return reply["value"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._messages.close()

    def _crash(self, what: str) -> LlamaCppCrashError:
        code = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1][:_QUOTED].rstrip('.')}" if lines else ""
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return LlamaCppCrashError(
            f"llama.cpp crashed ({how}) when it {what}{said}. It may have been compiled for "
            "another CPU: compile it for all with `CMAKE_ARGS=-DGGML_NATIVE=OFF pip install "
            "--force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python`. "
            "`--quantize` with f16 or q8_0 needs no llama.cpp."
        )


class _Requests:
    """The other side of `_Process`: a method for each request."""

    def __init__(self) -> None:
        self._library = _open_library()
        self._model: Any = None

    def load(self) -> None:
        """The library is there."""

    def quantize(self, source: str, target: str, kind: str) -> int:
        """llama.cpp's status, 0 if it succeeded."""
        settings = self._library.llama_model_quantize_default_params()
        settings.ftype = getattr(self._library, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
        return int(
            self._library.llama_model_quantize(
                source.encode(), target.encode(), ctypes.byref(settings)
            )
        )

    def open(self, path: str, context_length: int) -> None:
        """Load a file."""
        # As torch does; by default llama.cpp takes every core, and waits for all at each operation.
        count = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(count) or None if count.isdigit() else None
        try:
            self._model = self._library.Llama(
                model_path=path,
                n_ctx=context_length,
                verbose=False,
                n_gpu_layers=-1,
                n_threads=threads,
                n_threads_batch=threads,
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise MachineError(
                f"llama.cpp cannot load {path}: {error}. Update llama-cpp-python, or export the "
                "model again."
            ) from error

    def tokenize(self, text: str) -> list[int]:
        """Token ids."""
        ids: list[int] = self._model.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def answer(self, prompt: list[int], max_new_tokens: int, stop_ids: list[int]) -> list[int]:
        """The greedy answer."""
        self._model.reset()
        answer: list[int] = []
        for token in self._model.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0):
            answer.append(token)
            if token in stop_ids or len(answer) == max_new_tokens:
                break
        return answer


def _open_library() -> Any:
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
    _keep_layout(llama_cpp.llama_cpp)
    return llama_cpp


def _keep_layout(bindings: Any) -> None:
    """Let models compute on weights as they are in the file.

    By default llama.cpp rearranges them for the CPU. Its products on Intel's AMX tiles crash
    (llama-cpp-python 0.3.36, in `ldtilecfg`), and so every CPU computes in the same way.
    """
    defaults = bindings.llama_model_default_params

    def plain() -> Any:
        settings = defaults()
        settings.use_extra_bufts = False
        return settings

    bindings.llama_model_default_params = plain


_SILENT: list[Any] = []
"""The callback that llama.cpp holds; without a reference here it would be collected."""


def _silence(library: Any) -> Any:
    if not _SILENT:
        _SILENT.append(library.llama_log_callback(lambda _level, _text, _data: None))
    return _SILENT[0]


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    methods: _Requests | None = None
    for line in requests:
        name, *values = json.loads(line)
        try:
            methods = methods or _Requests()
            method: Callable[..., Any] = getattr(methods, name)
            reply = {"value": method(*values)}
        except MachineError as error:
            reply = {"error": str(error)}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


def main() -> None:
    """Answer the requests of stdin on stdout, where nothing else may write."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
