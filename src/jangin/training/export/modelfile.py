"""Modelfile with which Ollama serves a GGUF file in the chat format that the model was trained on.

The format is found by rendering probes with the tokenizer's own template, so that every template
which treats turns alike can be written in Ollama's language (Go's text/template).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from jangin.core.errors import JanginError
from jangin.core.records import Message
from jangin.models.tokens.rendering import render_texts

_SYSTEM, _ASK, _REPLY, _AGAIN = "Qsystem", "Qfirst", "Qreply", "Qsecond"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The text around the messages of a conversation that ends with a question."""

    head: str
    """Before the first question, where there is no system message."""
    system_head: str | None
    """Before a system message; None where the template refuses one."""
    system_tail: str
    """Between the system message and the first question."""
    after_question: str
    after_answer: str
    """Between an answer and the next question."""

    def go_template(self) -> str:
        """The format in Go's text/template, with Ollama's fields."""
        head = self.head
        if self.system_head is not None:
            system = f"{self.system_head}{{{{ .System }}}}{self.system_tail}"
            head = f"{{{{ if .System }}}}{system}{{{{ else }}}}{self.head}{{{{ end }}}}"
        return (
            head + "{{ range .Messages }}"
            '{{ if eq .Role "user" }}{{ .Content }}' + self.after_question + "{{ end }}"
            '{{ if eq .Role "assistant" }}{{ .Content }}' + self.after_answer + "{{ end }}"
            "{{ end }}"
        )


def chat_format(tokenizer: Any, bos: str = "") -> ChatFormat | None:
    """The tokenizer's chat format; None where its turns are not all alike.

    `bos`: text of the token that llama.cpp puts before every prompt itself, to be left out.
    """
    plain = _pieces(tokenizer, (_ASK,), bos)
    turns = _pieces(tokenizer, (_ASK, _REPLY, _AGAIN), bos)
    if plain is None or turns is None:
        return None
    head, after_question = plain
    if (turns[0], turns[1], turns[3]) != (head, after_question, after_question):
        return None
    system = _pieces(tokenizer, (_SYSTEM, _ASK), bos)
    if system is not None and system[2] != after_question:
        return None
    system_head, system_tail = system[:2] if system else (None, "")
    return ChatFormat(head, system_head, system_tail, after_question, turns[2])


def modelfile(file: str, form: ChatFormat | None, stops: Sequence[str], context: int) -> str:
    """Text of a Modelfile; without a format Ollama takes the template that the GGUF file holds."""
    lines = [f"FROM ./{file}"]
    if form is not None:
        lines.append(f'TEMPLATE """{form.go_template()}"""')
    lines += [f'PARAMETER stop "{_escaped(stop)}"' for stop in stops if stop.strip()]
    return "\n".join([*lines, "PARAMETER temperature 0", f"PARAMETER num_ctx {context}", ""])


def _pieces(tokenizer: Any, contents: tuple[str, ...], bos: str) -> list[str] | None:
    """The text before, between and after these contents; None where the template refuses them."""
    roles = {_SYSTEM: "system", _REPLY: "assistant"}
    turns = [Message(role=roles.get(each, "user"), content=each) for each in contents]
    try:
        (text,) = render_texts(tokenizer, [turns], ask=True)
    except (TemplateError, JanginError):
        return None
    pieces = []
    rest = text.removeprefix(bos)
    for content in contents:
        before, separator, rest = rest.partition(content)
        if not separator or content in rest:
            return None
        pieces.append(before)
    return None if '"""' in text or "{{" in text else [*pieces, rest]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
