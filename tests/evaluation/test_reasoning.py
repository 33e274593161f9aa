"""A model tuned on a template that thinks is graded on its answers, and only on them."""

import shutil

import pytest
from transformers import AutoTokenizer

from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table
from jangin.core.records import Example, Message, SplitExample
from jangin.core.stage import Services, StageContext
from jangin.evaluation.evaluate import EvaluateConfig
from jangin.evaluation.evaluate import run as evaluate_run
from jangin.evaluation.tasks.task import Prediction
from jangin.models.catalog import STAGE as CATALOG
from jangin.models.catalog import CatalogConfig
from jangin.models.starter import make_starter
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig
from tests.conftest import make_artifact

THINKS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1].lstrip() }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
TAGGED = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class Listener:
    """Progress that keeps every text in a list."""

    def __init__(self):
        self.messages = []

    def __getattr__(self, _name):
        return lambda *words, **_named: self.messages.append(" ".join(map(str, words)))

    def track(self, items, *_words, **_named):
        return items


class Stages:
    """Runs one stage after another in a folder, each on what the stages before it made."""

    def __init__(self, folder, ledger):
        self.folder, self.listener, self.inputs = folder, Listener(), {}
        self.services = Services(folder, lambda _: None, ledger, self.listener)

    def context(self, name, config):
        workspace = self.folder / name
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir()
        return StageContext(config, self.inputs, workspace, self.services)

    def keep(self, name, *kinds):
        self.inputs |= dict.fromkeys(kinds, make_artifact(self.folder / name))


def as_split(conversation, thought):
    question, answer = conversation
    reply = Message(role="assistant", content=thought + answer.content)
    return SplitExample(example=Example.make((question,), reply, kind="original"), split="train")


@pytest.fixture
def tune(tmp_path, conversations):
    """Catalog, sft and evaluate on four questions; gives predictions, summary and messages."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    texts = [message.content for turns in conversations for message in turns]
    texts += ["<think>\n\n</think>\n\n생각한다"] * 4
    model = tmp_path / "model"
    make_starter(model, texts, size="0.5M", vocabulary_size=400, context_length=128, seed=0)

    def tune(template, thought="", steps=60, max_new_tokens=40, **base):
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(model)
        stages = Stages(tmp_path, ledger)
        local = {"type": "local", "path": "model", **base}
        catalog = stages.context("base", CatalogConfig.model_validate({"base": local}))
        rows = [as_split(each, thought) for each in conversations[:4]]
        catalog.write("splits", SplitExample, rows)
        CATALOG.run(catalog)
        stages.keep("base", "base", "splits")
        settings = {
            "length": {"type": "steps", "steps": steps},
            "learning_rate": 1e-2,
            "precision": "fp32",
            "examples_per_step": 4,
            "threads": 1,
        }
        SFT.run(stages.context("tuned", SftConfig.model_validate(settings)))
        stages.keep("tuned", "model")
        wanted = {"systems": ["tuned"], "max_new_tokens": max_new_tokens}
        evaluation = stages.context("evaluation", EvaluateConfig.model_validate(wanted))
        evaluate_run(evaluation)
        stages.keep("evaluation", "evaluation")
        return evaluation, stages.listener.messages

    yield tune
    ledger.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "thought", "settings"),
    [
        (TAGGED, "", {}),
        (THINKS, "", {}),
        (THINKS, "<think>\n생각한다\n</think>\n\n", {"thinking": "on"}),
    ],
    ids=["empty thought in the answer", "thought closed in the prompt", "thinking"],
)
def test_a_model_that_knows_all_answers_is_graded_100_percent(tune, template, thought, settings):
    evaluation, _ = tune(template, thought, **settings)
    predictions = read_table(evaluation.workspace / "predictions.parquet", Prediction)
    assert all(p.right and p.prediction == p.gold for p in predictions)
    assert {p.reasoning for p in predictions} == ({"생각한다"} if thought else {""})
    assert all(p.reasoning_ended for p in predictions)
    counted = evaluation.summary.get("reasoning_tokens", {})
    assert counted == ({"tuned": sum(p.reasoning_tokens for p in predictions)} if thought else {})


@pytest.mark.slow
def test_answers_that_never_end_their_thoughts_are_counted_and_said(tune):
    thought = "<think>\n생각한다\n</think>\n\n"
    evaluation, messages = tune(THINKS, thought, steps=2, max_new_tokens=3, thinking="on")
    predictions = read_table(evaluation.workspace / "predictions.parquet", Prediction)
    assert not any(p.reasoning_ended or p.right or p.prediction for p in predictions)
    assert evaluation.summary["reasoning_never_ended"] == {"tuned": 4}
    assert any("4 of 4 answers of tuned never end their reasoning" in line for line in messages)
