"""One case of the GPU bench in a process of its own: python case.py JOB (JSON).

What is timed is the training call itself, after two steps of another run of the same kind. Real
tokens are those of the rows, padding not counted; each row is trained on once.
"""

import contextlib
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from material import config, make_rows

PREFIX = "RESULT "
WARM_UP_STEPS = 2


class NotInstalledError(Exception):
    """What a case needs is not here."""


class Clock:
    """Seconds of the work: wall on a GPU, of this process's CPU otherwise; and peak memory."""

    seconds = 0.0

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"

    def _now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def __enter__(self) -> "Clock":
        """Start."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._began = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.seconds = self._now() - self._began

    def peak_bytes(self) -> int:
        """Allocated on the device since the start, or resident in this process."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated()
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def product_rate(job: dict[str, Any]) -> dict[str, Any]:
    """Operations per second of a large bf16 matrix product, the best of several."""
    size, device = (256, "cpu") if job["shape"] == "tiny" else (8192, job["device"])
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    best = float("inf")
    for _ in range(10):
        with Clock(device) as clock:
            for _ in range(10):
                left @ right
        best = min(best, max(clock.seconds, 1e-9) / 10)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"operations_per_second": 2 * size**3 / best, "device_name": name}


def operations(job: dict[str, Any], prompt: int, answers: list[int]) -> float:
    """Model operations that training on a prompt and its answers takes at least.

    2 per weight and token forward and 2 for the gradient of activations; 2 more for the weights'
    own gradient where they are trained. The prompt counts once, the head on answers only, causal
    attention as half a square. An adapter's own products, padding, and activations computed twice
    are work, but not counted.
    """
    shape = config(job["shape"])
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    keys = shape.num_key_value_heads * shape.head_dim
    linear = layers * (2 * hidden * (hidden + keys) + 3 * hidden * shape.intermediate_size)
    per_weight = 6 if job["method"] == "full" else 4
    squares = prompt**2 + sum((prompt + answer) ** 2 - prompt**2 for answer in answers)
    products = linear * (prompt + sum(answers)) + hidden * shape.vocab_size * sum(answers)
    return per_weight * products + 3 * 2 * layers * hidden * squares


def row_operations(job: dict[str, Any]) -> float:
    """Of all rows or pairs; in DPO with the reference's forward pass."""
    rows = make_rows(job["rows"], job["shape"], job["seed"])
    sides = [rows.answers]
    if job["task"] == "dpo":
        sides.append(make_rows(job["rows"], job["shape"], job["seed"] + 1).answers)
    answers = zip(*sides, strict=True)
    total = sum(
        operations(job, len(prompt), [len(answer) for answer in both])
        for prompt, both in zip(rows.prompts, answers, strict=True)
    )
    reference = 2 / (6 if job["method"] == "full" else 4) if job["task"] == "dpo" else 0
    return total * (1 + reference)


def needed(*packages: str) -> None:
    """Raise `NotInstalledError` for the first that cannot be imported."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise NotInstalledError(f"{package} is not installed") from error


@contextlib.contextmanager
def memory_problems(report: dict[str, Any]) -> Iterator[None]:
    """Running out of memory, or a package that is not there, is a result like any other."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        report["problem"] = "out of memory"
    except NotInstalledError as error:
        report["problem"] = str(error)
    except Exception as error:
        if "fits into memory" not in str(error):
            raise
        report["problem"] = "out of memory"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The case's figures, or its problem."""
    report: dict[str, Any] = {}
    with memory_problems(report), tempfile.TemporaryDirectory() as scratch:
        if job["task"] == "product":
            return product_rate(job)
        if job["method"] == "qlora":
            needed("bitsandbytes")
        for folder in ("warm-up", "run"):
            (Path(scratch) / folder).mkdir()
        clock = Clock(job["device"])
        report |= _work(job["engine"])(job, clock, Path(scratch))
        report |= {"seconds": clock.seconds, "peak_bytes": clock.peak_bytes()}
        if job["task"] not in ("generate", "profile"):
            report["operations"] = row_operations(job)
    return report


def _work(engine: str) -> Callable[..., dict[str, Any]]:
    """The module is imported late: each engine needs packages that others do not have."""
    return importlib.import_module("ours" if engine == "jangin" else "peers").work


def main() -> None:
    job = json.loads(sys.argv[1])
    report = run(job)
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as stream:
        stream.write(f"\n{PREFIX}{json.dumps(report)}\n")


if __name__ == "__main__":
    main()
