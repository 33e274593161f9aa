"""Every training stage, killed with signal 9, resumes to the bytes of an undisturbed run."""

import os
import signal
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.parquet import write_table
from jangin.core.records import Document, Message, Page, PreferencePair, SplitExample
from jangin.core.stage import Services, StageContext
from jangin.models.starter import make_starter
from jangin.training import dpo, pretrain, sft
from tests.conftest import make_artifact
from tests.training.conftest import content
from tests.training.test_sft import example, no_chat

STAGES = {
    "sft": (sft.STAGE, sft.SftConfig, {}),
    "sft as given": (sft.STAGE, sft.SftConfig, {"order": "as_given"}),
    "dpo": (
        dpo.STAGE,
        dpo.DpoConfig,
        {
            "stop": {"type": "drift", "max_fall": 50},
            "gate": "warn",
            "probe_questions": 2,
            "probe_new_tokens": 4,
        },
    ),
    "pretrain": (pretrain.STAGE, pretrain.PretrainConfig, {"max_row_tokens": 32}),
}
METHODS = {
    "full": {"type": "full"},
    "lora": {"type": "lora", "r": 8, "dropout": 0.1},
    "qlora": {"type": "qlora", "r": 8, "dropout": 0.1},
}
CASES = [(stage, method) for stage in ("sft", "dpo") for method in METHODS]
CASES += [("sft as given", "full"), ("pretrain", "full")]
FIRST = [("sft", "lora"), ("dpo", "full"), ("dpo", "qlora")]
"""`make test-long` runs the others. Every method and both objectives are among these."""
STEPS, KILLED_AFTER, RESUMED_FROM = 6, 5, 4


class Killing(Progress):
    """The process is gone in the middle of a run."""

    def advance(self, bar, steps=1, note=""):
        self.steps = getattr(self, "steps", 0) + steps
        if self.steps == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Run:
    workspace: Path
    summary: dict
    messages: list


def run(folder, name, stage, method, progress, **changes):
    """One stage on the material of `folder`, in the workspace `name` with a ledger of its own."""
    module, config, more = STAGES[stage]
    fields = {
        "method": METHODS[method], "length": {"type": "steps", "steps": STEPS},
        "learning_rate": 1e-3, "examples_per_step": 5, "checkpoint_every_steps": 2,
        "log_every_steps": 1, "precision": "fp32", "threads": 1,
    }  # fmt: skip
    inputs = {
        kind: make_artifact(folder / kind) for kind in ("base", "splits", "pairs", "documents")
    }
    inputs["model"] = make_artifact(folder / "tuned")
    workspace = folder / name
    workspace.mkdir(exist_ok=True)
    ledger = Ledger(folder / f"{name}.sqlite")
    services = Services(folder, no_chat, ledger, progress)
    context = StageContext(
        config.model_validate(fields | more | changes), inputs, workspace, services
    )
    try:
        module.run(context)
    finally:
        ledger.close()
    return Run(workspace, context.summary, progress.messages)


def import_peft():
    """In the fork server, for all cases."""
    import_module("peft")


def run_killed(folder, *case):
    torch.set_num_threads(1)
    run(Path(folder), *case, Killing())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, conversations):
    """A starter, a tuned model and material for every stage."""
    folder = tmp_path_factory.mktemp("killed")
    pairs = [(question.content, answer.content) for question, answer in conversations]
    texts = [text for pair in pairs for text in pair]
    shape = {"size": "0.5M", "vocabulary_size": 400, "context_length": 64, "seed": 0}
    make_starter(folder / "base" / "model", texts, **shape)
    page = Page(number=1, start=0, end=1, method="text")
    preferences = [
        PreferencePair.make(
            (Message(role="user", content=question),), Message(role="assistant", content=answer),
            Message(role="assistant", content=pairs[n - 3][1]),
            origin="other_answer", family="f", example_id=str(n),
        )
        for n, (question, answer) in enumerate(pairs)
    ]  # fmt: skip
    tables = {
        "splits": (SplitExample, [SplitExample(example=example(*p), split="train") for p in pairs]),
        "pairs": (PreferencePair, preferences),
        "documents": (
            Document,
            [Document(id="d", source="d.md", text=" ".join(texts), pages=(page,), language="ko")],
        ),
    }
    for kind, (record, rows) in tables.items():
        (folder / kind).mkdir()
        write_table(folder / kind / f"{kind}.parquet", record, rows)
    run(folder, "tuned", "sft", "full", Progress(), length={"type": "steps", "steps": 12})
    return folder


@pytest.fixture
def kill(folder, fork):
    """Run a case in a process of its own until it kills itself."""

    def kill(*case):
        process = fork(
            f"{__name__}:run_killed",
            [folder, *case],
            output=folder / "log.txt",
            preload=[f"{__name__}:import_peft"],
        )
        assert process.wait() == -signal.SIGKILL, process.printed()

    return kill


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "method"),
    [pytest.param(*case, marks=[] if case in FIRST else [pytest.mark.long]) for case in CASES],
)
def test_a_stage_killed_with_signal_9_resumes_to_the_same_bytes(folder, kill, stage, method):
    if method == "qlora" and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    name = f"{stage} {method}"
    whole = run(folder, f"{name} whole", stage, method, Progress())
    kill(f"{name} cut", stage, method)
    assert not (folder / f"{name} cut" / ("adapter" if method != "full" else "model")).exists()
    resumed = run(folder, f"{name} cut", stage, method, Progress())
    assert any(f"step {RESUMED_FROM} of {STEPS}" in line for line in resumed.messages)
    assert content(whole.workspace) == content(resumed.workspace)
    assert whole.summary == resumed.summary
    assert "metrics.jsonl" in content(whole.workspace)


@pytest.mark.slow
def test_preference_training_twice_gives_the_same_bytes(folder):
    one, two = (run(folder, f"dpo {n}", "dpo", "lora", Progress()) for n in ("one", "two"))
    assert content(one.workspace) == content(two.workspace)
    other = run(folder, "dpo other", "dpo", "lora", Progress(), seed=1)
    assert content(one.workspace) != content(other.workspace)
