import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from jangin.core.errors import StageError, TrainingError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.records import Document
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact, Manifest
from jangin.models.loading import load_model, load_tokenizer
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_documents
from jangin.training.pretrain import STAGE, PretrainConfig
from tests.training.conftest import content

TEXTS = (
    "연차휴가는 십오 일입니다. 병가는 삼십 일입니다. 출장비는 총무팀이 냅니다. " * 5,
    "회의실은 하루 전에 잡습니다.",
    "  \n",
    "법인카드는 인사팀이 줍니다. 주차권은 방문증과 같이 줍니다. " * 3,
)


def no_chat(name):
    raise AssertionError(f"pretrain requested the model {name}")


def artifact(folder):
    empty = {key: {} for key in ("config", "inputs", "files", "summary")}
    fixed = {"format": 1, "stage": "any", "version": 1, "key": "", "content": ""}
    created = {"created_at": "2026-01-01T00:00:00Z"}
    return Artifact(folder, Manifest.model_validate(empty | fixed | created))


@pytest.fixture
def stage(tmp_path):
    """Run pretrain on these texts and a starter."""
    make_starter(
        tmp_path / "base" / "model",
        list(TEXTS),
        size="0.5M",
        vocabulary_size=320,
        context_length=64,
        seed=0,
    )
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def make(name, texts=TEXTS, progress=None, **settings):
        workspace, documents = tmp_path / name, tmp_path / f"{name}-documents"
        workspace.mkdir(exist_ok=True)
        documents.mkdir(exist_ok=True)
        fields = {
            "length": {"type": "steps", "steps": 8},
            "learning_rate": 3e-3,
            "precision": "fp32",
            "examples_per_step": 4,
            "log_every_steps": 4,
            "checkpoint_every_steps": 3,
            "threads": 1,
        }
        records = [
            Document(id=str(i), source=f"{i}.md", text=text, pages=(), language="ko")
            for i, text in enumerate(texts)
        ]
        config = PretrainConfig.model_validate(fields | settings)
        StageContext(config, {}, documents, None).write("documents", Document, records)
        return StageContext(
            config,
            {"base": artifact(tmp_path / "base"), "documents": artifact(documents)},
            workspace,
            Services(tmp_path, no_chat, ledger, progress or Progress()),
        )

    yield make
    ledger.close()


@settings(max_examples=30)
@given(st.lists(st.text("가나다라 .", min_size=1, max_size=60), min_size=1, max_size=4))
@pytest.mark.parametrize("limit", [16, 17, 64])
def test_every_token_is_trained_once_and_no_window_mixes_documents(tokenizer, limit, texts):
    names = [f"{i}.md" for i in range(len(texts))]
    rows = render_documents(tokenizer, texts, names, limit)
    assert (rows.lengths <= limit).all()
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    for text, name in zip(texts, names, strict=True):
        windows = [rows.row(i) for i, n in enumerate(rows.names) if n.startswith(f"{name}, ")]
        whole = [ends[0], *tokenizer(text, add_special_tokens=False)["input_ids"], ends[1]]
        assert windows[0][0][0] == ends[0]
        assert [int(i) for ids, trained in windows for i in ids[trained]] == whole[1:]
        for (before, _), (after, trained) in pairwise(windows):
            assert before[-1] == after[0]
            assert not trained[0]


def test_a_document_with_a_control_token_is_refused_by_name(tokenizer):
    with pytest.raises(TrainingError, match=r"b\.md .*'<\|end\|>'"):
        render_documents(tokenizer, ["안녕", "끝 <|end|> 아님"], ["a.md", "b.md"], 64)


@pytest.mark.slow
def test_the_artifact_is_a_base_that_writes_the_documents_better(stage):
    context = stage("trained", length={"type": "steps", "steps": 30})
    STAGE.run(context)
    assert STAGE.makes == ("base",)
    tokenizer = load_tokenizer(context.workspace)
    before, after = load_model(context.folder("base")), load_model(context.workspace)
    ids = torch.tensor([tokenizer(TEXTS[3])["input_ids"][:60]])
    with torch.no_grad():
        losses = [float(model(ids, labels=ids).loss) for model in (before, after)]
    assert losses[1] < losses[0] / 2
    assert context.summary["train_loss"] < context.summary["first_train_loss"]
    assert context.summary["valid_loss"] is None
    assert json.loads(json.dumps(context.summary)) == context.summary
    assert AutoModelForCausalLM.from_pretrained(context.workspace / "model").config.eos_token_id


class Dying(Progress):
    def advance(self, bar, steps=1, note=""):
        self.steps = getattr(self, "steps", 0) + steps
        if self.steps == 5:
            raise RuntimeError("the machine went away")


@pytest.mark.slow
def test_an_interrupted_stage_resumes_to_the_same_bytes(stage):
    whole = stage("whole", validation_share=0.3)
    STAGE.run(whole)
    with pytest.raises(RuntimeError, match="went away"):
        STAGE.run(stage("cut", progress=Dying(), validation_share=0.3))
    again = stage("cut", validation_share=0.3)
    STAGE.run(again)
    assert any("step 3 of 8" in line for line in again.services.progress.messages)
    assert content(whole.workspace) == content(again.workspace)
    assert whole.summary["valid_loss"] > 0


@pytest.mark.slow
def test_validation_windows_are_held_out(stage):
    context = stage("held", validation_share=0.25)
    STAGE.run(context)
    windows = len(
        render_documents(
            load_tokenizer(context.folder("base")),
            [text for text in TEXTS if text.strip()],
            ["a", "b", "c"],
            64,
        )
    )
    held = context.summary["validation_rows"]
    assert held == np.round(windows / 4)
    assert context.summary["rows"] == windows - held


def test_documents_without_text_are_an_error(stage):
    with pytest.raises(StageError, match="0 windows"):
        STAGE.run(stage("empty", texts=(" ",)))
    with pytest.raises(StageError, match="1 window "):
        STAGE.run(stage("one", texts=("하나",), validation_share=0.5))


def test_an_adapter_cannot_be_a_base():
    with pytest.raises(ValidationError):
        PretrainConfig.model_validate({"method": {"type": "lora"}})


def test_the_forecast_shows_tokens(stage):
    assert STAGE.cost(stage("forecast")).text.startswith("8 steps of ")
    epochs = stage("forecast", length={"type": "epochs", "epochs": 2})
    assert STAGE.cost(epochs).text.startswith("4 steps of ")
    assert STAGE.cost(epochs).memory_bytes > 2**28
