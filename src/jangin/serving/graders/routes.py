"""`/v1/fine_tuning/alpha/graders`: validate a grader, run it on one answer."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from jangin.metrics.graders.run import Completions, GraderTools, PythonLimits, run_grader
from jangin.metrics.graders.types import (
    AnyGrader,
    InvalidGraderError,
    MultiGrader,
    PythonGrader,
    parse_grader,
)
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.internal import InternalRequests
from jangin.serving.protocol.objects import RequestBody
from jangin.serving.security.access import CallerDep
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server, ServerDep

router = APIRouter(prefix="/fine_tuning/alpha/graders")
MOST_AT_ONCE = 8
"""Graders that run at once; they wait for models in threads of their own, so that the threads of
route functions stay free to answer them."""
_threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="graders")


class ValidateGrader(RequestBody):
    """Body of `POST /fine_tuning/alpha/graders/validate`."""

    grader: dict[str, Any]


class RunGrader(RequestBody):
    """Body of `POST /fine_tuning/alpha/graders/run`."""

    grader: dict[str, Any]
    item: dict[str, Any] = Field(default_factory=dict)
    """A row of a data set, for `{{item.x}}`."""
    model_sample: str
    """The answer to grade, for `{{sample.output_text}}`."""


@router.post("/validate")
def validate(body: ValidateGrader, server: ServerDep) -> dict[str, Any]:
    """The grader as it was sent, if it can be run."""
    parse_for(body.grader, server)
    return {"grader": body.grader}


@router.post("/run")
async def run(body: RunGrader, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """The reward of an answer, and how it came about."""
    grader, tools = parse_for(body.grader, server), tools_for(server, caller)
    result = await asyncio.get_running_loop().run_in_executor(
        _threads, run_grader, grader, body.item, body.model_sample, tools
    )
    return result.reply(grader)


def tools_for(server: Server, caller: Caller) -> GraderTools:
    """What graders of a caller may use."""
    python = PythonLimits() if server.settings.python_grader else None
    return GraderTools(_completions(server, caller), python)


def _completions(server: Server, caller: Caller) -> Completions:
    """The server's chat endpoint, called as this caller from a thread."""
    requests = server.get(InternalRequests)

    def complete(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        reply = requests.run(requests.post("/v1/chat/completions", body, caller)).result()
        return reply.status, reply.body

    return complete


def parse_for(data: dict[str, Any], server: Server) -> AnyGrader:
    """The grader of a request; raises `ApiError` 400 for one that this server cannot run."""
    try:
        grader = parse_grader(data)
    except InvalidGraderError as error:
        raise ApiError(400, str(error), param=error.param, code=error.code) from None
    parts = grader.graders.values() if isinstance(grader, MultiGrader) else [grader]
    if not server.settings.python_grader and any(isinstance(p, PythonGrader) for p in parts):
        raise ApiError(
            400,
            "Graders of type 'python' run code on this machine and are off. "
            "`python_grader: true` in server.yaml turns them on.",
            param="grader.type",
            code="invalid_value",
        )
    return grader
