"""TRL's side, in TRL's own environment: python trl_peer.py JOB (a job is JSON, see `__main__`)."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_caching
from held import watch_first_step
from judge import validation_loss
from loading import load
from meter import Meter, report
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

PACKED_TOKENS = 1024


def common(job: dict[str, Any], batches: int) -> dict[str, Any]:
    """What SFT and DPO share: all rows in each optimizer step, fixed rate, nothing saved."""
    return {
        "num_train_epochs": job["epochs"],
        "gradient_accumulation_steps": batches,
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "adam_beta2": 0.95,
        "optim": "adamw_torch_fused",
        "use_cpu": True,
        "bf16": job["bf16"],
        "activation_checkpointing": job["checkpointing"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def split(row: list[dict[str, str]]) -> dict[str, Any]:
    return {"prompt": row[:-1], "completion": row[-1:]}


def sft(job: dict[str, Any], folder: Path, scratch: str) -> None:
    rows = json.loads((folder / "sft.json").read_text())
    model, tokenizer = load(folder, lora=job["lora"])
    packing = job["layout"].startswith("packed")
    # A packed row is one forward pass: two of them at once would square the mask for nothing.
    per_batch = 1 if packing else 8
    sampling = "group_by_length" if job["layout"] == "grouped" else "random"
    config = SFTConfig(
        scratch,
        per_device_train_batch_size=per_batch,
        packing=packing,
        max_length=job.get("packed_tokens", PACKED_TOKENS),
        train_sampling_strategy=sampling,
        # More than there are batches: an epoch is one step for every result of packing.
        **common(job, -(-len(rows) // per_batch)),
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list([split(row) for row in rows]),
        processing_class=tokenizer,
    )
    held = watch_first_step()
    with Meter() as meter:
        trainer.train()
    report(
        first_loss=trainer.state.log_history[0]["loss"],
        steps=trainer.state.global_step,
        final_loss=validation_loss(trainer.model, tokenizer, folder),
        **meter.figures(),
        **held,
    )


def dpo(job: dict[str, Any], folder: Path, scratch: str) -> None:
    pairs = json.loads((folder / "pairs.json").read_text())
    model, tokenizer = load(folder, lora=job["lora"])
    config = DPOConfig(
        scratch,
        per_device_train_batch_size=8,
        max_length=PACKED_TOKENS,
        beta=0.1,
        precompute_ref_log_probs=job["precompute"],
        **common(job, -(-len(pairs) // 8)),
    )
    held = watch_first_step()
    # The reference's log-probabilities may be computed here, so the clock starts before.
    with Meter() as meter:
        trainer = DPOTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(pairs),
            processing_class=tokenizer,
        )
        trainer.train()
    history = [line for line in trainer.state.log_history if "loss" in line]
    report(
        first_loss=history[0]["loss"],
        last_loss=history[-1]["loss"],
        steps=trainer.state.global_step,
        final_loss=validation_loss(trainer.model, tokenizer, folder),
        **meter.figures(),
        **held,
    )


def prepare(job: dict[str, Any], folder: Path, scratch: str) -> None:
    """Chat template, tokens, mask and packing of many rows, as the trainer's constructor does."""
    rows = json.loads((folder / "prepare.json").read_text())
    model, tokenizer = load(folder, lora=False)
    dataset = Dataset.from_list([split(row) for row in rows])
    packing = job["layout"] == "packed"
    job = job | {"epochs": 1, "learning_rate": 1e-3, "bf16": False, "checkpointing": False}
    config = SFTConfig(scratch, packing=packing, max_length=PACKED_TOKENS, **common(job, 1))
    small = dataset.select(range(1))
    trainer = SFTTrainer(model=model, args=config, train_dataset=small, processing_class=tokenizer)
    with Meter() as meter:
        made = trainer._prepare_dataset(dataset, tokenizer, config, packing, None, "train")
    report(rows=len(rows), tokens=sum(map(len, made["input_ids"])), **meter.figures())


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    disable_caching()
    if job.get("compact"):
        # Not a setting of TRL's: its head scores every position on a CPU, trained ones on a GPU.
        import trl.trainer.utils

        trl.trainer.utils._use_triton = lambda device: True  # noqa: ARG005  its name there
    work = {"sft": sft, "lora": sft, "dpo": dpo, "prepare": prepare}[job["task"]]
    with tempfile.TemporaryDirectory() as scratch:
        work(job, Path(job["folder"]), scratch)


if __name__ == "__main__":
    main()
