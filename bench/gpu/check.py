"""Is what CUDA computes right? Losses, gradients and answers beside the CPU's in fp32; no network.

    python bench/gpu/check.py [--device cuda] [--steps 6]

Tiny models of random weights. Of each family, method and objective: the loss and the gradient of
one batch, packed and padded, in fp32 and bf16 on the device and in fp32 on the CPU; then some
optimizer steps with each, and answers. Prints a line each; exit status 1 if one is BAD.
"""

import argparse
import copy
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen3Config

from jangin.core.events import Progress
from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.decoder import decoding_method
from jangin.inference.generate import steps
from jangin.models.forward.fused_modules import fuse
from jangin.models.forward.varlen_attention import NAME
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import PairRows
from jangin.training.dpo import DpoConfig
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.scorer import LossModel
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import attach
from jangin.training.objectives.dpo import (
    DpoObjective,
    DpoTerms,
    PairModel,
    answer_sums,
    choose_pair_model,
    reference_log_probabilities,
)
from jangin.training.objectives.sft import SftObjective

SIZES = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.05,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=64),
    "gemma3": Gemma3TextConfig(
        **SIZES,
        head_dim=64,
        sliding_window=32,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
}
bad = []


def say(name, good, **figures):
    text = " ".join(
        f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in figures.items()
    )
    print(f"{'ok ' if good else 'BAD'} {name}: {text}", flush=True)
    if not good:
        bad.append(name)


def model(family, device, dtype):
    torch.manual_seed(0)
    return (
        AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family]), dtype=torch.float32)
        .to(dtype)
        .to(device)
    )


def four_bits(net, device):
    from material import quantise

    quantise(net, device)
    return net


def settings(method, precision, cls=TrainingConfig, **more):
    return cls.model_validate(
        dict(
            method={"type": method},
            length={"type": "epochs", "epochs": 1},
            learning_rate=1e-3,
            precision=precision,
            examples_per_step=8,
            tokens_per_batch=512,
            warmup_fraction=0,
            log_every_steps=1,
            checkpoint_every_steps=10**9,
            checkpoint_every_seconds=10**9,
            **more,
        )
    )


def rows(count, seed, longest=150):
    random = np.random.default_rng(seed)
    lengths = random.integers(5, longest, count)
    ids = random.integers(3, 1000, lengths.sum())
    trained = np.concatenate([np.arange(n) >= n // 3 for n in lengths])
    return RenderedRows(
        ids, trained, np.cumsum([0, *lengths]), tuple(f"row {n}" for n in range(count))
    )


def pairs(count):
    data = rows(2 * count, 5)
    parts, stems = [], []
    for n in range(count):
        stem = data.row(n)[0]
        parts.append(np.append(stem, [7, 8, 9, 2]))
        stems.append(len(stem))
    parts += [np.append(data.row(n)[0], [17, 18, 2]) for n in range(count)]
    trained = [np.arange(len(p)) >= stems[n % count] for n, p in enumerate(parts)]
    both = RenderedRows(
        np.concatenate(parts),
        np.concatenate(trained),
        np.cumsum([0, *map(len, parts)]),
        tuple(map(str, range(2 * count))),
    )
    return PairRows(both, np.asarray(stems, np.int64), tuple(map(str, range(count))))


def gradient(net, loss, scale):
    (loss * scale).backward()
    return torch.cat(
        [p.grad.flatten().float().cpu() for p in net.parameters() if p.grad is not None]
    )


def one(family, method, device, precision, packed, dpo):
    low = precision == "bf16" and method != "full"
    net = model(family, device, torch.bfloat16 if low else torch.float32)
    if method == "qlora":
        four_bits(net, device)
    config = settings(method, precision)
    net = fuse(attach(net, config))
    for name, p in net.named_parameters():
        if "lora_B" in name:
            torch.manual_seed(len(name))
            p.data.copy_(torch.randn(p.shape) * 0.02)
    base = net.get_base_model() if hasattr(net, "get_base_model") else net
    base.set_attn_implementation(NAME if packed else "sdpa")
    net.train()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    scorer = LossModel(
        net, packed=packed, reason="" if packed else "asked", chunked=True, dtype=dtype
    )
    place = torch.device(device)
    if dpo:
        data = pairs(6)
        pair = PairModel(scorer)
        (batch,) = pair.batches(data, range(6), 10**6, place)
        sums = answer_sums(pair.forward(batch)[0], batch)
        order = torch.tensor(np.argsort(batch.rows))
        loss = -torch.nn.functional.logsigmoid(0.1 * (sums[0] - sums[1])).sum()
        scale = 1 / 6
        value = sums.detach().cpu()[:, order].flatten()
    else:
        data = rows(6, 3)
        batch = scorer.batcher(data, range(6), place)
        loss, _correct = scorer.forward(batch, added=True)
        scale = 1 / len(batch.targets_N)
        value = torch.stack([loss.detach().cpu()]) * scale
    return value, gradient(net, loss, scale)


def off(a, b):
    return float((a - b).norm() / b.norm())


def compare(device):
    for family in FAMILIES:
        for method in ("full", "lora"):
            for dpo in (False, True):
                want, slope = one(family, method, "cpu", "fp32", True, dpo)
                for precision in ("fp32", "bf16"):
                    for packed in (True, False):
                        how = "packed" if packed else "padded"
                        what = "dpo" if dpo else "sft"
                        name = f"{family} {method} {what} {precision} {how}"
                        try:
                            got, grad = one(family, method, device, precision, packed, dpo)
                        except Exception as error:  # noqa: BLE001  a line of the table
                            say(name, False, error=f"{type(error).__name__}: {error}"[:160])
                            continue
                        limits = (1e-4, 1e-3) if precision == "fp32" else (2e-2, 8e-2)
                        say(
                            name,
                            off(got, want) < limits[0] and off(grad, slope) < limits[1],
                            loss_off=off(got, want),
                            gradient_off=off(grad, slope),
                        )


def chosen(device, count):
    """What the product chooses by itself, and that it learns."""
    for family in FAMILIES:
        for method in ("full", "lora", "qlora"):
            name = f"{family} {method} steps"
            try:
                net = model(family, device, torch.float32 if method == "full" else torch.bfloat16)
                if method == "qlora":
                    four_bits(net, device)
                config = settings(method, "bf16")
                net = fuse(attach(net, config))
                data = rows(8 * count, 3, 40)
                data = RenderedRows(data.ids % 7 + 3, data.trained, data.starts, data.names)
                objective = SftObjective.of(net, data, data, config)
                with tempfile.TemporaryDirectory() as folder:
                    result = train(objective, config, Path(folder), Progress())
                first, last = result.first.train_loss, result.last.train_loss
                good = (
                    last < first
                    and objective.loss_model.packed
                    and result.last.valid_loss is not None
                )
                say(
                    name,
                    good,
                    packed=objective.loss_model.packed,
                    why=objective.loss_model.reason,
                    first=first,
                    last=last,
                )
            except Exception as error:  # noqa: BLE001  a line of the table
                say(name, False, error=f"{type(error).__name__}: {error}"[:160])
    net = fuse(
        attach(
            model("llama", device, torch.bfloat16), config := settings("lora", "bf16", DpoConfig)
        )
    )
    data = pairs(8 * count)
    picked = choose_pair_model(net, data, config, torch.device(device))
    with net.disable_adapter():
        reference = reference_log_probabilities(
            picked, data, range(len(data)), 512, torch.device(device)
        )
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            DpoObjective(picked, data, reference, config, DpoTerms(), torch.device(device)),
            TrainingConfig.of(config),
            Path(folder),
            Progress(),
        )
    say(
        "llama lora dpo steps",
        picked.loss_model.packed and result.last.train_loss < result.first.train_loss,
        packed=picked.loss_model.packed,
        first=result.first.train_loss,
        last=result.last.train_loss,
    )


def answers(device):
    random = np.random.default_rng(1)
    prompts = [random.integers(3, 1000, int(n)).tolist() for n in random.integers(4, 90, 12)]
    for family in FAMILIES:
        net = model(family, device, torch.float32).eval()
        way = decoding_method(net)
        asked = [GenerationRequest(p, 24) for p in prompts]
        got = {}
        for step in steps(net, None, asked, frozenset(), 5, streamed=False):
            for index, answer in step:
                got[index] = list(answer.token_ids)
        plain = model(family, "cpu", torch.float32).eval()
        want = [
            plain.generate(
                torch.tensor([p]),
                max_new_tokens=24,
                min_new_tokens=24,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )[0, len(p) :].tolist()
            for p in prompts
        ]
        same = sum(got[n] == want[n] for n in range(len(want)))
        say(
            f"{family} answers fp32",
            way.way == "continuous" and same >= 11,
            way=way.way,
            why=way.reason or "-",
            same=f"{same}/12",
        )
        half = decoding_method(model(family, device, torch.bfloat16).eval())
        say(
            f"{family} decoding bf16",
            half.way == "continuous",
            way=half.way,
            why=half.reason or "-",
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=6)
    facts = parser.parse_args()
    began = time.time()
    if facts.device == "cuda":
        print(torch.cuda.get_device_name(), torch.__version__, torch.backends.cudnn.version())
    compare(facts.device)
    chosen(facts.device, facts.steps)
    answers(facts.device)
    print(f"{len(bad)} bad, {time.time() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
