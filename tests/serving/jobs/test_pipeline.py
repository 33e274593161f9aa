"""A job as a pipeline: supervised, preferences, and both again from what was tuned."""

import errno
import gc
import io
import json

import pytest
import torch
from safetensors.torch import load_file

from jangin.core.errors import ConfigError, StoreError, TrainingError
from jangin.core.events import Progress
from jangin.serving.jobs.events import failure_of
from jangin.serving.jobs.hyperparameters import resolve
from jangin.serving.jobs.pipeline import JobSpec, NoTrainableTokensError, Pipeline
from jangin.serving.jobs.rows import (
    PAIRS,
    TRAINING,
    VALIDATION,
    VALIDATION_PAIRS,
    write_chats,
    write_pairs,
)
from jangin.serving.state.settings import ModelEntry
from tests.serving.jobs.material import as_jsonl, chats, pairs

WEIGHTS = "model.safetensors"
TINY = {"type": "starter", "size": "0.5M", "vocabulary_size": 400}


def spec(folder, rows, method="supervised", validation=None, **changes):
    job = folder / "jobs" / changes.pop("id", "ftjob-1")
    job.mkdir(parents=True, exist_ok=True)
    write_chats(io.BytesIO(as_jsonl(rows)), job / TRAINING)
    if method == "dpo":
        write_pairs(io.BytesIO(as_jsonl(rows)), job / PAIRS)
    if validation and method == "dpo":
        write_pairs(io.BytesIO(as_jsonl(validation)), job / VALIDATION_PAIRS)
    elif validation:
        write_chats(io.BytesIO(as_jsonl(validation)), job / VALIDATION)
    numbers = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0, "beta": 0.1}
    fields = {
        "id": job.name,
        "folder": job,
        "store": folder / "store",
        "method": method,
        "entry": ModelEntry(base=TINY),
        "parent": None,
        "parent_base": None,
        "numbers": numbers,
        "seed": 3,
        "options": {},
        "has_validation": bool(validation),
    }
    return JobSpec(**fields | changes)


def train(job):
    pipeline = Pipeline(job, Progress())
    prepared = pipeline.prepare()
    return prepared, pipeline.train(prepared.base)


@pytest.mark.slow
def test_supervised_then_continued_then_preferences(tmp_path):
    rows = chats(12)
    prepared, first = train(spec(tmp_path, rows, validation=chats(4, 50)))
    assert (prepared.rows, prepared.empty) == (12, 0)
    trained = "".join(p["text"] for p in prepared.preview[0]["pieces"] if p["trained"])
    assert trained == f"{rows[0]['messages'][-1]['content']}<|end|>"
    assert [line["step"] for line in first.metrics] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in first.metrics if "full_valid_loss" in line] == [3, 6]
    assert [p.name for p in (first.model / "epochs").iterdir()] == ["step-00000003"]

    parent = {"parent": first.model, "parent_base": first.base}
    _, second = train(spec(tmp_path, rows, id="ftjob-2", **parent))
    assert second.metrics[0]["train_loss"] < first.metrics[0]["train_loss"]
    assert second.model.parent.name == "continue_sft"

    earlier = {"parent": first.model / "epochs" / "step-00000003", "parent_base": first.base}
    held_out = pairs(3, 50)
    _, third = train(spec(tmp_path, pairs(12), "dpo", held_out, id="ftjob-3", **earlier))
    assert third.model.parent.name == "dpo"
    assert [line["step"] for line in third.metrics if line["valid_loss"] is not None] == [6]
    assert [line["step"] for line in third.metrics if "full_valid_loss" in line] == [3, 6]
    kept = third.model / "epochs" / "step-00000003"
    weights, last = (load_file(part / "model" / WEIGHTS) for part in (kept, third.model))
    assert any(not torch.equal(weights[name], last[name]) for name in last)

    _, fourth = train(spec(tmp_path, pairs(12), "dpo", id="ftjob-4"))
    assert (fourth.model / "model" / "config.json").exists()


def test_rows_without_a_trained_token_fail_before_training(tmp_path):
    job = spec(tmp_path, chats(12, words=50), options={"context_length": 48})
    with pytest.raises(NoTrainableTokensError, match="12 of 12 examples") as error:
        Pipeline(job, Progress()).prepare()
    assert failure_of(error.value).code == "no_trainable_tokens"


def test_empty_answers_are_left_out(tmp_path):
    rows = chats(12)
    rows[3]["messages"][-1]["content"] = ""
    earlier = chats(1, 70)[0]["messages"]
    earlier[-1]["content"] = " "
    rows[5]["messages"][:0] = earlier
    job = spec(tmp_path, rows, validation=[rows[3], *chats(2, 50)])
    prepared = Pipeline(job, Progress()).prepare()
    assert (prepared.rows, prepared.empty) == (11, 0)
    written = (job.folder / TRAINING).read_text().splitlines()
    assert [m.get("weight") for m in json.loads(written[4])["messages"]] == [None, 0, None, None]
    assert len((job.folder / VALIDATION).read_text().splitlines()) == 2
    empty = pairs(2)
    empty[1]["preferred_output"][0]["content"] = ""
    write_pairs(io.BytesIO(as_jsonl(empty)), tmp_path / PAIRS)
    assert len((tmp_path / PAIRS).read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_loss_that_is_no_number_has_a_code(tmp_path):
    numbers = {"n_epochs": 20, "batch_size": 1, "learning_rate_multiplier": 1e38}
    with pytest.raises(TrainingError) as error:
        train(spec(tmp_path, chats(12), numbers=numbers))
    failure = failure_of(error.value)
    assert failure.code == "nan_loss"
    assert "step " in failure.message


# An iterator over a folder that was copied meanwhile stays open until the collector finds it.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_becomes_full_in_training_has_a_code(tmp_path, small_disk):
    entry = ModelEntry(base=TINY, sft={"checkpoint_every_steps": 1})
    with pytest.raises(StoreError) as error:
        train(spec(tmp_path, chats(12), store=small_disk / "store", entry=entry))
    assert failure_of(error.value).code == "disk_full"
    del error
    gc.collect()  # here, as the warning would be an error in another test


def test_a_base_that_is_gone_has_a_code(tmp_path):
    entry = ModelEntry(base={"type": "local", "path": str(tmp_path / "gone")})
    with pytest.raises(ConfigError) as error:
        train(spec(tmp_path, chats(12), entry=entry))
    failure = failure_of(error.value)
    assert failure.code == "model_not_available"
    assert str(tmp_path / "gone") in failure.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (StoreError("the disk is full while writing x. Free some space."), "disk_full"),
        (StoreError("a file for x is larger than this disk or `ulimit -f` allows."), "disk_full"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("could not create a primitive"), "out_of_memory"),
        (TrainingError("step 3: out of memory in the optimizer."), "out_of_memory"),
        (ConfigError("/models/x has no weights"), "model_not_available"),
        (ValueError("secret"), "server_error"),
    ],
)
def test_errors_of_the_machine_have_codes(error, code):
    failure = failure_of(error)
    assert failure.code == code
    assert "secret" not in failure.message


def test_tools_become_text_that_a_template_shows():
    call = {"function": {"name": "add", "arguments": '{"a": 1}'}, "id": "c", "type": "function"}
    row = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "tool_calls": [call], "weight": 0},
            {"role": "tool", "tool_call_id": "c", "content": "2"},
            {"role": "assistant", "content": "two"},
        ],
        "tools": [{"type": "function", "function": {"name": "add"}}],
    }
    from jangin.serving.jobs.rows import chat_of

    messages = chat_of(row)
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[0]["content"].startswith("Be brief.\n\n# Tools")
    assert messages[2]["content"] == (
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    )
    assert messages[2]["weight"] == 0
    assert messages[3]["content"] == "<tool_response>\n2\n</tool_response>"
    assert json.loads(json.dumps(messages)) == messages


def test_auto_hyperparameters():
    auto = {"n_epochs": "auto", "batch_size": "auto"}
    assert resolve(auto, 10, "supervised") == {
        "n_epochs": 10,
        "batch_size": 1,
        "learning_rate_multiplier": 1.0,
    }
    assert resolve({}, 10, "supervised", capped=True)["n_epochs"] == 5
    assert resolve({"n_epochs": 2}, 4000, "dpo") == {
        "n_epochs": 2,
        "batch_size": 8,
        "learning_rate_multiplier": 1.0,
        "beta": 0.1,
    }
