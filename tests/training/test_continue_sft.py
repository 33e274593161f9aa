import json

import pytest
import torch

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.records import SplitExample
from jangin.core.stage import Services, StageContext
from jangin.models.loading import load_trained
from jangin.models.starter import make_starter
from jangin.training import sft
from jangin.training.continue_sft import STAGE, ContinueSftConfig
from jangin.training.loop.config import StepMetrics
from tests.conftest import make_artifact
from tests.training.conftest import content
from tests.training.test_sft import example

LORA = {"type": "lora", "r": 8, "alpha": 16, "dropout": 0.1}


def no_chat(name):
    raise AssertionError(f"continue_sft requested the model {name}")


@pytest.fixture
def tuned(tmp_path, conversations):
    """Run sft with a method; gives a maker of contexts that continue from it."""
    pairs = [(question.content, answer.content) for question, answer in conversations]
    make_starter(
        tmp_path / "base" / "model",
        [text for pair in pairs for text in pair],
        size="0.5M",
        vocabulary_size=400,
        context_length=64,
        seed=0,
    )
    rows = [
        SplitExample(example=example(*pair), split="train" if i < 14 else "validation")
        for i, pair in enumerate(pairs)
    ]
    splits = tmp_path / "splits"
    splits.mkdir()
    StageContext(sft.SftConfig(), {}, splits, None).write("splits", SplitExample, rows)
    inputs = {"base": make_artifact(tmp_path / "base"), "splits": make_artifact(splits)}
    ledger = Ledger(tmp_path / "ledger.sqlite")
    services = Services(tmp_path, no_chat, ledger, Progress())
    common = {
        "length": {"type": "steps", "steps": 12},
        "learning_rate": 5e-3,
        "precision": "fp32",
        "examples_per_step": 8,
        "log_every_steps": 4,
        "threads": 1,
    }

    def make(method):
        folder = tmp_path / "model"
        folder.mkdir()
        first = sft.SftConfig.model_validate(common | {"method": method})
        sft.STAGE.run(StageContext(first, inputs, folder, services))

        def continued(name, **changes):
            workspace = tmp_path / name
            workspace.mkdir()
            config = ContinueSftConfig.model_validate(common | {"method": method} | changes)
            more = inputs | {"model": make_artifact(folder)}
            return StageContext(config, more, workspace, services)

        return continued

    yield make
    ledger.close()


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [StepMetrics.model_validate_json(line).train_loss for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"type": "full"}, LORA])
def test_training_continues_from_the_tuned_model_and_keeps_its_form(tuned, method):
    continued = tuned(method)
    context = continued("more")
    before = context.folder("model")
    STAGE.run(context)
    first, more = losses(before), losses(context.workspace)
    assert more[0] < first[-1] + 0.3 < first[0]
    assert more[-1] < more[0]
    form = "model" if method["type"] == "full" else "adapter"
    names = {path.name for path in (before / form).iterdir()}
    assert {path.name for path in (context.workspace / form).iterdir()} == names
    base = context.folder("base")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        one, two = (load_trained(f, base)(ids).logits for f in (before, context.workspace))
    assert not torch.equal(one, two)
    assert json.loads(json.dumps(context.summary))["steps"] == 12


@pytest.mark.slow
def test_the_same_continuation_twice_gives_the_same_bytes(tuned):
    continued = tuned(LORA)
    one, two = continued("one"), continued("two")
    STAGE.run(one)
    STAGE.run(two)
    assert content(one.workspace) == content(two.workspace)


@pytest.mark.slow
def test_another_method_than_the_tuned_models_is_refused_with_the_right_one(tuned):
    continued = tuned(LORA)
    for number, method in enumerate(({"type": "full"}, LORA | {"r": 16})):
        with pytest.raises(TrainingError, match=r"type: lora, r: 8, alpha: 16, dropout: 0\.1"):
            STAGE.run(continued(f"refused {number}", method=method))


@pytest.mark.slow
def test_an_adapter_cannot_continue_from_full_weights(tuned):
    continued = tuned({"type": "full"})
    with pytest.raises(TrainingError, match="full weights"):
        STAGE.run(continued("refused", method=LORA))
