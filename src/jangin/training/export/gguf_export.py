"""Replace the model in an exported folder by a GGUF file and a Modelfile, and compare the file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer

from jangin.core.errors import ExportError, JanginError, MachineError, counted
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

# Modelfile with which Ollama serves a GGUF file in the chat format that the model was trained on.
#
# The format is found by rendering probes with the tokenizer's own template, so that every template
# which treats turns alike can be written in Ollama's language (Go's text/template).


_SYSTEM, _ASK, _REPLY, _AGAIN = "Qsystem", "Qfirst", "Qreply", "Qsecond"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The text around the messages of a conversation that ends with a question."""

    head: str
    """Before the first question, where there is no system message."""
    system_head: str | None
    """Before a system message; None where the template refuses one."""
    system_tail: str
    """Between the system message and the first question."""
    after_question: str
    after_answer: str
    """Between an answer and the next question."""

    def go_template(self) -> str:
        """The format in Go's text/template, with Ollama's fields."""
        head = self.head
        if self.system_head is not None:
            system = f"{self.system_head}{{{{ .System }}}}{self.system_tail}"
            head = f"{{{{ if .System }}}}{system}{{{{ else }}}}{self.head}{{{{ end }}}}"
        return (
            head + "{{ range .Messages }}"
            '{{ if eq .Role "user" }}{{ .Content }}' + self.after_question + "{{ end }}"
            '{{ if eq .Role "assistant" }}{{ .Content }}' + self.after_answer + "{{ end }}"
            "{{ end }}"
        )


def chat_format(tokenizer: Any, bos: str = "") -> ChatFormat | None:
    """The tokenizer's chat format; None where its turns are not all alike.

    `bos`: text of the token that llama.cpp puts before every prompt itself, to be left out.
    """
    plain = _pieces(tokenizer, (_ASK,), bos)
    turns = _pieces(tokenizer, (_ASK, _REPLY, _AGAIN), bos)
    if plain is None or turns is None:
        return None
    head, after_question = plain
    if (turns[0], turns[1], turns[3]) != (head, after_question, after_question):
        return None
    system = _pieces(tokenizer, (_SYSTEM, _ASK), bos)
    if system is not None and system[2] != after_question:
        return None
    system_head, system_tail = system[:2] if system else (None, "")
    return ChatFormat(head, system_head, system_tail, after_question, turns[2])


def modelfile(file: str, form: ChatFormat | None, stops: Sequence[str], context: int) -> str:
    """Text of a Modelfile; without a format Ollama takes the template that the GGUF file holds."""
    lines = [f"FROM ./{file}"]
    if form is not None:
        lines.append(f'TEMPLATE """{form.go_template()}"""')
    lines += [f'PARAMETER stop "{_escaped(stop)}"' for stop in stops if stop.strip()]
    return "\n".join([*lines, "PARAMETER temperature 0", f"PARAMETER num_ctx {context}", ""])


def _pieces(tokenizer: Any, contents: tuple[str, ...], bos: str) -> list[str] | None:
    """The text before, between and after these contents; None where the template refuses them."""
    roles = {_SYSTEM: "system", _REPLY: "assistant"}
    turns = [Message(role=roles.get(each, "user"), content=each) for each in contents]
    try:
        (text,) = render_texts(tokenizer, [turns], ask=True)
    except (TemplateError, JanginError):
        return None
    pieces = []
    rest = text.removeprefix(bos)
    for content in contents:
        before, separator, rest = rest.partition(content)
        if not separator or content in rest:
            return None
        pieces.append(before)
    return None if '"""' in text or "{{" in text else [*pieces, rest]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
