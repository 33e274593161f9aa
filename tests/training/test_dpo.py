import copy
import json
import os
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from jangin.core.errors import SettingsError, StageError, TrainingError
from jangin.core.events import Progress, WorkAdvances
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table, write_table
from jangin.core.records import DroppedPair, Example, Message, PreferencePair, SplitExample
from jangin.core.stage import Services, StageContext
from jangin.examples.reviews.log import LOG, append_decisions, decide
from jangin.examples.reviews.queue import make_queue
from jangin.examples.reviews.reasons import Material
from jangin.models.forward.varlen_attention import NAME
from jangin.models.loading import load_model, load_trained
from jangin.models.memory import PAIR_LOGITS_BYTES
from jangin.models.starter import make_starter, random_llama
from jangin.models.tokens.packing import drop_long, packed_pairs, padded_pairs, render_pairs
from jangin.training.dpo import STAGE, DpoConfig
from jangin.training.loop.config import DpoMetrics
from jangin.training.loop.cross_entropy import linear_log_probs
from jangin.training.loop.objective import Done
from jangin.training.loop.scorer import LossModel
from jangin.training.objectives.dpo import (
    DpoObjective,
    DpoTerms,
    HeldOutPairs,
    PairModel,
    answer_sums,
    choose_pair_model,
    dpo_losses,
    reference_log_probabilities,
    rows_for_reference,
)
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig
from tests.conftest import make_artifact
from tests.shared import make_once
from tests.training.conftest import content

CPU = torch.device("cpu")
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": (LlamaConfig, {}),
    "qwen3": (Qwen3Config, {"head_dim": 8}),
    "mistral sliding": (MistralConfig, {"sliding_window": 7}),
    "gemma3 sliding": (
        Gemma3TextConfig,
        {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    ),
}


def make_pair(prompt, chosen, rejected, **fields):
    return PreferencePair.make(
        (Message(role="user", content=prompt),),
        Message(role="assistant", content=chosen),
        Message(role="assistant", content=rejected),
        **{"origin": "sampling", "family": "f", "example_id": "e", **fields},
    )


@pytest.fixture(scope="module")
def pairs(conversations):
    """Rejected answers that differ at once, late, or by being shorter or longer."""
    rows = []
    for number, (question, answer) in enumerate(conversations):
        other = conversations[(number + 3) % len(conversations)][1].content
        rejected = (other, answer.content[:-1] + "까요", answer.content[:4], other * 2)[number % 4]
        rows.append(make_pair(question.content, answer.content, rejected))
    return rows


@pytest.fixture(scope="module")
def data(tokenizer, pairs):
    return render_pairs(tokenizer, pairs)


def family(name, tokenizer):
    torch.manual_seed(0)
    kind, more = FAMILIES[name]
    return AutoModelForCausalLM.from_config(kind(vocab_size=len(tokenizer), **SHAPE, **more)).eval()


def loss_model_of(model, dtype=torch.float32):
    model.set_attn_implementation(NAME)
    return PairModel(LossModel(model, packed=True, dtype=dtype))


# The float64 reference: each answer by itself, written without any of the engine.


def separate_sums(model, data, row):
    """Summed log-probability of one row's answer, and how many tokens it has."""
    ids, trained = (torch.from_numpy(part) for part in data.both.row(row))
    logp = model(ids[None]).logits[0, :-1].log_softmax(-1)
    each = logp.gather(1, ids[1:, None])[:, 0][trained[1:]]
    return each.sum(), len(each)


def separate_loss(model, data, rows, reference, beta, smoothing, sft_weight):
    loss, nll, tokens = 0.0, 0.0, 0
    for row in rows:
        chosen, count = separate_sums(model, data, row)
        rejected, _ = separate_sums(model, data, row + len(data))
        margin = beta * ((chosen - reference[0, row]) - (rejected - reference[1, row]))
        loss = loss - (1 - smoothing) * logsigmoid(margin) - smoothing * logsigmoid(-margin)
        nll, tokens = nll - chosen, tokens + count
    return loss / len(rows) + sft_weight * nll / tokens


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_packed_pairs_have_the_log_probabilities_of_separate_answers(name, tokenizer, data):
    model = family(name, tokenizer).double()
    with torch.no_grad():
        expected = torch.stack(
            [separate_sums(model, data, row)[0] for row in range(2 * len(data))]
        ).view(2, -1)
        batch = packed_pairs(data, range(len(data)), CPU)
        logp_N, _ = loss_model_of(model, torch.float64).forward(batch)
    torch.testing.assert_close(answer_sums(logp_N, batch), expected, rtol=1e-12, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("budget", [90, 10_000])
def test_gradients_equal_those_of_a_float64_loss_on_separate_answers(name, budget, tokenizer, data):
    model = family(name, tokenizer).double()
    with torch.no_grad():
        noise = torch.randn(2, len(data), generator=torch.Generator().manual_seed(1))
        reference = noise.double() * 3 - 60
    plain = copy.deepcopy(model)
    rows = list(range(len(data)))
    separate_loss(plain, data, rows, reference, 0.2, 0.1, 0.5).backward()
    config = DpoConfig(tokens_per_batch=budget, precision="fp32")
    terms = DpoTerms(beta=0.2, label_smoothing=0.1, sft_weight=0.5)
    loss_model = loss_model_of(model, torch.float64)
    objective = DpoObjective(loss_model, data, reference, config, terms, CPU)
    batches = objective.batches(rows)
    assert (len(batches) > 3) == (budget == 90)
    weight = objective.loss_denominator(batches)
    for batch in batches:
        (objective.loss(batch) / weight).backward()
    for (where, parameter), expected in zip(
        model.named_parameters(), plain.parameters(), strict=True
    ):
        off = (parameter.grad - expected.grad).norm() / expected.grad.norm()
        assert off < 1e-6, (where, off)


@pytest.mark.parametrize("budget", [90, 10_000])
def test_the_validation_loss_is_that_of_separate_answers(budget, tokenizer, data):
    model = family("llama", tokenizer).double()
    plain = copy.deepcopy(model)
    reference = torch.full((2, len(data)), -60.0, dtype=torch.float64)
    config = DpoConfig(tokens_per_batch=budget, precision="fp32", examples_per_step=5,
                       validate_every_steps=2, validation="batches")  # fmt: skip
    terms = DpoTerms(beta=0.2, label_smoothing=0.1, sft_weight=0.5)
    objective = DpoObjective(
        loss_model_of(model, torch.float64), data, reference, config, terms, CPU,
        held_out=HeldOutPairs(data, reference),
    )  # fmt: skip
    batches = objective.batches([0])
    objective.loss_denominator(batches)
    objective.loss(batches[0])
    line = objective.line(Done(6, 1.0, 1e-3, 1.0, epoch_ends=True), validate=True)
    with torch.no_grad():
        some, every = (
            separate_loss(plain, data, rows, reference, 0.2, 0.1, 0.5).item()
            for rows in ([n % len(data) for n in range(10, 15)], range(len(data)))
        )
    assert (line.valid_loss, line.full_valid_loss) == pytest.approx((some, every), abs=1e-5)
    assert 0 <= line.full_valid_mean_token_accuracy <= 1


@pytest.mark.slow
def test_what_is_computed_is_the_prompt_once_and_both_answers(tokenizer, pairs, data):
    batch = packed_pairs(data, range(len(data)), CPU)
    chosen, rejected = data.both.lengths.reshape(2, -1)
    assert batch.tokens == sum(chosen - 1 + rejected - 1 - data.stems)
    assert batch.tokens == batch.batch.input_ids_BT.numel() == data.lengths.sum()
    prompts = [
        len(tokenizer.apply_chat_template([m.model_dump() for m in pair.prompt],
                                          add_generation_prompt=True, return_dict=False))
        for pair in pairs
    ]  # fmt: skip
    assert all(data.stems >= prompts)
    assert any(data.stems > prompts)


@pytest.mark.slow
def test_a_pair_sees_nothing_of_another(tokenizer, pairs):
    model = family("llama", tokenizer)
    loss_model = loss_model_of(model)
    one = render_pairs(tokenizer, pairs[:2])
    two = render_pairs(tokenizer, [make_pair("출장비?", "15일", "3일"), pairs[1]])
    with torch.no_grad():
        sums = [
            answer_sums(loss_model.forward(batch)[0], batch)
            for batch in (packed_pairs(data, [0, 1], CPU) for data in (one, two))
        ]
    assert torch.equal(sums[0][:, 1], sums[1][:, 1])
    assert not torch.equal(sums[0][:, 0], sums[1][:, 0])


@pytest.mark.slow
def test_a_rejected_answer_that_is_the_beginning_of_the_chosen_one_has_no_branch(tokenizer):
    model = family("llama", tokenizer).double()
    data = render_pairs(tokenizer, [make_pair("병가?", "15일 안에", "15일")])
    batch = packed_pairs(data, [0], CPU)
    assert batch.batch.segments.branches.lengths == (0,)
    with torch.no_grad():
        expected = [separate_sums(model, data, row)[0].item() for row in (0, 1)]
        logp_N, _ = loss_model_of(model, torch.float64).forward(batch)
    assert answer_sums(logp_N, batch).flatten().tolist() == pytest.approx(expected)


@pytest.mark.slow
def test_families_that_cannot_be_packed_are_padded_to_the_same_loss(tokenizer, data):
    torch.manual_seed(0)
    config = Gemma2Config(vocab_size=len(tokenizer), head_dim=8, query_pre_attn_scalar=8, **SHAPE)
    model = AutoModelForCausalLM.from_config(config).eval()
    loss_model = choose_pair_model(model, data, DpoConfig(precision="fp32"), CPU)
    assert not loss_model.loss_model.packed
    reference = reference_log_probabilities(loss_model, data, range(len(data)), 120, CPU)
    with torch.no_grad():
        expected = [separate_sums(model, data, row)[0].item() for row in range(2 * len(data))]
    assert reference.flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_branch_that_comes_out_wrong_is_noticed(tokenizer, pairs):
    model = random_llama(tokenizer, "0.5M", 512, 0)
    data = render_pairs(tokenizer, pairs[::4])
    torn = replace(data, stems=data.stems + 1)
    loss_model = choose_pair_model(model, torn, DpoConfig(precision="fp32"), CPU)
    assert not loss_model.loss_model.packed
    assert "packed and separate answers differ by" in loss_model.loss_model.reason
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("rows", [40, PAIR_LOGITS_BYTES // (4 * 5000) + 7])
def test_log_probabilities_and_gradients_per_token_equal_log_softmax(rows, frozen):
    torch.manual_seed(0)
    hidden = torch.randn(rows, 8, requires_grad=True)
    weight = torch.randn(5000, 8).mul_(0.1).requires_grad_(not frozen)
    bias = torch.randn(5000).requires_grad_(not frozen)
    targets, each = torch.randint(0, 5000, (rows,)), torch.randn(rows)
    logp, first = linear_log_probs(hidden, weight, targets, bias_V=bias)
    (logp * each).sum().backward()
    got = hidden.grad, weight.grad, bias.grad
    hidden.grad = weight.grad = bias.grad = None
    logits = hidden @ weight.T + bias
    expected = -cross_entropy(logits, targets, reduction="none")
    (expected * each).sum().backward()
    torch.testing.assert_close(logp, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got[0], hidden.grad, rtol=1e-4, atol=1e-6)
    assert torch.equal(first, logits.argmax(1) == targets)
    if frozen:
        assert got[1:] == (None, None)
    else:
        torch.testing.assert_close(got[1], weight.grad, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(got[2], bias.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_loss_is_that_of_the_paper_with_smoothed_labels():
    random = np.random.default_rng(0)
    policy, reference = random.normal(-40, 9, (2, 2, 5))
    ratio = (policy[0] - reference[0]) - (policy[1] - reference[1])
    right = 1 / (1 + np.exp(-0.3 * ratio))
    expected = -0.8 * np.log(right) - 0.2 * np.log(1 - right)
    got = dpo_losses(torch.from_numpy(policy), torch.from_numpy(reference), 0.3, 0.2)
    assert got.tolist() == pytest.approx(expected.tolist())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TRL's own, which we cannot correct
def test_the_loss_is_trls(tokenizer, pairs, data, tmp_path):
    if os.environ.get("CI") != "true":  # there a comparison must not be skipped
        pytest.importorskip("trl", reason="TRL is not installed: pip install 'jangin[parity]'")
    import datasets
    import trl

    settings = {
        "per_device_train_batch_size": len(pairs), "num_train_epochs": 2, "use_cpu": True,
        "beta": 0.2, "bf16": False, "activation_checkpointing": False, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "learning_rate": 1e-3, "max_length": 256,
        "lr_scheduler_type": "constant", "disable_tqdm": True, "precompute_ref_log_probs": True,
        "optim": "adamw_torch_fused", "weight_decay": 0.01, "adam_beta2": 0.95,
        "dataloader_pin_memory": False, "loss_type": ["sigmoid", "sft"],
    }  # fmt: skip
    rows = [
        {
            "prompt": [m.model_dump() for m in pair.prompt],
            "chosen": [pair.chosen.model_dump()],
            "rejected": [pair.rejected.model_dump()],
        }
        for pair in pairs
    ]
    trainer = trl.DPOTrainer(
        model=random_llama(tokenizer, "0.5M", 256, 0),
        args=trl.DPOConfig(str(tmp_path / "trl"), loss_weights=[1.0, 0.5], **settings),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    theirs = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    lines, _ = trained_lines(
        tokenizer, data, tmp_path, beta=0.2, sft_weight=0.5, learning_rate=1e-3,
        schedule="constant", warmup_fraction=0,
    )  # fmt: skip
    assert [line.train_loss for line in lines] == pytest.approx(theirs, rel=1e-4)


def trained_lines(tokenizer, data, folder, rows=None, **changes):
    """(lines of metrics of two steps of a random starter, the reference after them)."""
    from jangin.training.loop.trainer import train

    fields = {
        "length": {"type": "steps", "steps": 2}, "examples_per_step": len(data),
        "log_every_steps": 1, "precision": "fp32", "threads": 1,
    }  # fmt: skip
    config = DpoConfig.model_validate(fields | changes)
    model = random_llama(tokenizer, "0.5M", 256, 0)
    loss_model = choose_pair_model(model, data, config, CPU)
    rows = rows_for_reference(model, len(data), config) if rows is None else rows
    reference = reference_log_probabilities(loss_model, data, rows, 8192, CPU)
    assert int(reference[0].isnan().sum()) == len(data) - len(rows)
    terms = DpoTerms(config.beta, config.label_smoothing, config.sft_weight)
    folder.mkdir(exist_ok=True)
    train(
        DpoObjective(loss_model, data, reference, config, terms, CPU),
        config,
        folder,
        Progress(),
    )
    text = (folder / "metrics.jsonl").read_text()
    return [DpoMetrics.model_validate_json(line) for line in text.splitlines()], reference


@pytest.mark.slow
@pytest.mark.parametrize("examples_per_step", [3, 16])
def test_the_reference_from_the_first_step_equals_that_of_a_pass_before_it(
    tokenizer, data, tmp_path, examples_per_step
):
    settings = {"examples_per_step": examples_per_step, "learning_rate": 1e-3}
    every = range(len(data))
    plain, known = trained_lines(tokenizer, data, tmp_path / "plain", every, **settings)
    lines, told = trained_lines(tokenizer, data, tmp_path / "told", **settings)
    torch.testing.assert_close(told, known, rtol=1e-5, atol=1e-4)
    for mine, other in zip(lines, plain, strict=True):
        assert mine.train_loss == pytest.approx(other.train_loss, abs=1e-5)
        assert mine.reward_margin == pytest.approx(other.reward_margin, abs=1e-4)
    assert lines[1].reward_margin != 0


@pytest.mark.slow
def test_the_reference_of_all_pairs_is_computed_before_where_the_policy_is_another(tokenizer):
    model = random_llama(tokenizer, "0.5M", 256, 0)
    settings = {"examples_per_step": 4}
    lora = {"type": "lora", "r": 8, "dropout": 0.1}

    def rows(**changes):
        return len(rows_for_reference(model, 10, DpoConfig.model_validate(settings | changes)))

    assert rows() == 6
    assert rows(method=lora) == rows(devices=2) == 10
    assert rows(method=lora | {"dropout": 0}) == 6
    model.config.attention_dropout = 0.1
    assert rows() == 10


@pytest.mark.slow
def test_before_the_first_step_policy_and_reference_are_one(tokenizer, data, tmp_path):
    (first, second), _ = trained_lines(tokenizer, data, tmp_path, learning_rate=1e-3)
    assert first.train_loss == pytest.approx(np.log(2), rel=1e-6)
    assert first.rewards_chosen == pytest.approx(0, abs=1e-5)
    assert first.chosen_drift == pytest.approx(0, abs=1e-5)
    assert second.train_loss < first.train_loss
    assert second.reward_margin == pytest.approx(second.rewards_chosen - second.rewards_rejected)
    assert second.reward_margin > 0
    assert second.reward_accuracy > 0.8
    assert first.trained_tokens * 2 == second.trained_tokens


# The stage.


def no_chat(name):
    raise AssertionError(f"dpo asks no chat model, least of all {name}")


def as_example(question, answer):
    return Example.make((question,), answer, kind="original")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, conversations):
    """A starter that knows 16 answers by heart, as full weights and as an adapter."""
    folder = make_once(tmp_path_factory, "tuned", partial(make_tuned, conversations))
    inputs = {name: make_artifact(folder / name, content=name) for name in ("base", "splits")}
    return {
        name: inputs | {"model": make_artifact(folder / name, content=name)}
        for name in ("full", "lora")
    }


def make_tuned(conversations, folder):
    texts = [message.content for pair in conversations for message in pair]
    shape = {"size": "0.5M", "vocabulary_size": 400, "context_length": 64, "seed": 0}
    make_starter(folder / "base" / "model", texts, **shape)
    rows = [SplitExample(example=as_example(*turns), split="train") for turns in conversations]
    (folder / "splits").mkdir()
    write_table(folder / "splits" / "splits.parquet", SplitExample, rows)
    inputs = {
        "base": make_artifact(folder / "base", content="base"),
        "splits": make_artifact(folder / "splits", content="splits"),
    }
    ledger = Ledger(folder / "ledger.sqlite")
    services = Services(folder, no_chat, ledger, Progress())
    for name, method, steps in (
        ("full", {"type": "full"}, 40),
        ("lora", {"type": "lora", "r": 32}, 20),
    ):
        (folder / name).mkdir()
        fields = {"length": {"type": "steps", "steps": steps}, "learning_rate": 5e-3}
        fields |= {"method": method, "precision": "fp32", "threads": 1}
        context = StageContext(SftConfig.model_validate(fields), inputs, folder / name, services)
        SFT.run(context)
    ledger.close()


@pytest.fixture
def stage(tmp_path, tuned, conversations):
    """The context of a run of dpo on 16 pairs; a rejected answer is another question's."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    examples = [as_example(*turns) for turns in conversations]
    exchanged = [
        make_pair(
            example.question, example.answer, examples[(n + 5) % len(examples)].answer,
            family=example.family, example_id=example.id,
        )
        for n, example in enumerate(examples)
    ]  # fmt: skip

    def make(name, start="full", pairs=None, progress=None, held_out=(), **settings):
        (tmp_path / name).mkdir(exist_ok=True)
        source = tmp_path / f"{name} pairs"
        source.mkdir(exist_ok=True)
        write_table(source / "pairs.parquet", PreferencePair, pairs or exchanged)
        if held_out:
            write_table(source / "validation_pairs.parquet", PreferencePair, held_out)
        fields = {
            "length": {"type": "steps", "steps": 12},
            "learning_rate": 1e-4,
            "examples_per_step": 6,
            "log_every_steps": 4,
            "precision": "fp32",
            "threads": 1,
        }
        inputs = tuned[start] | {"pairs": make_artifact(source, content="pairs")}
        services = Services(tmp_path, no_chat, ledger, progress or Progress())
        config = DpoConfig.model_validate(fields | settings)
        return StageContext(config, inputs, tmp_path / name, services)

    yield make
    ledger.close()


def lines_of(context):
    text = (context.workspace / "metrics.jsonl").read_text()
    return [DpoMetrics.model_validate_json(line) for line in text.splitlines()]


@pytest.mark.slow
def test_the_stage_learns_the_preference_and_keeps_and_records_the_answers(stage):
    context = stage("run")
    STAGE.run(context)
    lines = lines_of(context)
    assert [line.step for line in lines] == [4, 8, 12]
    assert lines[-1].reward_margin > lines[0].reward_margin > 0
    assert lines[-1].reward_accuracy == 1
    summary = context.summary
    assert summary["probe_exact"] == {"before": 1.0, "after": 1.0}
    assert (summary["pairs"], summary["dropped"], summary["stopped"]) == (16, {}, "")
    assert summary["reward_margin"] == lines[-1].reward_margin
    assert json.loads(json.dumps(summary)) == summary
    names = set(content(context.workspace))
    assert {"metrics.jsonl", "model/model.safetensors", "model/tokenizer.json"} <= names
    before = load_model(context.folder("model")).state_dict()
    after = load_model(context.workspace).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_held_out_pairs_are_measured_and_change_no_weights(stage):
    held_out = [*pairs_with_issues(), make_pair("병가는 며칠인가요?", "13일", "가나다" * 3)]
    settings = {"validate_every_steps": 4, "validation": "batches"}
    measured = stage("measured", held_out=held_out, **settings)
    STAGE.run(measured)
    plain = stage("plain", **settings)
    STAGE.run(plain)
    name = "model/model.safetensors"
    assert content(measured.workspace)[name] == content(plain.workspace)[name]
    assert any("4 of 7 validation pairs" in m for m in measured.services.progress.messages)
    lines = lines_of(measured)
    assert [line.step for line in lines if line.valid_loss is not None] == [4, 8, 12]
    assert [line.step for line in lines if line.full_valid_loss is not None] == [3, 6, 9, 12]
    assert lines[-1].valid_loss != pytest.approx(np.log(2), abs=1e-6)
    assert all(line.valid_loss is None for line in lines_of(plain))


class Stopping(Progress):
    """A progress in which the machine dies at one step."""

    def __init__(self, step):
        super().__init__()
        self.step, self.steps = step, 0

    def emit(self, event):
        super().emit(event)
        if isinstance(event, WorkAdvances):
            self.steps += event.steps
            if self.steps == self.step:
                raise RuntimeError("the machine went away")


def count_passes(run):
    """Forward passes of any Llama while `run` runs; each begins with the positions' rotation."""
    from torch.nn.modules.module import register_module_forward_hook
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    passes = []
    hook = register_module_forward_hook(
        lambda module, _inputs, _output: (
            passes.append(1) if isinstance(module, LlamaRotaryEmbedding) else None
        )
    )
    try:
        run()
    finally:
        hook.remove()
    return len(passes)


@pytest.mark.slow
def test_the_reference_and_the_first_answers_are_computed_once_for_all_runs(stage):
    settings = {"tokens_per_batch": 16, "length": {"type": "steps", "steps": 1}}
    settings |= {"examples_per_step": 4}
    first, second = stage("one", **settings), stage("two", beta=0.2, **settings)
    passes = [count_passes(lambda: STAGE.run(first)), count_passes(lambda: STAGE.run(second))]
    # Batches of one pair: 12 passes for the reference of the pairs that are not in the first
    # step, and those of the greedy answers.
    assert passes[0] - passes[1] > 12
    assert count_passes(lambda: STAGE.run(stage("three", beta=0.3, **settings))) == passes[1]
    other = count_passes(
        lambda: STAGE.run(stage("four", "lora", method={"type": "full"}, **settings))
    )
    assert other > passes[1] + 12


@pytest.mark.slow
def test_a_rate_that_destroys_the_answers_does_not_pass_the_gate_but_does_with_sft(stage):
    destructive = {"length": {"type": "steps", "steps": 30}, "learning_rate": 3e-3}
    destructive |= {"stop": {"type": "never"}, "examples_per_step": 16}
    destructive |= {"checkpoint_every_steps": 28, "probe_new_tokens": 32}
    facts = (
        r" 16 training questions .*100\.0% to \d+\.\d%.*`max_probe_loss`.*5\.0%.*`learning_rate` "
        r"\(now 0\.003\).*`method: \{type: lora\}`.*`sft_weight: 1`.*`gate: warn`"
    )
    refused = stage("refused", **destructive)
    with pytest.raises(TrainingError, match=facts):
        STAGE.run(refused)
    assert lines_of(refused)[-1].reward_accuracy == 1
    assert not (refused.workspace / "model").exists()
    # The same weights again, from the last checkpoint.
    tolerant = stage("refused", max_probe_loss=1.0, **destructive)
    STAGE.run(tolerant)
    assert not any("`max_probe_loss`" in line for line in tolerant.services.progress.messages)
    warned = stage("refused", gate="warn", **destructive)
    STAGE.run(warned)
    assert any("step 28 of 30" in line for line in warned.services.progress.messages)
    assert "100.0%" in warned.services.progress.messages[-1]
    assert warned.summary["probe_exact"]["after"] < 0.9
    kept = stage("kept", sft_weight=1.0, **destructive)
    STAGE.run(kept)
    assert kept.summary["probe_exact"] == {"before": 1.0, "after": 1.0}
    assert kept.summary["reward_accuracy"] == 1


DRIFTING = {
    "learning_rate": 1e-3,
    "length": {"type": "steps", "steps": 40},
    "log_every_steps": 2,
    "checkpoint_every_steps": 3,
    "stop": {"type": "drift", "max_fall": 0.15},
    "gate": "warn",
}


@pytest.mark.slow
def test_chosen_answers_that_become_unlikely_stop_the_run_at_the_last_good_weights(stage):
    whole = stage("whole", **DRIFTING)
    STAGE.run(whole)
    lines = lines_of(whole)
    assert all(line.chosen_drift >= -0.15 for line in lines[:-1])
    assert lines[-1].chosen_drift < -0.15
    kept = whole.summary["kept_step"]
    assert kept == lines[-2].step < whole.summary["steps"] == lines[-1].step < 40
    assert re.search(rf"0\.15.* step {kept} ", "\n".join(whole.services.progress.messages))
    # The weights equal those of a run that ended there; without a schedule, which knows the length.
    flat = {"schedule": "constant", "warmup_fraction": 0}
    stopped = stage("stopped", **DRIFTING | flat)
    STAGE.run(stopped)
    ended = {"length": {"type": "steps", "steps": stopped.summary["kept_step"]}}
    short = stage("short", **DRIFTING | flat | ended)
    STAGE.run(short)
    name = "model/model.safetensors"
    assert content(stopped.workspace)[name] == content(short.workspace)[name]


@pytest.mark.slow
def test_a_run_that_was_stopped_and_killed_stops_again_at_the_same_weights(stage):
    whole = stage("whole", **DRIFTING)
    STAGE.run(whole)
    with pytest.raises(RuntimeError, match="went away"):
        STAGE.run(stage("cut", progress=Stopping(whole.summary["steps"] - 1), **DRIFTING))
    again = stage("cut", **DRIFTING)
    STAGE.run(again)
    assert "step" in again.services.progress.messages[0]
    assert content(whole.workspace) == content(again.workspace)


@pytest.mark.slow
def test_drift_at_the_first_line_leaves_nothing_to_keep(stage):
    settings = {"learning_rate": 2e-2, "stop": {"type": "drift", "max_fall": 0.01}}
    with pytest.raises(TrainingError, match=r"step 4\b.*`learning_rate` \(now 0\.02\)"):
        STAGE.run(stage("lost", **settings))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "method", "written"),
    [
        ("full", {"type": "lora", "r": 8}, "model/model.safetensors"),
        ("lora", {"type": "lora", "r": 8}, "adapter/adapter_model.safetensors"),
        ("lora", {"type": "full"}, "model/model.safetensors"),
    ],
)
def test_what_is_written_has_the_form_of_the_start_and_loads_as_the_tuned_model(
    stage, start, method, written
):
    context = stage("run", start, method=method, learning_rate=3e-4, gate="warn")
    STAGE.run(context)
    assert written in content(context.workspace)
    base = context.folder("base")
    before, after = (
        load_trained(folder, base) for folder in (context.folder("model"), context.workspace)
    )
    ids = torch.tensor([[1, 4, 300, 301, 302]])
    with torch.no_grad():
        difference = (before(ids).logits - after(ids).logits).abs().max()
    assert 1e-3 < difference < 10
    assert after.generation_config.eos_token_id == before.generation_config.eos_token_id
    if start == "lora" and method["type"] == "lora":
        assert "`method`" in context.services.progress.messages[0]
        config = json.loads((context.workspace / "adapter" / "adapter_config.json").read_text())
        assert config["r"] == 32


def pairs_with_issues():
    return [
        make_pair("연차휴가는 언제 신청하나요?", "10일 안에", "10일 안에."),
        make_pair("연차휴가는 언제 신청하나요?", "10일 안에", " "),
        make_pair("병가는 언제 신청하나요?", "13일", "가" * 40),
        make_pair("병가는 언제 신청하나요?", "13일", "병가는 언제 신청하나요?"),
        make_pair("병가는 언제 신청하나요?", "13일", "16일"),
        make_pair("출장비는 언제 신청하나요?", "16일", "13일"),
    ]


@pytest.mark.slow
def test_pairs_with_issues_are_dropped_with_their_reason_or_refused(stage):
    context = stage("dropped", pairs=pairs_with_issues(), gate="warn")
    STAGE.run(context)
    rules = {"empty": 1, "identical": 1, "length_ratio": 1, "prompt_leak": 1}
    assert context.summary["dropped"] == rules
    assert context.summary["pairs"] == 2
    dropped = read_table(context.workspace / "dropped_pairs.parquet", DroppedPair)
    assert [row.rule for row in dropped] == ["identical", "empty", "length_ratio", "prompt_leak"]
    assert "4 of 6 pairs" in context.services.progress.messages[0]
    with pytest.raises(StageError, match=r"4 of 6 pairs .*`lint: drop`"):
        STAGE.run(stage("refused", pairs=pairs_with_issues(), lint="refuse"))
    with pytest.raises(StageError, match=r"all 4 pairs .*`max_length_ratio`"):
        STAGE.run(stage("none", pairs=pairs_with_issues()[:4]))


@pytest.mark.slow
def test_pairs_that_people_rejected_are_not_trained_on(stage, tmp_path, conversations):
    pairs = pairs_with_issues()[4:]
    before = stage("before", pairs=pairs)
    assert STAGE.excerpts(before.config, tmp_path) == {}

    def write(number, decision, **fields):
        item = make_queue(Material.of([], []), {}, pairs=pairs)
        (item,) = [each for each in item if each.example.id == pairs[number].id]
        append_decisions(tmp_path / LOG, [item.decide(decision, "kim", **fields)])

    write(0, "rate", score=3)
    append_decisions(tmp_path / LOG, [decide(as_example(*conversations[0]), "accept", "kim")])
    assert STAGE.excerpts(before.config, tmp_path) == {}
    write(0, "reject", reason="wrong")
    assert STAGE.excerpts(before.config, tmp_path) != {}
    context = stage("rejected", pairs=pairs, gate="warn", lint="refuse")
    STAGE.run(context)
    assert context.summary["dropped"] == {"review": 1}
    assert context.summary["pairs"] == 1
    with pytest.raises(SettingsError, match=r"dpo\.review: required leaves none of 2 pairs"):
        STAGE.run(stage("required", pairs=pairs, review="required"))
    assert STAGE.cost(stage("required", pairs=pairs, review="required")).text.startswith("nothing")
    write(1, "reject")
    with pytest.raises(SettingsError, match=r"dpo\.review: all 2 pairs were rejected"):
        STAGE.run(stage("none", pairs=pairs))
    ignoring = stage("ignored", pairs=pairs, review="ignored")
    assert STAGE.excerpts(ignoring.config, tmp_path) == {}


@pytest.mark.slow
def test_pairs_longer_than_the_model_are_refused_until_they_may_be_dropped(stage):
    long = make_pair("병가?", "13일", "열흘 안에 " * 30)
    pairs = [*pairs_with_issues()[4:], long]
    ratio = {"max_length_ratio": 1000}
    with pytest.raises(
        TrainingError, match=rf"1 of 3 pairs.* 64 tokens.*{long.id}.*`too_long: drop`"
    ):
        STAGE.run(stage("refused", pairs=pairs, **ratio))
    context = stage("dropped", pairs=pairs, too_long="drop", gate="warn", **ratio)
    STAGE.run(context)
    assert context.summary["dropped"] == {"too_long": 1}
    data = render_pairs_of(context, pairs)
    kept, over = drop_long(data, 64)
    assert over.tolist() == [2]
    assert kept.names == data.names[:2]
    assert kept.both.row(3)[0].tolist() == data.both.row(4)[0].tolist()


def render_pairs_of(context, pairs):
    from jangin.models.loading import load_tokenizer

    return render_pairs(load_tokenizer(context.folder("model")), pairs)


@pytest.mark.slow
def test_answers_with_the_same_tokens_are_refused_with_their_row(tokenizer):
    same = make_pair("병가?", "13일", "13일")
    with pytest.raises(TrainingError, match=rf"row 1 \({same.id}\).*nothing to prefer"):
        render_pairs(tokenizer, [same])


@pytest.mark.slow
def test_padded_pairs_have_the_same_targets_as_packed_ones(data):
    packed, padded = packed_pairs(data, [3, 1, 6], CPU), padded_pairs(data, [3, 1, 6], CPU)
    for batch in (packed, padded):
        assert batch.rows == (3, 1, 6)
    assert torch.equal(packed.batch.targets_N, padded.batch.targets_N)
    assert torch.equal(packed.owners_N, padded.owners_N)
    for batch in (packed, padded):
        assert batch.chosen_tokens == int((batch.owners_N < len(batch.rows)).sum())


@pytest.mark.slow
def test_the_plan_shows_steps_and_tokens(stage):
    assert STAGE.cost(stage("one")).text.startswith("12 steps of ")
    epochs = {"length": {"type": "epochs", "epochs": 2}, "examples_per_step": 5}
    assert STAGE.cost(stage("two", **epochs)).text.startswith("8 steps of ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", [{"too_long": "keep_end"}, {"train_on": "everything"}, {"keep": "best"}, {"beta": 0}]
)
def test_settings_that_make_no_sense_for_pairs_are_refused(setting):
    with pytest.raises(ValidationError):
        DpoConfig.model_validate(setting)
