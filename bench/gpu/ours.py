"""This project's side of the GPU bench, through its own training loop and decoder."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from case import WARM_UP_STEPS, Clock
from material import ALPHA, EOS, RANK, Rows, config, make_model, make_rows

from jangin.core.events import Progress
from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.generate import steps
from jangin.models import memory
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import PairRows
from jangin.training.dpo import DpoConfig
from jangin.training.loop.config import Epochs, Full, Lora, TrainingConfig
from jangin.training.loop.objective import matrix_dtype
from jangin.training.loop.scorer import LossModel
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import make_trainable
from jangin.training.objectives.dpo import (
    DpoObjective,
    DpoTerms,
    PairModel,
    choose_pair_model,
    reference_log_probabilities,
)
from jangin.training.objectives.sft import SftObjective

Job = dict[str, Any]


def work(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """The figures of one case."""
    tasks = {"sft": sft, "dpo": dpo, "compile": choose, "generate": write}
    tasks["profile"] = profile
    return tasks[job["task"]](job, clock, scratch)


def settings(job: Job, cls: type[TrainingConfig]) -> Any:
    """As `project.yaml` would say it: full tuning of fp32 weights with bf16 products, or LoRA."""
    method = Full() if job["method"] == "full" else Lora(type="lora", r=RANK, alpha=ALPHA)
    return cls(
        method=method,
        length=Epochs(type="epochs", epochs=1),
        learning_rate=1e-5,
        precision="bf16",
        examples_per_step=job["examples_per_step"],
        tokens_per_batch=job["tokens_per_batch"],
        checkpoint_every_steps=10**9,
        checkpoint_every_seconds=10**9,
        compile="measure" if job["task"] == "compile" else "off",
        threads=1 if job["device"] == "cpu" else 0,
    )


def trainable(job: Job, conf: TrainingConfig) -> Any:
    """The model with what the method trains."""
    full = job["method"] == "full"
    model = make_model(
        job["shape"],
        torch.float32 if full else torch.bfloat16,
        job["device"],
        four_bits=job["method"] == "qlora",
    )
    return make_trainable(model, conf)


def rendered(rows: Rows) -> RenderedRows:
    """The rows as the engine's renderer would hand them over."""
    pairs = list(zip(rows.prompts, rows.answers, strict=True))
    return RenderedRows(
        np.concatenate([part for pair in pairs for part in pair]),
        np.concatenate([np.repeat([False, True], [len(p), len(a)]) for p, a in pairs]),
        np.cumsum([0, *rows.lengths], dtype=np.int64),
        tuple(f"row {number}" for number in range(len(pairs))),
        (EOS,),
    )


def both_answers(rows: Rows, others: Rows) -> PairRows:
    """Each prompt with its own answer and with another's."""
    rejected = Rows(rows.prompts, others.answers)
    together = Rows(rows.prompts * 2, rows.answers + others.answers)
    stems = []
    for place, prompt in enumerate(rows.prompts):
        chosen, other = rows.answers[place], rejected.answers[place]
        size = min(len(chosen), len(other))
        apart = np.flatnonzero(chosen[:size] != other[:size])
        stems.append(len(prompt) + int(apart[0]))
    names = tuple(f"pair {number}" for number in range(len(rows.prompts)))
    return PairRows(rendered(together), np.asarray(stems, np.int64), names)


def padded(model: Any, dtype: torch.dtype) -> LossModel:
    """The engine's other path: padded batches, transformers' own attention."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("sdpa")
    return LossModel(model, packed=False, reason="the bench asked for it", dtype=dtype)


def sft(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """`train` on the cross-entropy of trained tokens."""
    conf = settings(job, TrainingConfig)
    model = trainable(job, conf)

    def objective(count: int, seed: int) -> SftObjective:
        data = rendered(make_rows(count, job["shape"], seed))
        if job["packed"]:
            return SftObjective.of(model, data, None, conf)
        loss_model = padded(model, matrix_dtype(conf))
        return SftObjective(loss_model, data, None, conf, next(model.parameters()).device)

    warm_up = objective(WARM_UP_STEPS * conf.examples_per_step, job["seed"] + 7)
    train(warm_up, conf, scratch / "warm-up", Progress())
    loss = objective(job["rows"], job["seed"])
    with clock:
        result = train(loss, conf, scratch / "run", Progress())
    share = float(loss.data.trained.mean())
    facts = predicted(job, loss.lengths.tolist(), result.runtime, share)
    return {"tokens": int(loss.lengths.sum()), **facts}


def profile(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """Which kernels two steps spend their time in, after two others."""
    conf = settings(job, TrainingConfig)
    model = trainable(job, conf)

    def run(seed: int, folder: str) -> SftObjective:
        rows = make_rows(WARM_UP_STEPS * conf.examples_per_step, job["shape"], seed)
        objective = SftObjective.of(model, rendered(rows), None, conf)
        train(objective, conf, scratch / folder, Progress())
        return objective

    run(job["seed"] + 7, "warm-up")
    kinds = torch.profiler.ProfilerActivity
    on_gpu = job["device"] == "cuda"
    with torch.profiler.profile(activities=[kinds.CUDA if on_gpu else kinds.CPU]) as seen, clock:
        objective = run(job["seed"], "run")
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    table = seen.key_averages().table(sort_by=by, row_limit=25, max_name_column_width=60)
    return {"tokens": int(objective.lengths.sum()), "profile": table}


def choose(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """`train` with `compile: measure`, which no earlier measurement answers."""
    os.environ["XDG_CACHE_HOME"] = str(scratch)
    conf = settings(job, TrainingConfig)
    data = rendered(make_rows(job["rows"], job["shape"], job["seed"]))
    objective = SftObjective.of(trainable(job, conf), data, None, conf)
    with clock:
        runtime = train(objective, conf, scratch / "run", Progress()).runtime
    share = float(data.trained.mean())
    facts = predicted(job, data.lengths.tolist(), runtime, share)
    return {"tokens": int(data.lengths.sum()), "layers": runtime["layers"], **facts}


def dpo(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:
    """The reference and `train` on the DPO loss, both inside the clock."""
    conf = settings(job, DpoConfig)
    model = trainable(job, conf)
    device = next(model.parameters()).device

    def run(count: int, seed: int, folder: Path) -> tuple[PairRows, dict[str, Any]]:
        rows = (make_rows(count, job["shape"], each) for each in (seed, seed + 1))
        data = both_answers(*rows)
        if job["packed"]:
            loss_model = choose_pair_model(model, data, conf, device)
        else:
            loss_model = PairModel(padded(model, matrix_dtype(conf)))
        with model.disable_adapter():
            every = range(len(data))
            reference = reference_log_probabilities(
                loss_model, data, every, conf.tokens_per_batch, device
            )
        loss = DpoObjective(loss_model, data, reference, conf, DpoTerms(beta=0.1), device)
        return data, train(loss, conf, folder, Progress()).runtime

    run(WARM_UP_STEPS * conf.examples_per_step, job["seed"] + 7, scratch / "warm-up")
    with clock:
        data, runtime = run(job["rows"], job["seed"], scratch / "run")
    share = float(data.both.trained.mean())
    facts = predicted(job, data.lengths.tolist(), runtime, share)
    return {"tokens": int(data.both.lengths.sum()), "pairs": len(data), **facts}


def predicted(
    job: Job, lengths: list[int], runtime: dict[str, Any], trained_share: float
) -> dict[str, Any]:
    """What `models/memory.py` expects, and how the run went; the CUDA context is not counted."""
    shape = memory.ModelShape.of(
        config(job["shape"]).to_dict()
        | {"dtype": "float32" if job["method"] == "full" else "bfloat16"}
    )
    budget = min(runtime["tokens_per_batch"], job["examples_per_step"] * max(lengths))
    plan = memory.predict(
        shape,
        memory.PlannedTraining(
            method=job["method"],
            pairs=job["task"] == "dpo",
            tokens=min(budget, sum(lengths)),
            precision="bf16",
            rank=RANK,
            trained_share=trained_share,
            device=job["device"],
            checkpointing=runtime["activation_checkpointing"],
        ),
    )
    on_gpu = job["device"] == "cuda"
    return {
        "predicted_bytes": plan.peak - (plan.process if on_gpu else 0),
        "batch_tokens": runtime["tokens_per_batch"],
        "checkpointing": runtime["activation_checkpointing"],
        "packed": runtime["packed"],
        "padded_because": runtime["padded_because"],
    }


def write(job: Job, clock: Clock, scratch: Path) -> dict[str, Any]:  # noqa: ARG001  one signature
    """Greedy answers of as many tokens as the rows' own."""
    dtype = torch.bfloat16 if job["device"] == "cuda" else torch.float32
    torch.backends.cuda.enable_cudnn_sdp(job["cudnn"])
    model = make_model(job["shape"], dtype, job["device"]).eval()
    rows = make_rows(job["rows"], job["shape"], job["seed"])
    requests = [
        GenerationRequest(prompt.tolist(), len(answer))
        for prompt, answer in zip(rows.prompts, rows.answers, strict=True)
    ]

    def answer(asked: list[GenerationRequest]) -> int:
        stepped = steps(model, None, asked, frozenset(), job["examples_per_step"], streamed=False)
        return sum(len(written) for written in stepped)

    answer(requests[:4])
    with clock:
        tokens = answer(requests)
    return {"tokens": tokens}
