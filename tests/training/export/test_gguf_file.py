"""GGUF files written from tiny models of the real classes, read back with the gguf package."""

import json

import gguf
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jangin.inference.llama_cpp import GgufModel, has_llama_cpp
from jangin.training.export.gguf_file import interleave, largest_error, why_not, write_gguf

SIZES = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "llama with llama3 rope": {"rope_parameters": LLAMA3, "head_dim": 32},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"tie_word_embeddings": True},
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window": 32, "tie_word_embeddings": True},
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory, tokenizer):
    """Folder of a tiny model with random weights and norms that are not one."""
    path = tmp_path_factory.mktemp("model")
    family = request.param.split()[0]
    sizes = SIZES | FAMILIES[request.param]
    config = AutoConfig.for_model(family, **sizes, eos_token_id=tokenizer.eos_token_id)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("norm" in name and family != "gemma3_text"), 0.3)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("kind", "bound"), [("f32", 0), ("f16", 1e-3), ("bf16", 4e-3), ("q8_0", 5e-3)]
)
def test_every_weight_is_stored(folder, tmp_path, kind, bound):
    assert why_not(folder) is None
    write_gguf(folder, tmp_path / "m.gguf", kind, "mine")
    error, tensors = largest_error(folder, tmp_path / "m.gguf")
    assert (error == 0) == (kind == "f32")
    assert error <= bound
    stored = gguf.GGUFReader(tmp_path / "m.gguf").tensors
    assert len([t for t in stored if t.name != "rope_freqs.weight"]) == tensors
    matrices = {t.tensor_type.name for t in stored if len(t.shape) > 1}
    assert matrices == {kind.upper()}


def test_the_vocabulary_is_stored_with_the_trained_stop_token(folder, tmp_path, tokenizer):
    write_gguf(folder, tmp_path / "m.gguf", "f16", "mine")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    types = fields["tokenizer.ggml.token_type"].contents()
    control = [tokens[i] for i, kind in enumerate(types) if kind == gguf.TokenType.CONTROL]
    assert set(control) == set(tokenizer.get_added_vocab())


def test_rows_of_a_head_alternate_between_its_halves():
    rows = torch.arange(8.0)[:, None]
    assert interleave(rows, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.skipif(not has_llama_cpp(), reason="llama-cpp-python is not installed")
def test_llama_cpp_continues_a_prompt_as_transformers_does(folder, tmp_path):
    write_gguf(folder, tmp_path / "m.gguf", "f32", "mine")
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = [1, 4, 100, 200, 300, 50, 60]
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=-1
    )
    opened = GgufModel(tmp_path / "m.gguf", 256)
    assert opened.answer(prompt, 8, ()) == expected[0, len(prompt) :].tolist()
    opened.close()


def test_what_llama_cpp_would_compute_otherwise_is_not_written(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (copy / name).write_text((folder / name).read_text())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "olmo2"}))
    assert "olmo2" in why_not(copy)
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    assert "10 rows" in why_not(copy)
