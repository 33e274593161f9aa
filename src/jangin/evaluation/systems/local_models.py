"""The local models of one evaluation, whose weights are loaded one set at a time.

A base and the adapters that were trained on it share one copy of the base's weights.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Folders = tuple[Path, Path | None]
"""(folder of the base, folder of what was trained on it)."""

OpenedModel = tuple[Any, Any]
"""(model, tokenizer), ready to generate."""


@dataclass(slots=True)
class LocalModels:
    """Loads each model when it is used, after it has dropped the one before."""

    folders: Mapping[str, Folders]
    """By name of the model."""
    notify: Callable[[str], None]
    _weights: Path | None = None
    """Folder of the weights that are loaded."""
    _model: Any = None
    _stops: dict[str, Any] = field(default_factory=dict)
    """Generation config by name of the model."""
    _merged: str = ""
    """The model whose adapter the loaded weights contain, if one does. It is not taken out again,
    which would leave rounding behind: for another model the weights are read again."""
    _said: set[str] = field(default_factory=set)
    """Lines that were printed, which are not repeated."""

    def say(self, lines: Iterable[str]) -> None:
        """Print each line that was not printed before: all workers send the same ones."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self.notify(line)

    def use(self, name: str) -> OpenedModel:
        """(model, tokenizer), ready to generate until another model is used.

        Do not keep the model: the next `use` may turn its adapter off, or drop it.

        Raises:
            MachineError: the weights cannot be read, or bitsandbytes is missing.

        """
        from jangin.models.loading import base_model, has_adapter, load_tokenizer

        base, tuned = self.folders[name]
        adapter = tuned / "adapter" if tuned is not None and has_adapter(tuned) else None
        weights = base if tuned is None or adapter is not None else tuned
        if self._weights != weights or self._merged not in ("", name):
            self.drop()
            self._load(weights)
        self._switch(name, adapter)
        base_model(self._model).generation_config = self._stops[name]
        self._describe(name)
        return self._model, load_tokenizer(base if tuned is None else tuned)

    def drop(self) -> None:
        """Free the memory of the weights that are loaded."""
        from jangin.inference.plain_decoder import release_memory

        self._model, self._weights, self._merged = None, None, ""
        self._stops.clear()
        release_memory()

    def _load(self, weights: Path) -> None:
        from jangin.models.loading import load_model, use_native_precision

        quantization = self._quantization(weights)
        self._model = use_native_precision(load_model(weights, quantization=quantization))
        self._weights = weights
        if quantization is not None:
            line = (
                "evaluate: models on this base answer with its weights in 4 bits, in which an "
                "adapter on it was trained."
            )
            self.say([line])

    def _switch(self, name: str, adapter: Path | None) -> None:
        """Activate the adapter of this model and deactivate all others."""
        from transformers import GenerationConfig

        from jangin.models.loading import attach_adapter, base_model, merged_to_answer

        if self._merged:
            return
        plain = base_model(self._model)
        if adapter is None:
            self._stops.setdefault(name, plain.generation_config)
            if plain is not self._model:
                self._model.base_model.disable_adapter_layers()
            return
        if name not in self._stops:
            # The stop tokens it was trained with.
            self._stops[name] = GenerationConfig.from_pretrained(adapter)
            self._stops.setdefault("base", plain.generation_config)
            self._model = attach_adapter(self._model, adapter, name)
        self._model.base_model.enable_adapter_layers()
        self._model.set_adapter(name)
        merged = merged_to_answer(self._model.eval())
        if merged is not self._model:
            self._model, self._merged = merged, name

    def _quantization(self, weights: Path) -> Any:
        """How the weights were quantized when an adapter on them was trained; else None."""
        from jangin.models.loading import trained_quantization

        adapters = [tuned for base, tuned in self.folders.values() if base == weights and tuned]
        quantizations = (trained_quantization(folder) for folder in adapters)
        return next((each for each in quantizations if each is not None), None)

    def _describe(self, name: str) -> None:
        from jangin.inference.decoder import decoding_method

        sentence = decoding_method(self._model).sentence
        if sentence:
            self.say([f"evaluate: {name}: {sentence}."])
