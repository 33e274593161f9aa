import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from jangin.core.errors import ConfigError, SettingsError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Document, Example, Message, SplitExample
from jangin.core.stage import Services, ShortTuning, StageContext, no_tuning
from jangin.evaluation.select import (
    STAGE,
    TIED,
    Candidate,
    Probed,
    SelectConfig,
    describe_choice,
    draw_windows,
    hold_out,
    nats_of_answers,
    nats_of_windows,
    rank,
    select,
)
from jangin.models.loading import load_model, load_tokenizer
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows
from jangin.training.sft import tune_briefly
from tests.conftest import make_artifact
from tests.shared import make_once

TOPICS = (
    "연차",
    "병가",
    "출장",
    "경조",
    "퇴직",
    "야근",
    "교육",
    "복지",
    "주차",
    "식대",
    "숙박",
    "통신",
)
FACTS = {f"{topic} 담당은?": f"{topic}팀" for topic in TOPICS}
TEXT = " ".join(f"{topic} 업무의 담당은 {topic}팀입니다." for topic in TOPICS)
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


def no_chat(name):
    raise AssertionError(f"select asks no chat model, least of all {name}")


@pytest.fixture
def context_of(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def make(config, table=None, name="workspace", documents=()):
        folder, workspace = tmp_path / "splits", tmp_path / name
        folder.mkdir(exist_ok=True)
        workspace.mkdir(exist_ok=True)
        write_table(folder / "splits.parquet", SplitExample, rows() if table is None else table)
        progress = Progress()
        tune = partial(tune_briefly, progress=progress)
        services = Services(tmp_path, no_chat, ledger, progress, tune=tune)
        inputs = {"splits": make_artifact(folder)}
        if documents:
            write_table(folder / "documents.parquet", Document, documents)
            inputs["documents"] = make_artifact(folder)
        return StageContext(config, inputs, workspace, services)

    yield make
    ledger.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model folder that knows the facts, and one of the same kind that knows nothing."""
    return make_once(tmp_path_factory, "candidates", make_candidates) / "candidates"


def make_candidates(folder):
    texts = [text for pair in FACTS.items() for text in pair]
    make_starter(folder / "base" / "model", texts, seed=0, **SMALL)
    examples = [row.example for row in rows()]
    tune_briefly(
        ShortTuning(folder / "base", examples, 60, 12, "full", 0, folder / "tuned"),
        Progress(),
    )
    for name, source in (("knows", "tuned"), ("blank", "base")):
        shutil.copytree(folder / source / "model", folder / "candidates" / name)
    (folder / "candidates" / "knows" / "README.md").write_text("---\nlicense: mit\n---\n")


@pytest.fixture
def taught(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "candidates")
    return tmp_path / "candidates"


def local(name):
    return {"type": "local", "path": f"candidates/{name}"}


@pytest.mark.slow
@pytest.mark.usefixtures("taught")
def test_the_model_that_learns_the_answers_is_chosen_and_becomes_the_base(context_of):
    config = SelectConfig(candidates=(local("blank"), local("knows")), steps=4, max_new_tokens=8)
    context = context_of(config)
    select(context)
    first, second = read_table(context.workspace / "candidates.parquet", Candidate)
    assert (first.name, first.rank, first.chosen) == ("knows", 1, True)
    assert (second.name, second.rank, second.chosen) == ("blank", 2, False)
    assert first.nats_per_character < second.nats_per_character / 2
    assert {row.criterion for row in (first, second)} == {"facts"}
    assert (first.method, first.n, first.answered) == ("full", 6, 6)
    assert first.right > second.right
    assert first.character_f1 > second.character_f1
    assert (first.licence, second.licence) == ("mit", "")
    assert first.context_length == 64
    assert first.lora_memory_bytes > 0
    assert not second.tied
    assert second.p_value == pytest.approx(2 / 2**6)
    assert load_model(context.workspace).config.max_position_embeddings == 64
    reference = json.loads((context.workspace / "model" / "reference.json").read_text())
    assert (reference["id"], reference["revision"]) == ("knows", first.revision)
    assert not (context.workspace / "candidates").exists()
    message = context.services.progress.messages[-1]
    assert re.search(r"select: knows .*facts right after 4 steps of tuning than blank", message)
    assert re.search(rf"\n  blank +0 of 6 +{second.nats_per_character:.3f} +0\.0312 ", message)


@pytest.mark.slow
def test_likelihood_is_that_of_the_answer_without_its_stop_token(trained):
    examples = [row.example for row in rows()][:2]
    base = trained.parent / "tuned"
    model, tokenizer = load_model(base), load_tokenizer(base)
    rendered = render_rows(tokenizer, [(*e.prompt, e.completion) for e in examples], ["x", "y"])
    expected = []
    for index, example in enumerate(examples):
        ids, trained_mask = rendered.row(index)
        with torch.inference_mode():
            logp = model(input_ids=torch.from_numpy(ids)[None]).logits[0].log_softmax(-1)
        positions = [i for i in range(1, len(ids)) if trained_mask[i]]
        assert ids[positions[-1]] in rendered.stop_ids
        total = -sum(float(logp[i - 1, ids[i]]) for i in positions[:-1])
        expected.append(total / len(example.answer))
    assert nats_of_answers(model, tokenizer, examples) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_likelihood_of_text_needs_no_template_and_leaves_out_the_first_characters(trained):
    base = trained.parent / "tuned"
    model, tokenizer = load_model(base), load_tokenizer(base)
    (nats,) = nats_of_windows(model, tokenizer, ["연차 담당은? 연차팀"])
    encoded = tokenizer("연차 담당은? 연차팀", return_offsets_mapping=True)
    ids, starts = encoded["input_ids"], [start for start, _ in encoded["offset_mapping"]]
    with torch.inference_mode():
        logp = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    scored = [i for i in range(1, len(ids)) if starts[i] >= 5]
    expected = -sum(float(logp[i - 1, ids[i]]) for i in scored)
    assert nats == pytest.approx(expected / (11 - starts[scored[0]]), rel=1e-4)


def test_windows_are_the_same_for_the_same_seed_and_do_not_overlap():
    text = "".join(chr(0xAC00 + i) for i in range(1000))
    drawn = draw_windows([text, "abcd", "  "], 10, 0)
    assert sorted(map(len, drawn)) == [4, 400, 400]
    assert len(set("".join(drawn))) == 4 + 800
    assert draw_windows([text], 1, 0) == draw_windows([text], 1, 0)
    assert len(draw_windows([text], 1, 0)) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("taught")
def test_without_tuning_the_documents_decide_and_nothing_is_trained(context_of, make_document):
    config = SelectConfig(candidates=(local("blank"), local("knows")), steps=0)
    context = context_of(config, documents=[make_document(TEXT)])
    context = replace(context, services=replace(context.services, tune=no_tuning))
    select(context)
    ranked = read_table(context.workspace / "candidates.parquet", Candidate)
    assert {(row.criterion, row.right, row.character_f1) for row in ranked} == {
        ("text", None, None)
    }
    for row in ranked:
        assert row.nats_per_character == row.text_nats_per_character
        assert row.text_bits_per_character == pytest.approx(row.nats_per_character / 0.6931472)


@pytest.mark.slow
@pytest.mark.usefixtures("taught")
def test_too_few_questions_to_hold_any_out_leave_the_choice_to_the_text(context_of):
    config = SelectConfig(candidates=(local("blank"), local("knows")))
    context = context_of(config, table=rows()[:1])
    select(context)
    ranked = read_table(context.workspace / "candidates.parquet", Candidate)
    assert {row.criterion for row in ranked} == {"text"}
    assert "1 question is too few" in context.services.progress.messages[0]


def test_no_wording_of_a_held_out_question_is_tuned_on():
    examples = [row.example for row in rows()]
    wordings = [e.model_copy(update={"id": f"w{e.id}", "kind": "paraphrase"}) for e in examples]
    table = [SplitExample(example=e, split="train") for e in (*examples, *wordings)]
    config = SelectConfig(candidates=(local("a"), local("b")), limit=4)
    held_out, train = hold_out(examples, table, config)
    assert len(held_out) == 4
    assert len(train) == 2 * (12 - 4)
    assert not {e.family for e in held_out} & {e.family for e in train}


@pytest.mark.slow
def test_two_models_with_the_same_likelihood_tie_and_a_message_names_both(context_of, taught):
    shutil.copytree(taught / "blank", taught / "twin")
    candidates = (local("blank"), local("twin"))
    context = context_of(SelectConfig(candidates=candidates, steps=2, max_new_tokens=2))
    select(context)
    best, other = read_table(context.workspace / "candidates.parquet", Candidate)
    assert (best.name, best.chosen, best.p_value) == ("blank", True, None)
    assert (other.name, other.tied, other.p_value) == ("twin", True, 1)
    assert re.search(r"blank becomes .*ties with twin", context.services.progress.messages[-1])


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
    rows = [
        Probed(candidate=candidate(name, mean), nats=tuple(each), seconds=1, new_tokens=1)
        for name, mean, each in zip("abc", means, nats, strict=True)
    ]
    ranked = rank(rows, families, 0)
    assert [(row.name, row.chosen, row.tied) for row in ranked] == [
        ("a", True, False), ("b", False, True), ("c", False, False)
    ]  # fmt: skip
    assert ranked[2].p_value == pytest.approx(2 / 2**8)


@pytest.mark.slow
def test_an_interrupted_choice_does_not_try_a_model_twice(context_of):
    starters = tuple({"type": "starter", **SMALL, "seed": seed} for seed in (0, 1, 2))
    whole = context_of(SelectConfig(candidates=starters, steps=2, max_new_tokens=2), name="whole")
    select(whole)
    expected = read_table(whole.workspace / "candidates.parquet", Candidate)
    journal = whole.workspace / "journal" / "candidates.jsonl"
    again = context_of(SelectConfig(candidates=starters, steps=2, max_new_tokens=2), name="again")
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
    with pytest.raises(ConfigError, match=r"candidates/a is not a folder\..*candidates: 0: path"):
        STAGE.sources(config, tmp_path)


def probed(name, nats, right, unclear=None):
    share = {"answered": len(right), "right": sum(right) / len(right)}
    each = tuple(nats + number % 3 / 100 for number in range(len(right)))
    row = candidate(name, nats).model_copy(update=share)
    unclear = tuple(unclear or [False] * len(right))
    row = row.model_copy(update={"unclear": sum(unclear)})
    return Probed(
        candidate=row, nats=each, right=tuple(right), unclear=unclear, seconds=1, new_tokens=1
    )


def test_answers_that_nobody_has_read_choose_no_base_model():
    families = [str(number) for number in range(40)]
    knowing = probed("knowing", 1.5, [True] * 20 + [False] * 20)
    wordy = probed("wordy", 0.5, [False] * 40, [False] * 20 + [True] * 12 + [False] * 8)
    ranked = rank([knowing, wordy], families, seed=0)
    assert [(row.name, row.criterion) for row in ranked] == [
        ("wordy", "answers"), ("knowing", "answers"),
    ]  # fmt: skip
    assert "0 of 40, 12 unclear" in describe_choice(ranked, 30)
    plain = probed("wordy", 0.5, [False] * 40, [False] * 20 + [True] * 4 + [False] * 16)
    assert rank([knowing, plain], families, seed=0)[0].name == "knowing"


def test_facts_choose_and_likelihood_decides_between_those_that_they_do_not_separate():
    families = [str(number) for number in range(40)]
    fluent = probed("fluent", 0.5, [False] * 40)
    knowing = probed("knowing", 1.5, [True] * 20 + [False] * 20)
    likelier = probed("likelier", 1.0, [True] * 18 + [False] * 22)
    ranked = rank([fluent, knowing, likelier], families, seed=0)
    assert [row.name for row in ranked] == ["likelier", "knowing", "fluent"]
    assert [row.chosen for row in ranked] == [True, False, False]
    assert {row.criterion for row in ranked} == {"facts"}
    assert ranked[2].p_value < TIED
    assert not ranked[2].tied
    text = describe_choice(ranked, 30)
    assert "likelier becomes the base: significantly more facts right" in text
    assert "18 of 40" in text


def test_without_a_right_answer_likelihood_decides():
    families = [str(number) for number in range(12)]
    rows = [probed("worse", 1.5, [False] * 12), probed("better", 1.0, [False] * 11 + [True])]
    ranked = rank(rows, families, seed=0)
    assert [(row.name, row.criterion) for row in ranked] == [
        ("better", "answers"), ("worse", "answers"),
    ]  # fmt: skip
