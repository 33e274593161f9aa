"""Clients of web search engines: Naver's open API, SearXNG, Brave.

They differ in how a request is written and how a reply is read; asking politely, trying again and
keeping what was answered is the same for all.
"""

import asyncio
import html
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from jangin.core.config import Config, Runtime
from jangin.core.digest import digest_value
from jangin.core.errors import ChatError, ConfigError, RefusedError
from jangin.core.ledger import Ledger
from jangin.core.records import Record
from jangin.llm.rate_limits import RateLimit
from jangin.llm.retry import (
    TRANSIENT_STATUSES,
    Backoff,
    RetryAfter,
    RetryPolicy,
    parse_retry_after,
)
from jangin.llm.wire_format import TooLargeError, read_body
from jangin.text.normalize import collapse_spaces, nfc

if TYPE_CHECKING:
    import aiohttp

NAMESPACE = "search"
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
REFUSED = {
    401: "the key is missing or wrong",
    402: "the account has no credit",
    403: "the key may not search, or the server gives no JSON",
    404: "there is no search at this URL",
}
HOPELESS = 8
"""So many questions in a row without an answer, and the engine is taken to be gone."""
LARGEST_REPLY_BYTES = 4 * 2**20
FIRST_WAIT_SECONDS = 1.0
"""Before the first try again where the engine does not say; it doubles from try to try."""


class _Engine(Config):
    results: int = Field(default=7, ge=1, le=100)
    """Snippets of each question, at most."""
    requests_per_minute: Runtime[float] = Field(default=60.0, gt=0)
    """So often the engine is asked, however fast it answers."""
    concurrency: Runtime[int] = Field(default=2, ge=1, le=64)
    """Requests in flight at once."""
    timeout_seconds: Runtime[float] = Field(default=30.0, gt=0)
    """A request that takes longer is tried again."""
    retries: Runtime[int] = Field(default=4, ge=0, le=20)
    """Tries after the first one, with growing waits or as long as the engine asks for."""


class Naver(_Engine):
    """Naver's open API, 25,000 requests a day. developers.naver.com gives the two keys."""

    type: Literal["naver"]
    target: Literal["blog", "news", "webkr", "kin", "cafearticle", "encyc", "doc"] = "blog"
    """What is searched, as the API calls it."""
    sort: Literal["sim", "date"] = "sim"
    """By likeness or by date."""
    id_variable: Runtime[str] = "NAVER_CLIENT_ID"
    """Name of the environment variable that holds the client id."""
    secret_variable: Runtime[str] = "NAVER_CLIENT_SECRET"  # noqa: S105  # a variable's name
    """Name of the environment variable that holds the client secret."""
    base_url: Runtime[str] = "https://openapi.naver.com"
    """URL before `/v1/search`."""


class Searxng(_Engine):
    """A SearXNG server whose settings list `json` under `search: formats`."""

    type: Literal["searxng"]
    base_url: Runtime[str]
    """URL before `/search`."""
    language: str = "all"
    """Language code such as `ko`, or `all`."""
    categories: tuple[str, ...] = ("general",)
    """Categories as the server knows them."""


class Brave(_Engine):
    """Brave's web search API."""

    type: Literal["brave"]
    results: int = Field(default=7, ge=1, le=20)
    """Snippets of each question, at most."""
    country: str = "KR"
    """Country code of two letters."""
    language: str = "ko"
    """Language code as the API calls it."""
    key_variable: Runtime[str] = "BRAVE_API_KEY"
    """Name of the environment variable that holds the subscription token."""
    base_url: Runtime[str] = "https://api.search.brave.com"
    """URL before `/res/v1`."""


WebEngine = Annotated[Naver | Searxng | Brave, Field(discriminator="type")]


class Found(Record):
    """One result of a search."""

    text: str
    title: str = ""
    url: str = ""


_KEPT = TypeAdapter(list[Found])


@dataclass(frozen=True, slots=True)
class Request:
    """How one question is sent."""

    url: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]


class _NoSearchError(ValueError):
    """A body that is no answer of this engine."""


def plain(text: str) -> str:
    """Text as a reader sees it: without tags and entities, NFC, one space between words."""
    return collapse_spaces(nfc(html.unescape(TAG.sub("", text))))


def request_of(engine: Naver | Searxng | Brave, question: str) -> Request:
    """How an engine is asked; raises `ConfigError` when a key is not set."""
    base = engine.base_url.rstrip("/")
    if isinstance(engine, Naver):
        headers = {
            "X-Naver-Client-Id": _key(engine.id_variable, base),
            "X-Naver-Client-Secret": _key(engine.secret_variable, base),
        }
        named = {"query": question, "display": str(engine.results), "sort": engine.sort}
        return Request(f"{base}/v1/search/{engine.target}.json", named, headers)
    if isinstance(engine, Brave):
        headers = {
            "X-Subscription-Token": _key(engine.key_variable, base),
            "Accept": "application/json",
        }
        named = {"q": question, "count": str(engine.results), "text_decorations": "false"}
        named |= {"country": engine.country, "search_lang": engine.language}
        return Request(f"{base}/res/v1/web/search", named, headers)
    named = {"q": question, "format": "json", "language": engine.language}
    named["categories"] = ",".join(engine.categories)
    return Request(f"{base}/search", named, {"Accept": "application/json"})


def read_reply(engine: Naver | Searxng | Brave, body: bytes) -> list[Found]:
    """The results in a reply, tags and entities gone; raises ValueError when it is none."""
    try:
        data = json.loads(body)
        if isinstance(engine, Naver):
            rows, names = data["items"], ("description", "title", "link")
        elif isinstance(engine, Brave):
            if data["type"] != "search":
                raise _NoSearchError(f"a reply of type {data['type']!r}")
            rows, names = data.get("web", {}).get("results", []), ("description", "title", "url")
        else:
            rows, names = data["results"], ("content", "title", "url")
            silent = [str(row[0]) for row in data.get("unresponsive_engines", [])]
            if not rows and silent:
                raise _NoSearchError(f"no results, and {', '.join(silent)} did not answer")
        text, title, url = names
        found = [
            Found(
                text=plain(row.get(text) or ""),
                title=plain(row.get(title) or ""),
                url=str(row.get(url) or ""),
            )
            for row in rows
        ]
    except (LookupError, TypeError, AttributeError, ValidationError, RecursionError) as error:
        raise _NoSearchError(f"no search result: {body[:120]!r}") from error
    return [row for row in found if row.text][: engine.results]


def _key(variable: str, url: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"environment variable {variable} is not set, and {url} needs it. "
            f"Set it with: export {variable}=..."
        )
    return key


@dataclass(slots=True)
class WebSearch:
    """Asks an engine for many questions; every answer is in the ledger before it is used."""

    engine: Naver | Searxng | Brave
    ledger: Ledger
    _limit: RateLimit = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with one request allowed at once."""
        self._limit = RateLimit(self.engine.requests_per_minute)

    def kept(self, question: str) -> list[Found] | None:
        """What the engine answered before, or None."""
        kept = self.ledger.get(NAMESPACE, self._memo(question))
        return None if kept is None else _KEPT.validate_json(kept)

    def find(
        self,
        questions: Sequence[str],
        on_reply: Callable[[str, list[Found] | ChatError], None],
    ) -> None:
        """Hand over each question's results, or why there are none, as they come.

        Raises `RefusedError` or `ConfigError` when the engine will answer no question at all, and
        `ChatError` after `HOPELESS` failures in a row; what is under way then is waited for and
        kept.
        """
        waiting = []
        for question in dict.fromkeys(questions):
            kept = self.kept(question)
            if kept is None:
                waiting.append(question)
            else:
                on_reply(question, kept)
        if waiting:
            asyncio.run(self._find(waiting, on_reply))

    def _memo(self, question: str) -> str:
        engine = {**self.engine.identity(), "base_url": self.engine.base_url}
        return digest_value({"engine": engine, "question": question})

    async def _find(
        self,
        questions: Sequence[str],
        on_reply: Callable[[str, list[Found] | ChatError], None],
    ) -> None:
        import aiohttp

        request_of(self.engine, questions[0])  # a missing key is told before anything is sent
        waiting = iter(questions)
        stops: list[RefusedError | ConfigError | ChatError] = []
        in_a_row = 0

        async def work(session: "aiohttp.ClientSession") -> None:
            nonlocal in_a_row
            for question in waiting:
                if stops:
                    return
                found: list[Found] | ChatError
                try:
                    found = await self._insist(session, question)
                except (RefusedError, ConfigError) as error:
                    stops.append(error)
                    return
                except ChatError as error:
                    found = error
                    in_a_row += 1
                    if in_a_row >= HOPELESS:
                        stops.append(error)
                else:
                    in_a_row = 0
                    kept = _KEPT.dump_json(found).decode()
                    self.ledger.put(NAMESPACE, self._memo(question), kept)
                on_reply(question, found)

        timeout = aiohttp.ClientTimeout(self.engine.timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            places = min(self.engine.concurrency, len(questions))
            await asyncio.gather(*(work(session) for _ in range(places)))
        if stops:
            raise stops[0]

    async def _insist(self, session: "aiohttp.ClientSession", question: str) -> list[Found]:
        """Try until there is an answer; raises `ChatError` after the last try."""
        policy = RetryPolicy(self.engine.retries, FIRST_WAIT_SECONDS, requested_wait_jitter=0)
        backoff = Backoff(policy, question)
        while True:
            pause = self._limit.take(1)
            if pause:
                await asyncio.sleep(pause)
            outcome = await self._try(session, question)
            if isinstance(outcome, list):
                return outcome
            wait = backoff.wait_after(outcome)
            if backoff.out_of_retries:
                raise ChatError(
                    f"{self.engine.base_url} did not answer after {backoff.attempts} tries: "
                    f"{outcome.reason}. Try again later; finished searches are kept."
                )
            await asyncio.sleep(wait)

    async def _try(
        self, session: "aiohttp.ClientSession", question: str
    ) -> list[Found] | RetryAfter:
        import aiohttp

        request = request_of(self.engine, question)
        try:
            async with session.get(
                request.url, params=request.parameters, headers=request.headers
            ) as response:
                body = await read_body(response, LARGEST_REPLY_BYTES)
                if response.status == 200:
                    return read_reply(self.engine, body)
                return self._judge(response.status, body, response.headers)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ConfigError(
                f"base_url {self.engine.base_url!r} is no URL. Correct it in the project file."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            return RetryAfter(f"{type(error).__name__}: {error}")
        except TooLargeError:
            return RetryAfter(f"a reply of more than {LARGEST_REPLY_BYTES:,} bytes")
        except ValueError as error:
            return RetryAfter(str(error))

    def _judge(self, status: int, body: bytes, headers: Mapping[str, str]) -> RetryAfter:
        """Try again later; raises `RefusedError`, or `ChatError` for this question alone."""
        reason = f"HTTP {status}: {_message(body)}"
        if status in TRANSIENT_STATUSES:
            return RetryAfter(reason, parse_retry_after(headers) or _reset(headers))
        bad_key = b"SUBSCRIPTION_TOKEN_INVALID" in body
        if status in REFUSED or bad_key:
            why = REFUSED.get(401 if bad_key else status, "")
            raise RefusedError(
                f"{self.engine.base_url} refused: {why} ({reason}). Mend that and run again; "
                "finished searches are kept."
            )
        raise ChatError(f"{self.engine.base_url} does not take this question ({reason}).")


def _message(body: bytes) -> str:
    """What an engine says is wrong, or the body's beginning."""
    text = body[:200].decode(errors="replace").strip() or "no message"
    try:
        data: Any = json.loads(body)
        found = data.get("errorMessage") or data["error"]["detail"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return text
    return str(found)


def _reset(headers: Mapping[str, str]) -> float:
    """Seconds until the first of Brave's limits is over: `X-RateLimit-Reset: 1, 1419704`."""
    left = headers.get("X-RateLimit-Remaining", "").split(",")
    for place, seconds in enumerate(headers.get("X-RateLimit-Reset", "").split(",")):
        spent = place >= len(left) or left[place].strip() == "0"
        if spent and seconds.strip().isdigit():
            return float(seconds)
    return 0.0
