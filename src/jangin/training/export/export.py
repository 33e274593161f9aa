"""Export a trained model as PEFT adapter, merged weights or GGUF, verified against the original.

Shapes: T tokens of a conversation, A tokens of its answer, V vocabulary.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from jangin.core.errors import ExportError
from jangin.core.records import Message
from jangin.core.store import disk_errors
from jangin.inference.generate import generate, stop_tokens
from jangin.models.likelihood import next_token_log_probs
from jangin.models.loading import (
    known_warnings_ignored,
    load_model,
    load_tokenizer,
    load_trained,
    locate,
    without_progress_bars,
)
from jangin.models.model_card import license_of, model_card
from jangin.models.tokens.chat_template import render_prompt
from jangin.models.tokens.rendering import render_texts
from jangin.training.export.gguf import convert, find_converter

Form = Literal["adapter", "merged", "gguf"]
Conversation = Sequence[Message]

LARGEST_DIVERGENCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Largest KL divergence in nats, by dtype of the exported weights: bf16 rounds more than fp32."""
_GGUF_KINDS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
"""Values of `--outtype`. The converter's default would round fp32 weights after the check."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of comparing an export with the trained model."""

    canaries: int
    answer_tokens: int
    largest_divergence: float
    """Largest KL of next-token distributions over all answer tokens, in nats."""
    bound: float
    """Largest divergence allowed, in nats."""

    def text(self, form: Form) -> str:
        """One sentence for the model card."""
        what = "The weights this file was converted from" if form == "gguf" else "This model"
        return (
            f"{what}, loaded again after writing, encoded {self.canaries} canary prompts and "
            f"generated {self.answer_tokens} answer tokens exactly as the trained model; the "
            f"largest KL of next-token distributions was {self.largest_divergence:.1e} nats "
            f"(bound {self.bound:.0e})."
        )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The written export and its comparison with the trained model."""

    folder: Path
    form: Form
    dtype: str
    """Of the exported weights."""
    bytes: int
    parity: Parity


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any


def export_model(
    base_folder: Path,
    model_folder: Path,
    out: Path,
    form: Form,
    record: Mapping[str, Any],
    canaries: Sequence[Conversation],
    max_divergence: float | None = None,
) -> ExportReport:
    """Write `out`, load it again and compare it with the trained model on the canary prompts.

    `record` is what `model_card` takes. On every error, `out` is not created.

    Raises `ExportError` where the export differs, is impossible for this model, or `out` exists;
    `MachineError` where llama.cpp's converter is not installed or fails; `StoreError` on a full
    disk.
    """
    if out.exists():
        raise ExportError(f"{out} exists already. Delete it, or export to another folder.")
    if not canaries:
        raise ExportError(
            "an export is verified on canary prompts, and there are none. Give at least 1 question."
        )
    converter = find_converter() if form == "gguf" else None
    has_adapter = (model_folder / "adapter" / "adapter_config.json").exists()
    if form == "adapter" and not has_adapter:
        raise ExportError(
            "this model was trained with `method: full` and has no adapter. Export it as `merged`."
        )
    _refuse_quantized(base_folder)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(partial):
            partial.mkdir(parents=True)
            if form == "adapter":
                shutil.copytree(model_folder / "adapter", partial, dirs_exist_ok=True)
            elif has_adapter:
                _merge(base_folder, model_folder, partial)
            else:
                shutil.copytree(model_folder / "model", partial, dirs_exist_ok=True)
            dtype = _dtype(base_folder if form == "adapter" else None, partial)
            parity = verify_export(base_folder, model_folder, partial, canaries, max_divergence)
            if converter is not None:
                convert(converter, partial, out.name, _GGUF_KINDS[dtype])
            full = {"license": _license(base_folder), **record}
            (partial / "README.md").write_text(
                model_card(full, form, parity.text(form)), encoding="utf-8"
            )
            partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return ExportReport(out, form, str(dtype).removeprefix("torch."), size, parity)


def verify_export(
    base_folder: Path,
    model_folder: Path,
    export: Path,
    canaries: Sequence[Conversation],
    max_divergence: float | None = None,
) -> Parity:
    """Compare an exported folder with the trained model on the canary prompts.

    Both models compute in fp32, so that only the exported weights can differ.

    Raises `ExportError` where the export cannot be loaded, or its chat template, tokens, stop
    tokens, next-token distributions or greedy answers differ.
    """
    adapter = (export / "adapter_config.json").exists()
    dtype = _dtype(base_folder if adapter else None, export)
    bound = LARGEST_DIVERGENCE[dtype] if max_divergence is None else max_divergence
    try:
        tokenizer = AutoTokenizer.from_pretrained(export, local_files_only=True)
        with without_progress_bars():
            model = (
                load_model(base_folder, torch.float32, export)
                if adapter
                else AutoModelForCausalLM.from_pretrained(
                    export, dtype=torch.float32, local_files_only=True
                )
            )
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _different(f"it cannot be loaded: {first}") from error
    trained = _Loaded(
        load_trained(model_folder, base_folder, torch.float32), load_tokenizer(model_folder)
    )
    exported = _Loaded(model.to(next(trained.model.parameters()).device).eval(), tokenizer)
    _compare_prompts(trained, exported, canaries)
    return _compare_answers(trained, exported, canaries, bound)


def _compare_prompts(trained: _Loaded, exported: _Loaded, canaries: Sequence[Conversation]) -> None:
    for position, canary in enumerate(canaries, 1):
        (before,) = render_texts(trained.tokenizer, [canary], ask=True)
        (after,) = render_texts(exported.tokenizer, [canary], ask=True)
        if before != after:
            raise _different(
                f"its chat template renders canary {position} as {after!r} instead of {before!r}"
            )
        ids, again = (render_prompt(side.tokenizer, canary) for side in (trained, exported))
        if ids != again:
            index = _first_difference(ids, again)
            raise _different(
                f"its tokenizer encodes canary {position} differently from token {index + 1} on: "
                f"{again[index : index + 4]} instead of {ids[index : index + 4]}"
            )
    stops, exported_stops = (
        stop_tokens(side.model, side.tokenizer) for side in (trained, exported)
    )
    if stops != exported_stops:
        raise _different(f"it stops at tokens {sorted(exported_stops)} instead of {sorted(stops)}")


def _compare_answers(
    trained: _Loaded, exported: _Loaded, canaries: Sequence[Conversation], bound: float
) -> Parity:
    before = generate(trained.model, trained.tokenizer, canaries, max_new_tokens=64)
    after = generate(exported.model, exported.tokenizer, canaries, max_new_tokens=64)
    largest, tokens = 0.0, 0
    answers = zip(canaries, before, after, strict=True)
    for position, (canary, answer, again) in enumerate(answers, 1):
        prompt = render_prompt(trained.tokenizer, canary)
        divergence = _divergence(trained.model, exported.model, prompt, answer.token_ids)
        if not divergence <= bound:  # true for NaN too
            raise _different(
                f"its next-token distributions on canary {position} diverge by {divergence:.2g} "
                f"nats (KL) from the trained model's; {bound:.0e} is allowed"
            )
        if answer.token_ids != again.token_ids:
            index = _first_difference(answer.token_ids, again.token_ids)
            raise _different(
                f"it answers canary {position} with {again.text!r} instead of {answer.text!r}; "
                f"the answers differ from token {index + 1} on"
            )
        largest, tokens = max(largest, divergence), tokens + len(answer.token_ids)
    return Parity(len(canaries), tokens, largest, bound)


def _divergence(trained: Any, exported: Any, prompt: list[int], answer: Sequence[int]) -> float:
    """Largest KL(trained || exported) in nats over the answer; NaN if any is not finite."""
    ids_T = torch.tensor([*prompt, *answer])
    first, second = (
        next_token_log_probs(model, ids_T, last=len(answer), dtype=torch.float64)
        for model in (trained, exported)
    )
    kl_A = (first.exp() * (first - second)).sum(-1)
    return max(0.0, kl_A.max().item()) if kl_A.isfinite().all() else float("nan")


def _merge(base_folder: Path, model_folder: Path, target: Path) -> None:
    """Write base plus adapter to `target`: merged in fp32, stored in the base's dtype."""
    dtype = _dtype(base_folder, target)
    model = load_model(base_folder, torch.float32, model_folder / "adapter")
    generation = model.get_base_model().generation_config
    with known_warnings_ignored():
        merged = model.merge_and_unload(safe_merge=True)
    merged.generation_config = generation
    with without_progress_bars():
        merged.to(dtype).save_pretrained(target)
        load_tokenizer(model_folder).save_pretrained(target)


def _dtype(base_folder: Path | None, export: Path) -> torch.dtype:
    """Data type of the base's checkpoint, or of the export without a base; else fp32."""
    path, revision = (str(export), None) if base_folder is None else locate(base_folder)
    dtype = AutoConfig.from_pretrained(path, revision=revision).dtype
    return dtype if dtype in LARGEST_DIVERGENCE else torch.float32


def _refuse_quantized(base_folder: Path) -> None:
    config = json.loads((base_folder / "model" / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ExportError(
            "the base model is quantized, and merging an adapter into quantized weights would "
            "change the model. Set the unquantized model as `models: catalog: base` and train with "
            "`method: {type: qlora}`."
        )


def _license(base_folder: Path) -> str:
    path, _ = locate(base_folder)
    return license_of(Path(path))


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def _different(what: str) -> ExportError:
    return ExportError(
        f"the export differs from the trained model: {what}. It was deleted. Export again, and "
        "check the model's files if the error persists."
    )
