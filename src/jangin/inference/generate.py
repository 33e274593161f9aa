"""Batch and streaming generation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jangin.core.digest import digest_value
from jangin.core.errors import ConfigError
from jangin.core.records import Message
from jangin.inference.continuous_batching import ActiveRequest, ContinuousBatcher, GenerationRequest
from jangin.inference.decoder import open_decoder, rows_that_fit
from jangin.inference.reasoning import AnswerReader, GeneratedAnswer
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import render_prompts, stop_token

_LIKELY_TOKENS = 256
"""The cache is allocated for answers of this many tokens; longer ones make it grow."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer."""

    text: str
    """Without reasoning, stop token, stop string and surrounding white space."""
    token_ids: tuple[int, ...]
    """With the stop token, if it was reached."""
    finished: bool
    """False if it was truncated at `max_new_tokens`."""
    logprobs: tuple[float, ...] = ()
    """Of each token, in nats, before temperature and top-p; empty if not requested."""
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    """(token, log-probability) of the most likely tokens by position; empty if not requested."""
    reasoning: str = ""
    """What the model wrote before the answer; `text` is without it."""
    reasoning_tokens: int = 0
    """How many of `token_ids` precede the answer, where there is reasoning."""
    reasoning_ended: bool = True
    """False if the generation ended within the reasoning; `text` is then empty."""


@dataclass(frozen=True, slots=True)
class StreamedToken:
    """One token of a streamed answer."""

    request: int
    """Index of the request."""
    token_id: int
    text: str
    """Text that this token completed; may be empty. Concatenated, they are the answer's text, after
    its reasoning if the model writes one."""
    generation: Generation | None = None
    """The whole answer, with its last token."""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int = 256,
    batch_size: int | None = 64,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[Generation]:
    """The model's answer to each conversation, in order; greedy by default.

    At most `batch_size` at a time; None for as many as fit into memory. Every prompt has a seed of
    its own, derived from `seed` and its index.
    """
    requests = [
        GenerationRequest(
            ids, max_new_tokens, temperature, top_p, int(digest_value([seed, index])[:12], 16)
        )
        for index, ids in enumerate(render_prompts(tokenizer, prompts) if prompts else [])
    ]
    return complete(model, tokenizer, requests, batch_size)


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int = 256,
    batch_size: int | None = None,
) -> Iterator[dict[int, Generation]]:
    """{index of a conversation: its greedy answer}, for the answers that ended in one step.

    The model must not be used otherwise until the iterator is exhausted or closed.
    """
    rendered = render_prompts(tokenizer, prompts) if prompts else []
    requests = [GenerationRequest(ids, max_new_tokens) for ids in rendered]
    return _ended(model, tokenizer, requests, batch_size)


def most_rows() -> int:
    """Answers at a time where memory sets no limit; a CPU gains nothing from more."""
    return 512 if torch.cuda.is_available() else 64


def complete(
    model: Any, tokenizer: Any, requests: Sequence[GenerationRequest], batch_size: int | None = 64
) -> list[Generation]:
    """The answer to each request, in order; at most `batch_size` at a time."""
    ended: dict[int, Generation] = {}
    for step in _ended(model, tokenizer, requests, batch_size):
        ended.update(step)
    return [ended[index] for index in range(len(requests))]


def _ended(
    model: Any, tokenizer: Any, requests: Sequence[GenerationRequest], batch_size: int | None
) -> Iterator[dict[int, Generation]]:
    """The answers that ended in each step, by index of the request."""
    stop_ids, reader = stop_tokens(model, tokenizer), AnswerReader(tokenizer)
    for step in steps(model, tokenizer, requests, stop_ids, batch_size, streamed=False):
        ended = {n: generation_of(one, tokenizer, reader) for n, one in step if one.ended}
        if ended:
            yield ended


def stream(
    model: Any, tokenizer: Any, requests: Sequence[GenerationRequest], batch_size: int | None = 64
) -> Iterator[StreamedToken]:
    """Tokens of all answers as they are generated.

    The model must not be used otherwise until the iterator is exhausted or closed.
    """
    stop_ids, reader = stop_tokens(model, tokenizer), AnswerReader(tokenizer)
    for step in steps(model, tokenizer, requests, stop_ids, batch_size, streamed=True):
        for index, answer in step:
            if answer.detokenizer is not None:
                text = (
                    answer.detokenizer.remaining_text()
                    if answer.ended
                    else answer.detokenizer.next_text()
                )
                whole = generation_of(answer, tokenizer, reader) if answer.ended else None
                yield StreamedToken(index, answer.token_ids[-1], text, whole)


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: of the generation config, the tokenizer, the chat template."""
    config = getattr(base_model(model), "generation_config", None)
    listed = getattr(config, "eos_token_id", None)
    ids = listed if isinstance(listed, list | tuple) else [listed]
    return frozenset(
        i for i in (*ids, tokenizer.eos_token_id, stop_token(tokenizer)) if i is not None
    )


def steps(
    model: Any,
    tokenizer: Any,
    requests: Sequence[GenerationRequest],
    stop_ids: frozenset[int],
    batch_size: int | None,
    *,
    streamed: bool,
) -> Iterator[list[tuple[int, ActiveRequest]]]:
    """For each step: (index of the request, answer so far) of the answers that got a token.

    Raises:
        ConfigError: a prompt has a token that the model has no embedding for.

    """
    if not requests:
        return
    _refuse_unknown_tokens(model, requests)
    # Shortest first, so that rows of a step have about equal lengths: a new prompt is as long as
    # running answers have become, and every row costs as much as the longest.
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids))
    longest = len(requests[order[-1]].prompt_ids)
    tokens = longest + min(_LIKELY_TOKENS, max(answer.max_new_tokens for answer in requests))
    rows = min(batch_size or most_rows(), len(requests), rows_that_fit(model, tokens))
    with open_decoder(model, rows, tokens) as decoder:
        batch = ContinuousBatcher(decoder, tokenizer, stop_ids, rows, streamed=streamed)
        for index in order:
            batch.add(requests[index])
        for step in batch.run():
            yield [(order[answer.index], answer) for answer in step]


def _refuse_unknown_tokens(model: Any, requests: Sequence[GenerationRequest]) -> None:
    """Raise `ConfigError` for a prompt with a token that the model has no embedding for.

    Looking it up would fail without naming anything; on a GPU it would end all later work as well.
    """
    embeddings = len(base_model(model).get_input_embeddings().weight)
    for number, request in enumerate(requests, 1):
        largest = max(request.prompt_ids, default=0)
        if largest >= embeddings:
            raise ConfigError(
                f"question {number}: token {largest} is not in the model, whose embedding has "
                f"{embeddings:,} rows: the tokenizer beside it has more tokens than the model. Use "
                "the tokenizer that the model was trained with, or a `chat_template` without added "
                "tokens."
            )


def generation_of(answer: ActiveRequest, tokenizer: Any, reader: AnswerReader) -> Generation:
    """The answer that has ended, as callers see it; raw text keeps its reasoning."""
    request = answer.request
    text = _text(answer, tokenizer)
    if request.raw_text:
        parts = GeneratedAnswer(text)
    else:
        parts = reader.read(request.prompt_ids, answer.token_ids, text, request.stop_strings)
    return Generation(
        parts.text,
        tuple(answer.token_ids),
        answer.finished,
        tuple(answer.logprobs),
        tuple(answer.top_logprobs) if request.top_logprobs else (),
        parts.reasoning,
        parts.reasoning_tokens,
        parts.reasoning_ended,
    )


def _text(answer: ActiveRequest, tokenizer: Any) -> str:
    if answer.detokenizer is not None:
        return answer.detokenizer.final_text()
    return str(tokenizer.decode(answer.token_ids, skip_special_tokens=True)).strip()
