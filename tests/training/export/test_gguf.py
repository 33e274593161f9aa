import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from jangin.core.errors import MachineError
from jangin.models.starter import make_starter
from jangin.training.export.gguf import CONVERTER, convert, find_converter

BASE = """
class TextModel:
    def get_vocab_base_pre(self, tokenizer):
        if tokenizer == "known":
            return "llama-bpe"
        raise NotImplementedError("BPE pre-tokenizer was not recognized")
"""
SCRIPT = """
import pathlib, sys
{models}
def main():
    _, _, out, _, kind = sys.argv[1:]
    names = [TextModel().get_vocab_base_pre(each) for each in ("known", "starter's")]
    pathlib.Path(out).write_bytes(b"GGUF " + " ".join([*names, kind]).encode())
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def starter(tmp_path):
    """Folder of a starter of another vocabulary than any that llama.cpp knows."""
    texts = [
        "연차휴가는 언제 신청하나요?",
        "10일 안에 인사팀에 냅니다.",
    ] * 4
    folder = tmp_path / "starter"
    shape = {"size": "0.5M", "vocabulary_size": 300, "context_length": 64, "seed": 0}
    make_starter(folder, texts, **shape)
    return folder


@pytest.fixture(params=["one file", "a package beside it"])
def converter(request, tmp_path):
    """A stand-in for llama.cpp's script, in either of the layouts that it has had."""
    script = tmp_path / CONVERTER
    if request.param == "one file":
        script.write_text(SCRIPT.format(models=BASE))
    else:
        (tmp_path / "conversion").mkdir()
        (tmp_path / "conversion" / "__init__.py").write_text("")
        (tmp_path / "conversion" / "base.py").write_text(BASE)
        script.write_text(SCRIPT.format(models="from conversion.base import TextModel"))
    return script


def test_a_starters_tokenizer_is_named_and_a_known_one_keeps_its_name(starter, converter):
    convert(converter, starter, starter / "mine.gguf", "f32")
    assert (starter / "mine.gguf").read_bytes() == b"GGUF llama-bpe smollm f32"


def test_another_tokenizer_that_llama_cpp_does_not_know_is_refused_with_its_message(
    starter, converter
):
    path = starter / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = False
    path.write_text(json.dumps(content))
    with pytest.raises(MachineError, match="pre-tokenizer was not recognized"):
        convert(converter, starter, starter / "mine.gguf", "f32")


def test_a_starter_splits_text_as_llama_cpp_does_under_the_name_given(starter):
    # Both expressions of that name, one after the other, as llama-vocab.cpp has them.
    text = "It's 2,026년  11월! \t\n Ⅳ we'll  알아보자… x² 100원\n"
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
    theirs = Sequence(
        [
            Split(Regex(r"\p{N}"), "isolated"),
            Split(Regex(gpt2), "isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ours = Tokenizer.from_file(str(starter / "tokenizer.json")).pre_tokenizer
    assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text)


@pytest.mark.skipif(
    "LLAMA_CPP" not in os.environ or importlib.util.find_spec("sentencepiece") is None,
    reason="llama.cpp's converter is not here: set LLAMA_CPP, pip install sentencepiece",
)
def test_the_real_converter_writes_every_weight_and_token_of_a_starter(starter):
    weights = load_file(starter / "model.safetensors")
    words = Tokenizer.from_file(str(starter / "tokenizer.json")).get_vocab()
    convert(find_converter(), starter, starter / "mine.gguf", "f32")
    look = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from gguf import GGUFReader;"
        "r = GGUFReader(sys.argv[2]); f = r.fields;"
        "print(json.dumps([{t.name: t.data.flatten()[:4].tolist() for t in r.tensors},"
        " f['tokenizer.ggml.pre'].contents(), f['tokenizer.ggml.tokens'].contents()]))"
    )
    script = find_converter().resolve().parent / "gguf-py"
    done = subprocess.run(
        [sys.executable, "-c", look, str(script), str(starter / "mine.gguf")],
        capture_output=True,
        text=True,
        check=True,
    )
    tensors, name, tokens = json.loads(done.stdout)
    assert name == "smollm"
    assert {token: index for index, token in enumerate(tokens)} == words
    assert len(tensors) == len(weights)
    first = weights["model.embed_tokens.weight"].flatten()[:4]
    assert torch.tensor(tensors["token_embd.weight"]).equal(first)
