"""The project from seed words to a trained model, run whole on its own small data."""

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from jangin.core.parquet import read_table
from jangin.core.records import Example, Query, RankedSnippet, Snippet, SplitExample
from jangin.llm.replies import Failed
from jangin.project.runner import run
from jangin.project.session import open_session

PROJECT = Path(__file__).parents[2] / "projects" / "realestate"
UNCOVERED = "재건축 분담금"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The project, trained for a few steps only."""
    folder = tmp_path_factory.mktemp("realestate") / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("store", "__pycache__"))
    text = (folder / "project.yaml").read_text(encoding="utf-8")
    assert "steps: 120" in text
    (folder / "project.yaml").write_text(text.replace("steps: 120", "steps: 4"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """{stage: folder of its artifact}."""
    with open_session(folder) as session:
        steps = run(session.project, session.store, session.services, ["main"])
        assert session.ledger.count_calls().asked_again == 0
        return {step.stage.name: step.artifact.path for step in steps}


def rows(made, stage, kind, record_type):
    return read_table(made[stage] / f"{kind}.parquet", record_type)


@pytest.mark.slow
def test_each_word_is_asked_about_once_and_every_question_is_searched_for(made):
    queries = rows(made, "queries", "queries", Query)
    words = [query.seed_word for query in queries]
    assert len(set(words)) == 13
    assert {words.count(word) for word in words} == {3}
    snippets = rows(made, "search", "snippets", Snippet)
    assert {row.query_id for row in snippets} <= {query.id for query in queries}


@pytest.mark.slow
def test_every_covered_question_is_answered_from_the_section_that_says_it(made):
    examples = rows(made, "synthesize", "examples", Example)
    assert len(examples) == 36
    assert all(example.chunk_ids and example.source for example in examples)
    ranked = {row.snippet.chunk_id for row in rows(made, "rank", "ranked", RankedSnippet)}
    assert {example.chunk_ids[0] for example in examples} <= ranked
    deposit = next(e for e in examples if "확정일자를 받는 수수료" in e.question)
    assert (deposit.answer, deposit.seed_word) == ("수수료는 600원입니다.", "확정일자")
    assert "확정일자" in deposit.section


@pytest.mark.slow
def test_what_the_documents_do_not_cover_gets_no_answer_and_says_so(made):
    queries = {query.id: query for query in rows(made, "queries", "queries", Query)}
    failed = rows(made, "synthesize", "failed", Failed)
    assert [queries[row.subject].seed_word for row in failed] == [UNCOVERED] * 3
    assert {(row.kind, row.rule) for row in failed} == {("rejected", "no_snippets")}


@pytest.mark.slow
def test_questions_that_share_a_section_stay_in_one_split_and_a_model_is_trained(made):
    splits: dict[str, set[str]] = {}
    for row in rows(made, "split", "splits", SplitExample):
        splits.setdefault(row.split, set()).update(row.example.chunk_ids)
    assert splits["train"]
    assert not splits["train"] & splits["unseen_sections"]
    assert (made["sft"] / "model" / "model.safetensors").exists()


def write_encoder(folder, words):
    """A BERT of one layer with random weights that knows these words, named like an E5 model."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":")
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys((*special, *words)))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


@pytest.mark.slow
def test_an_encoder_in_a_folder_ranks_the_same_snippets_by_cosine(made, folder):
    snippets = rows(made, "search", "snippets", Snippet)
    write_encoder(folder / "tiny-e5", [word for row in snippets for word in row.text.split()])
    text = (folder / "project.yaml").read_text(encoding="utf-8")
    ranker = "ranker: {type: encoder, encoder: {type: local, path: tiny-e5}}"
    other = text.replace("ranker: {type: bm25}", ranker).replace("threshold: 0.1", "threshold: -1")
    assert ranker in other
    (folder / "encoder.yaml").write_text(other, encoding="utf-8")
    with open_session(folder / "encoder.yaml") as session:
        steps = run(session.project, session.store, session.services, ["main"], "rank")
    assert [step.state for step in steps if step.stage.name != "rank"] == ["cached"] * 5
    ranked = read_table(steps[-1].artifact.path / "ranked.parquet", RankedSnippet)
    assert {row.ranker for row in ranked} == {"encoder"}
    assert len(ranked) == 2 * 39
    assert all(-1 <= row.score <= 1 for row in ranked)
    assert len({row.score for row in ranked}) > 39
    assert "local " in steps[-1].artifact.manifest.summary["encoder"]
