"""The engines of a server: one for each base model, and one for each model of full weights.

Adapters are hot on their base's engine. Where memory does not suffice for one more model, engines
that have nothing to do are closed, the least recently used first.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jangin.core.errors import BusyError
from jangin.inference.engine.adapters import why_not_shared
from jangin.inference.engine.engine import Engine, EngineState
from jangin.models.device import available_bytes, has_cuda
from jangin.models.loading import (
    has_adapter,
    load_model,
    load_tokenizer,
    load_trained,
    locate,
    merged_to_answer,
    trained_quantization,
    use_native_precision,
)

log = logging.getLogger(__name__)

_SPARE = 1.25
"""Memory that a model needs while it is loaded, as a multiple of its weights."""
_SUFFIXES = (".safetensors", ".bin")


_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class PipelineModel:
    """A model as the pipeline stores it."""

    base: Path
    """Artifact of the base model."""
    tuned: Path | None = None
    """Artifact, or checkpoint, with a `model/` or an `adapter/`; None for the base itself."""


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model that can answer: its engine and, if it has one, its adapter on it."""

    engine: Engine
    adapter: Path | None
    artifact: Path
    """Of the tuned model, or of the base itself."""


class EnginePool:
    """Engines by the weights that they hold; used by many threads."""

    def __init__(
        self,
        *,
        rows: int | None = None,
        most_adapters: int = 64,
        shared: Callable[[], bool] = lambda: False,
    ) -> None:
        """`rows` and `most_adapters` are those of every engine.

        `shared`: whether a training of another process uses the same memory now. A model that may
        not fit beside it is then refused, and not tried.
        """
        self._shared = shared
        self._rows = rows
        self._most_adapters = most_adapters
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.RLock()

    def open(self, folders: PipelineModel) -> OpenModel:
        """The engine of a model; loads it with the first request.

        Raises:
            BusyError: the memory does not suffice beside what runs now.
            MachineError: the weights cannot be read.

        """
        base, tuned = folders.base, folders.tuned
        artifact = tuned or base
        if tuned is None:
            return OpenModel(self._engine(_key(base), base, partial(_load_base, base)), None, base)
        if has_adapter(tuned) and not why_not_shared(tuned / "adapter"):
            quantized = tuned if trained_quantization(tuned) is not None else None
            key = _key(base, quantized=quantized is not None)
            engine = self._engine(key, base, partial(_load_base, base, quantized))
            return OpenModel(engine, tuned / "adapter", artifact)
        engine = self._engine(_key(tuned), tuned, partial(_load_tuned, base, tuned))
        return OpenModel(engine, None, artifact)

    def unload(self, folders: PipelineModel) -> None:
        """Free the memory of a model that was deleted; its base stays."""
        tuned = folders.tuned
        if tuned is None:
            return
        with self._lock:
            engine = self._engines.pop(_key(tuned), None)
            others = list(self._engines.values())
        if engine is not None:
            engine.close()
        for other in others:
            other.unload_adapter(tuned / "adapter")

    def close(self) -> None:
        """Close all engines; what they have not answered fails."""
        with self._lock:
            engines = list(self._engines.values())
            self._engines.clear()
        for engine in engines:
            engine.close()

    def states(self) -> dict[str, EngineState]:
        """{name of an engine: what it is doing}."""
        with self._lock:
            return {engine.name: engine.state for engine in self._engines.values()}

    def _engine(self, key: str, artifact: Path, load: Callable[[], tuple[Any, Any]]) -> Engine:
        with self._lock:
            engine = self._engines.get(key)
            if engine is None or engine.is_closed:
                self._engines.pop(key, None)
                self._free(weight_bytes(artifact))
                engine = Engine(
                    partial(_logged, load, key.removesuffix("@")),
                    name=artifact.name,
                    rows=self._rows,
                    most_adapters=self._most_adapters,
                )
                self._engines[key] = engine
            self._engines.move_to_end(key)
            return engine

    def _free(self, needed: int) -> None:
        """Close idle engines until a model of this many bytes fits."""
        while (self._engines or self._shared()) and _unused_bytes() < needed * _SPARE:
            idle = next((key for key, engine in self._engines.items() if not engine.busy), None)
            if idle is None:
                raise BusyError(
                    f"the memory does not suffice for one more model of {needed / 2**30:.1f} GiB "
                    "beside what runs now. Send the request again later."
                )
            self._engines.pop(idle).close()


def _unused_bytes() -> int:
    """Free memory of the models' device, in bytes."""
    if not has_cuda():
        return available_bytes()
    import torch

    held = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0] + held)


def _key(artifact: Path, *, quantized: bool = False) -> str:
    """Equal for artifacts of the same weights: jobs and names share one engine for a base."""
    if has_adapter(artifact) and not (artifact / "model").exists():
        return str(artifact)
    where, revision = locate(artifact)
    return f"{where}@{revision or ''}{' in 4 bits' if quantized else ''}"


def weight_bytes(folder: Path) -> int:
    """Bytes of a model's weights on disk; 0 where they are not on this machine."""
    path = Path(locate(folder)[0])
    if not path.is_dir():
        return 0
    return sum(file.stat().st_size for file in path.iterdir() if file.suffix in _SUFFIXES)


def _logged(load: Callable[[], tuple[Any, Any]], key: str) -> tuple[Any, Any]:
    """What `load` returns; the log says when it begins and how long it took.

    transformers builds a model under settings of the whole process, such as the device of new
    tensors, so that two models that load at once would be left without weights.
    """
    with _loading:
        log.info("loading the model %s", key)
        begun = time.monotonic()
        loaded = load()
    log.info("the model %s is ready after %.1f s", key, time.monotonic() - begun)
    return loaded


def _load_base(base: Path, quantized_as: Path | None = None) -> tuple[Any, Any]:
    quantization = trained_quantization(quantized_as) if quantized_as is not None else None
    model = load_model(base, quantization=quantization)
    return use_native_precision(model), load_tokenizer(base)


def _load_tuned(base: Path, tuned: Path) -> tuple[Any, Any]:
    model = load_trained(tuned, base, as_trained=True)
    return merged_to_answer(use_native_precision(model)), load_tokenizer(tuned)
