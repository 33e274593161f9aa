"""Write many answers at once: where one ends, the next prompt begins in the same step."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from jangin.inference.decoder import Decoder
from jangin.inference.detokenizer import WrittenText
from jangin.inference.sampling import LIKELIEST, Draw, choose, log_probabilities

_PROMPT_TOKENS = 1024
"""Prompts of at most this many tokens begin in one step, so that no step waits for all of them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted."""

    prompt_ids: Sequence[int]
    max_new_tokens: int = 256
    temperature: float = 0.0
    """0 takes the likeliest token at each place."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are drawn from."""
    seed: int = 0
    """The same seed draws the same answer, whatever else is asked at the same time."""
    stop_strings: tuple[str, ...] = ()
    """The answer ends before the first of them."""
    logprobs: bool = False
    """Record the log-probability of every token."""
    top_logprobs: int = 0
    """Record so many of the likeliest tokens at each place too."""


@dataclass(slots=True)
class Writing:
    """An answer as far as it is written."""

    number: int
    """Of the request, in the order of adding."""
    request: Request
    words: WrittenText | None
    """None where nobody looks at the text before the end."""
    random: random.Random
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    finished: bool = False
    """It ended by a stop token or a stop string."""
    ended: bool = False
    """It ended, be it by its limit."""

    def draw(self) -> Draw:
        """How the next token is chosen."""
        asked = self.request
        if asked.temperature == 0:
            return LIKELIEST
        return Draw(asked.temperature, asked.top_p, self.random.random())

    def take(self, token: int, stop_ids: frozenset[int]) -> None:
        """Write one more token."""
        self.token_ids.append(token)
        self.finished = token in stop_ids
        if self.words is not None and not self.finished:
            self.words.add(token)
            self.finished = self.words.stopped
        self.ended = self.finished or len(self.token_ids) >= self.request.max_new_tokens


class ContinuousBatch:
    """Answers being written, and requests that wait for a row."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Any,
        stop_ids: frozenset[int],
        rows: int,
        *,
        watched: bool = False,
    ) -> None:
        """At most `rows` answers at a time; `watched` keeps the text of all of them up to date.

        The tokenizer is needed for stop strings and watched text alone.
        """
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.rows = rows
        self.watched = watched
        self.waiting: deque[Writing] = deque()
        self.writing: list[Writing] = []
        self._added = 0

    def add(self, request: Request) -> int:
        """Queue a request; returns its number."""
        if not request.prompt_ids:
            raise ValueError("a request needs at least one prompt token")
        followed = self.watched or bool(request.stop_strings)
        words = WrittenText(self.tokenizer, request.stop_strings) if followed else None
        self.waiting.append(Writing(self._added, request, words, random.Random(request.seed)))
        self._added += 1
        return self._added - 1

    @torch.inference_mode()
    def cancel(self, number: int) -> None:
        """Forget a request, waiting or half written; one that has ended is let be."""
        self.waiting = deque(one for one in self.waiting if one.number != number)
        for one in self.writing:
            one.ended = one.ended or one.number == number
        self._drop_ended()

    @torch.inference_mode()
    def step(self) -> list[Writing]:
        """Write one token of each answer in a row; returns these answers."""
        written = len(self.writing)
        self.writing += self._beginning()
        if not self.writing:
            return []
        stepped = list(self.writing)
        logits_RV = self.decoder.logits(
            [one.token_ids[-1:] for one in stepped[:written]]
            + [one.request.prompt_ids for one in stepped[written:]]
        )
        chosen = choose(logits_RV, [one.draw() for one in stepped])
        self._record(logits_RV, chosen)
        for one, token in zip(stepped, chosen, strict=True):
            one.take(token, self.stop_ids)
        self._drop_ended()
        return stepped

    def run(self) -> Iterator[list[Writing]]:
        """Steps until nothing is left to write."""
        while self.waiting or self.writing:
            yield self.step()

    def _beginning(self) -> list[Writing]:
        """Requests that begin now: in their order, as rows and this step's tokens allow."""
        began: list[Writing] = []
        if self.writing and not self.decoder.joins:
            return began
        tokens = 0
        while self.waiting and len(self.writing) + len(began) < self.rows:
            tokens += len(self.waiting[0].request.prompt_ids)
            if began and tokens > _PROMPT_TOKENS and self.decoder.joins:
                break
            began.append(self.waiting.popleft())
        return began

    def _record(self, logits_RV: torch.Tensor, chosen: list[int]) -> None:
        places = [place for place, one in enumerate(self.writing) if one.request.logprobs]
        if not places:
            return
        tops = [self.writing[place].request.top_logprobs for place in places]
        own, likeliest = log_probabilities(
            logits_RV[places], [chosen[place] for place in places], max(tops)
        )
        for place, value, pairs, top in zip(places, own, likeliest, tops, strict=True):
            self.writing[place].logprobs.append(value)
            self.writing[place].top_logprobs.append(pairs[:top])

    def _drop_ended(self) -> None:
        """Let the last answers take over the rows of those that ended."""
        going = [place for place, one in enumerate(self.writing) if not one.ended]
        if len(going) == len(self.writing):
            return
        stay = {place for place in going if place < len(going)}
        movers = going[len(stay) :]
        order = [place if place in stay else movers.pop() for place in range(len(going))]
        self.decoder.keep(order)
        self.writing = [self.writing[place] for place in order]
