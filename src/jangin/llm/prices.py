"""Prices per million tokens: a small dated table, and litellm's, which the user downloads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from jangin.core.config import Added, Config
from jangin.core.errors import ConfigError

MILLION = 1_000_000


class Price(Config):
    """US dollars per million tokens."""

    input_usd_per_million: float = Field(ge=0)
    """Price of prompt tokens."""
    output_usd_per_million: float = Field(ge=0)
    """Price of completion tokens, reasoning included."""
    cached_input_usd_per_million: Added[float | None] = Field(default=None, ge=0)
    """Price of prompt tokens that the endpoint had in its cache; default: that of the others."""
    cache_write_usd_per_million: Added[float | None] = Field(default=None, ge=0)
    """Price of prompt tokens that the endpoint wrote to its cache; default: that of the others."""

    def usd(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int = 0,
        cache_write_tokens: int = 0,
    ) -> float:
        """Price of one call; of its prompt tokens, some were in a cache or written to it."""
        usual = self.input_usd_per_million
        of_cached, of_written = self.cached_input_usd_per_million, self.cache_write_usd_per_million
        cached = min(cached_tokens, prompt_tokens)
        written = min(cache_write_tokens, prompt_tokens - cached)
        return (
            (prompt_tokens - cached - written) * usual
            + cached * (usual if of_cached is None else of_cached)
            + written * (usual if of_written is None else of_written)
            + completion_tokens * self.output_usd_per_million
        ) / MILLION

    def scaled(self, factor: float) -> "Price":
        """This price times `factor`."""
        return Price(
            **{
                name: None if usd is None else usd * factor
                for name, usd in self.model_dump().items()
            }
        )


@dataclass(frozen=True, slots=True)
class ListPrice:
    """A row of the table: US dollars per million tokens, and when they were checked."""

    input: float
    cached: float
    output: float
    checked: date
    until: date | None = None
    """Last day of this price; afterwards the row says nothing."""
    off: date | None = None
    """Day on which the model is switched off."""

    def price(self) -> Price:
        """The price of a request that is answered at once."""
        return Price(
            input_usd_per_million=self.input,
            output_usd_per_million=self.output,
            cached_input_usd_per_million=self.cached,
        )


HALF = 0.5
"""Factor of the Batch API and of `service_tier: flex` at every host of the table."""
STANDARD_TIERS = ("auto", "default", "standard")

FREE = Price(input_usd_per_million=0, output_usd_per_million=0)

_JUNE, _OCTOBER, _NOVEMBER = date(2026, 6, 30), date(2026, 10, 7), date(2026, 11, 24)
_JANUARY = date(2027, 1, 14)
PRICES: Mapping[str, Mapping[str, ListPrice]] = {
    # developers.openai.com/api/docs/pricing and .../deprecations; prompts up to 272,000 tokens
    "api.openai.com": {
        "gpt-6-luna": ListPrice(0.10, 0.01, 0.50, _NOVEMBER),
        "gpt-6-sol": ListPrice(2.00, 0.20, 10.00, _NOVEMBER),
        "gpt-4.1-mini": ListPrice(0.40, 0.10, 1.60, _JUNE, off=_JANUARY),
        "gpt-4.1": ListPrice(2.00, 0.50, 8.00, _JUNE, off=_JANUARY),
        "gpt-4o-mini": ListPrice(0.15, 0.075, 0.60, _JUNE, off=_JANUARY),
        "gpt-4o": ListPrice(2.50, 1.25, 10.00, _JUNE, off=_JANUARY),
    },
    # ai.google.dev/gemini-api/docs/pricing
    "generativelanguage.googleapis.com": {
        "gemini-3.8-flash": ListPrice(0.75, 0.075, 3.75, _OCTOBER, until=date(2026, 12, 31)),
    },
    # platform.claude.com/docs/en/about-claude/pricing; prompts up to 100,000 tokens
    "api.anthropic.com": {
        "claude-haiku-5-5": ListPrice(0.10, 0.01, 0.50, date(2026, 10, 24)),
    },
    # upstage.ai/pricing, without VAT
    "api.upstage.ai": {
        "solar-pro4": ListPrice(0.30, 0.06, 1.20, date(2026, 8, 25)),
    },
}
"""By host, as a model of the same name has other prices elsewhere; snapshots with a date in their
name are left out. The rows of models that are switched off go when they are."""


def listed(base_url: str, model: str) -> ListPrice | None:
    """The row of the table, or None."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return None
    return PRICES.get(host, {}).get(model)


def list_price(base_url: str, model: str, *, batch: bool = False, tier: str = "") -> Price | None:
    """The price in the table for requests of a service tier; None if unknown."""
    row = listed(base_url, model)
    if row is None or (row.until is not None and row.until < datetime.now(UTC).date()):
        return None
    if batch or tier == "flex":
        return row.price().scaled(HALF)
    return row.price() if tier in ("", *STANDARD_TIERS) else None


def downloaded_price(
    path: Path, model: str, litellm: str, *, batch: bool = False, tier: str = ""
) -> Price:
    """The price in litellm's `model_prices_and_context_window.json`.

    `litellm` is the provider's name there; models of some have it before theirs.

    Raises: ConfigError: the file cannot be read, or has no price of the model.
    """
    try:
        rows: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is not litellm's table of prices ({error}). Download "
            "model_prices_and_context_window.json from the repository BerriAI/litellm, or write "
            "`price: {input_usd_per_million: ..., output_usd_per_million: ...}`."
        ) from error
    for row in _rows(rows, model, litellm):
        kind = "batches" if batch else "" if tier in STANDARD_TIERS else tier
        price = _litellm_price(row, kind)
        if price is not None:
            return price
    raise ConfigError(
        f"{path} has no price of model {model!r}. Write `price: {{input_usd_per_million: ..., "
        "output_usd_per_million: ...}` of the teacher."
    )


def _rows(rows: Mapping[str, Any], model: str, litellm: str) -> Iterator[Mapping[str, Any]]:
    for name in (f"{litellm}/{model}", model):
        row = rows.get(name)
        if isinstance(row, dict) and litellm in ("", row.get("litellm_provider")):
            yield row


def _litellm_price(row: Mapping[str, Any], kind: str) -> Price | None:
    """The price in a row of litellm's table, whose unit is one token; None if it has none."""
    suffix = f"_{kind}" if kind else ""
    names = {
        "input_usd_per_million": "input_cost_per_token",
        "output_usd_per_million": "output_cost_per_token",
        "cached_input_usd_per_million": "cache_read_input_token_cost",
        "cache_write_usd_per_million": "cache_creation_input_token_cost",
    }
    costs = {name: row.get(f"{theirs}{suffix}") for name, theirs in names.items()}
    per_million = {
        name: round(cost * MILLION, 6)
        for name, cost in costs.items()
        if isinstance(cost, int | float)
    }
    wanted = {"input_usd_per_million", "output_usd_per_million"}
    return Price(**per_million) if wanted <= per_million.keys() else None
