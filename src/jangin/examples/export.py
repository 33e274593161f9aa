"""Write examples as JSON Lines for other programs: plain files, no part of the pipeline.

* `prompt_completion`  `{"prompt": text, "completion": text}`
* `chat`               `{"messages": [...]}` and where the example comes from
* `alpaca`             `{"text": "Below is an instruction ... ### Response: ..."}`, on one line
* `openai`             `{"messages": [...]}` alone, checked against the limits of the service

Hangul is written as it is: escaped, it takes 4.3 times the space.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from jangin.core.errors import DataError
from jangin.core.types import Example

ExportFormat = Literal["prompt_completion", "chat", "alpaca", "openai"]

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request. ### Instruction: {question} ### Response: {answer}"
)
OPENAI_MINIMUM = 10
"""A training file of OpenAI's fine-tuning API needs so many lines."""

Row = dict[str, object]


def to_prompt_completion(example: Example) -> Row:
    """One text for the prompt, system message first; raises `DataError` on several turns."""
    _single_turn(example, "prompt_completion")
    prompt = "\n\n".join(message.content for message in example.prompt)
    return {"prompt": prompt, "completion": example.answer}


def to_chat(example: Example) -> Row:
    """Messages as TRL and Hugging Face read them, with id, family, kind, source and page."""
    return {
        "messages": _messages(example),
        "id": example.id,
        "family": example.family,
        "kind": example.kind,
        "source": example.source,
        "page": example.page,
        "section": example.section,
    }


def to_alpaca(example: Example) -> Row:
    """The one-line Alpaca prompt; has no place for a system message, so that is left out."""
    _single_turn(example, "alpaca")
    return {"text": ALPACA.format(question=example.question, answer=example.answer)}


def to_openai(example: Example) -> Row:
    """A line of an OpenAI training file; raises `DataError` on an empty question or answer."""
    if not example.answer.strip() or not example.question.strip():
        raise DataError(
            f"example {example.id} has an empty question or answer, which OpenAI's fine-tuning "
            "API refuses. Drop it in review, or export another format."
        )
    return {"messages": _messages(example)}


_FORMATS: dict[ExportFormat, Callable[[Example], Row]] = {
    "prompt_completion": to_prompt_completion,
    "chat": to_chat,
    "alpaca": to_alpaca,
    "openai": to_openai,
}


def export_examples(examples: Sequence[Example], path: Path, format: ExportFormat) -> int:
    """Write one line per example, in order, and return how many; raises `DataError`.

    Nothing is written unless every example fits the format.
    """
    if format == "openai" and len(examples) < OPENAI_MINIMUM:
        raise DataError(
            f"{len(examples)} examples are too few: OpenAI's fine-tuning API takes files of at "
            f"least {OPENAI_MINIMUM} lines. Add examples, or export another format."
        )
    convert = _FORMATS[format]
    lines = [json.dumps(convert(example), ensure_ascii=False) + "\n" for example in examples]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def _messages(example: Example) -> list[dict[str, str]]:
    turns = (*example.prompt, example.completion)
    return [{"role": message.role, "content": message.content} for message in turns]


def _single_turn(example: Example, format: ExportFormat) -> None:
    roles = [message.role for message in example.prompt if message.role != "system"]
    if roles != ["user"]:
        raise DataError(
            f"example {example.id} is a conversation of several turns, which the format {format} "
            "cannot hold. Export it as chat or openai."
        )
