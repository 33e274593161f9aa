"""LLaMA-Factory's side, in its own environment: python llamafactory_peer.py JOB."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from clock import Clock
from judge import validation_loss
from llamafactory.train.tuner import run_exp
from meter import report
from transformers import AutoTokenizer


def arguments(job: dict[str, Any], folder: Path, scratch: Path) -> dict[str, Any]:
    """As in a YAML file of `llamafactory-cli train`; all rows in each optimizer step."""
    rows = json.loads((folder / "sft.json").read_text())
    data = [{"instruction": q["content"], "input": "", "output": a["content"]} for q, a in rows]
    (scratch / "rows.json").write_text(json.dumps(data, ensure_ascii=False))
    (scratch / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
    packing = job["layout"] == "packed"
    per_batch = 1 if packing else 8
    adapter = {"adapter_name_or_path": str(folder / "adapter"), "create_new_adapter": False}
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": str(folder / "model"),
        "finetuning_type": "lora" if job["lora"] else "full",
        **(adapter if job["lora"] else {}),
        "dataset": "rows",
        "dataset_dir": str(scratch),
        "cutoff_len": 1024,
        "neat_packing": packing,
        "overwrite_cache": True,
        "output_dir": str(scratch / "out"),
        "disable_gradient_checkpointing": not job["checkpointing"],
        "per_device_train_batch_size": per_batch,
        "gradient_accumulation_steps": -(-len(rows) // per_batch),
        "num_train_epochs": job["epochs"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "adam_beta2": 0.95,
        "optim": "adamw_torch_fused",
        "bf16": job["bf16"],
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def main() -> None:
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    torch.set_num_threads(1)
    clock = Clock()
    clock.install()
    with tempfile.TemporaryDirectory() as scratch:
        run_exp(arguments(job, folder, Path(scratch)))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    report(final_loss=validation_loss(clock.trainer.model, tokenizer, folder), **clock.facts())


if __name__ == "__main__":
    main()
