"""`POST /completions`: text or token ids continued; `echo` also scores the prompt."""

import codecs
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from jangin.core.errors import JanginError
from jangin.models.tokens.token_bytes import token_bytes
from jangin.serving.inference.bodies import CompletionBody, ignored_header, refuse_unsupported
from jangin.serving.inference.chat import fingerprint
from jangin.serving.inference.external import backend_of, forward
from jangin.serving.inference.prepare import (
    PreparedRequests,
    Wish,
    engine_requests,
    plain_token,
    refuse_long,
    usage_of,
)
from jangin.serving.inference.service import Inference, api_error
from jangin.serving.inference.streaming import (
    DONE,
    PING,
    data_event,
    news,
    sent_events,
    whole_answers,
)
from jangin.serving.protocol.errors import ApiError, unknown_parameter
from jangin.serving.protocol.objects import new_id
from jangin.serving.security.access import CallerDep
from jangin.serving.state.server import ServedModel, ServerDep

if TYPE_CHECKING:
    from jangin.inference.engine.engine import ModelTexts
    from jangin.inference.engine.requests import EngineAnswer

router = APIRouter()
DEFAULT_TOKENS = 16
"""Tokens of a completion where the request names no number, as OpenAI defines it."""
MOST_PROMPTS = 2048


@router.post("/completions")
async def create_completion(
    body: CompletionBody, request: Request, server: ServerDep, caller: CallerDep
) -> Response:
    """The continuations of one or several prompts, whole or streamed; raises `ApiError`."""
    inference = server.get(Inference)
    refuse_unsupported(body)
    _check(body)
    headers = ignored_header(body)
    model = await anyio.to_thread.run_sync(server.models.resolve, body.model, caller)
    backend = backend_of(server, model)
    if backend is not None:
        return await forward(backend, model, "/completions", request)
    prepared = await anyio.to_thread.run_sync(_prepare, inference, model, body)
    head = {
        "id": new_id("cmpl-", 29),
        "object": "text_completion",
        "created": server.now(),
        "model": prepared.model,
        "system_fingerprint": fingerprint(prepared.engine.name),
    }
    if body.stream:
        return sent_events(_events(inference, prepared, head, body), headers)
    answers = await whole_answers(inference, prepared, request)
    return JSONResponse(_reply(prepared, answers, head, body), headers=headers)


def _check(body: CompletionBody) -> None:
    if body.suffix:
        raise ApiError(
            400,
            "This model does not support the 'suffix' parameter.",
            param="suffix",
            code="unsupported_parameter",
        )
    if body.best_of is not None and body.best_of < body.choices:
        raise ApiError(
            400,
            "You requested that the server return more choices than it will generate "
            f"('best_of' is {body.best_of}, 'n' is {body.choices}).",
            param="best_of",
            code="invalid_value",
        )
    if body.stream and (body.best_of or 1) > body.choices:
        raise ApiError(
            400,
            "The server cannot stream the best of several completions.",
            param="best_of",
            code="invalid_value",
        )
    if body.stream and body.echo and body.logprobs is not None:
        raise unknown_parameter("stream")


def _prepare(inference: Inference, model: ServedModel, body: CompletionBody) -> PreparedRequests:
    try:
        opened = inference.open(model)
        wording = opened.engine.wording(opened.artifact)
        context = opened.engine.context_length
        prompts = [_ids(wording, prompt, context) for prompt in _prompts(body)]
        size = opened.engine.vocabulary
    except (JanginError, ValueError) as error:
        raise api_error(error, "prompt") from error
    for ids in prompts:
        if not ids or min(ids) < 0 or max(ids) >= size:
            raise ApiError(
                400,
                f"Invalid 'prompt': expected token ids from 0 to {size - 1}, and at least one.",
                param="prompt",
                code="invalid_value",
            )
    ranked = (body.best_of or 0) > body.choices
    most = body.logprobs if body.logprobs is not None else 0 if ranked else None
    wish = Wish(
        DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens,
        logprobs=most,
        streamed=bool(body.stream),
        raw_text=True,
        prompt_tops=body.logprobs if body.echo else None,
        param="prompt",
    )
    if wish.max_tokens == 0 and wish.prompt_tops is None:
        raise ApiError(
            400,
            "Invalid 'max_tokens': 0 needs 'echo' and 'logprobs'.",
            param="max_tokens",
            code="integer_below_min_value",
        )
    choices = body.best_of if ranked else body.choices
    requests = engine_requests(opened, wording, prompts, body, wish, choices)
    return PreparedRequests(body.model, opened.engine, wording, requests)


def _prompts(body: CompletionBody) -> list[str | list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    prompts = [each for each in prompt if not isinstance(each, int)]
    if not 0 < len(prompts) <= MOST_PROMPTS:
        raise ApiError(
            400,
            f"Invalid 'prompt': expected 1 to {MOST_PROMPTS} prompts, got {len(prompts)}.",
            param="prompt",
            code="invalid_value",
        )
    return prompts


def _ids(wording: "ModelTexts", prompt: str | list[int], context: int) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    refuse_long([prompt], wording, context, "prompt")
    ids: list[int] = wording.tokenizer(prompt)["input_ids"]
    start = wording.tokenizer.bos_token_id
    return ids or ([start] if start is not None else [])


async def _events(
    inference: Inference, prepared: PreparedRequests, head: dict[str, Any], body: CompletionBody
) -> AsyncIterator[bytes]:
    empty: dict[str, Any] = {"usage": None} if body.with_usage else {}

    def chunk(index: int, text: str, reason: str | None, logprobs: object = None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return data_event({**head, "choices": [choice], **empty})

    answers: list[EngineAnswer] = []
    async with inference.generating(prepared.engine, prepared.requests) as reports:
        if body.echo:
            for index, request in enumerate(prepared.requests):
                yield chunk(index, _decoded(prepared, request.generation.prompt_ids), None)
        async for item in news(reports):
            if item is None:
                yield PING
                continue
            index, report = item
            if report.error is not None:
                raise api_error(report.error, "prompt")
            reason = report.answer.finish_reason if report.answer is not None else None
            logprobs = None
            if body.logprobs is not None and report.token_id is not None:
                logprobs = _logprobs(
                    prepared, [report.token_id], [report.logprob], [report.top_logprobs]
                )
            if report.text or reason or logprobs:
                yield chunk(index, report.text, reason, logprobs)
            if report.answer is not None:
                answers.append(report.answer)
                if len(answers) == len(prepared.requests):
                    break
    if body.with_usage:
        prompts = len(prepared.requests) // body.choices
        yield data_event({**head, "choices": [], "usage": usage_of(answers, prompts)})
    yield DONE


def _reply(
    prepared: PreparedRequests,
    answers: Sequence["EngineAnswer"],
    head: dict[str, Any],
    body: CompletionBody,
) -> dict[str, Any]:
    each = max(body.best_of or 1, body.choices)
    choices: list[dict[str, Any]] = []
    for start in range(0, len(answers), each):
        numbers = list(range(start, start + each))
        if each > body.choices:
            numbers.sort(key=lambda number: -_mean(answers[number].generation.logprobs))
        scores = answers[start].scores
        for number in numbers[: body.choices]:
            prompt_ids = prepared.requests[number].generation.prompt_ids
            choice = _choice(prepared, answers[number], prompt_ids, scores, body)
            choices.append({"index": len(choices), **choice})
    return {**head, "choices": choices, "usage": usage_of(answers, len(answers) // each)}


def _choice(
    prepared: PreparedRequests,
    answer: "EngineAnswer",
    prompt_ids: Sequence[int],
    scores: Any,
    body: CompletionBody,
) -> dict[str, Any]:
    generation = answer.generation
    text, logprobs = generation.text, None
    if body.logprobs is not None:
        ids = list(generation.token_ids)
        own: list[float | None] = list(generation.logprobs)
        tops: list[Sequence[tuple[int, float]]] = list(generation.top_logprobs) or [()] * len(ids)
        if body.echo and scores is not None:
            ids = [*prompt_ids, *ids]
            own = [None, *scores.own, *own]
            tops = [(), *(scores.top or [()] * (len(prompt_ids) - 1)), *tops]
        logprobs = _logprobs(prepared, ids, own, tops)
    if body.echo:
        text = _decoded(prepared, prompt_ids) + text
    return {"text": text, "logprobs": logprobs, "finish_reason": answer.finish_reason}


def _logprobs(
    prepared: PreparedRequests,
    ids: Sequence[int],
    own: Sequence[float | None],
    tops: Sequence[Sequence[tuple[int, float]]],
) -> dict[str, Any]:
    """OpenAI's object of four lists, one entry for each token.

    The token itself is among the most likely ones, even where it is none of them.
    """
    tokenizer = prepared.wording.tokenizer
    tokens = [plain_token(tokenizer, token) for token in ids]
    listed: list[dict[str, float] | None] = []
    for token, value, top in zip(tokens, own, tops, strict=True):
        if value is None:
            listed.append(None)
            continue
        likely: dict[str, float] = {}
        for other, other_value in top:
            likely.setdefault(plain_token(tokenizer, other), other_value)
        likely.setdefault(token, value)
        listed.append(likely)
    offsets, position = [], 0
    whole = codecs.getincrementaldecoder("utf-8")("replace")  # a character may have many tokens
    for number in ids:
        offsets.append(position)
        position += len(whole.decode(token_bytes(tokenizer, number)))
    return {
        "tokens": tokens,
        "token_logprobs": list(own),
        "top_logprobs": listed,
        "text_offset": offsets,
    }


def _decoded(prepared: PreparedRequests, ids: Sequence[int]) -> str:
    return str(prepared.wording.tokenizer.decode(list(ids), skip_special_tokens=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
