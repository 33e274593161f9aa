"""Our masks and losses against TRL's, which nothing but these tests needs."""

import os
import random
import warnings

import pytest
import torch

from jangin.core.records import Message
from jangin.models.starter import random_llama
from jangin.models.tokens.chat_template import render_rows
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.scorer import choose_loss_model
from jangin.training.loop.weights import attach
from tests.models.tokens.test_chat_template import CHATML, with_template

if os.environ.get("CI") != "true":  # there a comparison must not be skipped
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'jangin[parity]'")
WORDS = (
    "연차휴가",
    "병가",
    "출장비",
    "회의실은",
    "3일",
    "안에",
    "인사팀에",
    "냅니다.",
    "언제?",
    "\n",
)


def conversations_of(count):
    """Conversations of one to three questions, some with a system message."""
    chance = random.Random(0)

    def text():
        return " ".join(chance.choices(WORDS, k=chance.randint(1, 12))).strip() or "네"

    rows = []
    for _ in range(count):
        turns = [Message(role="system", content=text())] * chance.randint(0, 1)
        for _ in range(chance.randint(1, 3)):
            turns += [Message(role=role, content=text()) for role in ("user", "assistant")]
        rows.append(tuple(turns))
    return rows


@pytest.fixture(scope="module")
def trl_rows(tmp_path_factory):
    """(trainer, its rows, our conversations) of a tokenizer and a model."""
    import datasets

    datasets.disable_progress_bars()
    from trl import SFTConfig, SFTTrainer

    def prepare(tokenizer, model, conversations):
        rows = datasets.Dataset.from_list(
            [
                {
                    "prompt": [message.model_dump() for message in turns[:-1]],
                    "completion": [turns[-1].model_dump()],
                }
                for turns in conversations
            ]
        )
        settings = SFTConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            completion_only_loss=True,
            max_length=None,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer)

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize("template", ["ours", "chatml"])
def test_ids_and_masks_of_a_thousand_rows_equal_trls(tokenizer, trl_rows, template):
    if template == "chatml":
        tokenizer = with_template(tokenizer, CHATML)
    model = random_llama(tokenizer, "0.5M", 512, 0)
    conversations = conversations_of(1000)
    theirs = trl_rows(tokenizer, model, conversations).train_dataset
    names = [f"row {number}" for number in range(len(conversations))]
    ours = render_rows(tokenizer, conversations, names)
    assert len(theirs) == len(ours) == 1000
    longer = 0
    for number, row in enumerate(theirs):
        ids, trained = ours.row(number)
        assert row["input_ids"][: len(ids)] == ids.tolist()
        assert [label != -100 for label in row["labels"][: len(ids)]] == trained.tolist()
        # ChatML writes a line break after the stop token. TRL trains it, but it is never generated.
        assert tokenizer.decode(row["input_ids"][len(ids) :]) in ("", "\n")
        longer += len(row["input_ids"]) > len(ids)
    assert longer == (1000 if template == "chatml" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"type": "full"}, {"type": "lora", "r": 8}])
def test_the_loss_of_a_batch_and_its_gradient_equal_trls(tokenizer, trl_rows, method):
    config = TrainingConfig.model_validate({"method": method, "precision": "fp32"})
    conversations = conversations_of(12)
    names = [f"row {number}" for number in range(len(conversations))]
    model = attach(random_llama(tokenizer, "0.5M", 512, 0), config)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            if "lora_B" in name:  # zero in a new adapter, which would hide a wrong gradient
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    trainer = trl_rows(tokenizer, model, conversations)
    batch = trainer.data_collator(list(trainer.train_dataset))
    theirs = trainer.compute_loss(model.train(), batch)
    gradients = torch.autograd.grad(theirs, list(trained.values()))
    ours = render_rows(tokenizer, conversations, names)
    loss_model = choose_loss_model(model, ours, torch.float32, torch.device("cpu"))
    assert loss_model.packed
    loss, _ = loss_model.forward(loss_model.batcher(ours, range(len(ours)), torch.device("cpu")))
    loss = loss / ours.trained.sum()
    torch.testing.assert_close(loss, theirs.detach().double(), rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(loss, list(trained.values())), gradients, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
