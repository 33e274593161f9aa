"""Requests to an engine, and what it reports while an answer is generated and at its end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.generate import Generation
from jangin.inference.sampling import top_log_probs

# Log-probabilities of the tokens of a prompt, as `echo` of OpenAI's completions returns them.
#
# Shapes: T tokens of all prompts of a pass, V vocabulary.


_LOGIT_BYTES = {"cpu": 256 * 2**20, "cuda": 2**31}
"""Of the logits of one pass; a single prompt may have more."""
_ROWS = 256
"""Positions whose logits are normalised at a time."""


@dataclass(frozen=True, slots=True)
class PromptScores:
    """Log-probabilities in nats of a prompt's tokens; the first has none."""

    own: tuple[float, ...]
    """One fewer than the prompt has tokens."""
    top: tuple[tuple[tuple[int, float], ...], ...]
    """(token, log-probability) of the most likely tokens by position."""


def prompts_of_one_pass(prompts: Sequence[Sequence[int]], vocabulary: int, device: str) -> int:
    """How many of these prompts, at least one, may be scored together."""
    room, count = _LOGIT_BYTES.get(device, _LOGIT_BYTES["cpu"]) // (4 * vocabulary), 0
    for ids in prompts:
        room -= len(ids)
        if room < 0 and count:
            break
        count += 1
    return count


def score_prompts(
    decoder: Any, prompts: Sequence[Sequence[int]], tops: Sequence[int]
) -> Iterator[PromptScores]:
    """Scores of each prompt, with the `tops` most likely tokens of each position."""
    logits_TV, start = decoder.prompt_logits(prompts), 0
    for ids, top in zip(prompts, tops, strict=True):
        own: list[float] = []
        pairs: list[tuple[tuple[int, float], ...]] = []
        for first in range(0, len(ids) - 1, _ROWS):
            last = min(first + _ROWS, len(ids) - 1)
            part = logits_TV[start + first : start + last]
            values, likely = top_log_probs(part, ids[first + 1 : last + 1], top)
            own += values
            pairs += likely
        yield PromptScores(tuple(own), tuple(pairs) if top else ())
        start += len(ids)


def vocabulary_of(base: Any) -> int:
    """Number of logits of a model."""
    head = base.get_output_embeddings()
    return len(head.weight) if head is not None else int(base.config.get_text_config().vocab_size)


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
class AnswerProgress:
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


Listener = Callable[[AnswerProgress], None]
"""Called in the engine's thread; must return at once and raise nothing."""
