"""Models and token rows of the GPU bench: made from a seed, nothing is downloaded.

Token ids are random and represent words of a word-level tokenizer, so that peers which insist on
text get the very same rows. Imports nothing of jangin: peers have environments of their own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = range(4)
FIRST_WORD = 4
RANK, ALPHA = 16, 32

Shape = dict[str, Any]
Ids = npt.NDArray[np.int64]

SHAPES: dict[str, Shape] = {
    # Llama 3.2 1B and Llama 3.1 8B.
    "1B": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "tie_word_embeddings": True,
    },
    "8B": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Lengths:
    """How long rows are: log-normal, cut at both ends, as instruction data is."""

    median: float
    sigma: float
    shortest: int
    longest: int

    def draw(self, random: np.random.Generator, count: int) -> Ids:
        """Lengths of many rows."""
        drawn = random.lognormal(np.log(self.median), self.sigma, count)
        return np.clip(drawn.astype(np.int64), self.shortest, self.longest)


PROMPT = {"full": Lengths(220, 0.9, 16, 1400), "tiny": Lengths(12, 0.6, 4, 40)}
ANSWER = {"full": Lengths(150, 0.9, 8, 640), "tiny": Lengths(8, 0.6, 2, 20)}


def config(shape: str) -> LlamaConfig:
    """A Llama of this shape."""
    return LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def make_model(shape: str, dtype: torch.dtype, device: str, *, four_bits: bool = False) -> Any:
    """Random weights, drawn on the device itself: no copy of them is ever made elsewhere."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config(shape), dtype=dtype)
    if four_bits:
        quantise(model, device)
    return model


def quantise(model: Any, device: str) -> None:
    """Every linear layer but the head to nf4 with double quantisation, one after another."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        small = Linear4bit(
            module.in_features,
            module.out_features,
            bias=False,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
            device="meta",
        )
        small.weight = Params4bit(
            module.weight.data.contiguous(),
            requires_grad=False,
            compress_statistics=True,
            quant_type="nf4",
        ).to(device)
        # Or a look in eval mode repacks the weights for a CPU kernel that has no gradient.
        small.support_avx512bf16_for_cpu = False
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, small)
        module.weight = None
    model.is_loaded_in_4bit = True  # PEFT looks for it
    model.requires_grad_(False)


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Word `w7` is token 7."""
    words = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": UNKNOWN}
    words |= {f"w{number}": number for number in range(FIRST_WORD, vocabulary)}
    made = Tokenizer(WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", model_max_length=4096
    )


def as_text(ids: Ids) -> str:
    """Words of a row."""
    return " ".join(f"w{token}" for token in ids)


@dataclass(frozen=True)
class Rows:
    """Prompts and answers; every answer ends with the stop token."""

    prompts: list[Ids]
    answers: list[Ids]

    @property
    def tokens(self) -> int:
        """Real ones, padding not counted."""
        return sum(map(len, self.prompts)) + sum(map(len, self.answers))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(p) + len(a) for p, a in zip(self.prompts, self.answers, strict=True)]

    @property
    def answer_tokens(self) -> int:
        """Those that the loss counts."""
        return sum(map(len, self.answers))


def make_rows(count: int, shape: str, seed: int) -> Rows:
    """Rows of an instruction set's lengths, tokens at random."""
    random = np.random.default_rng(seed)
    scale = "tiny" if shape == "tiny" else "full"
    vocabulary = SHAPES[shape]["vocab_size"]

    def words(length: int) -> Ids:
        return random.integers(FIRST_WORD, vocabulary, length)

    prompts = [words(int(n)) for n in PROMPT[scale].draw(random, count)]
    answers = [np.append(words(int(n) - 1), EOS) for n in ANSWER[scale].draw(random, count)]
    return Rows(prompts, answers)
