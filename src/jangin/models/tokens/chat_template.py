"""Messages to token ids and loss mask.

Training, evaluation and generation all use this module, so a model is asked with the tokens that it
was trained on. The mask comes from character offsets in the rendered chat template: it works for
every template and every fast tokenizer, and does not depend on the pad id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from jangin.core.errors import TrainingError, counted_of
from jangin.core.records import Message
from jangin.models.tokens.options import TooLong, TrainOn
from jangin.models.tokens.rendering import (
    ESCAPE,
    EncodedText,
    SpecialTokens,
    encode_plain,
    encode_texts,
    guard_control_tokens,
    render_texts,
)
from jangin.text.reasoning import (
    TAGS,
    closing_tag,
    ends_reasoning,
    split_reasoning,
    without_reasoning,
)

# Training text of a conversation: the prompt as in inference, the answer, the stop token.


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


@dataclass(frozen=True, slots=True)
class RenderedRows:
    """Token ids of many rows, concatenated: row r is `[starts[r]:starts[r + 1]]`."""

    ids: npt.NDArray[np.int64]
    trained: npt.NDArray[np.bool_]
    """Loss mask: True where the prediction of this token counts."""
    starts: npt.NDArray[np.int64]
    names: tuple[str, ...]
    """Name of each row for messages, such as `row 3 (2fd4e1c67a2d28fc)`."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end an assistant turn, in order of first use."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.names)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.starts)

    def row(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """(ids (T,) int64, loss mask (T,) bool) of one row; views, not copies."""
        part = slice(self.starts[index], self.starts[index + 1])
        return self.ids[part], self.trained[part]


@dataclass(frozen=True, slots=True)
class LostRows:
    """What a `too_long` policy dropped or truncated."""

    rows: int = 0
    tokens: int = 0


def render_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids to generate from: a prefix of what the same messages are trained as."""
    return render_prompts(tokenizer, [messages])[0]


def render_prompts(
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    names: Sequence[str] = (),
    control_tokens: str | None = None,
) -> list[list[int]]:
    """`render_prompt` of many conversations in one tokenizer pass.

    `control_tokens`: `refuse` or `escape` those in the texts; default: the tokenizer's setting.

    Raises:
        TrainingError: a text contains a control token; `names` are those of the conversations.

    """
    guarded = guard_control_tokens(tokenizer, prompts, names, control_tokens)
    texts = render_texts(tokenizer, guarded, ask=True, names=names)
    return [encoded.ids.tolist() for encoded in encode_texts(tokenizer, texts)]


def render_rows(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    names: Sequence[str],
    train_on: TrainOn = "completion",
    weights: Sequence[Sequence[int] | None] | None = None,
) -> RenderedRows:
    """Tokenize conversations that end with an assistant message, and mark what is trained.

    `train_on` chooses messages: the last one (`completion`), the assistant's after the last
    question (`last_turn`, which may be several), all of the assistant's (`all_turns`), or all
    text. `weights`: a 0 or 1 for each message of a conversation, or None, as in OpenAI's format;
    0 excludes a chosen message.

    A trained turn is what inference asks, the answer and its stop token. A conversation is one
    row where the template renders each prompt of a trained turn as the beginning of the whole;
    else every trained turn is a row of its own, as in `training_texts`. Tokens after the last
    trained one are dropped, because no loss depends on them.

    Raises:
        TrainingError: names the row that has no trained token, no stop token, control tokens in
            its text, or text that the template leaves out.

    """
    conversations = guard_control_tokens(tokenizer, conversations, names)
    chosen = [
        _chosen(messages, train_on, weights[index] if weights else None, name)
        for index, (messages, name) in enumerate(zip(conversations, names, strict=True))
    ]
    texts = training_texts(tokenizer, conversations, chosen, names)
    encoded = list(_encoded(tokenizer, texts))
    rows, stops = [], dict[int, None]()
    for text, row in encoded:
        trained = _mask(row, text.spans, text.name)
        stops[int(row.ids[len(trained) - 1])] = None
        if train_on == "everything":
            trained[1:] = True
        rows.append((row.ids[: len(trained)], trained))
    return _join(rows, tuple(text.name for text, _ in encoded), tuple(stops))


def _encoded(
    tokenizer: Any, texts: Sequence[TrainingText]
) -> Iterator[tuple[TrainingText, EncodedText]]:
    """Each text with its tokens, which begin with those of its prompt alone."""
    for text, row in zip(texts, encode_texts(tokenizer, [t.text for t in texts]), strict=True):
        if all(row.answer_begins(start) is not None for start, _ in text.spans):
            yield text, row
            continue
        apart = separated(text)
        yield from zip(apart, encode_texts(tokenizer, [t.text for t in apart]), strict=True)


def render_documents(
    tokenizer: Any, texts: Sequence[str], names: Sequence[str], limit: int
) -> RenderedRows:
    """Raw texts as windows of at most `limit` tokens; no window contains two texts.

    A text starts with BOS and ends with EOS where the model has them. Each window starts with the
    last token of the previous one, so every token but a text's first is trained exactly once.

    Raises:
        TrainingError: a text contains a control token of the model.

    """
    special = SpecialTokens(tokenizer)
    for text, name in zip(texts, names, strict=True):
        held = special.spans(text)
        if held:
            raise TrainingError(
                f"{name} contains the model's control token {text[slice(*held[0])]!r} as text, "
                "which would end or start a turn. Remove it from the text."
            )
    if not texts:
        return _join([], (), ())
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    first, last = (np.array([] if t is None else [t], dtype=np.int64) for t in (bos, eos))
    encoded = (
        flat[start:end]
        for flat, bounds in encode_plain(tokenizer, texts)
        for start, end in pairwise(bounds)
    )
    rows, row_names = [], []
    for name, body in zip(names, encoded, strict=True):
        ids = np.concatenate([first, body, last])
        for start in range(0, len(ids) - 1, limit - 1):
            window = ids[start : start + limit]
            rows.append((window, np.arange(len(window)) > 0))
            row_names.append(f"{name}, tokens {start + 1} to {start + len(window)}")
    return _join(rows, tuple(row_names), tuple(last.tolist()))


def select_rows(rows: RenderedRows, indices: npt.NDArray[np.int64]) -> RenderedRows:
    """The rows of these indices, in this order."""
    names = tuple(rows.names[index] for index in indices)
    return _join([rows.row(int(index)) for index in indices], names, rows.stop_ids)


def limit_rows(
    rows: RenderedRows, limit: int, setting: str, too_long: TooLong
) -> tuple[RenderedRows, LostRows]:
    """(rows after the policy for those of more than `limit` tokens, what was lost).

    `setting`: name of what sets the limit, for messages.

    Raises:
        TrainingError: the policy is `refuse`, or a truncated row has no trained token left.

    """
    over = np.flatnonzero(rows.lengths > limit)
    if not len(over):
        return rows, LostRows()
    cut = int((rows.lengths[over] - limit).sum())
    if too_long == "refuse":
        raise TrainingError(
            f"{counted_of(len(over), len(rows), 'row', 'is', 'are')} longer than {limit} tokens "
            f"({setting}), {cut} tokens would be lost; the first is {rows.names[over[0]]} with "
            f"{rows.lengths[over[0]]} tokens. Set `too_long` to `drop`, `keep_start` or `keep_end`."
        )
    kept: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = []
    names = []
    long = set(over.tolist())
    for index, name in enumerate(rows.names):
        ids, trained = rows.row(index)
        if index in long and too_long == "drop":
            continue
        if index in long and too_long in ("keep_start", "truncate"):
            ids, trained = ids[:limit], trained[:limit]
        elif index in long:
            first = np.array([0]) if limit > 1 else np.array([], dtype=np.int64)
            keep = np.concatenate([first, np.arange(len(ids) - limit + len(first), len(ids))])
            ids, trained = ids[keep], trained[keep]
        if not trained[1:].any() and too_long == "truncate":
            continue
        if not trained[1:].any():
            raise TrainingError(
                f"{name} has no trained token left after truncation to {limit} tokens. "
                "Use `too_long: drop`, or keep the other end."
            )
        kept.append((ids, trained))
        names.append(name)
    lost = LostRows(len(over), int(rows.lengths[over].sum()) if too_long == "drop" else cut)
    return _join(kept, tuple(names), rows.stop_ids), lost


def _chosen(
    messages: Sequence[Message], train_on: TrainOn, weights: Sequence[int] | None, name: str
) -> list[int]:
    """Indices of the trained messages, in order."""
    last = len(messages) - 1
    if last < 0 or messages[last].role != "assistant":
        raise TrainingError(
            f"{name} does not end with an assistant turn, so it has no trained token. "
            "Add the answer, or remove the row."
        )
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    first = {"all_turns": 0, "last_turn": last_user + 1}.get(train_on, last)
    chosen = [i for i in range(first, last + 1) if messages[i].role == "assistant"]
    if weights is None:
        return chosen
    if train_on == "everything":
        raise TrainingError(
            f"{name} has weights, but `train_on: everything` counts every message. "
            "Use `train_on: all_turns`."
        )
    chosen = [i for i, weight in enumerate(weights) if weight and i in chosen]
    if not chosen:
        raise TrainingError(
            f"{name} has no trained token: each message that `train_on: {train_on}` counts has "
            "weight 0. Give one of them weight 1, or remove the row."
        )
    return chosen


def _mask(row: EncodedText, spans: Sequence[tuple[int, int]], name: str) -> npt.NDArray[np.bool_]:
    """(T,) bool: True from each span's start through its stop token; ends with the last one's."""
    trained = np.zeros(len(row.ids), dtype=np.bool_)
    stop = -1
    for start, end in spans:
        inside, stop = row.trained(start, end)
        if stop < 0:
            raise TrainingError(f"{name}: {NO_STOP}")
        part = slice(inside.start, inside.stop) if isinstance(inside, range) else inside
        trained[part] = True
    return trained[: stop + 1]


def _join(
    rows: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]],
    names: tuple[str, ...],
    stop_ids: tuple[int, ...],
) -> RenderedRows:
    lengths = [len(ids) for ids, _ in rows]
    return RenderedRows(
        ids=np.concatenate([ids for ids, _ in rows]) if rows else np.zeros(0, np.int64),
        trained=np.concatenate([mask for _, mask in rows]) if rows else np.zeros(0, np.bool_),
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        names=names,
        stop_ids=stop_ids,
    )
