"""Our side: python ours.py JOB, through the engine's own functions, without store or pipeline."""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from held import watch_first_step
from judge import validation_loss
from loading import load
from meter import Meter, report
from transformers import AutoModelForCausalLM, AutoTokenizer

from jangin.core.events import Progress
from jangin.core.records import Message, PreferencePair
from jangin.inference import generate
from jangin.models.tokens.chat_template import RenderedRows, limit_rows, render_rows
from jangin.models.tokens.packing import (
    packed_batch,
    render_pairs,
    rows_of_step,
    split_by_budget,
    steps_per_epoch,
)
from jangin.training.dpo import DpoConfig
from jangin.training.kernels.compilation import load_kernels
from jangin.training.loop.config import Epochs, Full, Lora, TrainingConfig
from jangin.training.loop.trainer import METRICS, train
from jangin.training.objectives.dpo import (
    DpoObjective,
    DpoTerms,
    choose_pair_model,
    reference_log_probabilities,
    rows_for_reference,
)
from jangin.training.objectives.sft import SftObjective

LONGEST_ROW = 1024
PREPARED_STEP = 48


def render(tokenizer: Any, rows: Sequence[Any]) -> RenderedRows:
    names = [f"row {number}" for number in range(len(rows))]
    return render_rows(tokenizer, [[Message(**turn) for turn in row] for row in rows], names)


def shared(job: dict[str, Any], rows: int) -> dict[str, Any]:
    """What SFT and DPO share: all rows in each optimizer step, fixed rate."""
    return {
        "method": Lora(type="lora", r=16, alpha=32) if job["lora"] else Full(),
        "length": Epochs(type="epochs", epochs=job["epochs"]),
        "learning_rate": job["learning_rate"],
        "schedule": "constant",
        "warmup_fraction": 0,
        "weight_decay": 0,
        "examples_per_step": rows,
        "precision": "bf16" if job["bf16"] else "fp32",
        "log_every_steps": 1,
        "threads": 1,
        **({"tokens_per_batch": job["tokens_per_batch"]} if "tokens_per_batch" in job else {}),
    }


def sft(job: dict[str, Any], folder: Path, scratch: Path) -> None:
    rows = json.loads((folder / "sft.json").read_text())
    model, tokenizer = load(folder, lora=job["lora"])
    data = render(tokenizer, rows)
    config = TrainingConfig(**shared(job, len(rows)))
    held = watch_first_step()
    with Meter() as meter:
        objective = SftObjective.of(model, data, None, config)
        result = train(objective, config, scratch, Progress())
    report(
        first_loss=step_losses(scratch)[0],
        steps=result.steps,
        final_loss=validation_loss(model, tokenizer, folder),
        **meter.figures(),
        **held,
    )


def step_losses(scratch: Path) -> list[float]:
    lines = (scratch / METRICS).read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in lines]


def dpo(job: dict[str, Any], folder: Path, scratch: Path) -> None:
    """From messages on, reference included: so far the peer's clock runs too."""
    rows = json.loads((folder / "pairs.json").read_text())
    model, tokenizer = load(folder, lora=job["lora"])
    turns = [{side: Message(**row[side][0]) for side in row} for row in rows]
    pairs = [
        PreferencePair.make(
            (turn["prompt"],),
            turn["chosen"],
            turn["rejected"],
            origin="other_answer",
            family=str(number),
            example_id=str(number),
        )
        for number, turn in enumerate(turns)
    ]
    config = DpoConfig(**shared(job, len(rows)), beta=0.1)
    device, held = torch.device("cpu"), watch_first_step()
    with Meter() as meter:
        data = render_pairs(tokenizer, pairs)
        loss_model = choose_pair_model(model, data, config, device)
        later = rows_for_reference(model, len(data), config)
        reference = reference_log_probabilities(
            loss_model, data, later, config.tokens_per_batch, device
        )
        model.train()
        objective = DpoObjective(loss_model, data, reference, config, DpoTerms(beta=0.1), device)
        result = train(objective, config, scratch, Progress())
    losses = step_losses(scratch)
    report(
        first_loss=losses[0],
        last_loss=losses[-1],
        steps=result.steps,
        final_loss=validation_loss(model, tokenizer, folder),
        **meter.figures(),
        **held,
    )


def prepare(job: dict[str, Any], folder: Path, scratch: Path) -> None:  # noqa: ARG001  one signature
    """From messages to packed batches of one epoch, in steps of `PREPARED_STEP` rows."""
    rows = json.loads((folder / "prepare.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    conversations = [[Message(**turn) for turn in row] for row in rows]
    names = [f"row {number}" for number in range(len(rows))]
    device, tokens = torch.device("cpu"), 0
    with Meter() as meter:
        data = render_rows(tokenizer, conversations, names)
        data, _ = limit_rows(data, LONGEST_ROW, "the bench", "refuse")
        for step in range(steps_per_epoch(len(data), PREPARED_STEP)):
            chosen = rows_of_step(len(data), PREPARED_STEP, step, seed=0).tolist()
            for part in split_by_budget(data.lengths, chosen, LONGEST_ROW):
                tokens += packed_batch(data, part, device).tokens
    report(rows=len(rows), tokens=tokens + len(data), **meter.figures())


def write(job: dict[str, Any], folder: Path, scratch: Path) -> None:  # noqa: ARG001  one signature
    """Greedy answers to all prompts."""
    prompts = json.loads((folder / "prompts.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder / "writer")
    model = AutoModelForCausalLM.from_pretrained(folder / "writer", dtype=torch.float32).eval()
    conversations = [[Message(**turn) for turn in prompt] for prompt in prompts]
    with Meter() as meter:
        answers = generate.generate(model, tokenizer, conversations, job["new_tokens"])
    ids = [answer.token_ids for answer in answers]
    report(answers=ids, tokens=sum(map(len, ids)), **meter.figures())


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    if job["task"] != "prepare":
        # Imports like the others, which are outside the clock.
        load_kernels(torch.bfloat16, print)
    work = {"sft": sft, "lora": sft, "dpo": dpo, "prepare": prepare, "generate": write}
    with tempfile.TemporaryDirectory() as scratch:
        work[job["task"]](job, Path(job["folder"]), Path(scratch))


if __name__ == "__main__":
    main()
