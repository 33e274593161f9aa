"""Many LoRA adapters on one copy of their base: every token passes through its own adapter.

PEFT takes one adapter for a row of a batch, while a step of continuous batching is one packed row
of many answers. So the weights are read from PEFT's files and added by hooks on the base's linear
layers, in the data types and the order of operations of PEFT's own LoRA layer:
W x + B (A x) * alpha / r.

Shapes: T tokens of a pass, I and O features in and out of a layer, K rank.
"""

import json
import math
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from jangin.core.errors import MachineError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "modules_to_save": "fully trained modules",
    "target_parameters": "adapters of parameters",
    "trainable_token_indices": "trained tokens",
    "alora_invocation_tokens": "an activated adapter",
    "megatron_config": "a Megatron layout",
}
"""Settings of PEFT that add more than a low-rank product to a linear layer."""


def why_not_shared(adapter: Path) -> str:
    """Why this PEFT folder cannot share its base with others; empty if it can."""
    config = _config(adapter)
    if config.get("peft_type") != "LORA":
        return f"it is of the type {config.get('peft_type')}"
    if config.get("bias", "none") != "none":
        return "it trains biases"
    held = [what for key, what in _UNSUPPORTED.items() if config.get(key)]
    return f"it has {held[0]}" if held else ""


@dataclass(frozen=True, slots=True)
class LowRank:
    """The adapter of one linear layer."""

    down_KI: torch.Tensor
    up_OK: torch.Tensor
    scaling: float


@dataclass(slots=True)
class LoadedAdapter:
    """One adapter in memory."""

    layers: dict[str, LowRank]
    """By the name of the layer in the base."""

    @property
    def bytes(self) -> int:
        """Of its weights."""
        pairs = ((layer.down_KI, layer.up_OK) for layer in self.layers.values())
        return sum(part.numel() * part.element_size() for pair in pairs for part in pair)


@dataclass(slots=True)
class Routing:
    """Which adapter every token of a pass goes through."""

    adapters: list[tuple[str | None, int]]
    """(adapter, tokens) of each answer, in order."""
    device: torch.device
    _indices: dict[int, list[tuple[str, torch.Tensor | None]]] = field(default_factory=dict)

    def groups(self, tokens: int) -> list[tuple[str, torch.Tensor | None]]:
        """[(adapter, indices of its tokens, or None for all)] of a layer that sees `tokens`.

        The last layer's feed-forward network may see the last token of each answer only.
        """
        if tokens not in self._indices:
            names = list(dict.fromkeys(name for name, _ in self.adapters))
            if len(names) == 1:
                groups: list[tuple[str, torch.Tensor | None]] = [
                    (name, None) for name in names if name is not None
                ]
            else:
                groups = list(self._split(names, tokens))
            self._indices[tokens] = groups
        return self._indices[tokens]

    def _split(
        self, names: Sequence[str | None], tokens: int
    ) -> Iterator[tuple[str, torch.Tensor | None]]:
        whole = sum(count for _, count in self.adapters)
        own = [name for name, count in self.adapters for _ in range(count)]
        if tokens != whole:
            own = [name for name, _ in self.adapters]
        for name in names:
            if name is not None:
                indices = [index for index, other in enumerate(own) if other == name]
                yield name, torch.tensor(indices, device=self.device)


class AdapterBank:
    """Adapters of one base, loaded when they are needed; the least recently used leave first."""

    def __init__(self, base: Any, most: int = 64) -> None:
        """`base`: a transformers model. At most `most` stay loaded, and those in use."""
        self.base = base
        self.most = most
        self.loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._modules: dict[str, Any] = {
            name: module
            for name, module in base.named_modules()
            if isinstance(module, torch.nn.Linear) or hasattr(module, "in_features")
        }
        self._hooks: dict[str, Any] = {}
        self._routing: Routing | None = None
        self._device = next(base.parameters()).device

    def load(self, name: str, in_use: Sequence[str] = ()) -> None:
        """Make the PEFT folder `name` usable; drops others beyond the limit but those `in_use`.

        Raises:
            MachineError: its files are missing or do not fit the base.

        """
        if name not in self.loaded:
            adapter = self._read(Path(name))
            for layer in adapter.layers:
                self._hook(layer)
            self.loaded[name] = adapter
        self.loaded.move_to_end(name)
        kept = {name, *in_use}
        for other in [other for other in self.loaded if other not in kept]:
            if len(self.loaded) <= self.most:
                break
            self.unload(other)

    def unload(self, name: str) -> None:
        """Drop an adapter; no effect on one that is not loaded."""
        self.loaded.pop(name, None)
        needed = {layer for adapter in self.loaded.values() for layer in adapter.layers}
        for layer in [layer for layer in self._hooks if layer not in needed]:
            self._hooks.pop(layer).remove()

    def route(self, adapters: Sequence[str | None], tokens: Sequence[int]) -> None:
        """Adapter and number of tokens of each answer, in the order of the next forward pass."""
        pairs = list(zip(adapters, tokens, strict=True))
        used = any(name is not None for name in adapters)
        self._routing = Routing(pairs, self._device) if used else None

    @contextmanager
    def without(self) -> Iterator[None]:
        """Context in which tokens pass through the base alone."""
        before, self._routing = self._routing, None
        try:
            yield
        finally:
            self._routing = before

    def _read(self, folder: Path) -> LoadedAdapter:
        config = _config(folder)
        try:
            weights = load_file(folder / _WEIGHTS, device=str(self._device))
        except (OSError, ValueError) as error:
            raise MachineError(
                f"the adapter {folder} cannot be read: {error}. Train or import it again."
            ) from error
        names = {
            key.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            for key in weights
            if key.endswith(".lora_A.weight")
        }
        layers = {}
        for name in sorted(names):
            down_KI = weights[f"{_PREFIX}{name}.lora_A.weight"]
            up_OK = weights[f"{_PREFIX}{name}.lora_B.weight"]
            if name not in self._modules:
                raise MachineError(
                    f"the adapter {folder} changes the layer {name}, which its base does not "
                    "have. Train it again on this base."
                )
            layers[name] = LowRank(
                # PEFT computes half-precision adapters in fp32.
                down_KI.float(),
                up_OK.float(),
                _scaling(config, name, len(down_KI)),
            )
        if not layers:
            raise MachineError(f"the adapter {folder} has no LoRA weights. Train it again.")
        return LoadedAdapter(layers)

    def _hook(self, layer: str) -> None:
        if layer in self._hooks:
            return
        bank = weakref.proxy(self)

        def add(_module: Any, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> Any:
            return bank.added(layer, inputs[0], out)

        self._hooks[layer] = self._modules[layer].register_forward_hook(add)

    def added(self, layer: str, x_XI: torch.Tensor, out_XO: torch.Tensor) -> torch.Tensor:
        """The output of a linear layer with what the adapters of its tokens add."""
        routing = self._routing
        if routing is None:
            return out_XO
        x_TI, out_TO = x_XI.reshape(-1, x_XI.shape[-1]), out_XO.reshape(-1, out_XO.shape[-1])
        for name, indices in routing.groups(len(x_TI)):
            low = self.loaded[name].layers.get(layer)
            if low is None:
                continue
            own_TI = x_TI if indices is None else x_TI.index_select(0, indices)
            own_TO = out_TO if indices is None else out_TO.index_select(0, indices)
            delta_TO = linear(linear(own_TI.to(low.down_KI.dtype), low.down_KI), low.up_OK)
            sum_TO = (own_TO + delta_TO * low.scaling).to(out_TO.dtype)
            out_TO = sum_TO if indices is None else out_TO.index_copy(0, indices, sum_TO)
        return out_TO.view_as(out_XO)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MachineError(
            f"the adapter {folder} cannot be read: {error}. Train or import it again."
        ) from error
    return config


def _scaling(config: dict[str, Any], layer: str, rank: int) -> float:
    """Alpha / r, or alpha / sqrt(r) with rank stabilisation, as PEFT finds them for a layer."""
    alphas: dict[str, float] = config.get("alpha_pattern") or {}
    own = [alpha for pattern, alpha in alphas.items() if layer.endswith(pattern)]
    alpha = float(own[0] if own else config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
