import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM

from jangin.core.digest import short_digest
from jangin.core.errors import DataError, MachineError, SettingsError, StageError, TrainingError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.records import Example, Message, SplitExample
from jangin.core.stage import Services, StageContext
from jangin.inference.generate import generate
from jangin.inference.taught_form import TaughtForm
from jangin.models.loading import load_model, load_tokenizer, load_trained
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows
from jangin.training.export.export import export_model
from jangin.training.loop.config import StepMetrics
from jangin.training.loop.scorer import choose_loss_model
from jangin.training.loop.weights import (
    attach,
    count_parameters,
    load_for_training,
    save_epoch,
)
from jangin.training.sft import STAGE, SftConfig
from tests.conftest import make_artifact
from tests.training.conftest import content


def no_chat(name):
    raise AssertionError(f"sft requested the model {name}")


def example(question, answer):
    return Example.make(
        (Message(role="user", content=question),),
        Message(role="assistant", content=answer),
        kind="original",
    )


@pytest.fixture
def pairs(conversations):
    return [(question.content, answer.content) for question, answer in conversations]


@pytest.fixture
def stage(tmp_path, pairs):
    """Run sft on these pairs (the last two validate) and a starter; gives workspace and context."""
    base = tmp_path / "base"
    make_starter(
        base / "model",
        [text for pair in pairs for text in pair],
        size="0.5M",
        vocabulary_size=400,
        context_length=64,
        seed=0,
    )
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def make(name, rows=None, progress=None, **settings):
        workspace = tmp_path / name
        workspace.mkdir(exist_ok=True)
        fields = {
            "length": {"type": "steps", "steps": 12},
            "learning_rate": 3e-3,
            "precision": "fp32",
            "examples_per_step": 8,
            "log_every_steps": 4,
            "validate_every_steps": 6,
            "threads": 1,
        }
        context = StageContext(
            SftConfig.model_validate(fields | settings),
            {"base": make_artifact(base), "splits": make_artifact(tmp_path / f"{name}-splits")},
            workspace,
            Services(tmp_path, no_chat, ledger, progress or Progress()),
        )
        (tmp_path / f"{name}-splits").mkdir(exist_ok=True)
        rows = (
            rows
            if rows is not None
            else [
                SplitExample(example=example(*pair), split="train" if i < 14 else "validation")
                for i, pair in enumerate(pairs)
            ]
        )
        StageContext(context.config, {}, tmp_path / f"{name}-splits", None).write(
            "splits", SplitExample, rows
        )
        return context

    yield make
    ledger.close()


@pytest.mark.slow
def test_full_tuning_writes_a_model_that_answers_as_it_was_taught(stage, pairs):
    context = stage("full", length={"type": "steps", "steps": 90}, learning_rate=5e-3)
    STAGE.run(context)
    model = load_trained(context.workspace, context.folder("base"))
    tokenizer = load_tokenizer(context.workspace)
    prompts = [(Message(role="user", content=question),) for question, _ in pairs[:14]]
    answers = generate(model, tokenizer, prompts, max_new_tokens=48)
    right = sum(a.text == pair[1] for a, pair in zip(answers, pairs, strict=False))
    assert right >= 12
    assert all(answer.finished for answer in answers)


def file_names(paths):
    return {path.rpartition("/")[2] for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"type": "full"}, {"type": "lora", "r": 8}])
def test_models_of_earlier_epochs_are_kept_and_training_is_not_changed_by_it(stage, method):
    settings = {"length": {"type": "epochs", "epochs": 4}, "method": method}
    plain, kept = stage("plain", **settings), stage("kept", keep_epochs=2, **settings)
    STAGE.run(plain)
    STAGE.run(kept)
    one, other = content(plain.workspace), content(kept.workspace)
    epochs = {name for name in other if name.startswith("epochs/")}
    assert {name: digest for name, digest in other.items() if name not in epochs} == one
    names = ["step-00000004", "step-00000006"]
    assert sorted(p.name for p in (kept.workspace / "epochs").iterdir()) == names
    part = "model" if method["type"] == "full" else "adapter"
    for name in names:
        files = [f for f in epochs if f.startswith(f"epochs/{name}/{part}/")]
        assert file_names(files) == file_names(f for f in one if f.startswith(f"{part}/"))
    models = [load_trained(kept.workspace / "epochs" / name, kept.folder("base")) for name in names]
    first, second = (torch.cat([p.flatten() for p in m.parameters()]) for m in models)
    assert not torch.equal(first, second)


def test_the_model_of_an_epoch_is_rounded_like_the_checkpoint_and_training_stays_fp32(
    stage, tmp_path
):
    context = stage("full")
    model = load_model(context.folder("base"))
    tokenizer = load_tokenizer(context.folder("base"))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    save_epoch(model, tokenizer, tmp_path, (2,), torch.bfloat16, context.folder("base"))
    assert model.dtype == torch.float32
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    kept = load_model(tmp_path)
    assert kept.dtype == torch.bfloat16
    for name, weight in kept.state_dict().items():
        assert torch.equal(weight, before[name].bfloat16())


@pytest.mark.slow
def test_the_artifact_has_weights_tokenizer_metrics_and_a_summary(stage):
    context = stage("full")
    STAGE.run(context)
    lines = (context.workspace / "metrics.jsonl").read_text().splitlines()
    metrics = [StepMetrics.model_validate_json(line) for line in lines]
    assert [line.step for line in metrics] == [4, 6, 8, 12]
    summary = context.summary
    assert summary["steps"] == 12
    assert (summary["rows"], summary["validation_rows"]) == (14, 2)
    assert summary["train_loss"] == metrics[-1].train_loss
    assert summary["valid_loss"] == metrics[-1].valid_loss
    assert summary["trained_tokens"] == metrics[-1].trained_tokens
    assert summary["trainable_parameters"] == summary["parameters"]
    assert json.loads(json.dumps(summary)) == summary
    names = set(content(context.workspace))
    assert {"metrics.jsonl", "model/model.safetensors", "model/tokenizer.json"} <= names
    runtime = json.loads((context.workspace / "runtime" / "training.json").read_text())
    assert (runtime["threads"], runtime["packed"], runtime["precision"]) == (1, True, "float32")
    assert runtime["tokens_per_second"] > 0
    assert runtime["peak_memory_bytes"] > 0
    form = TaughtForm.read(context.workspace)
    assert (form.several_turns, form.system_messages) == (False, frozenset())


RECORD = {
    "name": "a model", "base": "our-starter", "data": {}, "training": {"method": "any", "steps": 2},
    "evaluation": [], "limits": [],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_no_vocabulary_is_resized_and_the_tokenizer_travels_unchanged(stage, pairs, method):
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    context = stage("run", method={"type": method}, length={"type": "steps", "steps": 2})
    base = context.folder("base")
    # As many models have it: more rows than the tokenizer has tokens.
    rows = len(load_tokenizer(base)) + 13
    wide = load_model(base)
    wide.resize_token_embeddings(rows, mean_resizing=False)
    wide.save_pretrained(base / "model")
    STAGE.run(context)
    out = context.workspace / "export"
    prompts = [(Message(role="user", content=question),) for question, _ in pairs[:2]]
    export_model(base, context.workspace, out, "merged", RECORD, prompts)
    for model in (
        load_trained(context.workspace, base),
        AutoModelForCausalLM.from_pretrained(out),
    ):
        assert model.get_input_embeddings().weight.shape[0] == rows
        assert model.get_output_embeddings().weight.shape[0] == rows
        assert model.config.vocab_size == rows
    form = context.workspace / ("model" if method == "full" else "adapter")
    for name in ("tokenizer.json", "chat_template.jinja"):
        kept = {(folder / name).read_bytes() for folder in (base / "model", form, out)}
        assert len(kept) == 1


def several_turns(question, answer, weights=()):
    turns = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    prompt, completion = (*turns, *turns[:1]), turns[1]
    return Example.make(prompt, completion, kind="original", weights=weights)


@pytest.mark.slow
def test_the_weights_of_an_examples_messages_reach_training(stage, pairs):
    tokens = {}
    for weights in ((), (1, 1, 1, 1), (0, 1, 0, 0), (0, 0, 0, 1)):
        rows = [
            SplitExample(example=several_turns(*pair, weights), split="train") for pair in pairs[:3]
        ]
        rows.append(SplitExample(example=several_turns(*pairs[3]), split="train"))
        steps = {"length": {"type": "steps", "steps": 1}}
        context = stage(f"run {weights}", rows, train_on="all_turns", **steps)
        STAGE.run(context)
        tokens[weights] = context.summary["trained_tokens"]
    assert tokens[()] == tokens[1, 1, 1, 1]
    assert tokens[0, 1, 0, 0] == tokens[0, 0, 0, 1]
    unweighted = 2 * tokens[0, 0, 0, 1] - tokens[()]  # both turns of the last example
    assert 0 < unweighted < tokens[0, 0, 0, 1]


@pytest.mark.parametrize("weights", [(1,), (0, 0, 0, 0, 1), (0, 2, 0, 1), (0, -1, 0, 1)])
def test_weights_that_are_not_0_or_1_for_every_message_are_refused(stage, pairs, weights):
    wrong = several_turns(*pairs[1], weights)
    rows = [SplitExample(example=e, split="train") for e in (several_turns(*pairs[0]), wrong)]
    with pytest.raises(DataError, match=rf"row 2 \({wrong.id}\) .*4 messages.*`weights`"):
        STAGE.run(stage("refused", rows))


def test_weights_are_part_of_an_examples_identity_only_where_there_are_any(pairs):
    plain, weighted = several_turns(*pairs[0]), several_turns(*pairs[0], (0, 0, 0, 1))
    messages = [*plain.prompt, plain.completion]
    identity = {
        "prompt": [message.model_dump() for message in messages[:-1]],
        "completion": messages[-1].model_dump(),
        "chunk_ids": [],
    }
    assert plain.id == short_digest(identity)
    assert weighted.id not in (plain.id, several_turns(*pairs[0], (0, 1, 0, 0)).id)


@pytest.mark.slow
def test_rows_in_the_order_given_make_the_same_steps_in_every_epoch(stage, pairs):
    rows = [
        SplitExample(example=example(question, "네" if n < 8 else answer), split="train")
        for n, (question, answer) in enumerate(pairs)
    ]
    settings = {"length": {"type": "epochs", "epochs": 2}, "log_every_steps": 1}
    counts = {}
    for order in ("as_given", "shuffled"):
        context = stage(order, rows, order=order, **settings)
        STAGE.run(context)
        lines = (context.workspace / "metrics.jsonl").read_text().splitlines()
        done = [StepMetrics.model_validate_json(line).trained_tokens for line in lines]
        counts[order] = [now - before for before, now in zip([0, *done], done, strict=False)]
    short, long = counts["as_given"][:2]
    assert counts["as_given"] == [short, long, short, long]
    assert long > 2 * short
    assert short not in counts["shuffled"]
    assert sum(counts["shuffled"]) == 2 * (short + long)


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"type": "full"}, {"type": "lora", "r": 8, "dropout": 0.1}])
def test_the_same_run_twice_gives_the_same_bytes(stage, method):
    one, two = stage("one", method=method), stage("two", method=method)
    STAGE.run(one)
    STAGE.run(two)
    assert content(one.workspace) == content(two.workspace)
    assert one.summary == two.summary


@pytest.mark.slow
def test_an_adapter_trains_saves_and_reloads_through_peft(stage):
    progress = Progress()
    method = {"type": "lora", "r": 4, "alpha": 8}
    context = stage("lora", method=method, progress=progress)
    STAGE.run(context)
    line, duration = progress.messages
    assert "rank 4 " in line
    assert re.search(r"\d+ steps of \d+ rows = [\d.]+ epochs of \d+ rows", duration)
    assert context.summary["trainable_parameters"] < context.summary["parameters"] / 5
    adapter = context.workspace / "adapter"
    assert {p.name for p in adapter.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    }
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"
    assert settings["modules_to_save"] is None
    assert not (context.workspace / "model").exists()
    base = context.folder("base")
    tuned, plain = load_trained(context.workspace, base), load_model(base)
    ids = torch.tensor([load_tokenizer(context.workspace)("연차휴가는")["input_ids"]])
    with torch.no_grad():
        difference = (tuned(ids).logits - plain(ids).logits).abs().max()
        assert difference > 1e-3
        merged = tuned.merge_and_unload()
        assert (merged(ids).logits - plain(ids).logits).abs().max() > 1e-3
    first, last = (
        StepMetrics.model_validate_json(line)
        for line in (context.workspace / "metrics.jsonl").read_text().splitlines()[::3]
    )
    assert last.train_loss < first.train_loss


def test_targets_that_no_layer_has_are_refused(stage):
    method = {"type": "lora", "targets": ["no_such_layer"]}
    with pytest.raises(TrainingError, match=r"`targets`: .*use all-linear"):
        STAGE.run(stage("lora", method=method))


@pytest.mark.slow
def test_rows_longer_than_the_model_are_refused_until_a_policy_is_chosen(stage, pairs):
    rows = [
        SplitExample(example=example(question, answer * (9 if i == 3 else 1)), split="train")
        for i, (question, answer) in enumerate(pairs)
    ]
    with pytest.raises(TrainingError, match=r"1 of 16 rows .*64 tokens.*row 4 \("):
        STAGE.run(stage("refused", rows))
    with pytest.raises(SettingsError, match=r"the only row .* 64 tokens .*`too_long: drop`"):
        STAGE.run(stage("none", rows[3:4], too_long="drop"))
    context = stage("dropped", rows, too_long="drop")
    STAGE.run(context)
    assert (context.summary["rows"], context.summary["lost_rows"]) == (15, 1)
    assert "1 row is longer than 64 tokens" in context.services.progress.messages[0]


def test_no_row_to_train_on_is_an_error(stage, pairs):
    rows = [SplitExample(example=example(*pairs[0]), split="validation")]
    with pytest.raises(StageError, match="train split"):
        STAGE.run(stage("none", rows))


@pytest.mark.slow
def test_a_run_without_validation_rows_has_no_validation_loss(stage, pairs):
    rows = [SplitExample(example=example(*pair), split="train") for pair in pairs]
    context = stage("train only", rows)
    STAGE.run(context)
    assert context.summary["valid_loss"] is None


def test_the_forecast_counts_steps_and_tokens(stage):
    cost = STAGE.cost(stage("forecast", length={"type": "epochs", "epochs": 5}))
    assert "10 steps" in cost.text
    assert cost.seconds > 0
    assert cost.memory_bytes > 0


def test_machine_and_speed_settings_are_no_part_of_the_identity():
    one = SftConfig(threads=1, checkpoint_every_steps=5, checkpoint_every_seconds=3)
    assert one.identity() == SftConfig().identity()
    assert STAGE.machine(SftConfig(precision="fp32")) == {}
    assert STAGE.machine(SftConfig())["precision"] in ("fp32", "bf16")


def nothing_installed(name):
    return None if name == "bitsandbytes" else object()


@pytest.mark.slow
@pytest.mark.parametrize("double_quant", [True, False])
def test_qlora_trains_an_adapter_on_real_4_bit_weights_that_serves_on_the_plain_base(
    stage, pairs, double_quant
):
    pytest.importorskip("bitsandbytes")
    method = {"type": "qlora", "r": 8, "dropout": 0.1, "double_quant": double_quant}
    length = {"type": "steps", "steps": 30}
    context = stage("qlora", method=method, length=length, learning_rate=1e-2)
    model, _ = load_for_training(context.folder("base"), context.config)
    quantized = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    assert len(quantized) == 28
    assert {m.weight.dtype for m in quantized} == {torch.uint8}
    assert {m.weight.quant_type for m in quantized} == {"nf4"}
    assert {m.weight.quant_state.nested for m in quantized} == {double_quant}
    plain = load_model(context.folder("base"))
    assert count_parameters(model) == sum(p.numel() for p in plain.parameters())
    adapted = attach(model, context.config)
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    STAGE.run(context)
    first, last = (
        StepMetrics.model_validate_json(line)
        for line in (context.workspace / "metrics.jsonl").read_text().splitlines()[::8]
    )
    assert last.train_loss < first.train_loss
    tuned = load_trained(context.workspace, context.folder("base"))
    assert not any(type(m).__name__ == "Linear4bit" for m in tuned.modules())
    rows = render_rows(
        load_tokenizer(context.workspace),
        [(*example(*pair).prompt, example(*pair).completion) for pair in pairs[:14]],
        [str(i) for i in range(14)],
    )
    losses = []
    with torch.no_grad():
        for each in (plain, tuned):
            loss_model = choose_loss_model(each, rows, torch.float32, torch.device("cpu"))
            loss, _ = loss_model.forward(loss_model.batcher(rows, range(14), torch.device("cpu")))
            losses.append(loss / rows.trained.sum())
    assert losses[1] < losses[0] - 0.5


@pytest.mark.slow
def test_the_same_qlora_run_twice_gives_the_same_bytes(stage):
    pytest.importorskip("bitsandbytes")
    method = {"type": "qlora", "r": 8, "dropout": 0.1}
    one, two = stage("one", method=method), stage("two", method=method)
    STAGE.run(one)
    STAGE.run(two)
    assert content(one.workspace) == content(two.workspace)


def test_qlora_without_bitsandbytes_names_the_command_that_installs_it(stage, monkeypatch):
    monkeypatch.setattr("jangin.models.loading.find_spec", nothing_installed)
    with pytest.raises(MachineError, match=r"pip install 'jangin\[quantized\]'"):
        STAGE.run(stage("qlora", method={"type": "qlora"}))
