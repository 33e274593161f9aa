"""Which models an endpoint offers by its own list, and which providers this machine can use."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from jangin.core.errors import ChatError, ConfigError, JanginError, RefusedError
from jangin.core.execution.signals import run_async
from jangin.llm.endpoint import EndpointChat, find_key
from jangin.llm.prices import MILLION, Price, listed
from jangin.llm.providers import PROVIDERS, Provider

HOSTED_SECONDS, LOCAL_SECONDS = 3.0, 1.0
MOST_BYTES = 32_000_000
NO_CHAT = ("embed", "whisper", "tts", "audio", "image", "moderation", "rerank", "transcribe")
"""Parts of the names of models that do not answer."""
MOST_NAMED = 8
SOON_DAYS = 90
"""A model that is switched off within this time is mentioned."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model of an endpoint's list."""

    model: str
    price: Price | None = None
    """Where the list has prices, such as OpenRouter's."""
    off: date | None = None
    """Day on which it is switched off, where the list says so."""


@dataclass(frozen=True, slots=True)
class Available:
    """A provider that can be used from this machine."""

    provider: Provider
    offers: tuple[Offer, ...]
    """Empty where a hosted provider did not answer in time."""
    problem: str = ""
    """Why it cannot be used after all, such as a wrong key."""

    def best(self) -> Offer | None:
        """The model to begin with; None where none is known."""
        suggestion = self.provider.suggestion
        names = {offer.model: offer for offer in self.offers}
        if suggestion is not None and (not names or suggestion.model in names):
            return names.get(suggestion.model, Offer(suggestion.model))
        known = [row.suggestion.model for row in PROVIDERS if row.suggestion is not None]
        passed_on = (offer for offer in self.offers if offer.model.rpartition("/")[2] in known)
        return next(passed_on, self.offers[0] if self.offers else None)


def offers_of(base_url: str, key_variable: str, seconds: float) -> tuple[Offer, ...]:
    """The models of an endpoint.

    Raises: RefusedError: the key is wrong. ChatError: no list came in time. ConfigError: the key is
    not set, or `base_url` is not a URL.
    """
    return run_async(_offers(base_url, key_variable, seconds))


async def _offers(base_url: str, key_variable: str, seconds: float) -> tuple[Offer, ...]:
    endpoint = EndpointChat(
        "", base_url, key_variable, retries=0, timeout_seconds=seconds, patience_seconds=0
    )
    try:
        return read_offers(await endpoint.fetch("GET", "models", most=MOST_BYTES))
    finally:
        await endpoint.close()


def read_offers(body: bytes) -> tuple[Offer, ...]:
    """The models of a list that may answer; raises `ChatError` where it is none."""
    try:
        rows = json.loads(body)["data"]
        offers = tuple(_offer(row) for row in rows)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ChatError("the endpoint's list of models cannot be read") from error
    return tuple(each for each in offers if not any(part in each.model for part in NO_CHAT))


def _offer(row: Mapping[str, Any]) -> Offer:
    off = None
    for key in ("expiration_date", "shutdown_date", "deprecation_date", "deprecation"):
        with suppress(TypeError, ValueError):
            off = off or date.fromisoformat(row[key][:10]) if row.get(key) else off
    # Gemini's list has `models/` before the name that its endpoint takes.
    return Offer(str(row["id"]).removeprefix("models/"), _price(row.get("pricing")), off)


def _price(pricing: Any) -> Price | None:
    """OpenRouter's prices of one token as texts: openrouter.ai/docs/api/reference/list-models."""
    try:
        prompt, completion = (float(pricing[key]) * MILLION for key in ("prompt", "completion"))
        read, write = (
            float(pricing.get(f"input_cache_{key}") or pricing["prompt"]) * MILLION
            for key in ("read", "write")
        )
        return Price(
            input_usd_per_million=round(prompt, 6),
            output_usd_per_million=round(completion, 6),
            cached_input_usd_per_million=round(read, 6),
            cache_write_usd_per_million=round(write, 6),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


@dataclass(slots=True)
class ModelLists:
    """The lists of models of several endpoints; each is requested once."""

    _known: dict[str, tuple[Offer, ...]] = field(default_factory=dict)

    def problem(
        self, model: str, base_url: str, key_variable: str, provider: Provider | None
    ) -> str:
        """That an endpoint does not offer a model, or soon will not; empty where it does."""
        offers = self._offers(base_url, key_variable)
        offer = next((each for each in offers if each.model == model), None)
        row = listed(provider.address if provider is not None else "", model)
        off = offer.off if offer is not None and offer.off is not None else row and row.off
        if offers and offer is None:
            problem = f"{base_url} does not offer model {model!r}."
        elif off and (off - datetime.now(UTC).date()).days <= SOON_DAYS:
            problem = f"{base_url} switches model {model!r} off on {off}."
        else:
            return ""
        others = ", ".join(_nearest(model, offers))
        instead = f" It offers {others}." if others else ""
        page = f" ({provider.models_page})" if provider is not None else ""
        return f"{problem}{instead} Change `model:` of the teacher{page}."

    def _offers(self, base_url: str, key_variable: str) -> tuple[Offer, ...]:
        """The list of models; empty where the endpoint has none, or cannot be asked."""
        if base_url not in self._known:
            self._known[base_url] = ()
            with suppress(JanginError):  # the run will name the cause
                self._known[base_url] = offers_of(base_url, key_variable, HOSTED_SECONDS)
        return self._known[base_url]


def _nearest(model: str, offers: Sequence[Offer]) -> list[str]:
    """Names of some other models, the most similar first."""
    from rapidfuzz import fuzz, process

    others = [offer.model for offer in offers if offer.model != model]
    matches = process.extract(model, others, scorer=fuzz.ratio, limit=MOST_NAMED)
    return [name for name, _, _ in matches]


def available(providers: Sequence[Provider] = PROVIDERS) -> list[Available]:
    """The hosted providers whose key is known, then the servers that answer on this machine."""
    return run_async(_available(providers))


async def _available(providers: Sequence[Provider]) -> list[Available]:
    rows = [row for row in providers if row.is_local or find_key(row.key_variable)]
    answers = await asyncio.gather(*(_ask(row) for row in rows))
    return [answer for answer in answers if answer is not None]


async def _ask(provider: Provider) -> Available | None:
    seconds = LOCAL_SECONDS if provider.is_local else HOSTED_SECONDS
    try:
        offers = await _offers(provider.base_url, provider.key_variable, seconds)
    except RefusedError as error:
        return None if provider.is_local else Available(provider, (), error.reason)
    except (ChatError, ConfigError):
        return None if provider.is_local else Available(provider, ())
    return Available(provider, offers) if offers else None
