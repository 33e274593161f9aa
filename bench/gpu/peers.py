"""The peers' side of the GPU bench: TRL, transformers' Trainer and `generate`, where they are."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from case import WARM_UP_STEPS, Clock, needed
from material import ALPHA, PAD, RANK, SHAPES, Rows, as_text, make_model, make_rows, tokenizer

Job = dict[str, Any]
LONGEST_ROW = 2048
PER_BATCH = {"1B": 8, "8B": 2, "tiny": 4}
"""Rows of a padded batch, as peers count them: more of an 8B need over 80 GiB."""


def work(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """The figures of one case."""
    if job["task"] == "generate":
        return write(job, clock)
    needed("accelerate")
    if job["engine"] == "trl":
        needed("trl", "datasets")
        return (
            trl_dpo(job, clock, scratch) if job["task"] == "dpo" else trl_sft(job, clock, scratch)
        )
    return transformers_sft(job, clock, scratch)


def batch_rows(job: Job) -> int:
    """Padded rows at once."""
    return PER_BATCH[job["shape"]]


def attention() -> str:
    """FlashAttention where its package is installed: without, TRL's packed rows cost a square."""
    return "flash_attention_2" if find_spec("flash_attn") else "sdpa"


def model_of(job: Job, *, adapted: bool) -> Any:
    """The same weights as ours; full tuning of fp32 weights, adapters on bf16 ones."""
    full = job["method"] == "full"
    model = make_model(
        job["shape"],
        torch.float32 if full else torch.bfloat16,
        job["device"],
        four_bits=job["method"] == "qlora",
    )
    if job["packed"] and job["device"] == "cuda":
        model.set_attn_implementation(attention())
    if full or not adapted:
        return model
    needed("peft")
    from peft import get_peft_model

    return get_peft_model(model, adapter())


def adapter() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")


def longest_row(job: Job) -> int:
    """No row is longer, and a packed one has as many tokens."""
    return 64 if job["shape"] == "tiny" else LONGEST_ROW


def packed_per_step(job: Job) -> int:
    """Packed rows that hold about as many tokens as the rows of an optimizer step."""
    tokens = make_rows(job["rows"], job["shape"], job["seed"]).tokens / job["rows"]
    return max(1, round(job["examples_per_step"] * tokens / longest_row(job)))


def arguments(job: Job, rows_at_once: int, *, packed: bool = False) -> dict[str, Any]:
    """What all trainers share."""
    per_step = packed_per_step(job) if packed else job["examples_per_step"]
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": max(1, per_step // rows_at_once),
        "learning_rate": 1e-5,
        "optim": "adamw_torch_fused",
        "bf16": True,
        "use_cpu": job["device"] == "cpu",
        _recomputation(): False,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": job["device"] == "cuda",
    }


def timed(job: Job, clock: Clock, train: Any) -> dict[str, Any]:
    """Two steps of warm-up, then all rows; returns how many tokens these have."""
    train(make_rows(WARM_UP_STEPS * job["examples_per_step"], job["shape"], job["seed"] + 7))
    rows = make_rows(job["rows"], job["shape"], job["seed"])
    with clock:
        train(rows)
    return {"tokens": rows.tokens, "batch_tokens": None}


def _recomputation() -> str:
    """What transformers calls it, on in TRL by default: `gradient_checkpointing` until 5.17."""
    from transformers import TrainingArguments

    new = "activation_checkpointing"
    return new if new in TrainingArguments.__dataclass_fields__ else "gradient_checkpointing"


def trl_sft(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """SFTTrainer; packing `bfd` fills rows of 2,048 tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = model_of(job, adapted=True)
    at_once = 1 if job["packed"] else batch_rows(job)
    words = tokenizer(SHAPES[job["shape"]]["vocab_size"])

    def train(rows: Rows) -> None:
        SFTTrainer(
            model=model,
            args=SFTConfig(
                str(scratch),
                packing=job["packed"],
                max_length=longest_row(job),
                use_liger_kernel=job["device"] == "cuda" and find_spec("liger_kernel") is not None,
                **arguments(job, at_once, packed=job["packed"]),
            ),
            train_dataset=Dataset.from_list(
                [
                    {
                        "input_ids": [*p.tolist(), *a.tolist()],
                        "labels": [-100] * len(p) + a.tolist(),
                    }
                    for p, a in zip(rows.prompts, rows.answers, strict=True)
                ]
            ),
            processing_class=words,
        ).train()

    return timed(job, clock, train)


def trl_dpo(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """DPOTrainer with the adapter switched off as its reference, computed once beforehand."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model = model_of(job, adapted=True)
    words = tokenizer(SHAPES[job["shape"]]["vocab_size"])

    def train(rows: Rows, others: Rows) -> None:
        parts = zip(rows.prompts, rows.answers, others.answers, strict=True)
        DPOTrainer(
            model=model,
            args=DPOConfig(
                str(scratch),
                max_length=LONGEST_ROW,
                precompute_ref_log_probs=True,
                **arguments(job, max(1, batch_rows(job) // 2)),
            ),
            train_dataset=Dataset.from_list(
                [
                    {"prompt": as_text(p), "chosen": f" {as_text(c)}", "rejected": f" {as_text(r)}"}
                    for p, c, r in ((p, c[:-1], r[:-1]) for p, c, r in parts)
                ]
            ),
            processing_class=words,
        ).train()

    def pair(count: int, seed: int) -> tuple[Rows, Rows]:
        return make_rows(count, job["shape"], seed), make_rows(count, job["shape"], seed + 1)

    train(*pair(WARM_UP_STEPS * job["examples_per_step"], job["seed"] + 7))
    if "ref" in model.peft_config:  # TRL's copy of the adapter as it was
        model.delete_adapter("ref")
    rows, others = pair(job["rows"], job["seed"])
    with clock:
        train(rows, others)
    prompts = sum(map(len, rows.prompts))
    return {"tokens": rows.tokens + prompts + others.answer_tokens, "pairs": job["rows"]}


def transformers_sft(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """The plain Trainer on padded batches; it has no packing of its own."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model = model_of(job, adapted=True)
    words = tokenizer(SHAPES[job["shape"]]["vocab_size"])

    def train(rows: Rows) -> None:
        Trainer(
            model=model,
            args=TrainingArguments(str(scratch), **arguments(job, batch_rows(job))),
            train_dataset=[
                {"input_ids": [*p.tolist(), *a.tolist()], "labels": [-100] * len(p) + a.tolist()}
                for p, a in zip(rows.prompts, rows.answers, strict=True)
            ],
            data_collator=DataCollatorForSeq2Seq(words, padding=True),
        ).train()

    return timed(job, clock, train)


def write(job: Job, clock: Clock) -> dict[str, Any]:
    """`model.generate` on left-padded batches sorted by length; each answer ends at its length."""
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    class EachAtItsLength(StoppingCriteria):
        def __init__(self, ends: torch.Tensor) -> None:
            self.ends = ends

        def __call__(self, input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
            return input_ids.shape[1] >= self.ends

    device = job["device"]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = make_model(job["shape"], dtype, device).eval()
    rows = make_rows(job["rows"], job["shape"], job["seed"])
    order = sorted(range(job["rows"]), key=lambda row: len(rows.prompts[row]))

    def answer(chosen: list[int]) -> int:
        longest = max(len(rows.prompts[row]) for row in chosen)
        pads = [longest - len(rows.prompts[row]) for row in chosen]
        ids = [[PAD] * n + rows.prompts[r].tolist() for n, r in zip(pads, chosen, strict=True)]
        ends = torch.tensor([longest + len(rows.answers[row]) for row in chosen], device=device)
        model.generate(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(
                [[0] * n + [1] * (longest - n) for n in pads], device=device
            ),
            generation_config=GenerationConfig(
                max_new_tokens=int(ends.max()) - longest, do_sample=False, pad_token_id=PAD
            ),
            stopping_criteria=StoppingCriteriaList([EachAtItsLength(ends)]),
        )
        return sum(len(rows.answers[row]) for row in chosen)

    answer(order[:4])
    size = job["examples_per_step"]
    with clock:
        tokens = sum(answer(order[start : start + size]) for start in range(0, len(order), size))
    return {"tokens": tokens}
