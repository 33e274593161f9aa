"""torch.compile on the decoder layers of a model, which can be turned on and off between passes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from transformers import AttentionInterface

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
