"""The whole way of a checkpoint folder: load, train, stop, resume, answer, DPO.

    python bench/gpu/checkpoint.py FOLDER [--methods full lora qlora] [--steps 20] [--rows 640]
                                   [--questions 1000] [--out checkpoint.json]
    python bench/gpu/checkpoint.py --tiny

FOLDER is a causal model as `save_pretrained` writes it: config, tokenizer with a chat template,
safetensors. A method may name an optimizer: `full:adamw_8bit`. Each trains for half of the steps,
is interrupted as by Ctrl-C, saves its checkpoint, resumes from it, and writes its model; that model
is loaded again and answers questions. The last one is then trained on pairs. Figures are wall-clock
seconds: `interrupted` runs from the signal to the saved checkpoint. Suggested: a 1B with `full`, an
8B with `lora qlora`.

Never run on CUDA so far: no GPU was at hand. `--tiny` goes the same way with a starter on a CPU.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from jangin.core.events import Progress
from jangin.core.records import Message, PreferencePair
from jangin.inference.generate import generate
from jangin.models.loading import load_tokenizer, load_trained, use_native_precision
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows
from jangin.models.tokens.packing import PairRows, render_pairs
from jangin.training.distributed.fit import fit
from jangin.training.dpo import DpoConfig
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.weights import Start, load_policy, save_trained
from jangin.training.objectives.dpo import DpoTask, DpoTerms, choose_pair_model, reference_sums
from jangin.training.objectives.sft import SftTask

R = TypeVar("R")
ALONE = {"order": "as_given", "log_every_steps": 1}
SUBJECTS = ("annual leave", "sick leave", "travel expenses", "meeting rooms", "parking permits")


class Interrupting(Progress):
    """Sends Ctrl-C to this process after a number of steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left, self.at = step, 0.0

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:  # noqa: ARG002  the interface's names
        """Count a step."""
        self.left -= steps
        if self.left == 0:
            self.at = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)


def timed(work: Callable[[], R]) -> tuple[R, float]:
    """What it returns, and its seconds."""
    began = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - began


def conversation(number: int) -> tuple[Message, Message]:
    """A question of its own and its answer."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    question = f"Who decides about {subject} in department {number}, and within how many days?"
    answer = f"The head of department {number} decides about {subject} within {number % 28} days."
    return Message(role="user", content=question), Message(role="assistant", content=answer)


def size_of(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def train_and_resume(base: Path, method: str, facts: argparse.Namespace, folder: Path) -> Any:
    """Figures of one method; the trained artifact is `folder`."""
    tokenizer = load_tokenizer(base)
    talks = [conversation(number) for number in range(facts.rows)]
    data = render_rows(tokenizer, talks, [f"row {number}" for number in range(facts.rows)])
    kind, _, optimizer = method.partition(":")
    settings: dict[str, Any] = {"method": {"type": kind}, "learning_rate": 1e-4, **ALONE}
    if optimizer:
        settings["optimizer"] = {"type": optimizer}
    settings["length"] = {"type": "steps", "steps": facts.steps}
    config = TrainingConfig.model_validate(settings)
    task, stopping = SftTask(Start(base), data, None), Interrupting(facts.steps // 2)
    folder.mkdir(parents=True)
    try:
        fit(task, config, folder, stopping)
    except KeyboardInterrupt:
        interrupted = time.perf_counter() - stopping.at
    else:
        raise AssertionError("the training was not interrupted")
    written = size_of(folder / "journal" / "checkpoints")
    trained, seconds = timed(lambda: fit(task, config, folder, Progress()))
    _, saving = timed(
        lambda: save_trained(trained.model, tokenizer, folder, data.stop_ids, trained.dtype, base)
    )
    runtime, losses = trained.result.runtime, (trained.result.first, trained.result.last)
    return {
        "interrupted": interrupted,
        "checkpoint_bytes": written,
        "resumed_in": seconds - runtime["seconds"],
        "tokens_per_second": runtime["tokens_per_second"],
        "peak_bytes": runtime["peak_memory_bytes"],
        "predicted_bytes": runtime.get("predicted_memory_bytes"),
        "packed": runtime["packed"],
        "losses": [line.train_loss for line in losses],
        "saving": saving,
    }


def answer(base: Path, trained: Path, questions: int) -> dict[str, Any]:
    """Seconds to load the model as it was trained, and to answer."""
    model, loading = timed(
        lambda: use_native_precision(load_trained(trained, base, as_trained=True))
    )
    prompts = [conversation(number)[:1] for number in range(questions)]
    tokenizer = load_tokenizer(trained)
    answers, seconds = timed(lambda: generate(model, tokenizer, prompts, 48, None))
    right = sum(a.text == conversation(number)[1].content for number, a in enumerate(answers))
    return {"loading": loading, "answering": seconds, "questions": questions, "right": right}


def reference_of(start: Start, data: PairRows, config: DpoConfig) -> torch.Tensor:
    """What the trained model gives both answers of each pair; no model is left afterwards."""
    model = load_policy(start, config)[0]
    pair_model = choose_pair_model(model, data, config, next(model.parameters()).device)
    budget = config.tokens_per_batch
    return reference_sums(pair_model, data, range(len(data)), budget, Progress())


def prefer(base: Path, trained: Path, facts: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """DPO of the trained model: the true answer against that of the next row."""
    tokenizer = load_tokenizer(trained)
    pairs = [
        PreferencePair.make(
            conversation(number)[:1], conversation(number)[1], conversation(number + 1)[1],
            origin="other_answer", family=str(number), example_id=str(number),
        )
        for number in range(facts.rows // 2)
    ]  # fmt: skip
    data, start = render_pairs(tokenizer, pairs), Start(base, trained)
    settings = {"length": {"type": "steps", "steps": facts.steps}, "learning_rate": 1e-5, **ALONE}
    config = DpoConfig.model_validate(settings)
    reference_2R, seconds = timed(lambda: reference_of(start, data, config))
    folder.mkdir(parents=True)
    task = DpoTask(start, data, reference_2R, DpoTerms(), "")
    result = fit(task, config, folder, Progress()).result
    return {
        "reference": seconds,
        "tokens_per_second": result.runtime["tokens_per_second"],
        "peak_bytes": result.runtime["peak_memory_bytes"],
        "losses": [result.first.train_loss, result.last.train_loss],
    }


def read_arguments(words: list[str]) -> argparse.Namespace:
    """The command line; `--tiny` shrinks what is not given."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--tiny", action="store_true", help="a starter, few rows and questions")
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--questions", type=int)
    parser.add_argument("--out", type=Path, default=Path("checkpoint.json"))
    facts = parser.parse_args(words)
    if facts.folder is None and not facts.tiny:
        parser.error("give the folder of a checkpoint, or --tiny")
    small, large = (4, 64, 20), (20, 640, 1000)
    for name, few, many in zip(("steps", "rows", "questions"), small, large, strict=True):
        setattr(facts, name, getattr(facts, name) or (few if facts.tiny else many))
    return facts


def main(words: list[str]) -> int:
    """Run all methods; prints and writes the figures."""
    facts = read_arguments(words)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        base = work / "base"
        base.mkdir()
        if facts.folder is None:
            texts = [message.content for number in range(64) for message in conversation(number)]
            sizes = {"size": "0.5M", "vocabulary_size": 400, "context_length": 256, "seed": 0}
            make_starter(base / "model", texts, **sizes)
        else:
            (base / "model").symlink_to(facts.folder.resolve())
        for method in facts.methods:
            trained = work / method.replace(":", "-")
            report[method] = train_and_resume(base, method, facts, trained)
            report[method] |= answer(base, trained, facts.questions)
            facts.out.write_text(json.dumps(report, indent=1))
        report["dpo"] = prefer(base, trained, facts, work / "dpo")
    text = json.dumps(report, indent=1)
    sys.stdout.write(text + "\n")
    facts.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
