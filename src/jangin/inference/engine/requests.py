"""Requests to an engine, and what it reports while an answer is generated and at its end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.engine.prompt_scores import PromptScores
from jangin.inference.generate import Generation

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One answer that is wanted."""

    generation: GenerationRequest
    """With `max_new_tokens` 0 only the prompt is scored."""
    prompt_tops: int | None = None
    """Score the prompt, with this many of the most likely tokens at each position."""
    artifact: Path | None = None
    """The model that answers, by which its reasoning is recognised; default: the engine's own."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One more token of a streamed answer, or the end of any."""

    text: str = ""
    """Text that this token completed; together they are the answer with its reasoning."""
    token_id: int | None = None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    answer: "EngineAnswer | None" = None
    """With the last report."""
    error: Exception | None = None
    """Why the answer failed; the last report."""

    @property
    def is_last(self) -> bool:
        """Whether nothing follows."""
        return self.answer is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """A whole answer."""

    generation: Generation
    finish_reason: FinishReason
    prompt_tokens: int
    scores: PromptScores | None = None
    """Of the prompt, where they were requested."""

    @property
    def completion_tokens(self) -> int:
        """Tokens that were generated, the stop token included."""
        return len(self.generation.token_ids)


Listener = Callable[[Progress], None]
"""Called in the engine's thread; must return at once and raise nothing."""
