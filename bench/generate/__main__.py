"""Our generation beside transformers' `generate` and its continuous batching, on one thread.

    python bench/generate [--sizes 3M 8M] [--repeats 3] [--prompts 200] [--seed 0]

Starter-shaped Llamas with random weights, greedy; prompts of 5 to 200 tokens; every answer ends
after 8 to 64 tokens, which no scheduler is told in advance (transformers' continuous batching
takes it per request, so it is). `generate` gets each batch size with prompts as asked and sorted
by length. Contestants take turns in one process; a figure is the median of new tokens per
CPU-second, and what is three times slower than the best peer in the first round sits out the rest.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

from jangin.models.continuous import Request
from jangin.models.generate import steps
from jangin.models.starter import SHAPES

VOCABULARY = 6144
LONGEST_PROMPT, SHORTEST_ANSWER, LONGEST_ANSWER = 200, 8, 64
BATCHES = (1, 8, 32, 64)

Answers = list[list[int]]
"""Token ids of each answer, in the order asked."""


def starter(size: str, seed: int) -> LlamaForCausalLM:
    """A Llama of a starter's shape; its vocabulary needs no tokenizer here."""
    hidden, layers, feed_forward, heads = SHAPES[size]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=feed_forward,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def ours(model: LlamaForCausalLM, prompts: Answers, limits: list[int], rows: int) -> Answers:
    requests = [Request(ids, limit) for ids, limit in zip(prompts, limits, strict=True)]
    answers: Answers = [[] for _ in prompts]
    for stepped in steps(model, None, requests, frozenset(), rows, watched=False):
        for number, one in stepped:
            answers[number] = one.token_ids
    return answers


class EachAtItsLimit(StoppingCriteria):
    """Ends row r of a batch after `limits[r]` new tokens, as a stop token would."""

    def __init__(self, prompt_tokens: int, limits: list[int]) -> None:
        self.ends = torch.tensor(limits) + prompt_tokens

    def __call__(
        self, input_ids: torch.Tensor, _scores: torch.Tensor | None, **_: object
    ) -> torch.Tensor:
        """True for each row that is done."""
        return input_ids.shape[1] >= self.ends


def in_batches(
    model: LlamaForCausalLM, prompts: Answers, limits: list[int], batch: int, *, by_length: bool
) -> Answers:
    order = list(range(len(prompts)))
    if by_length:
        order.sort(key=lambda place: len(prompts[place]))
    answers: Answers = [[] for _ in prompts]
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        longest = max(len(prompts[place]) for place in places)
        pads = [longest - len(prompts[place]) for place in places]
        made = model.generate(
            input_ids=torch.tensor(
                [[0] * pad + prompts[p] for pad, p in zip(pads, places, strict=True)]
            ),
            attention_mask=torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads]),
            generation_config=GenerationConfig(
                max_new_tokens=LONGEST_ANSWER, do_sample=False, pad_token_id=0
            ),
            stopping_criteria=StoppingCriteriaList(
                [EachAtItsLimit(longest, [limits[place] for place in places])]
            ),
        )
        for place, answer in zip(places, made[:, longest:].tolist(), strict=True):
            answers[place] = answer[: limits[place]]
    return answers


def continuously(model: LlamaForCausalLM, prompts: Answers, limits: list[int]) -> Answers:
    """Told the size of its cache: its own choice is ten times slower on a CPU."""
    config = GenerationConfig(max_new_tokens=LONGEST_ANSWER, do_sample=False, pad_token_id=0)
    answers: Answers = [[] for _ in prompts]
    before = model.config._attn_implementation
    with model.continuous_batching_context_manager(
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=1024, page_size=16, max_batch_tokens=512
        ),
    ) as manager:
        names = {
            manager.add_request(ids, max_new_tokens=limit, eos_token_id=-1): place
            for place, (ids, limit) in enumerate(zip(prompts, limits, strict=True))
        }
        left = len(names)
        while left:
            output = manager.get_result(timeout=60)
            if output is not None and output.is_finished():
                answers[names[output.request_id]] = list(output.generated_tokens)
                left -= 1
    model.set_attn_implementation(before)
    return answers


@dataclass
class Contestant:
    """One way to answer all prompts, and what it took."""

    name: str
    work: Callable[[], Answers]
    seconds: list[float] = field(default_factory=list)
    answers: Answers = field(default_factory=list)

    def turn(self) -> None:
        """Answer once more."""
        start = time.process_time()
        self.answers = self.work()
        self.seconds.append(time.process_time() - start)

    @property
    def median(self) -> float:
        """CPU-seconds."""
        return statistics.median(self.seconds)


def contestants(model: LlamaForCausalLM, prompts: Answers, limits: list[int]) -> list[Contestant]:
    made = [Contestant("jangin, 64 rows", lambda: ours(model, prompts, limits, 64))]
    made += [
        Contestant(
            f"generate, batches of {batch}{', sorted by length' if by_length else ''}",
            lambda batch=batch, by_length=by_length: in_batches(
                model, prompts, limits, batch, by_length=by_length
            ),
        )
        for batch in BATCHES
        for by_length in ((False,) if batch == 1 else (False, True))
    ]
    made.append(Contestant("generate_batch", lambda: continuously(model, prompts, limits)))
    return made


def race(size: str, repeats: int, count: int, seed: int) -> None:
    """Print one table."""
    draw = random.Random(seed)
    prompts = [
        [draw.randrange(10, VOCABULARY) for _ in range(draw.randint(5, LONGEST_PROMPT))]
        for _ in range(count)
    ]
    limits = [draw.randint(SHORTEST_ANSWER, LONGEST_ANSWER) for _ in prompts]
    model = starter(size, seed)
    runners = contestants(model, prompts, limits)
    in_batches(model, prompts[:4], limits[:4], 4, by_length=False)  # what is only done once
    for repeat in range(repeats):
        best_peer = min((one.median for one in runners[1:] if one.seconds), default=0.0)
        for one in runners:
            if repeat == 0 or one.median < 3 * best_peer:
                one.turn()
    mine, tokens = runners[0], sum(limits)
    print(
        f"\n{size} Llama, {len(prompts)} prompts of {sum(map(len, prompts))} tokens, {tokens} new"
    )
    print(f"{'':38} tokens/CPU-s   ours is   spread   turns   same answers")
    for one in runners:
        same = sum(a == b for a, b in zip(one.answers, mine.answers, strict=True))
        spread = (max(one.seconds) - min(one.seconds)) / one.median
        print(
            f"{one.name:38} {tokens / one.median:12.0f} {one.median / mine.median:8.2f}x "
            f"{spread:8.0%} {len(one.seconds):7} {same:9}/{len(prompts)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Generation beside transformers'")
    parser.add_argument("--sizes", nargs="+", default=["3M", "8M"], choices=sorted(SHAPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    print(f"load of the machine before: {os.getloadavg()}, {os.cpu_count()} cores")
    for size in arguments.sizes:
        race(size, arguments.repeats, arguments.prompts, arguments.seed)
    print(f"\nload of the machine after: {os.getloadavg()}")


if __name__ == "__main__":
    main()
