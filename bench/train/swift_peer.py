"""ms-swift's side, in its own environment: python swift_peer.py JOB."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from clock import Clock
from judge import validation_loss
from meter import report
from swift.pipelines import sft_main
from swift.template import TemplateMeta, register_template
from transformers import AutoTokenizer

PER_BATCH = 8


def arguments(job: dict[str, Any], folder: Path, scratch: Path) -> list[str]:
    """The words of `swift sft`; all rows in each optimizer step. Packing needs FlashAttention."""
    rows = json.loads((folder / "sft.json").read_text())
    source = scratch / "rows.jsonl"
    source.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    words: dict[str, Any] = {
        "model": folder / "model",
        "model_type": "llama",
        "template": "bench",
        "tuner_type": "lora" if job["lora"] else "full",
        "dataset": source,
        "split_dataset_ratio": 0,
        "load_from_cache_file": "false",
        "max_length": 1024,
        "output_dir": scratch / "out",
        # Weights in fp32 like everyone's; told no more than this, it computes in fp16.
        "torch_dtype": "float32",
        "fp16": "false",
        "bf16": str(job["bf16"]).lower(),
        "gradient_checkpointing": str(job["checkpointing"]).lower(),
        "group_by_length": str(job["layout"] == "grouped").lower(),
        "per_device_train_batch_size": PER_BATCH,
        "gradient_accumulation_steps": -(-len(rows) // PER_BATCH),
        "num_train_epochs": job["epochs"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "weight_decay": 0,
        "adam_beta2": 0.95,
        "optim": "adamw_torch_fused",
        "use_cpu": "true",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": "false",
    }
    if job["lora"]:
        words |= {"adapters": folder / "adapter"}
    return [part for name, value in words.items() for part in (f"--{name}", str(value))]


def main() -> None:
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    torch.set_num_threads(1)
    register_template(
        TemplateMeta(
            "bench",
            prefix=["<|bos|>"],
            prompt=["<|user|>{{QUERY}}<|end|><|assistant|>"],
            chat_sep=["<|end|>"],
            suffix=["<|end|>"],
        )
    )
    clock = Clock()
    clock.install()
    with tempfile.TemporaryDirectory() as scratch:
        sft_main(arguments(job, folder, Path(scratch)))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    report(final_loss=validation_loss(clock.trainer.model, tokenizer, folder), **clock.facts())


if __name__ == "__main__":
    main()
