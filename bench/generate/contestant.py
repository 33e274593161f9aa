"""One way to answer all prompts, in a process of its own: python contestant.py JOB (JSON)."""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging
from workload import Workload, make_model, make_workload

PREFIX = "RESULT "
PAGE = 16
"""Tokens of a page of transformers' continuous cache."""

Answers = list[list[int]]
"""Token ids of each answer, in the order asked."""


def ours(model: LlamaForCausalLM, load: Workload, job: dict[str, Any]) -> Answers:
    """`jangin.inference.generate`, as `complete` and `stream` call it."""
    from jangin.inference.continuous_batching import GenerationRequest
    from jangin.inference.generate import steps

    requests = [GenerationRequest(ids, n) for ids, n in zip(load.prompts, load.limits, strict=True)]
    answers: Answers = [[] for _ in requests]
    for stepped in steps(model, None, requests, frozenset(), job["rows"], streamed=False):
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


def in_batches(model: LlamaForCausalLM, load: Workload, job: dict[str, Any]) -> Answers:
    """`model.generate` on left-padded batches, as asked or with prompts of like length together."""
    order = list(range(len(load.prompts)))
    if job["sorted"]:
        order.sort(key=lambda place: len(load.prompts[place]))
    answers: Answers = [[] for _ in order]
    for start in range(0, len(order), job["rows"]):
        places = order[start : start + job["rows"]]
        prompts = [load.prompts[place] for place in places]
        longest = max(map(len, prompts))
        pads = [longest - len(prompt) for prompt in prompts]
        ids = [[0] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)]
        limits = [load.limits[place] for place in places]
        made = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads]),
            generation_config=GenerationConfig(
                max_new_tokens=load.longest_answer, do_sample=False, pad_token_id=0
            ),
            stopping_criteria=StoppingCriteriaList([EachAtItsLimit(longest, limits)]),
        )
        for place, answer in zip(places, made[:, longest:].tolist(), strict=True):
            answers[place] = answer[: load.limits[place]]
    return answers


def continuously(model: LlamaForCausalLM, load: Workload, job: dict[str, Any]) -> Answers:
    """The continuous batching of transformers; it is told each answer's length beforehand.

    And the size of its cache, room for as many rows as ours: its own choice is far slower here.
    """
    config = GenerationConfig(max_new_tokens=load.longest_answer, do_sample=False, pad_token_id=0)
    answers: Answers = [[] for _ in load.prompts]
    pages = job["rows"] * -(-load.longest // PAGE)
    with model.continuous_batching_context_manager(
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=pages, page_size=PAGE, max_batch_tokens=job["batch_tokens"]
        ),
    ) as manager:
        places = {
            manager.add_request(ids, max_new_tokens=limit, eos_token_id=-1): place
            for place, (ids, limit) in enumerate(zip(load.prompts, load.limits, strict=True))
        }
        left = len(places)
        while left:
            output = manager.get_result(timeout=60)
            if output is not None and output.is_finished():
                answers[places[output.request_id]] = list(output.generated_tokens)
                left -= 1
    return answers


WAYS = {"ours": ours, "generate": in_batches, "continuous": continuously}


def cpu_seconds() -> float:
    """Of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_mb(field: str) -> float:
    """VmRSS is what is resident now, VmHWM the most that ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    model = make_model(job["seed"])
    load = make_workload(job["prompts"], job["longest_answer"], job["seed"])
    way = WAYS[job["way"]]
    way(model, load.first(4), job)  # what is only done once per model
    resident = memory_mb("VmRSS")
    cpu, wall = cpu_seconds(), time.perf_counter()
    answers = way(model, load, job)
    report = {
        "cpu_s": cpu_seconds() - cpu,
        "wall_s": time.perf_counter() - wall,
        "resident_mb": resident,
        "peak_mb": memory_mb("VmHWM"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "answers": answers,
    }
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as stream:
        stream.write(f"\n{PREFIX}{json.dumps(report)}\n")


if __name__ == "__main__":
    main()
