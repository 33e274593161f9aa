"""What every engine is given: the same rows, tokenizer, starting weights and starting adapter.

    python material.py KORQUAD.json FOLDER TRAIN_ROWS PAIRS [MODEL]

FOLDER then holds model/ (MODEL, a folder of a pretrained model with a chat template; without it, a
random Llama of 8.9M parameters with a BPE tokenizer of the file's own text), adapter/ (a random
LoRA of rank 16), writer/ (the model to generate with: MODEL, or another random one), and sft.json,
validation.json, prepare.json, pairs.json, prompts.json: rows of chat turns.
"""

import json
import random
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

SEED = 0
VOCABULARY = 6144
CONTEXT = 2048
LONGEST_ROW = 1000
"""Tokens; the peers pack rows into 1,024, and no engine may cut one."""
PRETRAINED_LONGEST_ROW = 500
"""The same where their fastest setting, packing into 512, would cut rows: tokenizers that were not
trained on the file need more tokens."""
VALIDATION_ROWS = 48
PRETRAINED_VALIDATION_ROWS = 12
"""Each is a pass of the whole model, row by row in fp32, for every engine and round."""
PROMPTS = 200
STOP_EVERY = 50

Turns = list[dict[str, str]]


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?!])\s+", text.strip())


def read_rows(path: Path) -> tuple[list[Turns], list[str]]:
    """(chats, all texts). Prompt: question and what precedes it; answer: two sentences."""
    rows, texts = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            texts.append(paragraph["context"])
            parts = sentences(paragraph["context"])
            for qa in paragraph["qas"]:
                texts.append(qa["question"])
                answer = qa["answers"][0]["text"]
                place = next((i for i, part in enumerate(parts) if answer in part), 0)
                before = " ".join(parts[max(0, place - 3) : place])
                rows.append(
                    [
                        {"role": "user", "content": f"{qa['question']}\n{before}".strip()},
                        {"role": "assistant", "content": " ".join(parts[place : place + 2])},
                    ]
                )
    random.Random(SEED).shuffle(rows)
    return rows, texts


def make_pairs(rows: list[Turns], count: int) -> list[dict[str, Turns]]:
    """Preference pairs: the rejected answer is the next row's."""
    return [
        {"prompt": row[:1], "chosen": row[1:], "rejected": following[1:]}
        for row, following in pairwise(rows[: count + 1])
    ]


def make_prompts(rows: list[Turns]) -> list[Turns]:
    """Prompts of mixed lengths: every third is the question alone, every third twice as long."""
    prompts = []
    for number, row in enumerate(rows[:PROMPTS]):
        content = row[0]["content"]
        if number % 3 == 0:
            content = content.partition("\n")[0]
        elif number % 3 == 1:
            content = f"{content}\n{rows[-number - 1][1]['content']}"
        prompts.append([{"role": "user", "content": content}])
    return prompts


def make(
    path: Path, folder: Path, train_rows: int, pairs: int, pretrained: Path | None
) -> dict[str, Any]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows, texts = read_rows(path)
    if pretrained is None:
        make_models(folder, texts)
    else:
        for name in ("model", "writer"):
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(pretrained, folder / name)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    if pretrained is not None:
        end_at_stop(tokenizer).save_pretrained(folder / "model")
    lengths = [len(tokenizer.apply_chat_template(row, return_dict=False)) for row in rows]
    longest = PRETRAINED_LONGEST_ROW if pretrained else LONGEST_ROW
    rows = [row for row, length in zip(rows, lengths, strict=True) if length <= longest]
    validation = rows[-(PRETRAINED_VALIDATION_ROWS if pretrained else VALIDATION_ROWS) :]
    for name, value in {
        "sft": rows[:train_rows],
        "validation": validation,
        "prepare": rows,
        "pairs": make_pairs(rows, pairs),
        "prompts": make_prompts(rows[train_rows:]),
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False))
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    untrained = {}
    if pretrained is not None:
        from judge import validation_loss

        untrained = {
            "untrained_first_loss": validation_loss(model, tokenizer, folder, "sft.json"),
            "untrained_final_loss": validation_loss(model, tokenizer, folder),
        }
    torch.manual_seed(SEED)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    parameters = model.num_parameters()
    get_peft_model(model, lora).save_pretrained(folder / "adapter")
    facts = {"parameters": parameters} | untrained | describe(tokenizer, rows[:train_rows])
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts


def end_at_stop(tokenizer: Any) -> Any:
    """The tokenizer with a template that writes no white space after the last answer's stop token.

    TRL trains what the template writes there, and the others don't: losses could not be compared.
    """
    tokenizer.chat_template = (
        "{%- set text %}" + tokenizer.chat_template + "{% endset %}"
        "{{- text if add_generation_prompt else text.rstrip() }}"
    )
    return tokenizer


def make_models(folder: Path, texts: list[str]) -> None:
    """A random model to train, and one to generate with."""
    from jangin.models.starter import make_starter

    make_starter(
        folder / "model",
        texts,
        size="8M",
        vocabulary_size=VOCABULARY,
        context_length=CONTEXT,
        seed=SEED,
    )
    make_writer(folder)


def make_writer(folder: Path) -> None:
    """A random model with a head of its own: its answers wander, and end at different places.

    One token in `STOP_EVERY` ends an answer, which gives lengths as of a fair die: what matters
    here is that rows of a batch end at different times, and that every engine must agree.
    """
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = LlamaConfig.from_pretrained(folder / "model")
    config.tie_word_embeddings = False
    config.initializer_range = 0.1  # large, or greedy answers run in circles
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=list(range(tokenizer.eos_token_id, len(tokenizer), STOP_EVERY)),
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder / "writer")
    tokenizer.save_pretrained(folder / "writer")


def describe(tokenizer: Any, rows: list[Turns]) -> dict[str, Any]:
    """Tokens of the rows, and the share of them that is in the answers."""
    full = [len(tokenizer.apply_chat_template(row, return_dict=False)) for row in rows]
    asked = [
        len(tokenizer.apply_chat_template(row[:1], add_generation_prompt=True, return_dict=False))
        for row in rows
    ]
    return {
        "rows": len(rows),
        "tokens": sum(full),
        "trained_tokens": sum(full) - sum(asked),
        "shortest": min(full),
        "longest": max(full),
    }


if __name__ == "__main__":
    source, target, train_rows, pairs, *pretrained = sys.argv[1:]
    chosen = Path(pretrained[0]) if pretrained else None
    facts = make(Path(source), Path(target), int(train_rows), int(pairs), chosen)
    sys.stdout.write(json.dumps(facts) + "\n")
