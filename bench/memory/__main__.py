"""Predicted against measured peak memory of training stages, each in a process of its own.

    python bench/memory [--only full-fp32 ...] [--steps 4] [--model FOLDER]

A tiny starter (8 million weights), or a pretrained model in FOLDER whose tokenizer has a chat
template; rows of made-up Korean words. Prints one line per run:
what `jangin plan` estimates from a sample of the tokens, what the stage plans when it has counted
them, the measured peaks of the first optimizer step and of the run, and how far off they were; the
last figure is how far the plan is from the peak of the first step.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "full": {"type": "full"},
    "lora": {"type": "lora", "r": 16},
    "qlora": {"type": "qlora", "r": 16},
}
CASES = [
    f"{stage}{method}-{precision}"
    for stage in ("", "dpo ")
    for method in METHODS
    for precision in ("fp32", "bf16")
] + ["pretrain full-fp32", "pretrain full-bf16"]
WORDS = [
    "연차휴가",
    "병가",
    "출장비",
    "회의실은",
    "3일",
    "안에",
    "인사팀에",
    "냅니다",
    "신청서를",
    "승인",
    "받아",
    "다음",
    "달",
    "월급에",
    "주차권",
    "방문증",
    "보안",
    "지침에",
    "따라",
    "새로",
]


def text(chance: random.Random, least: int, most: int) -> str:
    """Words that mean nothing."""
    return " ".join(chance.choices(WORDS, k=chance.randint(least, most)))


def make_rows(folder: Path) -> None:
    """Rows, pairs and documents, each in the folder of its artifact."""
    from jangin.core.parquet import write_table
    from jangin.core.records import Document, Example, Message, Page, PreferencePair, SplitExample

    chance = random.Random(0)

    def said(role: str, words: str) -> Message:
        return Message.model_validate({"role": role, "content": words})

    rows = [
        Example.make(
            (said("user", f"{n} {text(chance, 15, 90)}?"),),
            said("assistant", text(chance, 15, 90)),
            kind="original",
        )
        for n in range(96)
    ]
    (folder / "splits").mkdir()
    splits = [SplitExample(example=row, split="train") for row in rows]
    write_table(folder / "splits" / "splits.parquet", SplitExample, splits)
    pairs = [
        PreferencePair.make(
            row.prompt, row.completion, said("assistant", text(chance, 15, 90)),
            origin="sampling", family=row.family, example_id=row.id,
        )
        for row in rows
    ]  # fmt: skip
    (folder / "pairs").mkdir()
    write_table(folder / "pairs" / "pairs.parquet", PreferencePair, pairs)
    page = Page(number=1, start=0, end=1, method="text")
    documents = [
        Document(
            id=str(n), source=f"{n}.md", text=text(chance, 300, 900), pages=(page,), language="ko"
        )
        for n in range(40)
    ]
    (folder / "documents").mkdir()
    write_table(folder / "documents" / "documents.parquet", Document, documents)


def run(case: str, folder: Path, steps: int, tokens: int) -> None:
    """One stage, as `jangin run` would run it; prints its runtime file."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from jangin.core.events import Progress
    from jangin.core.ledger import Ledger
    from jangin.core.stage import Services, StageContext
    from jangin.core.store import Artifact, Manifest
    from jangin.models.device import peak_memory
    from jangin.training import dpo, pretrain, sft

    kind, precision = case.rsplit("-", 1)
    stage, method = kind.split() if " " in kind else ("sft", kind)

    def artifact(name: str) -> Artifact:
        facts = {"format": 1, "version": 1, "key": "", "config": {}, "inputs": {}, "files": {}}
        facts |= {"stage": name, "content": name, "summary": {}, "created_at": datetime.now(UTC)}
        return Artifact(folder / name, Manifest.model_validate(facts))

    make_rows(folder)
    inputs = {name: artifact(name) for name in ("base", "splits", "pairs", "documents")}
    inputs["model"] = Artifact(folder / "base", artifact("model").manifest)
    fields = {
        "length": {"type": "steps", "steps": steps}, "precision": precision, "threads": 1,
        "examples_per_step": 16, "tokens_per_batch": tokens, "log_every_steps": 2,
        "learning_rate": 1e-6, "method": METHODS[method],
    }  # fmt: skip
    module = {"sft": sft, "dpo": dpo, "pretrain": pretrain}[stage]
    config = {"sft": sft.SftConfig, "dpo": dpo.DpoConfig, "pretrain": pretrain.PretrainConfig}[
        stage
    ]
    if stage == "dpo":
        fields |= {"probe_questions": 4, "probe_new_tokens": 8}
    workspace = folder / "workspace"
    workspace.mkdir()
    ledger = Ledger(folder / "ledger.sqlite")

    def no_chat(name: str) -> Any:
        raise LookupError(name)

    services = Services(folder, no_chat, ledger, Progress())
    context = StageContext(config.model_validate(fields), inputs, workspace, services)
    estimated = module.STAGE.cost(context).memory_bytes
    peaks: list[int] = []
    register_optimizer_step_post_hook(lambda *_: peaks.append(peak_memory()))
    module.STAGE.run(context)
    figures = json.loads((workspace / "runtime" / "training.json").read_text())
    print("RESULT " + json.dumps(figures | {"estimated": estimated, "first": peaks[0]}))


def prepare(folder: Path, size: str) -> None:
    """The starter that all cases begin with, in a process of its own."""
    from jangin.models.starter import make_starter

    chance = random.Random(1)
    texts = [text(chance, 20, 60) for _ in range(400)]
    make_starter(folder, texts, size=size, vocabulary_size=2048, context_length=1024, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=CASES)
    parser.add_argument("--size", default="8M")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        case, folder = options.inside
        if case == "prepare":
            prepare(Path(folder), options.size)
        else:
            run(case, Path(folder), options.steps, options.tokens)
        return
    heads = f"{'estimate MiB':>12} {'planned MiB':>12} {'1st step':>8} {'all steps':>9}"
    print(f"{'run':22} {heads} {'off':>21}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if options.model:
            (root / "model").symlink_to(options.model.resolve())
        else:
            inside("prepare", root / "model", options)
        for case in options.only:
            folder = root / case.replace(" ", "-")
            (folder / "base").mkdir(parents=True)
            (folder / "base" / "model").symlink_to(root / "model")
            figures = inside(case, folder, options)
            planned, peak = figures["predicted_memory_bytes"], figures["peak_memory_bytes"]
            bytes_ = figures["estimated"], planned, figures["first"], peak
            mib = [round(v / 2**20) for v in bytes_]
            padded = "" if figures["packed"] else f"  padded: {figures['padded_because']}"
            off = f"{figures['estimated'] / peak - 1:+7.1%}{planned / peak - 1:+7.1%}"
            off += f"{planned / figures['first'] - 1:+7.1%}"
            shown = f"{mib[0]:12} {mib[1]:12} {mib[2]:8} {mib[3]:9}"
            print(f"{case:22} {shown} {off}{padded}", flush=True)
            parts = {k: round(v / 2**20) for k, v in figures["memory_plan"].items()}
            print(f"{'':22} {parts}")


def inside(case: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    words = ["--size", options.size, "--steps", str(options.steps), "--tokens", str(options.tokens)]
    done = subprocess.run(
        [sys.executable, __file__, *words, "--inside", case, str(folder)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{case}: {done.stderr[-3000:]}")
    last = done.stdout.splitlines()[-1:] or [""]
    return dict(json.loads(last[0].removeprefix("RESULT "))) if case != "prepare" else {}


if __name__ == "__main__":
    main()
