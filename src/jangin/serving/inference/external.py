"""Requests passed on to a server that already runs: vLLM, or llama.cpp's.

The names, keys and projects are ours; the other server sees the model under the name that it
knows. Adapters reach vLLM through its endpoint for loading LoRA adapters at run time; llama.cpp
serves the one file that it was started with.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from jangin.core.digest import short_digest
from jangin.llm.wire_format import STREAM_OPTIONS, refuses_stream_options
from jangin.serving.models.registry import TUNED, base_part, entry_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.server import ServedModel, Server
from jangin.serving.state.settings import Backend

if TYPE_CHECKING:
    import aiohttp

_CONNECT_SECONDS = 10
REFUSALS = (400, 422)
"""Statuses with which a server refuses a field that it does not know."""
_loaded: dict[tuple[str, str], str] = {}
"""{(url, folder of the model): the name that vLLM knows its adapter by}."""


def backend_of(server: Server, model: ServedModel) -> Backend | None:
    """The server that answers for a model; None where this process does."""
    backend = server.settings.backend
    name = base_part(model.name) if model.name.startswith(TUNED) else model.name
    entry = entry_of(server.settings, name) if server.settings.models else None
    if entry is not None and entry.backend is not None:
        backend = entry.backend
    return None if backend.type == "local" else backend


async def forward(
    backend: Backend,
    model: ServedModel,
    path: str,
    request: Request,
    changed: Mapping[str, Any] | None = None,
) -> Response:
    """The other server's reply to a request, streamed where it streams.

    `changed`: fields of the body that it gets in place of the client's.

    Raises:
        ApiError: 503 where it does not answer.

    """
    import aiohttp

    body: dict[str, Any] = {**json.loads(await request.body()), **(changed or {})}
    shown = body["model"]
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
    session = aiohttp.ClientSession(timeout=timeout)
    try:
        reply = await _ask(session, backend, model, path, body)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        await session.close()
        raise ApiError(
            503,
            f"The server {backend.url}, which answers for the model '{shown}', cannot be reached.",
            kind="server_error",
        ) from error
    except ApiError:
        await session.close()
        raise
    kind = reply.headers.get("content-type", "application/json")
    if kind.startswith("text/event-stream"):
        return StreamingResponse(_renamed(session, reply, shown), reply.status, media_type=kind)
    try:
        content = await reply.read()
    finally:
        await session.close()
    return Response(_with_model(content, shown), reply.status, media_type=kind)


async def _ask(
    session: "aiohttp.ClientSession",
    backend: Backend,
    model: ServedModel,
    path: str,
    body: Mapping[str, Any],
) -> "aiohttp.ClientResponse":
    """The reply; a server that was started again has forgotten the adapter, which it gets again."""
    while True:
        known = _key(backend, model) in _loaded
        name = await _name_there(session, backend, model)
        address = f"{backend.url.rstrip('/')}{path}"
        reply = await _post(session, address, {**body, "model": name})
        if reply.status != 404 or not known:
            return reply
        reply.close()
        _loaded.pop(_key(backend, model), None)


async def _post(
    session: "aiohttp.ClientSession", address: str, body: dict[str, Any]
) -> "aiohttp.ClientResponse":
    """The reply; without `stream_options` where the other server refuses them."""
    reply = await session.post(address, json=body)
    if reply.status not in REFUSALS or STREAM_OPTIONS not in body:
        return reply
    if not refuses_stream_options(await reply.text()):
        return reply
    del body[STREAM_OPTIONS]
    return await session.post(address, json=body)


def _key(backend: Backend, model: ServedModel) -> tuple[str, str]:
    return backend.url, str(model.adapter_folder)


async def _name_there(
    session: "aiohttp.ClientSession", backend: Backend, model: ServedModel
) -> str:
    """The name by which the other server knows a model; loads an adapter into vLLM."""
    if backend.type == "vllm" and model.kind == "adapter" and model.adapter_folder is not None:
        folder = str(model.adapter_folder / "adapter")
        key = _key(backend, model)
        if key not in _loaded:
            name = f"jangin-{short_digest(folder)}"
            reply = await session.post(
                f"{backend.url.rstrip('/')}/load_lora_adapter",
                json={"lora_name": name, "lora_path": folder},
            )
            text = await reply.text()
            if reply.status != 200 and "already" not in text:
                raise ApiError(
                    503,
                    f"vLLM at {backend.url} did not load the adapter of '{model.name}': "
                    f"{text[:200]}. Start it with --enable-lora and "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.",
                    kind="server_error",
                )
            _loaded[key] = name
        return _loaded[key]
    reply = await session.get(f"{backend.url.rstrip('/')}/models")
    served = [str(each["id"]) for each in (await reply.json()).get("data", [])]
    if model.name in served:
        return model.name
    if backend.type == "vllm" and model.kind == "full":
        raise ApiError(
            503,
            f"'{model.name}' has weights of its own, not an adapter, and the vLLM at {backend.url} "
            f"serves {', '.join(served)}. Start a vLLM with this model's folder and "
            f"--served-model-name '{model.name}', or train an adapter: `lora: true`.",
            kind="server_error",
        )
    return served[0] if served else model.name


async def _renamed(
    session: "aiohttp.ClientSession", reply: "aiohttp.ClientResponse", shown: str
) -> AsyncIterator[bytes]:
    """The events of the other server, with the name of the model that the client asked for."""
    try:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                value = json.loads(line.removeprefix(b"data: "))
                if "model" in value:
                    value["model"] = shown
                yield f"data: {json.dumps(value, ensure_ascii=False)}\n".encode()
            else:
                yield line
    finally:
        reply.close()
        await session.close()


def _with_model(content: bytes, shown: str) -> bytes:
    try:
        value = json.loads(content)
    except ValueError:
        return content
    if not isinstance(value, dict) or "model" not in value:
        return content
    return json.dumps({**value, "model": shown}, ensure_ascii=False).encode()
