"""A new objective is two classes and one row: here two toy ones, through every reader."""

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from jangin.core.errors import StoreError, TrainingError
from jangin.core.events import Progress
from jangin.inference.generate import generate
from jangin.models.loading import load_tokenizer
from jangin.models.tokens.chat_template import RenderedRows, render_prompts, render_rows
from jangin.training.distributed import worker
from jangin.training.distributed.fit import fit, work_of
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.trainer import train
from jangin.training.objectives import table
from jangin.training.objectives.sft import SftObjective, SftTask
from jangin.training.objectives.table import OBJECTIVES, ObjectiveRow, find_objective
from jangin.training.preflight.memory import TrainingLoad, estimate
from tests.shared import free_port

STEPS = 12


@dataclass(slots=True)
class SmoothedObjective(SftObjective):
    """Cross-entropy with label smoothing."""

    name: ClassVar[str] = "smoothed"

    def loss(self, batch):
        weight_VD = self.loss_model.model.get_output_embeddings().weight
        logits_NV = self.loss_model.hidden(batch) @ weight_VD.T
        self.sums["correct"] += (logits_NV.argmax(-1) == batch.targets_N).sum()
        return torch.nn.functional.cross_entropy(
            logits_NV, batch.targets_N, reduction="sum", label_smoothing=0.1
        )


@dataclass(frozen=True, slots=True)
class SmoothedTask(SftTask):
    name: ClassVar[str] = SmoothedObjective.name

    def objective(self, model, config, group):
        return SmoothedObjective.of(model, self.data, self.validation, config, group)


@dataclass(frozen=True)
class Sampled:
    """One sampled answer as a batch, with what it earned more than the others of its step."""

    batch: object
    advantage: float

    @property
    def tokens(self):
        return self.batch.tokens


@dataclass(slots=True)
class RewardObjective(SftObjective):
    """Policy gradient on answers that the model samples in each step, as GRPO does.

    An answer earns the share of its tokens with an id below 200; so the accuracy in the metrics is
    the mean reward.
    """

    tokenizer: object = None
    prompts: tuple = ()
    name: ClassVar[str] = "reward"

    def batches(self, rows):
        model, prompts = self.loss_model.model, [self.prompts[row] for row in rows]
        model.eval()
        seed = int(torch.randint(2**31, ()))
        answers = generate(
            model, self.tokenizer, prompts, 4, len(prompts), temperature=1.0, seed=seed
        )
        model.train()
        rewards = np.array([np.mean(np.array(a.token_ids) < 200) for a in answers])
        self.sums["correct"] += int(sum((np.array(a.token_ids) < 200).sum() for a in answers))
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        prompt_ids = render_prompts(self.tokenizer, prompts)
        return [
            self._sampled(prompt, answer.token_ids, float(advantage))
            for prompt, answer, advantage in zip(prompt_ids, answers, advantages, strict=True)
        ]

    def _sampled(self, prompt, answer, advantage):
        ids = np.array([*prompt, *answer])
        starts = np.array([0, len(ids)])
        row = RenderedRows(ids, np.arange(len(ids)) >= len(prompt), starts, ("sample",))
        return Sampled(self.loss_model.batcher(row, [0], self.device), advantage)

    def loss_denominator(self, batches):
        return SftObjective.loss_denominator(self, [each.batch for each in batches])

    def loss(self, batch):
        loss, _ = self.loss_model.forward(batch.batch)
        return batch.advantage * loss


@pytest.fixture(autouse=True)
def rows_of_toys(monkeypatch):
    row = ObjectiveRow("smoothed", lambda: SmoothedTask)
    monkeypatch.setattr(table, "OBJECTIVES", (*OBJECTIVES, row))


@pytest.fixture(scope="module")
def data(start, conversations):
    names = [f"row {i}" for i in range(len(conversations))]
    return render_rows(load_tokenizer(start.base), conversations, names)


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": STEPS},
        "learning_rate": 3e-3,
        "examples_per_step": 8,
        "log_every_steps": 3,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


def fitted(task, folder, progress=None, **changes):
    folder.mkdir(exist_ok=True)
    return fit(task, config(**changes), folder, progress or Progress())


@pytest.mark.slow
def test_a_toy_objective_trains_through_the_same_path(start, data, tmp_path):
    task = SmoothedTask(start, data, None)
    trained = fitted(task, tmp_path / "smoothed")
    assert trained.result.last.train_loss < trained.result.first.train_loss - 0.5
    assert trained.result.runtime["predicted_memory_bytes"] > 0
    plain = fitted(SftTask(start, data, None), tmp_path / "plain")
    assert plain.result.first.train_loss != trained.result.first.train_loss


def write_task(task, folder, **changes):
    """task.json and the rows, as the launcher writes them."""
    task_folder = folder / "journal" / "task"
    task_folder.mkdir(parents=True)
    settings = {
        "objective": task.name,
        "folder": str(folder),
        "config": config().model_dump(mode="json"),
        "budget": 2048,
        **task.write(task_folder),
    }
    (task_folder / "task.json").write_text(json.dumps(settings | changes))
    return task_folder


@pytest.fixture
def torchrun(monkeypatch):
    """What torchrun puts into the environment of the only worker."""
    about = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**about, "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.slow
@pytest.mark.usefixtures("torchrun")
def test_a_worker_trains_the_objective_that_its_task_names(start, data, tmp_path, capsys):
    task = SmoothedTask(start, data, None)
    alone = fitted(task, tmp_path / "alone").result
    assert worker.main(write_task(task, tmp_path / "worker")) == 0
    messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert messages[-1]["result"]["last"] == alone.last.model_dump()
    assert (tmp_path / "worker" / "journal" / "trained.safetensors").exists()


@pytest.mark.parametrize("name", [None, "orpo"])
def test_a_task_of_another_version_is_refused_instead_of_guessed(start, data, tmp_path, name):
    """Version 0 told objectives apart by the files in the folder."""
    folder = write_task(SftTask(start, data, None), tmp_path)
    settings = json.loads((folder / "task.json").read_text()) | {"objective": name}
    if name is None:
        del settings["objective"]
    with pytest.raises(StoreError, match=rf"task\.json.*`objective` is {name!r}.*run again"):
        worker.named_objective(settings, folder)


def test_every_row_loads_a_task_of_its_own_name():
    for row in OBJECTIVES:
        task = row.task()
        assert task.name == row.name
        assert find_objective(row.name) is row
    with pytest.raises(TrainingError, match=r"'orpo'.*sft, dpo"):
        find_objective("orpo")


def test_the_memory_estimate_uses_the_table(start, data):
    sft = work_of(SftTask(start, data, None))
    assert (sft.objective, sft.kept_weights) == ("sft", False)
    plans = [estimate(start.base, config(), TrainingLoad(sft.lengths, 0.5, name)).plan
             for name in ("sft", "dpo")]  # fmt: skip
    assert plans[0].loss != plans[1].loss
    with pytest.raises(TrainingError, match="'orpo'"):
        estimate(start.base, config(), TrainingLoad(sft.lengths, 0.5, "orpo"))


class Dying(Progress):
    def advance(self, bar, steps=1, note=""):
        self.steps = getattr(self, "steps", 0) + steps
        if self.steps == 7:
            raise RuntimeError("the machine went away")


@pytest.mark.slow
def test_a_checkpoint_of_another_objective_is_not_resumed(start, data, tmp_path):
    """One without a name is: versions that recorded none had no two objectives with equal sums."""
    settings = {"checkpoint_every_steps": 3}
    with pytest.raises(RuntimeError, match="went away"):
        fitted(SftTask(start, data, None), tmp_path, Dying(), **settings)
    progress = Progress()
    fitted(SmoothedTask(start, data, None), tmp_path, progress, **settings)
    assert ["step 0" in line for line in progress.messages] == [True]
    state = next((tmp_path / "journal" / "checkpoints").glob("step-*/state.json"))
    fields = json.loads(state.read_text())
    assert fields.pop("objective") == "smoothed"
    state.write_text(json.dumps(fields))
    progress = Progress()
    fitted(SftTask(start, data, None), tmp_path, progress, **settings)
    assert [f"step {fields['step']} of {STEPS}" in line for line in progress.messages] == [True]


@pytest.mark.long
def test_an_objective_may_sample_its_batches_and_resumes_to_the_same_bits(
    start, data, conversations, tmp_path
):
    """As GRPO would: the reward rises, and a killed run draws the same samples again."""
    settings = config(learning_rate=2e-2, checkpoint_every_steps=3)
    tokenizer = load_tokenizer(start.base)
    prompts = tuple(pair[:1] for pair in conversations)

    def run(folder, progress):
        folder.mkdir(exist_ok=True)
        model, _ = SftTask(start, data, None).load(settings)
        torch.manual_seed(0)
        objective = RewardObjective.of(model, data, None, settings, ProcessGroup())
        objective.tokenizer, objective.prompts = tokenizer, prompts
        return train(objective, settings, folder, progress)

    whole = run(tmp_path / "whole", Progress())
    assert whole.last.train_mean_token_accuracy > whole.first.train_mean_token_accuracy + 0.2
    with pytest.raises(RuntimeError, match="went away"):
        run(tmp_path / "cut", Dying())
    assert run(tmp_path / "cut", Progress()).last == whole.last
