"""Training and generation of 1B and 8B models on a GPU, beside TRL and transformers; no network.

    python bench/gpu [--only NAME ...] [--steps 12] [--peer-python PATH] [--out gpu.json]
    python bench/gpu --device cpu --tiny
    python bench/gpu prepare

A machine with a card and no network: `prepare` puts what its image may lack (see `prepare.py`) into
`.site` beside `src`; copy the clone there and run `bash bench/gpu/call1.sh`, then call2.sh and
call3.sh. Each ends within 600 s and writes what it has found so far into $OUT after every case.

Llamas of random weights, made on the device; rows of instruction-like lengths (2 to 2,048 tokens).
Each case has a process of its own: one that runs out of memory reports it, and the others continue.
Utilisation is model operations per second over those of a bf16 matrix product measured here:
what the task needs (see `case.operations`), not what an engine computes. `memory` is the peak
allocated while training, beside what `models/memory.py` predicts from the config alone. Peers are
run where they are installed; `--peer-python` names another environment's interpreter for them.
`--only compile` shows what `compile: auto` decides on this card: a step with eager layers, with
compiled ones, the choice, and the steps after which compiling has paid.

Never run on CUDA so far: no GPU was at hand. `--device cpu --tiny` goes the same way with shapes
shrunk, which is what the tests do; CUDA's own attention kernels are not on that way.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prepare import prepare

HERE = Path(__file__).resolve().parent
PREFIX = "RESULT "
LIMIT_SECONDS = 200
DECIDES = {
    "SFT": "tokens per s beside the roofline (8B LoRA 10,000, fused 14,000) and the peer's; "
    "whether packed; memory beside predicted",
    "DPO": "pairs per s beside the peer's; memory beside predicted",
    "compile": "whether compiled layers are faster than fused modules",
    "generation": "cuDNN's plans per length: off if it is slower with them; how far to vLLM",
    "profile": "whether norms, SwiGLU, rotary and casts are gone from the largest kernels",
}
"""What the figure of a case is for, by the first word of its name."""
CHOICE_STEPS = 32
"""Of `compile`, which measures within them."""
GIB = 2**30

Job = dict[str, Any]
Runner = Callable[[Job], Job]


@dataclass
class Case:
    """One row of the table."""

    name: str
    engine: str
    task: str
    shape: str
    method: str = "full"
    packed: bool = True
    rows: int = 32
    """Of an optimizer step, or answers that are written at a time."""
    cudnn: bool = False
    """Whether SDPA may use cuDNN."""
    facts: Job = field(default_factory=dict)

    def job(self, arguments: argparse.Namespace) -> Job:
        """What its process is told."""
        tiny = arguments.tiny
        per_step = 8 if tiny else self.rows
        steps = CHOICE_STEPS if self.task == "compile" else arguments.steps
        return {
            "engine": self.engine,
            "task": self.task,
            "shape": "tiny" if tiny else self.shape,
            "method": self.method,
            "packed": self.packed,
            "cudnn": self.cudnn,
            "device": arguments.device,
            "seed": arguments.seed,
            "examples_per_step": per_step,
            "rows": per_step * steps,
            "tokens_per_batch": 128 if tiny else {"1B": 16384, "8B": 8192}[self.shape],
        }


def cases() -> list[Case]:
    made = [Case("bf16 matrix product", "torch", "product", "1B")]
    for shape, method in (("1B", "full"), ("8B", "lora"), ("8B", "qlora")):
        name = f"SFT {method} {shape}"
        made += [
            Case(
                f"{name}, {engine}{'' if packed else ', padded'}",
                engine,
                "sft",
                shape,
                method,
                packed,
            )
            for engine in ("jangin", "trl")
            for packed in (True, False)
        ]
        made.append(
            Case(
                f"{name}, transformers, padded", "transformers", "sft", shape, method, packed=False
            )
        )
    made += [
        Case("DPO lora 8B, jangin", "jangin", "dpo", "8B", "lora"),
        Case("DPO lora 8B, jangin, padded", "jangin", "dpo", "8B", "lora", packed=False),
        Case("DPO lora 8B, trl, padded", "trl", "dpo", "8B", "lora", packed=False),
    ]
    made += [
        Case(f"compile {method} {shape}", "jangin", "compile", shape, method)
        for shape, method in (("1B", "full"), ("8B", "lora"))
    ]
    made.append(Case("profile lora 8B, jangin", "jangin", "profile", "8B", "lora"))
    for rows in (64, 256):
        made += [
            Case(f"generation {shape}, {rows} rows, jangin", "jangin", "generate", shape, rows=rows)
            for shape in ("1B", "8B")
        ]
        name = f"generation 8B, {rows} rows, jangin with cuDNN"
        made.append(Case(name, "jangin", "generate", "8B", rows=rows, cudnn=True))
    made += [
        Case(
            f"generation {shape}, 64 rows, transformers",
            "transformers",
            "generate",
            shape,
            packed=False,
            rows=64,
        )
        for shape in ("1B", "8B")
    ]
    return made


def in_process(python: str, limit: int) -> Callable[[Job], Job]:
    """Runs a job in a process of its own; what goes wrong there is its problem alone."""

    def run(job: Job) -> Job:
        command = [python, str(HERE / "case.py"), json.dumps(job)]
        env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        env.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # as the product sets it
        try:
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"not finished after {limit} s"}
        lines = [line for line in done.stdout.splitlines() if line.startswith(PREFIX)]
        if lines:
            found: Job = json.loads(lines[-1].removeprefix(PREFIX))
            return found
        if done.returncode < 0:
            return {"problem": f"killed by signal {-done.returncode} (out of memory?)"}
        return {"problem": (done.stderr.strip().splitlines() or ["no output"])[-1][:90]}

    return run


def race(chosen: list[Case], arguments: argparse.Namespace, ours: Runner, peers: Runner) -> None:
    """All cases, one after another; the file holds each as soon as it is done."""
    rows: list[Job] = []
    for case in chosen:
        run = peers if case.engine in ("trl", "transformers") else ours
        case.facts = run(case.job(arguments))
        rows.append({"name": case.name, "job": case.job(arguments), **case.facts})
        arguments.out.write_text(json.dumps(rows, indent=1))
        if case.task == "product":
            continue
        peak = chosen[0].facts.get("operations_per_second")
        log(_line(case, peak))
        log(f"  decides: {DECIDES[case.name.split()[0]]}")
        log(case.facts.get("profile", ""))


def table(chosen: list[Case]) -> str:
    """As Markdown."""
    product = next((c.facts for c in chosen if c.task == "product"), {})
    peak = product.get("operations_per_second")
    head = [f"bf16 product: {peak / 1e12:,.2f} TFLOP/s on {product['device_name']}"] if peak else []
    head += ["", "| case | tokens per s | utilisation | memory GiB | predicted | batch | note |"]
    head += ["|---|---|---|---|---|---|---|"]
    return "\n".join(head + [_line(case, peak) for case in chosen if case.task != "product"])


def _line(case: Case, peak: float | None) -> str:
    facts = case.facts
    if "problem" in facts:
        return f"| {case.name} | | | | | | {facts['problem']} |"
    seconds = facts["seconds"]
    used = f"{facts['operations'] / seconds / peak:.1%}" if peak and "operations" in facts else ""
    predicted = f"{facts['predicted_bytes'] / GIB:.2f}" if "predicted_bytes" in facts else ""
    notes = [f"{facts['pairs'] / seconds:,.2f} pairs per s" if "pairs" in facts else ""]
    notes += ["activations computed twice" if facts.get("checkpointing") else ""]
    notes += [_choice(facts["layers"]) if "layers" in facts else ""]
    notes += [f"padded: {facts['padded_because']}" if facts.get("padded_because") else ""]
    cells = [case.name, f"{facts['tokens'] / seconds:,.0f}", used]
    cells += [f"{facts['peak_bytes'] / GIB:.2f}", predicted, str(facts.get("batch_tokens") or "")]
    return f"| {' | '.join(cells)} | {'; '.join(filter(None, notes))} |"


def _choice(layers: Job) -> str:
    """What was measured and chosen."""
    if "eager_seconds_per_step" not in layers:
        return f"chosen: {layers['mode']} ({layers['because']})"
    eager, compiled = layers["eager_seconds_per_step"], layers["compiled_seconds_per_step"]
    steps = layers["break_even_steps"]
    both = (
        f"eager {eager:.4g} s a step, compiled {'-' if compiled is None else f'{compiled:.4g}'} s"
    )
    paid = "never" if steps is None else f"after {steps:,} steps"
    cost = f"{layers['compiling_seconds']:.4g} s of compiling, break-even {paid}"
    return f"{both}, {cost}, chosen: {layers['mode']}"


def log(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def read_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes shrunk, to try the bench out")
    parser.add_argument("--only", nargs="+", default=[], help="cases whose names have these words")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of 32 rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--limit", type=int, default=LIMIT_SECONDS, help="seconds of one case")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    return parser.parse_args(words)


def main(words: list[str], ours: Runner | None = None) -> int:
    if words[:1] == ["prepare"]:
        return prepare()
    arguments = read_arguments(words)
    chosen = [
        case
        for case in cases()
        if case.task == "product" or all(word in case.name for word in arguments.only)
    ]
    run = ours or in_process(sys.executable, arguments.limit)
    race(chosen, arguments, run, ours or in_process(arguments.peer_python, arguments.limit))
    log(f"\n{table(chosen)}")
    log(f"\n{arguments.out} holds all figures")
    failed = [c for c in chosen if c.engine in ("torch", "jangin") and "problem" in c.facts]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
