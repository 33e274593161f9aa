"""Continuous batching scheduler: when an answer ends, the next prompt takes over its row."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from jangin.inference.decoder import Decoder
from jangin.inference.detokenizer import IncrementalDetokenizer
from jangin.inference.sampling import GREEDY, SamplingStep, sample_tokens, top_log_probs

_PROMPT_TOKENS = 1024
"""Prompt tokens admitted in one step, so that running answers do not wait for all prompts."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt and how its answer is to be generated."""

    prompt_ids: Sequence[int]
    max_new_tokens: int = 256
    temperature: float = 0.0
    """0 means greedy."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability are drawn from."""
    seed: int = 0
    """Equal seeds give equal answers, whatever else is in the batch."""
    stop_strings: tuple[str, ...] = ()
    """The answer ends before the first of them."""
    logprobs: bool = False
    """Record the log-probability of every token."""
    top_logprobs: int = 0
    """Also record this many of the most likely tokens at each position."""


@dataclass(slots=True)
class ActiveRequest:
    """A request with its answer so far."""

    index: int
    """Index of the request, in the order of adding."""
    request: GenerationRequest
    detokenizer: IncrementalDetokenizer | None
    """None where the text is needed only at the end."""
    random: random.Random
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    finished: bool = False
    """Ended by a stop token or a stop string."""
    ended: bool = False
    """Ended, possibly by its token limit."""

    def sampling(self) -> SamplingStep:
        """Sampling parameters of the next token; draws its random number."""
        request = self.request
        if request.temperature == 0:
            return GREEDY
        return SamplingStep(request.temperature, request.top_p, self.random.random())

    def append(self, token: int, stop_ids: frozenset[int]) -> None:
        """Append a token and update whether the answer has ended."""
        self.token_ids.append(token)
        self.finished = token in stop_ids
        if self.detokenizer is not None and not self.finished:
            self.detokenizer.add(token)
            self.finished = self.detokenizer.stopped
        self.ended = self.finished or len(self.token_ids) >= self.request.max_new_tokens


class ContinuousBatcher:
    """Running answers, and requests that wait for a row."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Any,
        stop_ids: frozenset[int],
        rows: int,
        *,
        streamed: bool = False,
    ) -> None:
        """At most `rows` answers at a time; `streamed` keeps their text up to date.

        The tokenizer is needed only for stop strings and streamed text.
        """
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.rows = rows
        self.streamed = streamed
        self.waiting: deque[ActiveRequest] = deque()
        self.active: list[ActiveRequest] = []
        self._added = 0

    def add(self, request: GenerationRequest) -> int:
        """Queue a request and return its index."""
        if not request.prompt_ids:
            raise ValueError("a request needs at least one prompt token")
        needs_text = self.streamed or bool(request.stop_strings)
        detokenizer = (
            IncrementalDetokenizer(self.tokenizer, request.stop_strings) if needs_text else None
        )
        self.waiting.append(
            ActiveRequest(self._added, request, detokenizer, random.Random(request.seed))
        )
        self._added += 1
        return self._added - 1

    @torch.inference_mode()
    def cancel(self, index: int) -> None:
        """Drop a waiting or running request; no effect on one that has ended."""
        self.waiting = deque(answer for answer in self.waiting if answer.index != index)
        for answer in self.active:
            answer.ended = answer.ended or answer.index == index
        self._drop_ended()

    @torch.inference_mode()
    def step(self) -> list[ActiveRequest]:
        """Generate one token of each running answer; returns these answers."""
        running = len(self.active)
        self.active += self._admitted()
        if not self.active:
            return []
        stepped = list(self.active)
        logits_RV = self.decoder.logits(
            [answer.token_ids[-1:] for answer in stepped[:running]]
            + [answer.request.prompt_ids for answer in stepped[running:]]
        )
        chosen = sample_tokens(logits_RV, [answer.sampling() for answer in stepped])
        self._record(logits_RV, chosen)
        for answer, token in zip(stepped, chosen, strict=True):
            answer.append(token, self.stop_ids)
        self._drop_ended()
        return stepped

    def run(self) -> Iterator[list[ActiveRequest]]:
        """Steps until no request is left."""
        while self.waiting or self.active:
            yield self.step()

    def _admitted(self) -> list[ActiveRequest]:
        """Requests that start in this step, in order, as free rows and `_PROMPT_TOKENS` allow."""
        admitted: list[ActiveRequest] = []
        if self.active and not self.decoder.joins:
            return admitted
        tokens = 0
        while self.waiting and len(self.active) + len(admitted) < self.rows:
            tokens += len(self.waiting[0].request.prompt_ids)
            if admitted and tokens > _PROMPT_TOKENS and self.decoder.joins:
                break
            admitted.append(self.waiting.popleft())
        return admitted

    def _record(self, logits_RV: torch.Tensor, chosen: list[int]) -> None:
        recorded = [row for row, answer in enumerate(self.active) if answer.request.logprobs]
        if not recorded:
            return
        tops = [self.active[row].request.top_logprobs for row in recorded]
        own, most_likely = top_log_probs(
            logits_RV[recorded], [chosen[row] for row in recorded], max(tops)
        )
        for row, value, pairs, top in zip(recorded, own, most_likely, tops, strict=True):
            self.active[row].logprobs.append(value)
            self.active[row].top_logprobs.append(pairs[:top])

    def _drop_ended(self) -> None:
        """Remove ended answers; the last rows move into the free ones."""
        unfinished = [row for row, answer in enumerate(self.active) if not answer.ended]
        if len(unfinished) == len(self.active):
            return
        kept = {row for row in unfinished if row < len(unfinished)}
        movers = unfinished[len(kept) :]
        order = [row if row in kept else movers.pop() for row in range(len(unfinished))]
        self.decoder.keep(order)
        self.active = [self.active[row] for row in order]
