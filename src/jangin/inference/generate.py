"""Answers of a model to conversations: all at once, or as a stream of pieces of text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jangin.core.digest import digest_value
from jangin.core.records import Message
from jangin.inference.continuous_batching import ContinuousBatch, Request, Writing
from jangin.inference.decoder import open_decoder, rows_that_fit
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import render_prompts

_LIKELY_TOKENS = 256
"""The cache is made for answers of at most so many tokens; longer ones make it grow."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer."""

    text: str
    """Without the stop token or stop string, white space at both ends taken off."""
    token_ids: tuple[int, ...]
    """With the stop token, if it was reached."""
    finished: bool
    """False if `max_new_tokens` cut it off."""
    logprobs: tuple[float, ...] = ()
    """Of each token, in nats, before temperature and top-p; empty if not asked for."""
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    """(token, log-probability) of the likeliest at each place; empty if not asked for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of a streamed answer."""

    request: int
    """Which of the requests it belongs to."""
    token_id: int
    text: str
    """What became sure with this token; may be empty. An answer's pieces make up its text."""
    generation: Generation | None = None
    """The whole answer, with its last token."""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int = 256,
    batch_size: int = 64,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[Generation]:
    """The model's answer to each conversation, in the order asked; greedy unless told otherwise.

    Every prompt has a seed of its own, made of `seed` and its place in the list.
    """
    requests = [
        Request(ids, max_new_tokens, temperature, top_p, int(digest_value([seed, place])[:12], 16))
        for place, ids in enumerate(render_prompts(tokenizer, prompts) if prompts else [])
    ]
    return complete(model, tokenizer, requests, batch_size)


def complete(
    model: Any, tokenizer: Any, requests: Sequence[Request], batch_size: int = 64
) -> list[Generation]:
    """The answer to each request, in the order asked; at most `batch_size` at a time."""
    answers: dict[int, Generation] = {}
    stop_ids = stop_tokens(model, tokenizer)
    for stepped in steps(model, tokenizer, requests, stop_ids, batch_size, watched=False):
        answers.update({n: _generation(one, tokenizer) for n, one in stepped if one.ended})
    return [answers[number] for number in range(len(requests))]


def stream(
    model: Any, tokenizer: Any, requests: Sequence[Request], batch_size: int = 64
) -> Iterator[Piece]:
    """Pieces of all answers as they are written.

    The model is the stream's own until the last piece is taken or the iterator is closed.
    """
    stop_ids = stop_tokens(model, tokenizer)
    for stepped in steps(model, tokenizer, requests, stop_ids, batch_size, watched=True):
        for number, one in stepped:
            if one.words is not None:
                text = one.words.rest() if one.ended else one.words.show()
                whole = _generation(one, tokenizer) if one.ended else None
                yield Piece(number, one.token_ids[-1], text, whole)


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those of the generation config, and the tokenizer's EOS."""
    config = getattr(base_model(model), "generation_config", None)
    listed = getattr(config, "eos_token_id", None)
    ids = listed if isinstance(listed, list | tuple) else [listed]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


def steps(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    stop_ids: frozenset[int],
    batch_size: int,
    *,
    watched: bool,
) -> Iterator[list[tuple[int, Writing]]]:
    """(number of the request, answer so far) of all answers that each step adds a token to."""
    if not requests:
        return
    # Shortest first: a later prompt is about as long as an earlier one has grown meanwhile, and
    # the shorter rows of a step cost as much as its longest.
    order = sorted(range(len(requests)), key=lambda number: len(requests[number].prompt_ids))
    longest = len(requests[order[-1]].prompt_ids)
    tokens = longest + min(_LIKELY_TOKENS, max(one.max_new_tokens for one in requests))
    rows = min(batch_size, len(requests), rows_that_fit(model, tokens))
    with open_decoder(model, rows, tokens) as decoder:
        batch = ContinuousBatch(decoder, tokenizer, stop_ids, rows, watched=watched)
        for number in order:
            batch.add(requests[number])
        for stepped in batch.run():
            yield [(order[one.number], one) for one in stepped]


def _generation(one: Writing, tokenizer: Any) -> Generation:
    text = (
        str(tokenizer.decode(one.token_ids, skip_special_tokens=True)).strip()
        if one.words is None
        else one.words.final()
    )
    return Generation(
        text,
        tuple(one.token_ids),
        one.finished,
        tuple(one.logprobs),
        tuple(one.top_logprobs) if one.request.top_logprobs else (),
    )
