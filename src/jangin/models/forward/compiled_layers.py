"""torch.compile on the decoder layers of a model, which can be turned on and off between passes."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import ceil, inf
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface

from jangin.core.errors import DataError, counted
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Record
from jangin.models.forward.varlen_attention import NAME, segment_attention
from jangin.models.loading import base_model

Backend = Callable[[torch.fx.GraphModule, list[Any]], Callable[..., Any]]
"""What torch.compile takes as `backend`."""

_LONGEST_ERROR = 200


class CompilationTooSlowError(Exception):
    """Compiling takes longer than allowed; always caught before the user."""


def inductor(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    """The default backend, with torch's own random numbers: dropout drops the same values."""
    code: Callable[..., Any] = torch._inductor.compile(
        graph, inputs, options={"fallback_random": True}
    )
    return code


BACKEND: Backend = inductor


def decoder_layers(model: Any) -> list[Any]:
    """The modules of `model` that repeat, in their order; empty where its family names none."""
    names = set(base_model(model)._no_split_modules or ())
    return [part for part in model.modules() if type(part).__name__ in names]


@dataclass(slots=True)
class CompiledLayers:
    """Decoder layers of a model, which run compiled inside `running` and as they are elsewhere.

    The code of a layer is compiled once for all layers and all lengths. Attention is left out: it
    is one kernel already, and its segments are other numbers in every batch.
    """

    layers: Sequence[Any]
    graphs: int = 0
    """Pieces of code that were compiled so far; attention divides a layer into two."""
    failure: str = ""
    """Why the last graph could not be compiled; one line."""
    exceeded: float = 0.0
    """The limit of seconds, where compiling took longer."""
    _calls: list[Any] = field(default_factory=list)
    _limit: float = inf
    _spent: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, the layers run compiled."""
        if not self._calls:
            for layer in self.layers:
                layer.compile(dynamic=True, backend=self._compile)
                self._calls.append(layer._compiled_call_impl)
        plain: Any = torch.compiler.disable(segment_attention)  # type: ignore[no-untyped-call]  # untyped there
        AttentionInterface.register(NAME, plain)
        for layer, call in zip(self.layers, self._calls, strict=True):
            layer._compiled_call_impl = call
        try:
            yield
        finally:
            AttentionInterface.register(NAME, segment_attention)
            for layer in self.layers:
                layer._compiled_call_impl = None

    def limit(self, seconds: float) -> None:
        """Have compiling fail once it has taken this long, all graphs together."""
        self._limit = seconds

    def drop(self) -> None:
        """Free the compiled code."""
        if self._calls:
            self._calls.clear()
            torch.compiler.reset()

    def _compile(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        """The backend, with its graphs counted, its seconds limited and its errors noted."""
        self.graphs += 1
        began = time.monotonic()
        try:
            with _time_limit(self._limit - self._spent):
                return BACKEND(graph, inputs)
        except CompilationTooSlowError:
            self.exceeded = self._limit
            self.failure = f"compiling takes longer than {self._limit:.0f} s"
            raise
        except Exception as error:
            self.failure = f"torch.compile failed with {error_line(error)}"
            raise
        finally:
            self._spent += time.monotonic() - began


def error_line(error: BaseException) -> str:
    """Type and first line of an error."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}"[:_LONGEST_ERROR].removesuffix(": ")


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `CompilationTooSlowError` inside once it has taken this long.

    Python can interrupt its main thread alone; in another one, what has begun ends.
    """
    if seconds <= 0:
        raise CompilationTooSlowError
    if seconds == inf or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: Any) -> None:  # noqa: ARG001  as signal handlers are called
        raise CompilationTooSlowError

    before = signal.signal(signal.SIGALRM, ring)
    # Again each second, as the compiler may take the error for one of its own.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # also where it rang in the line before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# What was measured on this machine: one line for each device, model and size of batches.


class Timing(Record):
    """One line of compile.jsonl: the layers of a model, eager and compiled."""

    key: str
    """Digest of the device's name, torch's version, the layers and the size of batches."""
    device: str
    eager: float
    """Seconds of a forward and a backward pass per token."""
    compiled: float | None
    """The same with compiled layers; None where compiling took too long."""
    compiling: float
    """Seconds that compiling took."""

    def break_even(self, tokens: float) -> float | None:
        """Steps of this many tokens after which compiling has paid; None: never."""
        if self.compiled is None or self.compiled >= self.eager:
            return None
        return self.compiling / ((self.eager - self.compiled) * tokens)

    def text(self, tokens: float) -> str:
        """Both ways and the break-even, in seconds per step of this many tokens."""
        eager = f"a step takes {self.eager * tokens:.3g} s eagerly"
        if self.compiled is None:
            return f"{eager}, and compiling took longer than {self.compiling:.0f} s"
        steps = self.break_even(tokens)
        paid = "never pay" if steps is None else f"pay after {counted(ceil(steps), 'step')}"
        both = f"{eager} and {self.compiled * tokens:.3g} s compiled"
        return f"{both}; {self.compiling:.3g} s of compiling {paid}"


def timings_file() -> Path:
    """The file of this user on this machine."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "jangin" / "compile.jsonl"


def find_timing(key: str) -> Timing | None:
    """The newest with this key; None as well where the file cannot be read."""
    with suppress(OSError, RuntimeError, DataError):  # of a home folder that is not known
        lines = [line for line in complete_records(timings_file(), Timing) if line.key == key]
        return lines[-1] if lines else None
    return None


def keep_timing(timing: Timing) -> None:
    """Add it to the file; where that cannot be written, the next run measures again."""
    with suppress(OSError, RuntimeError):
        path = timings_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        append_durably(path, [timing.model_dump_json()])
