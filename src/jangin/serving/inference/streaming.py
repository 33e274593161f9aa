"""Output of an engine as one reply or as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.responses import StreamingResponse

from jangin.serving.inference.prepare import PreparedRequests
from jangin.serving.inference.service import Inference, Reports, api_error
from jangin.serving.protocol.context import GONE
from jangin.serving.protocol.errors import ApiError

if TYPE_CHECKING:
    from jangin.inference.engine.requests import EngineAnswer

PING_SECONDS = 10.0
"""A stream without news sends a comment this often, so that no proxy closes it."""
PING, DONE = b": ping\n\n", b"data: [DONE]\n\n"


async def whole_answers(
    inference: Inference, prepared: PreparedRequests, request: Request
) -> list["EngineAnswer"]:
    """The answers to all requests; they are cancelled where the client leaves.

    Raises:
        ApiError: one of them failed.

    """
    async with inference.generating(prepared.engine, prepared.requests) as reports:
        collected = asyncio.ensure_future(_collect(reports, len(prepared.requests)))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({collected, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not collected.done():
                raise ApiError(GONE, "The client closed the connection.")
            return collected.result()
        finally:
            for task in (collected, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, ApiError):
                    await task


async def news(reports: Reports) -> AsyncIterator[tuple[int, Any] | None]:
    """Reports as they come, and None after `PING_SECONDS` without any."""
    while True:
        try:
            yield await asyncio.wait_for(reports.get(), PING_SECONDS)
        except TimeoutError:
            yield None


def sent_events(
    events: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """A stream of events; a failure becomes the last event of it."""

    async def guarded() -> AsyncIterator[bytes]:
        try:
            async for event in events:
                yield event
        except ApiError as error:
            yield data_event(error.envelope())

    return StreamingResponse(
        guarded(),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})},
    )


def data_event(value: Mapping[str, Any], name: str = "") -> bytes:
    """One event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


async def _collect(reports: Reports, count: int) -> list["EngineAnswer"]:
    answers: dict[int, EngineAnswer] = {}
    while len(answers) < count:
        number, report = await reports.get()
        if report.error is not None:
            raise api_error(report.error)
        if report.answer is not None:
            answers[number] = report.answer
    return [answers[number] for number in range(count)]


async def _disconnected(request: Request) -> None:
    """Returns when the client has left; the body has been read by now."""
    while (await request.receive())["type"] != "http.disconnect":
        pass  # other messages are of no interest
