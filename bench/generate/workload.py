"""What every contestant is given: the same random Llama, prompts and answer lengths.

Made in each process from the seed alone, so nothing is downloaded or written.
"""

import random
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 3072
FIRST_TOKEN = 10
LAYERS, HIDDEN, FEED_FORWARD, HEADS = 6, 320, 768, 5
SHORTEST_PROMPT, LONGEST_PROMPT = 5, 200
SHORTEST_ANSWER = 8


@dataclass(frozen=True)
class Workload:
    """Prompts, and how many tokens each answer has."""

    prompts: list[list[int]]
    limits: list[int]
    """An answer ends after this number of tokens, as it would at a stop token."""

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(map(len, self.prompts))

    @property
    def new_tokens(self) -> int:
        """Of all answers."""
        return sum(self.limits)

    @property
    def longest_answer(self) -> int:
        """Of one answer."""
        return max(self.limits)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and its answer."""
        return max(len(p) + n for p, n in zip(self.prompts, self.limits, strict=True))

    def first(self, count: int) -> "Workload":
        """The first few of it."""
        return Workload(self.prompts[:count], self.limits[:count])


def make_workload(prompts: int, longest_answer: int, seed: int) -> Workload:
    """Prompts of 5 to 200 random tokens, answers of 8 to `longest_answer`, both uniform."""
    draw = random.Random(seed)
    return Workload(
        [
            [
                draw.randrange(FIRST_TOKEN, VOCABULARY)
                for _ in range(draw.randint(SHORTEST_PROMPT, LONGEST_PROMPT))
            ]
            for _ in range(prompts)
        ],
        [draw.randint(SHORTEST_ANSWER, longest_answer) for _ in range(prompts)],
    )


def make_model(seed: int) -> LlamaForCausalLM:
    """A Llama of 8.8M parameters.

    Its head is not tied and its weights are large: greedy answers of a small tied model repeat one
    token for ever, and equal answers would prove little.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        intermediate_size=FEED_FORWARD,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()
