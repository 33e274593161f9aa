"""Clients of web search engines: Naver's open API, SearXNG, Brave.

`build_request` and `read_reply` differ from engine to engine; rate limit, retries and cache are
the same for all.
"""

import asyncio
import html
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from jangin.core.config import Advanced, Config, Runtime
from jangin.core.digest import digest_value
from jangin.core.errors import ChatError, ConfigError, RefusedError
from jangin.core.execution.signals import run_async
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
MAX_FAILURES_IN_A_ROW = 8
"""Failed questions in a row after which the search stops: the engine is down."""
LARGEST_REPLY_BYTES = 4 * 2**20
FIRST_WAIT_SECONDS = 1.0
"""Wait before the first retry, unless the engine names one; it doubles with every retry."""


class _Engine(Config):
    results: int = Field(default=7, ge=1, le=100)
    """Maximum number of snippets per question."""
    requests_per_minute: Runtime[float] = Field(default=60.0, gt=0)
    """Maximum number of requests per minute."""
    concurrency: Runtime[int] = Field(default=2, ge=1, le=64)
    """Maximum number of requests in flight."""
    timeout_seconds: Runtime[float] = Field(default=30.0, gt=0)
    """Timeout of one request, after which it is retried."""
    retries: Runtime[int] = Field(default=4, ge=0, le=20)
    """Maximum number of retries, with exponential backoff or the wait that the engine names."""


class Naver(_Engine):
    """Naver's open API, 25,000 requests a day. developers.naver.com gives the two keys."""

    type: Literal["naver"]
    target: Literal["blog", "news", "webkr", "kin", "cafearticle", "encyc", "doc"] = "blog"
    """Collection to search, as the API calls it."""
    sort: Literal["sim", "date"] = "sim"
    """Order of the results: `sim` by relevance, `date` by date."""
    id_variable: Runtime[Advanced[str]] = "NAVER_CLIENT_ID"
    """Name of the environment variable that holds the client id."""
    secret_variable: Runtime[Advanced[str]] = "NAVER_CLIENT_SECRET"  # noqa: S105  # a variable's name
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
    """Maximum number of snippets per question."""
    country: str = "KR"
    """Country code of two letters."""
    language: str = "ko"
    """Language code as the API calls it."""
    key_variable: Runtime[str] = "BRAVE_API_KEY"
    """Name of the environment variable that holds the subscription token."""
    base_url: Runtime[str] = "https://api.search.brave.com"
    """URL before `/res/v1`."""


class SearchResult(Record):
    """One result of a search."""

    text: str
    title: str = ""
    url: str = ""


_RESULTS = TypeAdapter(list[SearchResult])


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """HTTP GET request of one question."""

    url: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]


class _NoSearchError(ValueError):
    """A response body that is no search result of this engine."""


def plain(text: str) -> str:
    """Text as a reader sees it: without tags and entities, NFC, one space between words."""
    return collapse_spaces(nfc(html.unescape(TAG.sub("", text))))


def build_request(engine: Naver | Searxng | Brave, question: str) -> HttpRequest:
    """The request of one question.

    Raises: ConfigError: the environment variable of a key is not set.
    """
    base = engine.base_url.rstrip("/")
    if isinstance(engine, Naver):
        headers = {
            "X-Naver-Client-Id": _key(engine.id_variable, base),
            "X-Naver-Client-Secret": _key(engine.secret_variable, base),
        }
        named = {"query": question, "display": str(engine.results), "sort": engine.sort}
        return HttpRequest(f"{base}/v1/search/{engine.target}.json", named, headers)
    if isinstance(engine, Brave):
        headers = {
            "X-Subscription-Token": _key(engine.key_variable, base),
            "Accept": "application/json",
        }
        named = {"q": question, "count": str(engine.results), "text_decorations": "false"}
        named |= {"country": engine.country, "search_lang": engine.language}
        return HttpRequest(f"{base}/res/v1/web/search", named, headers)
    named = {"q": question, "format": "json", "language": engine.language}
    named["categories"] = ",".join(engine.categories)
    return HttpRequest(f"{base}/search", named, {"Accept": "application/json"})


def read_reply(engine: Naver | Searxng | Brave, body: bytes) -> list[SearchResult]:
    """The results in a response body as plain text, without those that have no text.

    Raises: ValueError: the body is no search result of this engine.
    """
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
        results = [
            SearchResult(
                text=plain(row.get(text) or ""),
                title=plain(row.get(title) or ""),
                url=str(row.get(url) or ""),
            )
            for row in rows
        ]
    except (LookupError, TypeError, AttributeError, ValidationError, RecursionError) as error:
        raise _NoSearchError(f"no search result: {body[:120]!r}") from error
    return [row for row in results if row.text][: engine.results]


def _key(variable: str, url: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"environment variable {variable} is not set, but {url} needs it. "
            f"Set it with: export {variable}=..."
        )
    return key


@dataclass(slots=True)
class WebSearch:
    """Searches many questions at once; every reply is cached in the ledger before it is used."""

    engine: Naver | Searxng | Brave
    ledger: Ledger
    _limit: RateLimit = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with one request allowed at once."""
        self._limit = RateLimit(self.engine.requests_per_minute)

    def cached(self, question: str) -> list[SearchResult] | None:
        """The results in the cache; None if this question was never answered."""
        cached = self.ledger.get(NAMESPACE, self._cache_key(question))
        return None if cached is None else _RESULTS.validate_json(cached)

    def search(
        self,
        questions: Sequence[str],
        on_reply: Callable[[str, list[SearchResult] | ChatError], None],
    ) -> None:
        """Call `on_reply` with each question and its results, or its error, as they arrive.

        Raises: RefusedError, ConfigError: the engine answers no question at all; ChatError: after
        `MAX_FAILURES_IN_A_ROW` failures. Requests in flight are finished and cached before.
        """
        waiting = []
        for question in dict.fromkeys(questions):
            results = self.cached(question)
            if results is None:
                waiting.append(question)
            else:
                on_reply(question, results)
        if waiting:
            run_async(self._search(waiting, on_reply))

    def _cache_key(self, question: str) -> str:
        engine = {**self.engine.identity(), "base_url": self.engine.base_url}
        return digest_value({"engine": engine, "question": question})

    async def _search(
        self,
        questions: Sequence[str],
        on_reply: Callable[[str, list[SearchResult] | ChatError], None],
    ) -> None:
        import aiohttp

        build_request(self.engine, questions[0])  # raises for a missing key before anything is sent
        waiting = iter(questions)
        stops: list[RefusedError | ConfigError | ChatError] = []
        in_a_row = 0

        async def work(session: "aiohttp.ClientSession") -> None:
            nonlocal in_a_row
            for question in waiting:
                if stops:
                    return
                reply: list[SearchResult] | ChatError
                try:
                    reply = await self._fetch(session, question)
                except (RefusedError, ConfigError) as error:
                    stops.append(error)
                    return
                except ChatError as error:
                    reply = error
                    in_a_row += 1
                    if in_a_row >= MAX_FAILURES_IN_A_ROW:
                        stops.append(error)
                else:
                    in_a_row = 0
                    cached = _RESULTS.dump_json(reply).decode()
                    self.ledger.put(NAMESPACE, self._cache_key(question), cached)
                on_reply(question, reply)

        timeout = aiohttp.ClientTimeout(self.engine.timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            workers = min(self.engine.concurrency, len(questions))
            await asyncio.gather(*(work(session) for _ in range(workers)))
        if stops:
            raise stops[0]

    async def _fetch(self, session: "aiohttp.ClientSession", question: str) -> list[SearchResult]:
        """Retry until there is an answer; raises `ChatError` after the last retry."""
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
    ) -> list[SearchResult] | RetryAfter:
        import aiohttp

        request = build_request(self.engine, question)
        try:
            async with session.get(
                request.url, params=request.parameters, headers=request.headers
            ) as response:
                body = await read_body(response, LARGEST_REPLY_BYTES)
                if response.status == 200:
                    return read_reply(self.engine, body)
                return self._error_of(response.status, body, response.headers)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ConfigError(
                f"base_url {self.engine.base_url!r} is not a URL. Correct it in the project file."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            return RetryAfter(f"{type(error).__name__}: {error}")
        except TooLargeError:
            return RetryAfter(f"a reply of more than {LARGEST_REPLY_BYTES:,} bytes")
        except ValueError as error:
            return RetryAfter(str(error))

    def _error_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> RetryAfter:
        """When to retry.

        Raises: RefusedError: the engine refuses every question; ChatError: it refuses this one.
        """
        reason = f"HTTP {status}: {_message(body)}"
        if status in TRANSIENT_STATUSES:
            return RetryAfter(reason, parse_retry_after(headers) or _reset(headers))
        bad_key = b"SUBSCRIPTION_TOKEN_INVALID" in body
        if status in REFUSED or bad_key:
            why = REFUSED.get(401 if bad_key else status, "")
            raise RefusedError(
                f"{self.engine.base_url} refused: {why} ({reason}). Correct that and run again; "
                "finished searches are cached."
            )
        raise ChatError(f"{self.engine.base_url} does not take this question ({reason}).")


def _message(body: bytes) -> str:
    """The error message in a response body, or its first 200 bytes."""
    text = body[:200].decode(errors="replace").strip() or "no message"
    try:
        data: Any = json.loads(body)
        message = data.get("errorMessage") or data["error"]["detail"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return text
    return str(message)


def _reset(headers: Mapping[str, str]) -> float:
    """Seconds until the first exhausted limit of Brave resets: `X-RateLimit-Reset: 1, 1419704`."""
    left = headers.get("X-RateLimit-Remaining", "").split(",")
    for index, seconds in enumerate(headers.get("X-RateLimit-Reset", "").split(",")):
        exhausted = index >= len(left) or left[index].strip() == "0"
        if exhausted and seconds.strip().isdigit():
            return float(seconds)
    return 0.0
