"""List prices per million tokens."""

from urllib.parse import urlsplit

from pydantic import Field

from jangin.core.config import Config


class Price(Config):
    """US dollars per million tokens."""

    input_usd_per_million: float = Field(ge=0)
    """Price of prompt tokens."""
    output_usd_per_million: float = Field(ge=0)
    """Price of completion tokens, reasoning included."""

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of one call."""
        return (
            prompt_tokens * self.input_usd_per_million
            + completion_tokens * self.output_usd_per_million
        ) / 1_000_000

    def scaled(self, factor: float) -> "Price":
        """This price times `factor`."""
        return Price(
            input_usd_per_million=self.input_usd_per_million * factor,
            output_usd_per_million=self.output_usd_per_million * factor,
        )


BATCH_FACTOR = 0.5
"""OpenAI's Batch API costs half: platform.openai.com/docs/guides/batch."""

FREE = Price(input_usd_per_million=0, output_usd_per_million=0)

# Standard tier, platform.openai.com/docs/pricing as quoted by third parties between March and
# June 2026: look there before a large run, and set `price:` of the teacher where it changed.
OPENAI = {
    "gpt-3.5-turbo": (0.50, 1.50),
    "gpt-4o": (2.50, 10.00),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-5": (1.25, 10.00),
    "gpt-5-mini": (0.25, 2.00),
    "gpt-5-nano": (0.05, 0.40),
    "o3": (2.00, 8.00),
    "o4-mini": (1.10, 4.40),
}
"""Model: (input, output). Snapshots with a date are left out, as some have prices of their own."""

PRICES = {"api.openai.com": OPENAI}
"""By host, as a model of the same name has other prices elsewhere."""


def list_price(base_url: str, model: str) -> Price | None:
    """The price in the table, or None if unknown."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return None
    known = PRICES.get(host, {}).get(model)
    if known is None:
        return None
    return Price(input_usd_per_million=known[0], output_usd_per_million=known[1])
