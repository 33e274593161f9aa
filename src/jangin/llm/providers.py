"""Hosts of language models and servers on this machine: addresses, keys, quirks. A row each."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from jangin.llm.learned import Learned

NOTHING = Learned()


@dataclass(frozen=True, slots=True)
class SuggestedModel:
    """A model to begin with, and the day on which it was checked that it is offered."""

    model: str
    checked: date


@dataclass(frozen=True, slots=True)
class Provider:
    """Who answers at an address."""

    name: str
    """In project files."""
    title: str
    """As people call it."""
    address: str
    """Up to and including the part before `/chat/completions`."""
    models_page: str
    """Where its models and the days on which they are switched off are published."""
    key_variable: str = ""
    """Usual environment variable of the key; empty where none is needed."""
    prices_page: str = ""
    """Where its list prices are published; empty where requests cost nothing."""
    litellm: str = ""
    """Its name in litellm's table of prices."""
    suggestion: SuggestedModel | None = None
    """None where the models are the user's own, or too many."""
    quirks: Learned = NOTHING
    """What its endpoint is known not to take, which saves asking."""

    @property
    def is_local(self) -> bool:
        """Whether it is a server of the user's own, without a price."""
        return not self.prices_page

    @property
    def base_url(self) -> str:
        """Its address, or that of a gateway in the environment: JANGIN_GEMINI_URL for `gemini`."""
        return os.environ.get(f"JANGIN_{self.name.upper()}_URL") or self.address


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        "https://developers.openai.com/api/docs/deprecations",
        "OPENAI_API_KEY",
        "https://developers.openai.com/api/docs/pricing",
        "openai",
        SuggestedModel("gpt-6-luna", date(2026, 11, 24)),
        # Every model of today takes max_completion_tokens, the newer ones nothing else.
        Learned(refused=("max_tokens",)),
    ),
    Provider(
        "gemini",
        "Google Gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "https://ai.google.dev/gemini-api/docs/deprecations",
        "GEMINI_API_KEY",
        "https://ai.google.dev/gemini-api/docs/pricing",
        "gemini",
        SuggestedModel("gemini-3.8-flash", date(2026, 10, 7)),
    ),
    Provider(
        "anthropic",
        "Anthropic",
        "https://api.anthropic.com/v1",
        "https://platform.claude.com/docs/en/about-claude/model-deprecations",
        "ANTHROPIC_API_KEY",
        "https://platform.claude.com/docs/en/about-claude/pricing",
        "anthropic",
        SuggestedModel("claude-haiku-5-5", date(2026, 10, 24)),
        # It says that response_format.type should be json_schema.
        Learned(refused=("json_object",)),
    ),
    Provider(
        "upstage",
        "Upstage",
        "https://api.upstage.ai/v1",
        "https://console.upstage.ai/docs/models",
        "UPSTAGE_API_KEY",
        "https://www.upstage.ai/pricing",
        "upstage",
        SuggestedModel("solar-pro4", date(2026, 8, 25)),
    ),
    Provider(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "https://openrouter.ai/models",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/models",
        "openrouter",
    ),
    Provider("ollama", "Ollama", "http://127.0.0.1:11434/v1", "https://ollama.com/library"),
    Provider(
        "lmstudio",
        "LM Studio",
        "http://127.0.0.1:1234/v1",
        "https://lmstudio.ai/models",
        # It says that response_format.type must be json_schema or text.
        quirks=Learned(refused=("json_object",)),
    ),
    Provider("vllm", "vLLM", "http://127.0.0.1:8000/v1", "https://docs.vllm.ai"),
    Provider(
        "llamacpp",
        "llama.cpp",
        "http://127.0.0.1:8080/v1",
        "https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
    ),
)
BY_NAME: Mapping[str, Provider] = {provider.name: provider for provider in PROVIDERS}


def provider_at(base_url: str) -> Provider | None:
    """The hosted provider at an address, whoever named it; None for another."""
    try:
        host = urlsplit(base_url).hostname
    except ValueError:
        return None
    hosted = (provider for provider in PROVIDERS if not provider.is_local)
    return next((each for each in hosted if urlsplit(each.address).hostname == host), None)
