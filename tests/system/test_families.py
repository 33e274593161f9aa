"""Families from training to evaluation and export: what was learned by heart is graded 100 %."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from jangin.core.events import Progress, WorkAdvances
from jangin.core.jsonl import read_jsonl
from jangin.core.records import Example, Message, SplitExample
from jangin.core.store import Artifact
from jangin.evaluation.evaluate import STAGE as EVALUATE
from jangin.evaluation.evaluate import EvaluateConfig
from jangin.inference.generate import generate
from jangin.models.starter import train_tokenizer
from jangin.training.export.export import export_model
from jangin.training.loop.config import StepMetrics
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig
from tests.conftest import make_manifest
from tests.family_models import FAMILIES, family_model

QUESTIONS = [
    ("연차휴가는?", "15일"),
    ("병가는?", "진단서를 내고 30일까지 쓴다"),
    ("주차권은?", "총무팀 창구"),
    ("회의실은?", "예약"),
    ("출장비는?", "하루 5만원, 숙박은 실비"),
    ("명함은?", "인사팀에 신청한다"),
]
METHODS = {"full": {"type": "full"}, "lora": {"type": "lora", "r": 16, "alpha": 32}}
OFTEN = {
    "llama 3.1": "lora",
    "gemma 3": "full",
    "qwen 3 moe": "full",
    "lfm 2": "lora",
    "gemma 4": "full",
    "mamba 2": "full",
}
"""Those that `make test` runs; `make test-families` runs every family with both methods."""
CASES = [
    pytest.param(
        family,
        method,
        marks=pytest.mark.slow if OFTEN.get(family) == method else pytest.mark.families,
        id=f"{family}, {method}",
    )
    for family in FAMILIES
    for method in METHODS
]


def steps_and_rate(family, method):
    """(steps, learning rate) after which the loss is 0.00."""
    if OFTEN.get(family) == method:
        return 40, 1e-2
    # GPT-2's adapter keeps one token wrong where it begins faster.
    return (160, 3e-3) if (family, method) == ("gpt-2", "lora") else (80, 5e-3)


class Interrupted(Progress):
    """Ctrl-C after this many steps of a training."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def emit(self, event):
        if isinstance(event, WorkAdvances):
            self.left -= event.steps
            if self.left == 0:
                raise KeyboardInterrupt
        super().emit(event)


def example(question, answer):
    prompt = (Message(role="user", content=question),)
    completion = Message(role="assistant", content=answer)
    return Example.make(prompt, completion, kind="original", document_id="d")


@pytest.mark.parametrize(("family", "method"), CASES)
def test_answers_learned_by_heart_are_graded_exact_and_survive_a_stop_and_a_merge(
    make_context, tmp_path, family, method
):
    tokenizer = train_tokenizer([text for pair in QUESTIONS for text in pair], 400, 128)
    base = tmp_path / "base" / "model"
    model = family_model(family, tokenizer)
    # An adapter can only learn what a frozen head can say.
    torch.nn.init.normal_(model.get_output_embeddings().weight)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    rows = [SplitExample(example=example(*pair), split="train") for pair in QUESTIONS]
    steps, rate = steps_and_rate(family, method)
    config = SftConfig(
        method=METHODS[method],
        learning_rate=rate,
        length={"type": "steps", "steps": steps},
        examples_per_step=len(rows),
        precision="fp32",
        checkpoint_every_steps=10,
        memory="warn",
    )
    context = make_context(config, {"splits": (SplitExample, rows)})
    context.inputs["base"] = Artifact(base.parent, make_manifest(stage="catalog"))
    stopped = replace(context, services=replace(context.services, progress=Interrupted(steps // 2)))
    with pytest.raises(KeyboardInterrupt):
        SFT.run(stopped)
    SFT.run(context)
    *_, last = read_jsonl(context.workspace / "metrics.jsonl", StepMetrics)
    assert last.step == steps
    assert last.train_loss < 0.005
    said = context.services.progress.messages
    assert f"resuming at step {steps // 2} of {steps}" in said

    asked = make_context(EvaluateConfig(max_new_tokens=40), {"splits": (SplitExample, rows)})
    trained = Artifact(context.workspace, make_manifest(stage="sft"))
    asked.inputs.update({"base": context.inputs["base"], "model": trained})
    EVALUATE.run(asked)
    assert asked.summary["right"]["seen_questions"] == {"base": 0, "tuned": 1}

    prompts = [row.example.prompt for row in rows]
    out = tmp_path / "out"
    export_model(base.parent, context.workspace, out, "merged", {}, prompts[:2])
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    answers = generate(merged, tokenizer, prompts, 40)
    assert [answer.text for answer in answers] == [answer for _, answer in QUESTIONS]
