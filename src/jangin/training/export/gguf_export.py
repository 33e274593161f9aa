"""Replace the model in an exported folder by a GGUF file and a Modelfile, and compare the file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoTokenizer

from jangin.core.errors import ExportError, MachineError, counted
from jangin.core.records import Message
from jangin.inference.llama_cpp import (
    GgufModel,
    LlamaCppCrashError,
    check_llama_cpp,
    has_llama_cpp,
    quantize_file,
)
from jangin.models.tokens.chat_template import render_prompt
from jangin.models.tokens.rendering import render_texts
from jangin.training.export.gguf import convert, find_converter
from jangin.training.export.gguf_file import Kind, largest_error, why_not, write_gguf
from jangin.training.export.modelfile import chat_format, modelfile

Quantization = Literal["f32", "bf16", "f16", "q8_0", "q4_k_m"]

_KINDS: dict[torch.dtype, Kind] = {
    torch.float32: "f32",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
}
"""By dtype of the weights, so that nothing is rounded without having been chosen."""
_LARGEST_ERROR = {"f32": 0.0, "f16": 1e-3, "bf16": 5e-3, "q8_0": 1e-2, "q4_k_m": 0.25}
"""Largest difference allowed of a weight read back, as a share of the tensor's largest weight. That
of 4 bits is no rounding error but a tensor under another name or with its rows in another order."""
_LARGEST_CONTEXT = 4096
"""Tokens of a conversation for which llama.cpp and Ollama reserve memory."""


@dataclass(frozen=True, slots=True)
class GgufPlan:
    """How a model will be written as GGUF."""

    kind: Quantization | None
    """None: as the weights are."""
    converter: Path | None
    """llama.cpp's script, for models that jangin does not write itself."""


@dataclass(frozen=True, slots=True)
class WrittenGguf:
    """What the card says about a GGUF file."""

    about: str
    """How it is stored, and what llama.cpp did with it."""
    crash: str = ""
    """Why llama.cpp could not compare it with the model; empty where it did or is missing."""


def plan_gguf(base_folder: Path, kind: Quantization | None) -> GgufPlan:
    """How the base's kind of model is written; called before any work.

    Raises `MachineError` where a package or llama.cpp's converter is missing.
    """
    if kind == "q4_k_m":
        check_llama_cpp()
    if find_spec("gguf") is None:
        raise MachineError(
            "GGUF files are written with a package that is not installed. "
            "Install it with: pip install 'jangin[gguf]'"
        )
    reason = why_not(base_folder / "model")
    if reason is None:
        return GgufPlan(kind, None)
    try:
        return GgufPlan(kind, find_converter())
    except MachineError as error:
        raise MachineError(f"jangin cannot write this model as GGUF: {reason}. {error}") from error


def replace_by_gguf(
    folder: Path,
    name: str,
    plan: GgufPlan,
    dtype: torch.dtype,
    canaries: Sequence[Sequence[Message]],
    answers: Sequence[Sequence[int]],
) -> WrittenGguf:
    """Replace the model in `folder` by NAME.gguf and a Modelfile.

    `answers` are the token ids of the trained model's greedy answers to the canaries. A file that
    was written is kept where llama.cpp crashes while comparing it.

    Raises `ExportError` where the file read back differs, or llama.cpp encodes a canary as other
    tokens; `MachineError` where llama.cpp cannot quantize it.
    """
    target = folder / f"{name}.gguf"
    kind = plan.kind or _KINDS[dtype]
    sentences = [f"Stored as {kind}.", *_store(folder, target, kind, _KINDS[dtype], plan.converter)]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    context = min(_LARGEST_CONTEXT, int(config.get("max_position_embeddings", _LARGEST_CONTEXT)))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    stops = _stops(folder, tokenizer)
    form = chat_format(tokenizer, _added_bos(tokenizer))
    text = modelfile(target.name, form, [str(tokenizer.decode([stop])) for stop in stops], context)
    crash = ""
    if has_llama_cpp():
        try:
            sentences.append(_compare(target, context, tokenizer, stops, canaries, answers))
        except LlamaCppCrashError as error:
            crash = str(error)
            sentences.append(f"It was not compared with the trained model: {crash}")
    else:
        sentences.append(
            "llama.cpp did not run it here; with llama-cpp-python installed, the export is "
            "compared with the trained model."
        )
    for path in folder.iterdir():
        if path != target:
            path.unlink()
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return WrittenGguf(" ".join(sentences), crash)


def _store(
    folder: Path, target: Path, kind: Quantization, floats: Kind, converter: Path | None
) -> list[str]:
    """Write the model in `folder` to `target`; returns what the card says about its weights.

    `floats` is the kind of the file that llama.cpp quantizes.
    """
    quantized = kind == "q4_k_m"
    written = target.with_suffix(".floats.gguf") if quantized else target
    stored: Kind = floats if kind == "q4_k_m" else kind
    if converter is None:
        write_gguf(folder, written, stored, target.stem)
    else:
        convert(converter, folder, written, stored)
    sentence = _read_back(folder, written, stored) if converter is None else ""
    if quantized:
        quantize_file(written, target, kind)
        written.unlink()
        sentence = _read_back(folder, target, kind) if converter is None else ""
    return [sentence] if sentence else []


def _read_back(folder: Path, written: Path, kind: Quantization) -> str:
    """How far the file's weights are from the model's, as a sentence for the card.

    Raises `ExportError` where they are further away than this kind rounds.
    """
    error, tensors = largest_error(folder, written)
    bound = _LARGEST_ERROR[kind]
    if not error <= bound:  # true for NaN too
        raise ExportError(
            f"the GGUF file differs from the model: a weight is off by {error:.2g} of its tensor's "
            f"largest, {bound:.0e} is allowed. It was deleted. Export again, and check the disk if "
            "the error persists."
        )
    return (
        f"Its {tensors} tensors, read back, differ by at most {error:.1e} of a tensor's largest "
        "weight."
    )


def _stops(folder: Path, tokenizer: Any) -> list[int]:
    path = folder / "generation_config.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    listed = content.get("eos_token_id", tokenizer.eos_token_id)
    return listed if isinstance(listed, list) else [] if listed is None else [listed]


def _added_bos(tokenizer: Any) -> str:
    """Text of the BOS that the tokenizer adds, and with it llama.cpp; else empty."""
    bos = tokenizer.bos_token_id
    return tokenizer.bos_token if bos is not None and tokenizer("").input_ids[:1] == [bos] else ""


def _compare(
    file: Path,
    context: int,
    tokenizer: Any,
    stops: Sequence[int],
    canaries: Sequence[Sequence[Message]],
    answers: Sequence[Sequence[int]],
) -> str:
    """What llama.cpp does with the canaries, as a sentence for the card."""
    texts = render_texts(tokenizer, canaries, ask=True)
    bos = _added_bos(tokenizer)
    equal = 0
    with GgufModel(file, context) as model:
        for position, (canary, text, answer) in enumerate(
            zip(canaries, texts, answers, strict=True), 1
        ):
            prompt = render_prompt(tokenizer, canary)
            added = [tokenizer.bos_token_id] if bos and not text.startswith(bos) else []
            ids = [*added, *model.tokenize(text)]
            if ids != prompt:
                raise ExportError(
                    f"llama.cpp encodes canary {position} as {ids[:8]}... instead of "
                    f"{prompt[:8]}... It was deleted. Export as `merged`, and serve it with "
                    "transformers or vLLM."
                )
            equal += model.answer(prompt, len(answer), stops) == list(answer)
    return (
        f"llama.cpp encoded {len(answers)} canary prompts as the same tokens, and gave "
        f"{equal} of {counted(len(answers), 'greedy answer')} token by token as the trained model."
    )
