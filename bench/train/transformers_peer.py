"""transformers' own ways to generate, in our environment: python transformers_peer.py JOB."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from meter import Meter, report
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

Ids = list[list[int]]


def in_batches(model: Any, prompts: Ids, config: GenerationConfig, job: dict[str, Any]) -> Ids:
    """`model.generate` on left-padded batches, as asked or with prompts of like length together."""
    order = list(range(len(prompts)))
    if job["sorted"]:
        order.sort(key=lambda place: len(prompts[place]))
    answers: Ids = [[] for _ in prompts]
    for start in range(0, len(order), job["batch"]):
        places = order[start : start + job["batch"]]
        longest = max(len(prompts[place]) for place in places)
        pads = [longest - len(prompts[place]) for place in places]
        ids = [[config.pad_token_id] * n + prompts[p] for n, p in zip(pads, places, strict=True)]
        mask = [[0] * n + [1] * (longest - n) for n in pads]
        made = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            generation_config=config,
        )
        for place, answer in zip(places, made[:, longest:].tolist(), strict=True):
            answers[place] = answer
    return answers


def continuously(model: Any, prompts: Ids, config: GenerationConfig, _job: dict[str, Any]) -> Ids:
    """`model.generate_batch`, told the size of its cache: its own choice is 10 times slower."""
    from transformers import ContinuousBatchingConfig

    made = model.generate_batch(
        inputs=prompts,
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=256, page_size=16, max_batch_tokens=512
        ),
    )
    # Keyed by request, in the order the prompts were given; numbers end each name.
    ordered = sorted(made.items(), key=lambda item: int("".join(filter(str.isdigit, item[0]))))
    return [list(output.generated_tokens) for _, output in ordered]


def until_stop(answer: list[int], stops: list[int]) -> list[int]:
    """Without the padding that a batch adds behind the first stop token."""
    place = next((i for i, token in enumerate(answer) if token in stops), len(answer))
    return answer[: place + 1]


def main() -> None:
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "writer")
    model = AutoModelForCausalLM.from_pretrained(folder / "writer", dtype=torch.float32).eval()
    prompts = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        for prompt in json.loads((folder / "prompts.json").read_text())
    ]
    stops = model.generation_config.eos_token_id
    config = GenerationConfig(
        max_new_tokens=job["new_tokens"],
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    with Meter() as meter:
        work = continuously if job["engine"] == "continuous" else in_batches
        answers = work(model, prompts, config, job)
    answers = [until_stop(answer, stops) for answer in answers]
    report(answers=answers, tokens=sum(map(len, answers)), **meter.figures())


if __name__ == "__main__":
    main()
