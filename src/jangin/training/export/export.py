"""Export a trained model as PEFT adapter, merged weights or GGUF, verified against the original.

Shapes: T tokens of a conversation, A tokens of its answer, V vocabulary.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoTokenizer

from jangin.core.errors import ExportError, MachineError, counted
from jangin.core.events import Progress
from jangin.core.records import Message
from jangin.core.store import copy_mode, disk_errors
from jangin.documents.passages import PROMPT_FILE, PassagePrompt
from jangin.inference.generate import Generation, answers, stop_tokens
from jangin.inference.served_weights import merge_adapter
from jangin.models.forward.likelihood import next_token_log_probs
from jangin.models.loading import (
    REMOTE_CODE,
    class_of,
    load_model,
    load_tokenizer,
    load_trained,
    locate,
    model_class,
    model_without_weights,
    read_config,
    runs_remote_code,
    without_progress_bars,
)
from jangin.models.model_card import license_of, model_card
from jangin.models.tokens.chat_template import render_prompt
from jangin.models.tokens.rendering import render_texts
from jangin.training.export.gguf_export import Quantization, plan_gguf, replace_by_gguf

# How an exported model is run with transformers, vLLM and Ollama: a section of its card.


Form = Literal["adapter", "merged", "gguf"]
AUTO = "AutoModelForCausalLM"

_QUESTION = "..."


@dataclass(frozen=True, slots=True)
class Loading:
    """How transformers loads the weights."""

    model: str = AUTO
    """Its class."""
    runs_code: bool = False
    """Whether the model brings Python code of its own."""

    def call(self, path: str, model: str) -> str:
        """Python that loads a folder or hub id with a class."""
        trust = ", trust_remote_code=True" if self.runs_code else ""
        return f'{model}.from_pretrained("{path}"{trust})'


PLAIN = Loading()


def run_hints(form: Form, name: str, base: str | Path = "", loading: Loading = PLAIN) -> str:
    """Markdown with one block per program.

    `name` is that of the export's folder, `base` an adapter's base: an id of the hub, or its folder
    on this machine.
    """
    blocks = _blocks(form, name, base, loading)
    return "\n\n".join((*blocks, *(_base_note(base) if isinstance(base, Path) else ())))


def _blocks(form: Form, name: str, base: str | Path, loading: Loading) -> list[str]:
    if form == "gguf":
        run = f"ollama create {name} -f Modelfile\nollama run {name}"
        server = f"llama-server -m {name}.gguf --jinja"
        return [
            f"Ollama:\n\n```sh\n{run}\n```",
            f"llama.cpp:\n\n```sh\n{server}\n```",
            "transformers and vLLM run the model that `jangin merge FOLDER` writes.",
        ]
    return [
        f"transformers:\n\n```python\n{_transformers(form, name, base, loading)}\n```",
        f"vLLM:\n\n```sh\n{_vllm(form, name, base, loading)}\n```",
        "Ollama reads GGUF: export with `jangin merge FOLDER --format gguf --quantize q8_0`, which "
        "writes a Modelfile as well.",
    ]


def _transformers(form: Form, name: str, base: str | Path, loading: Loading) -> str:
    if form == "merged":
        imports = [f"from transformers import {loading.model}, AutoTokenizer"]
        model = loading.call(name, loading.model)
    elif loading.model == AUTO:
        peft_model = "AutoPeftModelForCausalLM"
        imports = ["from transformers import AutoTokenizer", f"from peft import {peft_model}"]
        model = loading.call(name, peft_model)
    else:  # PEFT's own class loads only what `AutoModelForCausalLM` knows
        imports = [f"from transformers import AutoTokenizer, {loading.model}"]
        imports += ["from peft import PeftModel"]
        model = f'PeftModel.from_pretrained({loading.call(str(base), loading.model)}, "{name}")'
    return "\n".join(
        (
            *imports,
            "",
            f"model = {model}",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'messages = [{{"role": "user", "content": "{_QUESTION}"}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
            "answer = model.generate(**inputs, do_sample=False, max_new_tokens=256)",
            'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:]))',
        )
    )


def _vllm(form: Form, name: str, base: str | Path, loading: Loading) -> str:
    trust = " --trust-remote-code" if loading.runs_code else ""
    if form == "adapter":
        return f"vllm serve {base} --enable-lora --lora-modules {name}={name}{trust}"
    return f"vllm serve {name}{trust}"


def _passages_note(reads: PassagePrompt) -> str:
    """How a model is asked that was trained with passages."""
    return (
        f"This model was trained with {counted(reads.count, 'passage')} of the documents before "
        f"each question, and is to be asked so: by the template in `{PROMPT_FILE}`, the best "
        "passage last, an empty line between two. Without them it may know nothing of its subject."
    )


def _base_note(base: Path) -> list[str]:
    return [
        f"The base model of this adapter is the folder `{base}` of the machine that exported it. "
        "Elsewhere, copy that folder as well and write its new path into `adapter_config.json` as "
        "`base_model_name_or_path`."
    ]


Conversation = Sequence[Message]

LARGEST_DIVERGENCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Largest KL divergence in nats, by dtype of the exported weights: bf16 rounds more than fp32."""
_HEADROOM = 1.2
"""Of the weights' memory, for activations and the cache of a few short answers."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Result of comparing an export with the trained model."""

    canaries: int
    answer_tokens: int
    largest_divergence: float
    """Largest KL of next-token distributions over all answer tokens, in nats."""
    bound: float
    """Largest divergence allowed, in nats."""
    answers: list[tuple[int, ...]] = field(default_factory=list, repr=False)
    """Token ids of the trained model's answers."""

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
    crash: str = ""
    """Why llama.cpp could not compare the GGUF file with the model; empty where it did."""


@dataclass(frozen=True, slots=True)
class _Behaviour:
    """What a model does with the canaries, in their order."""

    answers: list[tuple[int, ...]]
    """Token ids of its greedy answers."""
    texts: list[str]
    log_probs: list[torch.Tensor]
    """(A, V) of the next tokens along a given answer, on the CPU."""
    stops: frozenset[int]


def export_model(
    base_folder: Path,
    model_folder: Path,
    out: Path,
    form: Form,
    record: Mapping[str, Any],
    canaries: Sequence[Conversation],
    max_divergence: float | None = None,
    quantize: Quantization | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write `out`, load it again and compare it with the trained model on the canary prompts.

    `quantize` is for GGUF; None stores the weights as they are. A merged model is stored in the
    dtype of the base, or in fp32 where rounding to that dtype would change its answers. `record` is
    what `model_card` takes. On every error, `out` is not created.

    Raises `ExportError` where the export differs, is impossible for this model, or `out` exists;
    `MachineError` where llama.cpp's converter is not installed or fails; `StoreError` on a full
    disk.
    """
    refuse_existing(out)
    has_adapter = (model_folder / "adapter" / "adapter_config.json").exists()
    _refuse_impossible(form, canaries, has_adapter=has_adapter)
    gguf = plan_gguf(base_folder, quantize) if form == "gguf" else None
    _refuse_quantized(base_folder)
    progress = progress or Progress()
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(partial):
            with _bar(progress, f"write the {form} model", 1) as advance:
                _write(base_folder, model_folder, partial, form, exact=gguf is not None)
                advance(1)
            widens = form == "merged" and has_adapter
            folders = base_folder, model_folder, partial
            parity = _verified(*folders, canaries, max_divergence, progress, widens=widens)
            dtype = _dtype(base_folder if form == "adapter" else None, partial)
            checked, crash = parity.text(form), ""
            if gguf is not None:
                stored = _dtype(base_folder if has_adapter else None, partial)
                written = replace_by_gguf(partial, out.name, gguf, stored, canaries, parity.answers)
                checked, crash = f"{checked}\n\n{written.about}", written.crash
            card = partial / "README.md"
            base = _base(base_folder) if form == "adapter" else ""
            loading = Loading(model_class(base_folder).__name__, runs_remote_code(base_folder))
            sections = {"Use": run_hints(form, out.name, base, loading)}
            reads = PassagePrompt.read(model_folder)
            if reads is not None:
                shutil.copy(model_folder / PROMPT_FILE, partial)
                sections["Passages"] = _passages_note(reads)
            full = {"license": _license(base_folder), **record}
            card.write_text(model_card(full, form, checked, sections), encoding="utf-8")
            copy_mode(card, partial)
            partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ExportReport(out, form, str(dtype).removeprefix("torch."), _size(out), parity, crash)


def _write(base: Path, model: Path, target: Path, form: Form, *, exact: bool) -> None:
    """Write the folder of an export, still without its card; `exact` as in `_merge`."""
    target.mkdir(parents=True)
    if form == "adapter":
        shutil.copytree(model / "adapter", target, dirs_exist_ok=True)
        _name_base(base, target)
    elif (model / "adapter" / "adapter_config.json").exists():
        _merge(base, model, target, exact=exact)
    else:
        shutil.copytree(model / "model", target, dirs_exist_ok=True)


def _refuse_impossible(form: Form, canaries: Sequence[Conversation], *, has_adapter: bool) -> None:
    if not canaries:
        raise ExportError(
            "an export is verified on canary prompts, and there are none. Give at least 1 question."
        )
    if form == "adapter" and not has_adapter:
        raise ExportError(
            "this model was trained with `method: full` and has no adapter. Export it as `merged`."
        )


def _verified(
    base_folder: Path,
    model_folder: Path,
    export: Path,
    canaries: Sequence[Conversation],
    max_divergence: float | None,
    progress: Progress,
    *,
    widens: bool,
) -> Parity:
    """`verify_export`; with `widens` a merge that answers otherwise is repeated in fp32.

    Rounded to 16 bits, small changes of large weights are lost.
    """
    try:
        return verify_export(base_folder, model_folder, export, canaries, max_divergence, progress)
    except _AnswersDifferError:
        if not widens:
            raise
    progress.message("rounding to the base's type would change its answers; it is stored in fp32")
    _merge(base_folder, model_folder, export, exact=True)
    return verify_export(base_folder, model_folder, export, canaries, max_divergence, progress)


def refuse_existing(out: Path) -> None:
    """Raise `ExportError` where the folder to create exists."""
    if out.exists():
        raise ExportError(f"{out} exists already. Delete it, or export to another folder.")


def _size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def verify_export(
    base_folder: Path,
    model_folder: Path,
    export: Path,
    canaries: Sequence[Conversation],
    max_divergence: float | None = None,
    progress: Progress | None = None,
) -> Parity:
    """Compare an exported folder with the trained model on the canary prompts.

    Both models compute in fp32, so that only the exported weights can differ; one of them is in
    memory at a time.

    Raises `ExportError` where the export cannot be loaded, or its chat template, tokens, stop
    tokens, next-token distributions or greedy answers differ.
    """
    adapter = (export / "adapter_config.json").exists()
    dtype = _dtype(base_folder if adapter else None, export)
    bound = LARGEST_DIVERGENCE[dtype] if max_divergence is None else max_divergence
    with _loading():
        options = {"local_files_only": True, REMOTE_CODE: runs_remote_code(base_folder)}
        tokenizer = AutoTokenizer.from_pretrained(export, **options)
    original = load_tokenizer(model_folder)
    _compare_prompts(original, tokenizer, canaries)
    device, progress = _device(base_folder), progress or Progress()
    with _bar(progress, "answers of the trained model", 2 * len(canaries)) as advance:
        model = load_trained(model_folder, base_folder, torch.float32, device)
        trained = _behaviour(model, original, canaries, advance)
        del model
    with _bar(progress, "answers of the exported model", 2 * len(canaries)) as advance:
        with _loading():
            model = (
                load_model(base_folder, torch.float32, export, device=device)
                if adapter
                else _load_folder(export, device, trusted=runs_remote_code(base_folder))
            )
        exported = _behaviour(model, tokenizer, canaries, advance, trained.answers)
    if trained.stops != exported.stops:
        raise _different(
            f"it stops at tokens {sorted(exported.stops)} instead of {sorted(trained.stops)}"
        )
    return _compare_answers(trained, exported, bound)


@contextmanager
def _loading() -> Iterator[None]:
    """Raises `ExportError` where the export cannot be loaded."""
    try:
        yield
    except (OSError, ValueError, KeyError, MachineError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _different(f"it cannot be loaded: {first}") from error


def _load_folder(folder: Path, device: str, *, trusted: bool) -> Any:
    options = {"local_files_only": True, REMOTE_CODE: trusted}
    config = AutoConfig.from_pretrained(folder, **options)
    with without_progress_bars():
        model: Any = class_of(config, str(folder), trusted=trusted).from_pretrained(
            folder, dtype=torch.float32, **options
        )
    return model.to(device).eval()


def _device(base_folder: Path) -> str:
    """The GPU where it has room for one fp32 model, else the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    model = model_without_weights(base_folder)
    needed = 4 * sum(parameter.numel() for parameter in model.parameters()) * _HEADROOM
    torch.cuda.empty_cache()
    return "cuda" if needed <= torch.cuda.mem_get_info()[0] else "cpu"


def _behaviour(
    model: Any,
    tokenizer: Any,
    canaries: Sequence[Conversation],
    advance: Callable[[int], None],
    given: Sequence[Sequence[int]] | None = None,
) -> _Behaviour:
    """What one model does with the canaries.

    `advance` counts their answers, then their distributions, which are those over the
    answers `given`, by default over the model's own.
    """
    ended = dict[int, Generation]()
    for step in answers(model, tokenizer, canaries, max_new_tokens=64, batch_size=64):
        ended |= step
        advance(len(step))
    written = [ended[index] for index in range(len(canaries))]
    own = [answer.token_ids for answer in written]
    log_probs = []
    for canary, answer in zip(canaries, given or own, strict=True):
        ids = torch.tensor([*render_prompt(tokenizer, canary), *answer])
        own_AV = next_token_log_probs(model, ids, last=len(answer), dtype=torch.float64)
        log_probs.append(own_AV.float().cpu())
        advance(1)
    texts = [answer.text for answer in written]
    return _Behaviour(own, texts, log_probs, frozenset(stop_tokens(model, tokenizer)))


@contextmanager
def _bar(progress: Progress, label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of `merge` or `finish`; gives what advances it."""
    bar = progress.start(f"export: {label}", total)
    try:
        yield lambda steps: progress.advance(bar, steps)
    finally:
        progress.stop(bar)


def _compare_prompts(trained: Any, exported: Any, canaries: Sequence[Conversation]) -> None:
    """Both are tokenizers."""
    for position, canary in enumerate(canaries, 1):
        (before,) = render_texts(trained, [canary], ask=True)
        (after,) = render_texts(exported, [canary], ask=True)
        if before != after:
            raise _different(
                f"its chat template renders canary {position} as {after!r} instead of {before!r}"
            )
        ids, again = (render_prompt(side, canary) for side in (trained, exported))
        if ids != again:
            index = _first_difference(ids, again)
            raise _different(
                f"its tokenizer encodes canary {position} differently from token {index + 1} on: "
                f"{again[index : index + 4]} instead of {ids[index : index + 4]}"
            )


def _compare_answers(trained: _Behaviour, exported: _Behaviour, bound: float) -> Parity:
    largest, tokens = 0.0, 0
    for index, answer in enumerate(trained.answers):
        divergence = _divergence(trained.log_probs[index], exported.log_probs[index])
        if not divergence <= bound:  # true for NaN too
            raise _different(
                f"its next-token distributions on canary {index + 1} diverge by {divergence:.2g} "
                f"nats (KL) from the trained model's; {bound:.0e} is allowed",
                _AnswersDifferError,
            )
        again = exported.answers[index]
        if answer != again:
            where = _first_difference(answer, again)
            raise _different(
                f"it answers canary {index + 1} with {exported.texts[index]!r} instead of "
                f"{trained.texts[index]!r}; the answers differ from token {where + 1} on",
                _AnswersDifferError,
            )
        largest, tokens = max(largest, divergence), tokens + len(answer)
    return Parity(len(trained.answers), tokens, largest, bound, trained.answers)


def _divergence(trained_AV: torch.Tensor, exported_AV: torch.Tensor) -> float:
    """Largest KL(trained || exported) in nats over the answer; NaN if any is not finite."""
    first, second = trained_AV.double(), exported_AV.double()
    kl_A = (first.exp() * (first - second)).sum(-1)
    return max(0.0, kl_A.max().item()) if kl_A.isfinite().all() else float("nan")


def _merge(base_folder: Path, model_folder: Path, target: Path, *, exact: bool) -> None:
    """Write base plus adapter to `target`: merged in fp32, stored in the base's dtype.

    If `exact` in fp32, for a GGUF file: rounding to bf16 first would lose what f16 and q8_0 keep.
    """
    dtype = torch.float32 if exact else _dtype(base_folder, target)
    merge_adapter(base_folder, model_folder, target, dtype)


def _base(base_folder: Path) -> str | Path:
    """Id of a base on the hub, or the folder of its weights on this machine."""
    path, revision = locate(base_folder)
    return Path(path).resolve() if revision is None else path


def _name_base(base_folder: Path, adapter: Path) -> None:
    """Write where `AutoPeftModelForCausalLM` finds the base: a hub id and commit, or a path."""
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {
        "base_model_name_or_path": str(_base(base_folder)),
        "revision": locate(base_folder)[1],
    }
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _dtype(base_folder: Path | None, export: Path) -> torch.dtype:
    """Data type of the base's checkpoint, or of the export without a base; else fp32."""
    if base_folder is None:
        config = json.loads((export / "config.json").read_text(encoding="utf-8"))
        dtype = getattr(torch, config.get("dtype") or "float32", None)
    else:
        dtype = read_config(base_folder).dtype
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


class _AnswersDifferError(ExportError):
    """The exported weights answer otherwise than the trained model."""


def _different(what: str, kind: type[ExportError] = ExportError) -> ExportError:
    return kind(
        f"the export differs from the trained model: {what}. It was deleted. Export again, and "
        "check the model's files if the error persists."
    )
