"""Many LoRA adapters on one base: memory, cost of loading one, cost of mixing them in a batch.

    python bench/serving/adapters.py MODEL [--adapters 50] [--rank 16] [--tokens 16]

MODEL is a model folder or a GGUF file. The engine of `jangin serve` answers with each adapter
alone (the first eight: first and second time), then one request for each adapter in one batch, and
as many requests for one adapter. PEFT does the same with `load_adapter` and `set_adapter`, one
adapter at a time, as its packed rows cannot mix adapters; both have the same greedy tokens, or this
exits with 1.
"""

import argparse
import ctypes
import gc
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.engine.engine import Engine
from jangin.inference.engine.requests import EngineRequest
from jangin.models.loading import known_warnings_ignored, without_progress_bars

MIB = 2**20
ALONE = 8
"""Adapters that are asked by themselves."""


def write_base(source: Path, target: Path) -> None:
    with without_progress_bars():
        if source.suffix == ".gguf":
            options: dict[str, Any] = {"gguf_file": source.name}
            config = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(
                source.parent, **options, dtype=torch.float32, quantization_config=config
            )
            tokenizer = AutoTokenizer.from_pretrained(source.parent, **options)
        else:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(source)
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def write_adapters(base: Path, target: Path, count: int, rank: int) -> list[Path]:
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with known_warnings_ignored(), without_progress_bars():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    folders = []
    for seed in range(count):
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.01)
        folders.append(target / str(seed) / "adapter")
        model.save_pretrained(folders[-1])
        model.generation_config.save_pretrained(folders[-1])
        AutoTokenizer.from_pretrained(base).save_pretrained(folders[-1])
    return folders


def resident() -> float:
    """Resident memory in MiB, after freed blocks have gone back to the system."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss / MIB


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def ours(base: Path, adapters: list[Path], prompt: list[int], tokens: int) -> list[list[int]]:
    def load() -> tuple[Any, Any]:
        with without_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(base)

    engine = Engine(load, name="bench", most_adapters=len(adapters), rows=len(adapters))

    def ask(folders: list[Path | None]) -> list[list[int]]:
        requests = [
            EngineRequest(
                GenerationRequest(
                    prompt, tokens, stop_ids=frozenset(), adapter=str(one) if one else None
                )
            )
            for one in folders
        ]
        return [list(each.generation.token_ids) for each in engine.answers(requests)]

    ask([None])
    before = resident()
    ask(list(adapters))
    taken = resident() - before
    for folder in adapters[:ALONE]:
        engine.unload_adapter(folder)
    first, second, answers = [], [], []
    for folder in adapters[:ALONE]:
        seconds, (answer,) = timed(lambda folder=folder: ask([folder]))
        first.append(seconds)
        answers.append(answer)
        second.append(timed(lambda folder=folder: ask([folder]))[0])
    weights = sum(adapter_bytes(folder) for folder in adapters) / MIB
    base_alone = statistics.median([timed(lambda: ask([None]))[0] for _ in range(5)])
    mixed, together = timed(lambda: ask(list(adapters)))
    one, _ = timed(lambda: ask([adapters[0]] * len(adapters)))
    none, _ = timed(lambda: ask([None] * len(adapters)))
    engine.close()
    print(
        f"ours: {len(adapters)} adapters of {weights:.0f} MiB on disk took "
        f"{taken:.0f} MiB; one answer of {tokens} tokens: base "
        f"{1000 * base_alone:.0f} ms, adapter the first time {1000 * statistics.median(first):.0f} "
        f"ms, then {1000 * statistics.median(second):.0f} ms\n"
        f"ours: a batch of {len(adapters)}: base {none:.2f} s, one adapter {one:.2f} s, "
        f"all different {mixed:.2f} s ({mixed / one:.2f} times)",
        flush=True,
    )
    differ = sum(a != b for a, b in zip(together, answers, strict=False))
    if differ:
        print(f"{differ} answers differ in the mixed batch")
    return together


def adapter_bytes(folder: Path) -> int:
    return (folder / "adapter_model.safetensors").stat().st_size


def peft(base: Path, adapters: list[Path], prompt: list[int], tokens: int) -> list[list[int]]:
    with without_progress_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    ids = torch.tensor([prompt])
    before, first, second, answers = resident(), [], [], []
    tuned: Any = None

    def answer() -> list[int]:
        with torch.inference_mode():
            out = tuned.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                min_new_tokens=tokens, do_sample=False, pad_token_id=0,
            )  # fmt: skip
        return [int(token) for token in out[0, len(prompt) :]]

    for number, folder in enumerate(adapters):
        start = time.perf_counter()
        with known_warnings_ignored():
            if tuned is None:
                tuned = PeftModel.from_pretrained(model, folder, adapter_name="0")
            else:
                tuned.load_adapter(folder, adapter_name=str(number))
        tuned.set_adapter(str(number))
        if number < ALONE:
            answer()
            first.append(time.perf_counter() - start)
            second.append(timed(answer)[0])
    taken, start = resident() - before, time.perf_counter()
    for number in range(len(adapters)):
        tuned.set_adapter(str(number))
        answers.append(answer())
    print(
        f"PEFT: {len(adapters)} adapters took {taken:.0f} MiB; one answer: the first "
        f"time {1000 * statistics.median(first):.0f} ms, then "
        f"{1000 * statistics.median(second):.0f} ms; all, one after the other: "
        f"{time.perf_counter() - start:.2f} s",
        flush=True,
    )
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--adapters", type=int, default=50)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        write_base(arguments.model, base)
        adapters = write_adapters(base, Path(name), arguments.adapters, arguments.rank)
        prompt = AutoTokenizer.from_pretrained(base)("How do I ask for a day off?")["input_ids"]
        mine = ours(base, adapters, prompt, arguments.tokens)
        theirs = peft(base, adapters, prompt, arguments.tokens)
    differing = sum(a != b for a, b in zip(mine, theirs, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"answers that differ from PEFT's: {differing} of {len(mine)}; peak {peak:.0f} MiB")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
