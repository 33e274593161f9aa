"""Training text of a conversation: the prompt as in inference, the answer, the stop token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jangin.core.errors import TrainingError
from jangin.core.records import Message
from jangin.models.tokens.rendering import ESCAPE, SpecialTokens, render_texts
from jangin.text.reasoning import (
    TAGS,
    closing_tag,
    ends_reasoning,
    split_reasoning,
    without_reasoning,
)

NO_STOP = (
    "the chat template writes no stop token after the assistant's turn, so the model would never "
    "learn to stop. Name one with `stop` for a pretrained base, or choose a template that ends "
    "turns with a special token such as EOS."
)
_QUESTION, _ANSWER = "question 7", "answer 9"


@dataclass(frozen=True, slots=True)
class TrainingText:
    """One row as text."""

    name: str
    text: str
    spans: tuple[tuple[int, int], ...]
    """(start, end) in characters of the trained turns: answer, stop token and what is between."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One trained turn."""

    row: int
    turn: int
    """Index of its message."""
    before: str
    """The prompt that inference would ask."""
    after: str
    """The conversation through this turn."""


def training_texts(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    chosen: Sequence[Sequence[int]],
    names: Sequence[str],
) -> list[TrainingText]:
    """The rows of conversations, of which the messages `chosen` (indices) are trained.

    A conversation is one row if its text begins with the prompt of every trained turn. Else each
    trained turn is a row: the conversation through it, where that begins with its prompt, or the
    prompt, the answer and what the template writes after an answer.

    Raises:
        TrainingError: names the row with an empty answer, with reasoning where the prompt says
            not to think, or with text that the template leaves out; or there is no stop token.

    """
    turns = _turns(tokenizer, conversations, chosen, names)
    special = SpecialTokens(tokenizer)
    by_row: list[list[_Turn]] = [[] for _ in conversations]
    for turn in turns:
        by_row[turn.row].append(turn)
    rendered: list[TrainingText] = []
    stop = ""
    for messages, of_row, name in zip(conversations, by_row, names, strict=True):
        for turn in of_row:
            _check_answer(messages[turn.turn].content, turn, name)
        text = of_row[-1].after
        trained = {turn.turn for turn in of_row}
        if all(_is_prefix(turn, text, special) for turn in of_row) and not _left_out(
            messages, trained, text
        ):
            spans = tuple((len(turn.before), len(turn.after)) for turn in of_row)
            rendered.append(TrainingText(name, text, spans))
            continue
        for turn in of_row:
            shown = messages[: turn.turn + 1]
            text = turn.after
            if not _is_prefix(turn, text, special) or _left_out(shown, {turn.turn}, text):
                stop = stop or end_of_turn(tokenizer, special)
                if not stop:
                    raise TrainingError(f"{name}: {NO_STOP}")
                answer = _joined(turn.before, messages[turn.turn].content)
                _refuse_left_out(shown[:-1], turn.before, name)
                text = turn.before + answer + stop
            own = name if len(of_row) == 1 else f"{name}, turn {turn.turn + 1}"
            rendered.append(TrainingText(own, text, ((len(turn.before), len(text)),)))
    return rendered


def _turns(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    chosen: Sequence[Sequence[int]],
    names: Sequence[str],
) -> list[_Turn]:
    """Every trained turn with its prompt and its conversation as text, in order."""
    turns = [(row, turn) for row, some in enumerate(chosen) for turn in some]
    own = [names[row] for row, _ in turns]
    prompts = [conversations[row][:turn] for row, turn in turns]
    shown = [conversations[row][: turn + 1] for row, turn in turns]
    befores = render_texts(tokenizer, prompts, ask=True, names=own)
    afters = render_texts(tokenizer, shown, ask=False, names=own)
    return [
        _Turn(row, turn, before, after)
        for (row, turn), before, after in zip(turns, befores, afters, strict=True)
    ]


def _check_answer(content: str, turn: _Turn, name: str) -> None:
    if not content:
        raise TrainingError(
            f"{name} has no trained token: its answer is empty. Write one, or remove the row."
        )
    if ends_reasoning(turn.before) and split_reasoning(content).reasoning:
        raise TrainingError(
            f"{name}: its answer in turn {turn.turn + 1} holds reasoning, but the prompt tells the "
            "model not to think. Set `thinking: on` for the base, or remove the reasoning."
        )


def _is_prefix(turn: _Turn, text: str, special: SpecialTokens) -> bool:
    """Whether a text begins with the prompt and with the conversation through it, and stops."""
    return (
        len(turn.before) < len(turn.after)
        and text.startswith(turn.before)
        and text.startswith(turn.after)
        and bool(special.spans(turn.after[len(turn.before) :]))
        and not _begins_reasoning_again(turn)
    )


def _begins_reasoning_again(turn: _Turn) -> bool:
    """Whether the prompt has begun the reasoning, and the answer's own tag follows it."""
    tag = closing_tag(turn.before)
    return bool(tag) and _opening_of(tag) in turn.after[len(turn.before) :]


def _left_out(messages: Sequence[Message], trained: set[int], text: str) -> Message | None:
    """The first message whose content is not in a text, white space aside, or None.

    An earlier answer may lack its reasoning: templates take it off, and inference does the same.
    """
    squeezed: str | None = None
    for index, message in enumerate(messages):
        content = message.content.strip()
        if content in text:
            continue
        squeezed = squeezed if squeezed is not None else "".join(text.split())
        shown = [content]
        if message.role == "assistant" and index not in trained:
            shown.append(without_reasoning(content))
        if not any("".join(part.split()) in squeezed for part in shown):
            return message
    return None


def _refuse_left_out(messages: Sequence[Message], text: str, name: str) -> None:
    message = _left_out(messages, set(), text)
    if message is not None:
        raise TrainingError(
            f"{name}: the chat template leaves out or changes the text of its {message.role} turn "
            f"{message.content[:40]!r}, so the model would not see it. Move the text to another "
            "turn, or choose another `chat_template`."
        )


def _joined(before: str, content: str) -> str:
    """The answer after a prompt, which may have begun the answer's reasoning."""
    tag = closing_tag(before)
    if not tag:
        return content
    parts = split_reasoning(content)
    if not parts.start:
        line = "" if before.endswith("\n") else "\n"
        return f"{line}{tag}\n\n{content}"
    body = content.lstrip().removeprefix(_opening_of(tag))
    return body.lstrip("\n") if before.endswith("\n") else body


def _opening_of(tag: str) -> str:
    return next(opening for opening, closing in TAGS if closing == tag)


def separated(text: TrainingText) -> list[TrainingText]:
    """A row for each trained turn, whose answer is encoded apart from its prompt.

    For a tokenizer that merges the end of a prompt with the start of the answer: inference encodes
    the prompt alone.
    """
    alone = len(text.spans) == 1
    return [
        TrainingText(
            text.name if alone else f"{text.name}, answer {number}",
            text.text[:start] + ESCAPE + text.text[start:end],
            ((start + len(ESCAPE), end + len(ESCAPE)),),
        )
        for number, (start, end) in enumerate(text.spans, 1)
    ]


def end_of_turn(tokenizer: Any, special: SpecialTokens) -> str:
    """What the template writes after an answer, through its last special token; may be empty."""
    turns = (Message(role="user", content=_QUESTION), Message(role="assistant", content=_ANSWER))
    (text,) = render_texts(tokenizer, [turns], ask=False)
    tail = text[text.rfind(_ANSWER) + len(_ANSWER) :]
    spans = special.spans(tail)
    return tail[: spans[-1][1]] if spans else ""


def stop_token(tokenizer: Any) -> int | None:
    """The token that ends an answer in the chat template; None without a template or a token."""
    if not tokenizer.chat_template:
        return None
    special = SpecialTokens(tokenizer)
    end = end_of_turn(tokenizer, special)
    return special.encode(end)[-1] if end else None
