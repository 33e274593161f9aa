"""A tiny BERT made here, saved in the layouts of transformers and of sentence-transformers."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from jangin.core.errors import ConfigError, MachineError
from jangin.core.events import Progress
from jangin.core.model_protocols import HubEncoder, LocalEncoder
from jangin.inference import encoder as encode
from jangin.inference.encoder import Recipe, batches_of, open_encoder, read_recipe

WORDS = ("query", "passage", ":", "a", "b", "c", "d", "lease", "deposit", "fee")
TEXTS = ["a lease", "deposit b c d", "a", "fee fee fee lease a b c d", "", "deposit lease"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a BERT of two layers and 16 dimensions, and a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("tiny")
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    vocabulary = {word: number for number, word in enumerate((*special, *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=12,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(tiny, tmp_path):
    """`copy(name, {file: JSON})`: the tiny model with more files, in a folder of this name."""

    def copy(name, files=None):
        folder = tmp_path / name
        folder.mkdir()
        for path in tiny.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        for file, content in (files or {}).items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(json.dumps(content))
        return folder

    return copy


@pytest.fixture
def open_at(ledger, tmp_path):
    def open_at(folder, **fields):
        config = LocalEncoder(type="local", path=folder, **fields)
        return open_encoder(config, tmp_path, ledger, Progress())

    return open_at


def by_hand(folder, text, pooling="mean"):
    """One text alone through the model, pooled and brought to length 1."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=12)
    with torch.inference_mode():
        hidden = BertModel.from_pretrained(folder)(input_ids=ids["input_ids"]).last_hidden_state[0]
    vector = hidden.mean(0) if pooling == "mean" else hidden[0 if pooling == "cls" else -1]
    return (vector / vector.norm()).numpy()


def test_batched_vectors_are_those_of_each_text_alone_in_the_order_given(tiny, open_at):
    vectors = open_at(tiny).encode(TEXTS, "passage")
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), 16)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(by_hand(tiny, text), abs=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
@pytest.mark.parametrize("form", ["old", "new"])
def test_tokens_are_pooled_as_the_folder_says(copy, open_at, pooling, form):
    old = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    settings = {"pooling_mode": pooling}
    if form == "old":
        settings = {f"pooling_mode_{name}": mode == pooling for mode, name in old.items()}
        settings["word_embedding_dimension"] = 16
    folder = copy("model", {"1_Pooling/config.json": settings})
    vectors = open_at(folder).encode(TEXTS, "query")
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(by_hand(folder, text, pooling), abs=1e-6)


def test_e5_models_are_known_by_name_and_get_their_prefixes(copy, open_at):
    folder = copy("multilingual-e5-tiny")
    encoder = open_at(folder)
    assert encoder.encode(["lease"], "query")[0] == pytest.approx(
        by_hand(folder, "query: lease"), abs=1e-6
    )
    assert encoder.encode(["lease"], "passage")[0] == pytest.approx(
        by_hand(folder, "passage: lease"), abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "files", "query", "passage"),
    [
        ("intfloat/e5-small-v2", {}, "query: ", "passage: "),
        ("nlpai-lab/KoE5", {}, "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", {}, encode.INSTRUCTED, ""),
        ("folder", {"config.json": {"_name_or_path": "intfloat/e5-base"}}, "query: ", "passage: "),
        ("BAAI/bge-m3", {}, "", ""),
        ("some/model-e50", {}, "", ""),
        (
            "snowflake/arctic-e5",
            {"config_sentence_transformers.json": {"prompts": {"query": "q: ", "document": "d: "}}},
            "q: ",
            "d: ",
        ),
        (
            "some/e5",
            {"config_sentence_transformers.json": {"prompts": {"query": "", "document": ""}}},
            "query: ",
            "passage: ",
        ),
    ],
)
def test_the_folders_own_prompts_come_before_what_the_name_says(name, files, query, passage):
    recipe = read_recipe(name, files.get)
    assert (recipe.prefix("query"), recipe.prefix("passage")) == (query, passage)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"modules.json": [{"type": "sentence_transformers.models.Dense", "path": "2"}]}, "Dense"),
        ({"1_Pooling/config.json": {"pooling_mode_max_tokens": True}}, "max_tokens"),
        ({"1_Pooling/config.json": {"pooling_mode": ["mean", "cls"]}}, "mean and cls"),
        ({"1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False}}, "without"),
    ],
)
def test_an_encoder_that_is_used_in_another_way_is_refused(files, told):
    with pytest.raises(ConfigError, match=told):
        read_recipe("some/model", files.get)


def test_pooling_is_read_from_where_the_modules_say():
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "pool"}]
    files = {"modules.json": modules, "pool/config.json": {"pooling_mode": "cls"}}
    assert read_recipe("x", files.get) == Recipe("cls")


def test_texts_are_cut_where_the_folder_the_settings_and_the_places_say(copy, open_at):
    long = " ".join("abcd" * 10)
    plain, limited = (
        copy("plain"),
        copy("short", {"sentence_bert_config.json": {"max_seq_length": 6}}),
    )
    whole = open_at(plain).encode([long], "query")
    assert whole[0] == pytest.approx(by_hand(plain, long), abs=1e-6)
    six = open_at(limited).encode([long], "query")
    assert six[0] == pytest.approx(open_at(plain).encode(["a b c d"], "query")[0], abs=1e-6)
    set_by_hand = open_at(plain, max_tokens=8).encode([long], "query")
    assert set_by_hand[0] == pytest.approx(
        open_at(plain).encode(["a b c d a b"], "query")[0], abs=1e-6
    )


def test_the_source_changes_with_weights_and_with_use_but_not_with_the_place(copy, open_at):
    first, moved, other = copy("one"), copy("two"), copy("my-e5")
    assert open_at(first).source == open_at(moved).source
    assert open_at(first).source != open_at(first, max_tokens=9).source
    assert open_at(other).source != open_at(first).source
    pooled = copy("three", {"1_Pooling/config.json": {"pooling_mode": "cls"}})
    assert open_at(pooled).source != open_at(first).source


def test_equal_texts_are_computed_once_and_no_texts_give_no_rows(tiny, open_at, monkeypatch):
    encoder = open_at(tiny)
    assert encoder.encode([], "query").shape == (0, 16)
    totals = []
    monkeypatch.setattr(encoder.progress, "start", lambda _label, total: totals.append(total) or 0)
    vectors = encoder.encode(["a", "b", "a"], "query")
    assert totals == [2]
    assert np.array_equal(vectors[0], vectors[2])


def test_batches_hold_texts_of_like_length_and_all_of_them_once():
    lengths = [3, 900, 5, 1500, 2, 2] + [4] * 300
    batches = list(batches_of(lengths, on_gpu=False))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or longest * len(batch) <= encode.BATCH_TOKENS
        assert len(batch) <= encode.BATCH_TEXTS
    assert batches[0] == [3]
    assert len(list(batches_of([4] * 300, on_gpu=True))) == 1


def test_a_gpu_encodes_many_texts_at_a_time(tiny, open_at, monkeypatch):
    encoder = open_at(tiny)
    encoder.encode(["a"], "query")  # The weights stay on the CPU.
    texts, sizes = [f"word {number}" for number in range(200)], []
    monkeypatch.setattr(encoder.progress, "advance", lambda _bar, count: sizes.append(count))
    for on_gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda on_gpu=on_gpu: on_gpu)
        encoder.encode(texts, "query")
    assert sizes[-1] == 200
    assert max(sizes[:-1]) <= encode.BATCH_TEXTS


def test_bf16_is_another_encoder_with_nearly_the_same_vectors(tiny, open_at):
    wide, narrow = open_at(tiny), open_at(tiny, precision="bf16")
    assert narrow.source == f"{wide.source} bf16"
    cosines = (wide.encode(["a", "bc"], "query") * narrow.encode(["a", "bc"], "query")).sum(1)
    assert (cosines > 0.99).all()


def test_a_folder_without_an_encoder_is_one_sentence(tmp_path, open_at):
    with pytest.raises(ConfigError, match=r"no config\.json\. Correct"):
        open_at(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MachineError, match="cannot be loaded"):
        open_at(tmp_path).encode(["a"], "query")


def test_a_hub_encoder_that_cannot_be_reached_is_one_sentence(tmp_path, ledger, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="nobody/nothing cannot be loaded"):
        open_encoder(HubEncoder(type="hub", id="nobody/nothing"), tmp_path, ledger)


def test_a_hub_encoder_in_the_cache_is_opened_with_its_own_files(
    copy, tmp_path, ledger, monkeypatch
):
    folder = copy("files", {"1_Pooling/config.json": {"pooling_mode": "cls"}})
    commit = "0" * 40
    cache = tmp_path / "cache"
    model = cache / "models--intfloat--e5-tiny"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots").mkdir()
    folder.rename(model / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    progress = Progress()
    encoder = open_encoder(
        HubEncoder(type="hub", id="intfloat/e5-tiny"), tmp_path, ledger, progress
    )
    assert encoder.source.startswith(f"intfloat/e5-tiny@{commit} ")
    assert encoder.recipe == Recipe("cls", "query: ", "passage: ")
    assert [line.split(":")[0] for line in progress.messages] == ["intfloat/e5-tiny"] * 3
    expected = by_hand(model / "snapshots" / commit, "query: lease", "cls")
    assert encoder.encode(["lease"], "query")[0] == pytest.approx(expected, abs=1e-6)
