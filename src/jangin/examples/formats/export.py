"""Write examples as files for other programs and people: not part of the pipeline.

* `prompt_completion`  `{"prompt": text, "completion": text}`
* `chat`               `{"messages": [...]}` and where the example comes from
* `alpaca`             `{"instruction": ..., "input": "", "output": ...}`, with `system` where there
                       is one; a JSON array in a file that ends in `.json`
* `openai`             `{"messages": [...]}` alone, checked against the limits of the service
* `template`           `{"text": ...}`, from a pattern of the user with `{question}` and `{answer}`
* `csv`, `xlsx`        question, answer, earlier turns, source, page, section, evidence

Hangul is written as it is: escaped, it takes 4.3 times the space.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from jangin.core.errors import DataError, SettingsError, counted
from jangin.core.records import Example
from jangin.prepare.tables.sheets import write_csv, write_xlsx

ExportFormat = Literal["prompt_completion", "chat", "alpaca", "openai", "template", "csv", "xlsx"]

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request. ### Instruction: {question} ### Response: {answer}"
)
OPENAI_MINIMUM = 10
"""Minimum number of lines in a training file of OpenAI's fine-tuning API."""

Row = dict[str, object]


def to_prompt_completion(example: Example) -> Row:
    """One text for the prompt, system message first; raises `DataError` on several turns."""
    _single_turn(example, "prompt_completion")
    prompt = "\n\n".join(message.content for message in example.prompt)
    return {"prompt": prompt, "completion": example.answer}


def to_chat(example: Example) -> Row:
    """Messages in the format of TRL and Hugging Face, with the fields that name their origin."""
    return {
        "messages": _messages(example),
        **{name: getattr(example, name) for name in _ORIGIN},
        "chunk_ids": list(example.chunk_ids),
        **({"answers": list(example.answers)} if example.answers else {}),
    }


_ORIGIN = (
    *("id", "family", "kind", "parent", "operation", "seed_word", "source", "page", "section"),
    *("evidence", "teacher", "template", "temperature", "sample"),
)
"""Fields of an example that `chat` carries."""


def to_alpaca(example: Example) -> Row:
    """The keys that LLaMA-Factory, axolotl and Unsloth read; `DataError` on several turns."""
    _single_turn(example, "alpaca")
    row: Row = {"instruction": example.question, "input": "", "output": example.answer}
    system = _system(example)
    return {**row, "system": system} if system else row


def to_columns(example: Example) -> Row:
    """One row of a spreadsheet; of several turns, those before the last question in a column."""
    return {
        "question": example.question,
        "answer": example.answer,
        "earlier_turns": example.earlier_turns,
        "source": example.source,
        "page": example.page or "",
        "section": example.section,
        "evidence": example.evidence,
        "kind": example.kind,
        "system": _system(example),
        "teacher": example.teacher,
        "id": example.id,
    }


def fill_template(example: Example, pattern: str, format: ExportFormat = "template") -> Row:
    """One text: `{question}`, `{answer}` and `{system}` are filled in, all other braces stay."""
    _single_turn(example, format)
    parts = {
        "{question}": example.question,
        "{answer}": example.answer,
        "{system}": _system(example),
    }
    return {"text": _PLACE.sub(lambda match: parts[match[0]], pattern)}


_PLACE = re.compile(r"\{(?:question|answer|system)\}")


def check_pattern(pattern: str) -> str:
    """The pattern, if it contains `{question}`; raises `SettingsError` if not.

    A pattern without `{answer}` gives test prompts.
    """
    if "{question}" not in pattern:
        raise SettingsError(
            f"the pattern {pattern!r} does not contain {{question}}. Add it, as in: "
            "--pattern '{question} -> {answer}'"
        )
    return pattern


def to_openai(example: Example) -> Row:
    """A line of an OpenAI training file; raises `DataError` on an empty question or answer."""
    if not example.answer.strip() or not example.question.strip():
        raise DataError(
            f"example {example.id} has an empty question or answer, which OpenAI's fine-tuning "
            "API rejects. Drop it with curate, or export to another format."
        )
    return {"messages": _messages(example)}


_FORMATS: dict[str, Callable[[Example], Row]] = {
    "prompt_completion": to_prompt_completion,
    "chat": to_chat,
    "alpaca": to_alpaca,
    "openai": to_openai,
}
_SHEETS: dict[str, Callable[[Path, Sequence[Row]], None]] = {"csv": write_csv, "xlsx": write_xlsx}


def export_examples(
    examples: Sequence[Example], path: Path, format: ExportFormat, pattern: str = ALPACA
) -> int:
    """Write one line per example, in order, and return the number of examples.

    `pattern` is used by the format `template` only. Nothing is written unless every example fits
    the format: raises `DataError` if one does not, `SettingsError` for an unusable pattern.
    """
    if format == "openai" and len(examples) < OPENAI_MINIMUM:
        raise DataError(
            f"{counted(len(examples), 'example is', 'examples are')} too few: OpenAI's "
            "fine-tuning API requires at least "
            f"{OPENAI_MINIMUM} lines. Add examples, or export to another format."
        )
    if format == "template":
        check_pattern(pattern)
    if format not in get_args(ExportFormat):
        known = ", ".join(get_args(ExportFormat))
        raise SettingsError(f"there is no format {format!r}. Known formats: {known}.")
    if format in _SHEETS:
        _SHEETS[format](path, [to_columns(example) for example in examples])
        return len(examples)
    convert = _FORMATS.get(format) or (lambda example: fill_template(example, pattern))
    lines = [json.dumps(convert(example), ensure_ascii=False) for example in examples]
    is_array = format == "alpaca" and path.suffix.lower() == ".json"
    text = "[\n" + ",\n".join(lines) + "\n]\n" if is_array else "".join(f"{n}\n" for n in lines)
    path.write_text(text, encoding="utf-8")
    return len(lines)


def _system(example: Example) -> str:
    return "\n".join(m.content for m in example.prompt if m.role == "system")


def _messages(example: Example) -> list[dict[str, str]]:
    turns = (*example.prompt, example.completion)
    return [{"role": message.role, "content": message.content} for message in turns]


def _single_turn(example: Example, format: ExportFormat) -> None:
    roles = [message.role for message in example.prompt if message.role != "system"]
    if roles != ["user"]:
        raise DataError(
            f"example {example.id} has several turns, which the format {format} cannot "
            "represent. Export it as chat or openai."
        )
