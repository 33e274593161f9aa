"""Stand-ins of providers on loopback: what each takes, and the words in which it refuses the rest.

The bodies of errors are those of the sources beside them, read in November 2026.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from tests.web_app import serve

Answer = tuple[int, object, dict]
PASSAGE = "3일 전에 알린다"
REPLY = {
    "pairs": [
        {"question": "연차휴가는 며칠 전에 알리나요?", "answer": "3일 전", "evidence": PASSAGE}
    ]
}


def refusal(message, status=400, **fields) -> Answer:
    """OpenAI's envelope, which most have copied."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return status, {"error": {**error, **fields}}, {}


def openai(body, _ask) -> Answer | None:
    """Chat completions for GPT-5 and later."""
    # github.com/microsoft/clarity-agent/issues/59
    if "max_tokens" in body:
        text = "Unsupported parameter: 'max_tokens' is not supported with this model. "
        return refusal(
            f"{text}Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    # github.com/gabrii/Cursor-Azure-GPT-5/issues/33; GPT-6: github.com/bolna-ai/bolna/pull/1019
    if body.get("temperature", 1) != 1:
        text = f"Unsupported value: 'temperature' does not support {body['temperature']} with this "
        return refusal(
            f"{text}model. Only the default (1) value is supported.",
            param="temperature",
            code="unsupported_value",
        )
    return None


def gemini(body, number) -> Answer | None:
    """Google's OpenAI-compatible endpoint, whose errors are in a list."""
    # github.com/continuedev/continue/issues/10062; there is no Retry-After
    if number == 1:
        text = (
            "You exceeded your current quota, please check your plan and billing details. * Quota "
            "exceeded for metric: generativelanguage.googleapis.com/generate_content_requests, "
            "limit: 10, model: gemini-3.8-flash\nPlease retry in 0.02s."
        )
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s"}
        error = {"code": 429, "message": text, "status": "RESOURCE_EXHAUSTED", "details": [retry]}
        return 429, [{"error": error}], {}
    # github.com/Vali-98/ChatterUI/issues/227
    if "seed" in body:
        text = 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'
        details = [{"fieldViolations": [{"description": text}]}]
        error = {"code": 400, "message": text, "status": "INVALID_ARGUMENT", "details": details}
        return 400, [{"error": error}], {}
    return None


def gemma(body, _number) -> Answer | None:
    """Gemma at Google's endpoint: github.com/0xPlaygrounds/rig/issues/788."""
    if has_system(body):
        text = "Developer instruction is not enabled for models/gemma-3-27b-it"
        return 400, [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}], {}
    return None


def anthropic(body, _number) -> Answer | None:
    """Anthropic's OpenAI-compatible endpoint: platform.claude.com/docs/en/api/openai-sdk."""
    # github.com/The-PR-Agent/pr-agent/issues/2456
    if "temperature" in body:
        return refusal("`temperature` is deprecated for this model.", code="invalid_request_error")
    # github.com/ccbogel/QualCoder/issues/1208
    if body.get("response_format", {}).get("type", "json_schema") != "json_schema":
        return refusal(
            "response_format.type: Input should be 'json_schema'", code="invalid_request_error"
        )
    return None


def upstage(_body, _number) -> Answer | None:
    """It takes what it does not know and ignores it: console.upstage.ai/api/responses."""
    return None


def openrouter(body, number) -> Answer | None:
    """Status 200 with an error of the provider behind, and fields that none of them takes."""
    # openrouter.ai/docs/api/reference/errors
    if number == 1:
        error = {"code": 502, "message": "Provider returned error", "metadata": {"raw": "busy"}}
        return 200, {"error": error, "user_id": "user_1"}, {}
    # github.com/openstory-so/openstory/issues/1317
    if "seed" in body or "response_format" in body:
        text = "No endpoints found that can handle the requested parameters. To learn more about "
        text += "provider routing, visit: https://openrouter.ai/docs/provider-routing"
        return 404, {"error": {"message": text, "code": 404}}, {}
    return None


def ollama(body, _number) -> Answer | None:
    """It pulls nothing by itself: github.com/open-webui/open-webui/issues/11906."""
    if body["model"] != "qwen3:8b":
        text = f'model "{body["model"]}" not found, try pulling it first'
        return refusal(text, 404, type="api_error")
    return None


def lmstudio(body, _number) -> Answer | None:
    """The error is a text: github.com/lmstudio-ai/lmstudio-bug-tracker/issues/169."""
    if body.get("response_format", {}).get("type", "text") not in ("json_schema", "text"):
        return 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}, {}
    return None


def vllm(body, _number) -> Answer | None:
    """A chat template without a system role: github.com/vllm-project/vllm/pull/2964."""
    if has_system(body):
        error = {"object": "error", "message": "System role not supported"}
        return 400, {**error, "type": "BadRequestError", "param": None, "code": 400}, {}
    return None


def llamacpp(body, number) -> Answer | None:
    """It answers before its model is loaded, and grammars that it cannot read are status 400."""
    # github.com/ggml-org/llama.cpp/tree/master/tools/server, README.md
    if number == 1:
        error = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
        return 503, {"error": error}, {}
    if body.get("response_format", {}).get("type") == "json_schema":
        text = "Failed to initialize samplers: failed to parse grammar"
        return 400, {"error": {"code": 400, "message": text, "type": "invalid_request_error"}}, {}
    return None


def has_system(body):
    return any(message["role"] == "system" for message in body["messages"])


@dataclass
class Stub:
    """One provider: its list of models, and what it makes of a request."""

    provider: str
    model: str
    """The one that `jangin new` chooses."""
    takes: Callable
    """(body, number of the request) -> the error; None where the request is answered."""
    learned: set
    """What is refused of a request with every field that is sent."""
    listed: list
    thinks: int = 0
    """Tokens of reasoning before each reply."""
    bodies: list = field(default_factory=list)
    errors: int = 0

    def answer(self, body) -> Answer:
        self.bodies.append(body)
        answer = self.takes(body, len(self.bodies))
        if answer is not None:
            self.errors += 1
            return answer
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        content = json.dumps(REPLY, ensure_ascii=False) if limit > self.thinks else None
        message = {"role": "assistant", "content": content}
        finish = "stop" if content else "length"
        spent = min(limit, self.thinks + 40)
        details = {"reasoning_tokens": min(self.thinks, spent)}
        usage = {"prompt_tokens": 300, "completion_tokens": spent, "total_tokens": 300 + spent}
        cache = {"cached_tokens": 200}
        if self.provider == "openrouter":
            cache["cache_write_tokens"] = 100
        usage |= {"prompt_tokens_details": cache}
        if self.provider == "gemini":  # counts thoughts in the total alone
            usage["completion_tokens"] = spent - details["reasoning_tokens"]
        else:
            usage["completion_tokens_details"] = details
        return 200, {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}, {}


def stubs():
    """{name: a stand-in that no one has asked yet}."""
    prices = {"prompt": "0.0000001", "completion": "0.0000005", "input_cache_read": "0.00000001"}
    prices["input_cache_write"] = "0.000000125"
    routed = [{"id": "a/other"}, {"id": "openai/gpt-6-luna", "pricing": prices}]
    luna, flash = "gpt-6-luna", "gemini-3.8-flash"
    named = [
        ("openai", Stub("openai", luna, openai, {"max_tokens", "temperature"}, [luna], 3000)),
        ("before-gpt-5", Stub("openai", "gpt-4.1", upstage, set(), ["gpt-4.1"])),
        ("gemini", Stub("gemini", flash, gemini, {"seed"}, [f"models/{flash}"], 2500)),
        ("gemma", Stub("gemini", "gemma-3-27b-it", gemma, {"system"}, ["gemma-3-27b-it"])),
        (
            "anthropic",
            Stub("anthropic", "claude-haiku-5-5", anthropic, {"temperature"}, ["claude-haiku-5-5"]),
        ),
        ("upstage", Stub("upstage", "solar-pro4", upstage, set(), ["solar-mini", "solar-pro4"])),
        (
            "openrouter",
            Stub(
                "openrouter",
                "openai/gpt-6-luna",
                openrouter,
                {"seed", "json_schema", "json_object"},
                routed,
            ),
        ),
        ("ollama", Stub("ollama", "qwen3:8b", ollama, set(), ["nomic-embed-text", "qwen3:8b"])),
        ("lmstudio", Stub("lmstudio", "qwen3-8b", lmstudio, set(), ["qwen3-8b"])),
        ("vllm", Stub("vllm", "google/gemma-2-9b-it", vllm, {"system"}, ["google/gemma-2-9b-it"])),
        ("llamacpp", Stub("llamacpp", "m.gguf", llamacpp, {"json_schema"}, ["m.gguf"])),
    ]
    return dict(named)


class Providers:
    """All of them on one port, each below its own name; each test begins with fresh ones."""

    def __init__(self):
        self.stubs = stubs()
        self.key = "sk-right"

    async def models(self, request):
        stub = self.stubs[request.match_info["name"]]
        if request.headers.get("Authorization", f"Bearer {self.key}") != f"Bearer {self.key}":
            return web.json_response(refusal("Incorrect API key provided")[1], status=401)
        rows = [{"id": row} if isinstance(row, str) else row for row in stub.listed]
        return web.json_response({"object": "list", "data": rows})

    async def chat(self, request):
        stub = self.stubs[request.match_info["name"]]
        status, body, headers = stub.answer(await request.json())
        await asyncio.sleep(0)
        return web.json_response(body, status=status, headers=headers)

    def serve(self):
        return serve(
            web.get("/{name}/v1/models", self.models),
            web.post("/{name}/v1/chat/completions", self.chat),
        )
