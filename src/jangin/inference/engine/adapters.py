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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from jangin.core.errors import MachineError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_POWER_OF_TWO = 0.5
"""Mantissa of such numbers as `math.frexp` has it."""
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
    """1 where it is a power of two: `up_OK` then includes it, which rounds nothing."""

    @classmethod
    def of(cls, down_KI: torch.Tensor, up_OK: torch.Tensor, scaling: float) -> "LowRank":
        """With the scaling in the weights where that is exact."""
        if math.frexp(scaling)[0] == _POWER_OF_TWO:
            return cls(down_KI, up_OK * scaling, 1.0)
        return cls(down_KI, up_OK, scaling)

    def apply(self, x_XI: torch.Tensor) -> torch.Tensor:
        """What is added to the output of the layer."""
        delta_XO = linear(linear(x_XI.to(self.down_KI.dtype), self.down_KI), self.up_OK)
        return delta_XO if self.scaling == 1 else delta_XO * self.scaling


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


@dataclass(frozen=True, slots=True)
class Grouped:
    """Tokens of a pass by their adapter."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Tokens of each."""
    indices_T: torch.Tensor | None
    """Those of the first adapter, then those of the second, ...; None for all, in order."""


@dataclass(slots=True)
class Routing:
    """Which adapter every token of a pass goes through."""

    adapters: list[tuple[str | None, int]]
    """(adapter, tokens) of each answer, in order."""
    device: torch.device
    _grouped: dict[tuple[int, frozenset[str]], Grouped] = field(default_factory=dict)

    def grouped(self, tokens: int, changing: frozenset[str]) -> Grouped:
        """The tokens of those adapters that are `changing`, for a layer that sees `tokens`.

        The last layer's feed-forward network may see the last token of each answer only.
        """
        key = tokens, changing
        if key not in self._grouped:
            self._grouped[key] = self._group(tokens, changing)
        return self._grouped[key]

    def _group(self, tokens: int, changing: frozenset[str]) -> Grouped:
        whole = sum(count for _, count in self.adapters)
        own = [name for name, count in self.adapters for _ in range(count)]
        if tokens != whole and len({name for name, _ in self.adapters}) > 1:
            own = [name for name, _ in self.adapters]
        names = [name for name in dict.fromkeys(own) if name is not None and name in changing]
        if len(names) == 1 and len(set(own)) == 1:
            return Grouped((names[0],), (tokens,), None)
        places = [[at for at, other in enumerate(own) if other == name] for name in names]
        indices = [at for each in places for at in each]
        sizes = tuple(len(each) for each in places)
        return Grouped(tuple(names), sizes, torch.tensor(indices, device=self.device))


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
        self._changed_by: dict[str, frozenset[str]] = {}
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
            self._changed_by.clear()
        self.loaded.move_to_end(name)
        kept = {name, *in_use}
        for other in [other for other in self.loaded if other not in kept]:
            if len(self.loaded) <= self.most:
                break
            self.unload(other)

    def unload(self, name: str) -> None:
        """Drop an adapter; no effect on one that is not loaded."""
        self.loaded.pop(name, None)
        self._changed_by.clear()
        needed = {layer for adapter in self.loaded.values() for layer in adapter.layers}
        for layer in [layer for layer in self._hooks if layer not in needed]:
            self._hooks.pop(layer).remove()

    def route(self, adapters: Sequence[str | None], tokens: Sequence[int]) -> None:
        """Adapter and number of tokens of each answer, in the order of the next forward pass."""
        pairs = list(zip(adapters, tokens, strict=True))
        used = any(name is not None for name in adapters)
        self._routing = Routing(pairs, self._device) if used else None

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
            layers[name] = LowRank.of(
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
        features = x_XI.shape[-1]
        group = routing.grouped(x_XI.numel() // features, self._changing(layer))
        if not group.names:
            return out_XO
        if group.indices_T is None:
            delta_XO = self.loaded[group.names[0]].layers[layer].apply(x_XI)
            # In place: the layer has just made its output, and nothing else holds it.
            if delta_XO.dtype == out_XO.dtype:
                return out_XO.add_(delta_XO)
            return (out_XO + delta_XO).to(out_XO.dtype)
        lows = [self.loaded[name].layers[layer] for name in group.names]
        x_TI, out_TO = x_XI.reshape(-1, features), out_XO.reshape(-1, out_XO.shape[-1])
        parts = x_TI.index_select(0, group.indices_T).split(group.sizes)  # type: ignore[no-untyped-call]  # untyped in torch
        deltas = [low.apply(part_TI) for part_TI, low in zip(parts, lows, strict=True)]
        own_TO = out_TO.index_select(0, group.indices_T)
        out_TO.index_copy_(0, group.indices_T, (own_TO + torch.cat(deltas)).to(out_TO.dtype))
        return out_TO.view_as(out_XO)

    def _changing(self, layer: str) -> frozenset[str]:
        """The loaded adapters that change a layer."""
        if layer not in self._changed_by:
            names = (name for name, each in self.loaded.items() if layer in each.layers)
            self._changed_by[layer] = frozenset(names)
        return self._changed_by[layer]


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
