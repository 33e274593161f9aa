"""A ChatModel behind any OpenAI-compatible URL, asked with aiohttp.

aiohttp and not the openai SDK: at concurrency 64 the SDK's default transport takes 25 times the
CPU per call, and its aiohttp transport 7 times (measured; see docs/log.md).
"""

import asyncio
import email.utils
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from jangin.core.chat import ChatReply, ChatRequest
from jangin.core.errors import ChatError, ConfigError, RefusedError

if TYPE_CHECKING:
    import aiohttp

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSED = {
    400: "the request is not valid for this endpoint",
    401: "the key is missing or wrong",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "the URL or the model does not exist",
}
LONGEST_WAIT_SECONDS = 60.0
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")

Structured = Literal["json_schema", "json_object", "none"]


@dataclass(slots=True)
class EndpointChat:
    """Asks `{base_url}/chat/completions`; retries what may pass, stops on what never will."""

    model: str
    base_url: str
    key_variable: str = ""
    """Name of the environment variable that holds the key; empty where none is needed."""
    structured: Structured = "json_schema"
    timeout_seconds: float = 120.0
    retries: int = 5
    first_wait_seconds: float = 0.5
    source: str = ""
    _session: "aiohttp.ClientSession | None" = field(default=None, repr=False)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The endpoint's reply; raises `ChatError` after the last retry, `RefusedError` at once."""
        body = self._body(request)
        reason = ""
        for attempt in range(self.retries + 1):
            wait, reason, reply = await self._try(body, attempt)
            if reply is not None:
                return reply
            if attempt < self.retries:
                await asyncio.sleep(wait)
        raise ChatError(
            f"{self.base_url} did not answer for model {self.model!r} after {self.retries + 1} "
            f"tries: {reason}. Run again later; finished calls are kept."
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def key(self) -> str:
        """The key from the environment; raises `ConfigError` when the variable is not set."""
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ConfigError(
                f"environment variable {self.key_variable} is not set, and {self.base_url} needs "
                f"it. Set it with: export {self.key_variable}=..."
            )
        return key

    async def _try(self, body: dict[str, Any], attempt: int) -> tuple[float, str, ChatReply | None]:
        """(seconds to wait, why it failed, reply)."""
        import aiohttp

        wait = min(self.first_wait_seconds * 2**attempt, LONGEST_WAIT_SECONDS)
        try:
            session = self._open_session()
            async with session.post(
                f"{self.base_url.rstrip('/')}/chat/completions", json=body
            ) as response:
                text = await response.text(errors="replace")
                if response.status == 200:
                    reply = _parse(text)
                    problem = "" if reply else f"not a chat completion: {text[:200].strip()!r}"
                    return wait, problem, reply
                return self._refuse(response.status, text, wait, response.headers)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ConfigError(
                f"base_url {self.base_url!r} is not the URL of an endpoint. "
                "Write it like http://HOST:PORT/v1 in the project file."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            return wait, f"{type(error).__name__}: {error}", None

    def _refuse(
        self, status: int, text: str, wait: float, headers: Mapping[str, str]
    ) -> tuple[float, str, None]:
        """Wait and try again, or raise `RefusedError` when that will not help."""
        reason = f"HTTP {status}: {_message(text)}"
        out_of_money = any(word in text for word in NO_MONEY)
        if status in RETRIED and not out_of_money:
            return max(wait, _retry_after(headers)), reason, None
        why = REFUSED[402] if out_of_money else REFUSED.get(status, "the endpoint refuses")
        raise RefusedError(
            f"{self.base_url} refused model {self.model!r}: {why} ({reason}). "
            "Mend that and run again; finished calls are kept."
        )

    def _open_session(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            key = self.key()
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=aiohttp.ClientTimeout(total=self.timeout_seconds),
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [message.model_dump() for message in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
        }
        if request.sample:
            body["seed"] = request.sample
        if request.json_schema and self.structured == "json_schema":
            schema = {"name": "reply", "strict": True, "schema": json.loads(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.json_schema and self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body


def _parse(text: str) -> ChatReply | None:
    """The reply in an OpenAI-style body, or None where there is none."""
    try:
        data = json.loads(text)
        choice, usage = data["choices"][0], data.get("usage") or {}
        content = choice["message"].get("content") or ""
        return ChatReply(
            content=content.encode(errors="replace").decode(),  # half a surrogate pair is no text
            finish_reason=choice.get("finish_reason") or "",
            prompt_tokens=usage.get("prompt_tokens") or 0,
            completion_tokens=usage.get("completion_tokens") or 0,
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _message(text: str) -> str:
    """The error message of an OpenAI-style body, or the body's beginning."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].strip() or "no message"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the endpoint asks to wait, from Retry-After as seconds or as a date."""
    value = headers.get("Retry-After", "")
    try:
        return min(float(value), LONGEST_WAIT_SECONDS)
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT_SECONDS)
