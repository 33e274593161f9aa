import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch

from jangin.core.digest import digest_value
from jangin.core.errors import ConfigError, SettingsError
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Example, Message, SplitExample
from jangin.core.stage import Services, SilentProgress, StageContext
from jangin.core.store import Artifact, Manifest
from jangin.evaluation.select import STAGE, Candidate, SelectConfig, rank, select
from jangin.models.loading import load_model, load_tokenizer
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows
from jangin.training.loop.config import Full, Steps
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig

FACTS = {
    f"{topic} 담당은?": f"{topic}팀" for topic in ("연차", "병가", "출장", "경조", "퇴직", "야근")
}
SMALL = {"size": "0.5M", "vocabulary_size": 400, "context_length": 64}


def rows(split="train"):
    return [
        SplitExample(
            example=Example.make(
                (Message(role="user", content=question),),
                Message(role="assistant", content=answer),
                kind="original",
            ),
            split=split,
        )
        for question, answer in FACTS.items()
    ]


def artifact(folder):
    manifest = Manifest(
        format=1, stage="x", version=1, key="0", config={}, inputs={}, files={}, content="0",
        summary={}, created_at=datetime.now(UTC),
    )  # fmt: skip
    return Artifact(folder, manifest)


def no_chat(name):
    raise AssertionError(f"select asks no chat model, least of all {name}")


@pytest.fixture
def context_of(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def make(config, table=None, name="workspace"):
        folder, workspace = tmp_path / "splits", tmp_path / name
        folder.mkdir(exist_ok=True)
        workspace.mkdir(exist_ok=True)
        write_table(folder / "splits.parquet", SplitExample, rows() if table is None else table)
        services = Services(tmp_path, no_chat, ledger, SilentProgress())
        return StageContext(config, {"splits": artifact(folder)}, workspace, services)

    yield make
    ledger.close()


@pytest.fixture
def taught(tmp_path, context_of):
    """A model folder that knows the facts, and one of the same kind that knows nothing."""
    texts = [text for pair in FACTS.items() for text in pair]
    made = make_starter(tmp_path / "blank" / "model", texts, seed=0, **SMALL)
    assert made["parameters"] > 0
    config = SftConfig(
        method=Full(type="full"), length=Steps(type="steps", steps=40), learning_rate=3e-3,
        examples_per_step=6, precision="fp32",
    )  # fmt: skip
    context = context_of(config, name="sft")
    inputs = {**context.inputs, "base": artifact(tmp_path / "blank")}
    SFT.run(replace(context, inputs=inputs))
    for name, source in (("knows", context.workspace), ("blank", tmp_path / "blank")):
        shutil.copytree(source / "model", tmp_path / "candidates" / name)
    (tmp_path / "candidates" / "knows" / "README.md").write_text("---\nlicense: mit\n---\n")
    return tmp_path / "candidates"


def local(name):
    return {"type": "local", "path": f"candidates/{name}"}


@pytest.mark.slow
@pytest.mark.usefixtures("taught")
def test_the_model_that_knows_the_answers_is_chosen_and_becomes_the_base(context_of):
    config = SelectConfig(candidates=(local("blank"), local("knows")), max_new_tokens=8)
    context = context_of(config)
    select(context)
    first, second = read_table(context.workspace / "candidates.parquet", Candidate)
    assert (first.name, first.rank, first.chosen, first.right) == ("knows", 1, True, 1)
    assert (second.name, second.rank, second.chosen, second.right) == ("blank", 2, False, 0)
    assert first.nats_per_character < second.nats_per_character / 5
    assert (first.licence, second.licence) == ("mit", "")
    assert (first.context_length, first.n) == (64, 6)
    assert first.lora_memory_bytes > 0
    assert not second.tied
    assert second.p_value == pytest.approx(2 / 2**6)
    base = load_model(context.workspace)
    assert base.config.max_position_embeddings == 64
    reference = json.loads((context.workspace / "model" / "reference.json").read_text())
    assert (reference["id"], reference["revision"]) == ("knows", first.revision)
    assert not (context.workspace / "candidates").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("taught")
def test_likelihood_is_that_of_the_whole_answer_with_its_stop_token(context_of):
    context = context_of(SelectConfig(candidates=(local("blank"), local("knows")), limit=1))
    select(context)
    by_draw = sorted(rows(), key=lambda r: digest_value([0, "select", r.example.id]))
    example = by_draw[0].example
    model, tokenizer = load_model(context.workspace), load_tokenizer(context.workspace)
    rendered = render_rows(tokenizer, [(*example.prompt, example.completion)], ["x"])
    ids, trained = rendered.row(0)
    with torch.inference_mode():
        logp = model(input_ids=torch.from_numpy(ids)[None]).logits[0].log_softmax(-1)
    expected = -sum(float(logp[i - 1, ids[i]]) for i in range(1, len(ids)) if trained[i])
    first, _ = read_table(context.workspace / "candidates.parquet", Candidate)
    assert first.nats_per_character == pytest.approx(expected / len(example.answer), rel=1e-4)
    assert ids[-1] == tokenizer.eos_token_id or trained[-1]


@pytest.mark.slow
def test_two_models_with_the_same_likelihood_tie_and_a_message_names_both(context_of, taught):
    shutil.copytree(taught / "blank", taught / "twin")
    context = context_of(SelectConfig(candidates=(local("blank"), local("twin")), max_new_tokens=2))
    select(context)
    best, other = read_table(context.workspace / "candidates.parquet", Candidate)
    assert (best.name, best.chosen, best.p_value) == ("blank", True, None)
    assert (other.name, other.tied, other.p_value) == ("twin", True, 1)
    (message,) = context.services.progress.messages
    assert re.search(r"\bblank\b.*\btwin\b.*\b6 questions\b", message)


def candidate(name, mean):
    return Candidate(
        name=name, type="local", revision="", n=8, nats_per_character=mean, nats_low=0,
        nats_high=9, right=0, right_low=0, right_high=1, tokens_per_character=1, parameters=1,
        context_length=1, vocabulary=1, licence="", lora_memory_bytes=None,
    )  # fmt: skip


@pytest.mark.slow
def test_a_difference_that_could_be_chance_is_a_tie():
    families = [str(i) for i in range(8)]
    nats = [[1.0] * 8, [1.1, 0.9] * 4, [2.0] * 8]
    means = [1.0, 1.0001, 2.0]
    ranked = rank([candidate(n, m) for n, m in zip("abc", means, strict=True)], nats, families, 0)
    assert [(row.name, row.chosen, row.tied) for row in ranked] == [
        ("a", True, False), ("b", False, True), ("c", False, False)
    ]  # fmt: skip
    assert ranked[2].p_value == pytest.approx(2 / 2**8)


@pytest.mark.slow
def test_an_interrupted_choice_does_not_try_a_model_twice(context_of):
    starters = tuple({"type": "starter", **SMALL, "seed": seed} for seed in (0, 1, 2))
    whole = context_of(SelectConfig(candidates=starters, max_new_tokens=2), name="whole")
    select(whole)
    expected = read_table(whole.workspace / "candidates.parquet", Candidate)
    journal = whole.workspace / "journal" / "candidates.jsonl"
    again = context_of(SelectConfig(candidates=starters, max_new_tokens=2), name="again")
    (again.workspace / "journal").mkdir()
    lines = journal.read_text().splitlines(keepends=True)
    (again.workspace / "journal" / "candidates.jsonl").write_text(lines[0] + lines[1] + "{torn")
    select(again)
    assert read_table(again.workspace / "candidates.parquet", Candidate) == expected
    assert (again.workspace / "journal" / "candidates.jsonl").read_text().splitlines()[:2] == [
        line.rstrip("\n") for line in lines[:2]
    ]


@pytest.mark.slow
def test_held_out_questions_never_choose_the_model(context_of):
    starters = tuple({"type": "starter", **SMALL, "seed": seed} for seed in (0, 1))
    context = context_of(SelectConfig(candidates=starters), table=rows("test"))
    with pytest.raises(SettingsError, match="no training or validation question"):
        select(context)


@pytest.mark.slow
def test_a_folder_without_a_model_is_named_with_its_place_in_the_file(tmp_path):
    config = SelectConfig(candidates=(local("a"), local("b")))
    with pytest.raises(ConfigError, match=r"candidates/a .*config\.json.*candidates: 0: path"):
        STAGE.sources(config, tmp_path)
