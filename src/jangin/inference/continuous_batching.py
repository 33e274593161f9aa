"""Continuous batching scheduler: when an answer ends, the next prompt takes over its row."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from jangin.core.errors import MachineError
from jangin.inference.constraints import AdjustedRow, Adjustments, TokenMatcher, adjusted_logits
from jangin.inference.decoder import Decoder
from jangin.inference.plain_decoder import is_out_of_memory, release_memory
from jangin.inference.sampling import GREEDY, SamplingStep, sample_tokens, top_log_probs

# Incremental detokenizer: complete characters only, with detection of stop strings.


_INCOMPLETE = "\ufffd"
"""Decoded in place of an incomplete character."""
_CONTEXT = 4
"""Tokens of the prompt before a raw text: enough for a character and the word before it."""


class IncrementalDetokenizer:
    """Text of a growing list of token ids, decoded a few tokens at a time."""

    def __init__(
        self,
        tokenizer: Any,
        stop_strings: Sequence[str],
        *,
        raw: bool = False,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        """`stop_strings` end the text before their first occurrence.

        White space at both ends of the text is dropped, unless it is `raw`: then the text continues
        that of `prompt_ids`, and many tokenizers drop a space where nothing stands before it.
        """
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        self.raw = raw
        self.ids: list[int] = list(prompt_ids[-_CONTEXT:]) if raw else []
        self._prompt_text = self._decode(self.ids).rstrip(_INCOMPLETE)
        self.text = ""
        self.stopped = False
        """Whether a stop string occurred; `text` then ends before it."""
        self._decode_start = 0
        self._decoded = len(self.ids)
        self._emitted = 0

    def add(self, token: int) -> None:
        """Append a token id."""
        self.ids.append(token)
        # The tokens before are decoded too, because some tokenizers put spaces between tokens.
        decoded_before = self._decode(self.ids[self._decode_start : self._decoded])
        new = self._decode(self.ids[self._decode_start :])
        if len(new) <= len(decoded_before) or new.endswith(_INCOMPLETE):
            return
        before = len(self.text)
        self.text += new[len(decoded_before) :]
        self._decode_start, self._decoded = self._decoded, len(self.ids)
        self._apply_stop_strings(before)

    def next_text(self) -> str:
        """Text that is new since the last call and that later tokens cannot change."""
        # A stop string may begin in the white space that is dropped.
        held_back = 0 if self.stopped else self._stop_prefix_length()
        certain = self.text[: len(self.text) - held_back]
        certain = certain if self.raw else certain.strip()
        piece = certain[self._emitted :]
        self._emitted = max(self._emitted, len(certain))
        return piece

    def final_text(self) -> str:
        """The text of the answer, without surrounding white space unless it is raw."""
        text = self.text
        if not self.stopped:
            text = self._decode(self.ids).removeprefix(self._prompt_text)
        return text if self.raw else text.strip()

    def remaining_text(self) -> str:
        """The part of the final text that `next_text` has not returned."""
        return self.final_text()[self._emitted :]

    def _apply_stop_strings(self, before: int) -> None:
        positions = [
            position
            for stop in self.stop_strings
            if (position := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if positions:
            self.text, self.stopped = self.text[: min(positions)], True

    def _stop_prefix_length(self) -> int:
        """Length of the longest suffix of the text that is a prefix of a stop string."""
        return max(
            (
                size
                for stop in self.stop_strings
                for size in range(1, min(len(stop), len(self.text) + 1))
                if self.text.endswith(stop[:size])
            ),
            default=0,
        )

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


_PROMPT_TOKENS = {False: 1024, True: 8192}
"""Prompt tokens admitted in one step, on a CPU and on a GPU, so that running answers do not wait
for all prompts."""


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
    """Equal seeds give equal answers; the rest of the batch makes no difference."""
    stop_strings: tuple[str, ...] = ()
    """The answer ends before the first of them."""
    logprobs: bool = False
    """Record the log-probability of every token."""
    top_logprobs: int = 0
    """Also record this many of the most likely tokens at each position."""
    stop_ids: frozenset[int] | None = None
    """Tokens that end the answer; None for those of the batch."""
    streamed: bool = False
    """Keep the text of the answer up to date."""
    raw_text: bool = False
    """Keep white space at both ends of the text, which may continue the prompt."""
    adapter: str | None = None
    """Which adapter answers; None for the base model. A batch without a router ignores it."""
    adjustments: Adjustments | None = None
    """What is changed about the logits before a token is chosen."""


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
    next_sampling: SamplingStep | None = None
    """Drawn for a token that memory did not suffice for."""
    matcher: TokenMatcher | None = None
    """Position in the grammar of the request, if it has one."""

    @property
    def known_ids(self) -> list[int]:
        """The prompt and the answer so far."""
        return [*self.request.prompt_ids, *self.token_ids]

    def sampling(self) -> SamplingStep:
        """Sampling parameters of the next token, with its random number; drawn once per token."""
        request = self.request
        if request.temperature == 0:
            return GREEDY
        self.next_sampling = self.next_sampling or SamplingStep(
            request.temperature, request.top_p, self.random.random()
        )
        return self.next_sampling

    def append(self, token: int, stop_ids: frozenset[int]) -> None:
        """Append a token and update whether the answer has ended."""
        self.next_sampling = None
        self.token_ids.append(token)
        own_stops = self.request.stop_ids
        self.finished = token in (stop_ids if own_stops is None else own_stops)
        if self.matcher is not None and not self.finished:
            self.matcher.accept(token)
        if self.detokenizer is not None and not self.finished:
            self.detokenizer.add(token)
            self.finished = self.detokenizer.stopped
        self.ended = self.finished or len(self.token_ids) >= self.request.max_new_tokens


class AdapterRouter(Protocol):
    """Sends the tokens of a step through the adapters of their answers."""

    def route(self, adapters: Sequence[str | None], tokens: Sequence[int]) -> None:
        """Adapter and number of tokens of each answer, in the order of the next forward pass."""


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
        router: AdapterRouter | None = None,
    ) -> None:
        """At most `rows` answers at a time; `streamed` keeps their text up to date.

        The tokenizer is needed only for stop strings and streamed text, the router only where
        answers have different adapters.
        """
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.rows = rows
        self.streamed = streamed
        self.router = router
        self.waiting: deque[ActiveRequest] = deque()
        self.active: list[ActiveRequest] = []
        self.prompt_tokens = _PROMPT_TOKENS[decoder.device.type == "cuda"]
        self._added = 0

    def add(self, request: GenerationRequest) -> int:
        """Queue a request and return its index."""
        if not request.prompt_ids:
            raise ValueError("a request needs at least one prompt token")
        needs_text = self.streamed or request.streamed or bool(request.stop_strings)
        detokenizer = (
            IncrementalDetokenizer(
                self.tokenizer,
                request.stop_strings,
                raw=request.raw_text,
                prompt_ids=request.prompt_ids,
            )
            if needs_text or request.raw_text
            else None
        )
        answer = ActiveRequest(self._added, request, detokenizer, random.Random(request.seed))
        if request.adjustments is not None and request.adjustments.grammar is not None:
            answer.matcher = request.adjustments.grammar.start()
        self.waiting.append(answer)
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
        """Generate one token of each running answer; returns these answers.

        Where memory does not suffice, the rows are halved and nothing is returned: the answers so
        far are kept and resume in the next step.

        Raises:
            MachineError: memory does not suffice for one answer at a time.

        """
        admitted = self._admitted()
        stepped = self.active + admitted
        if not stepped:
            return []
        try:
            chosen = self._choose(stepped, len(self.active))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            chosen = []
        # Only here is the failed step's memory free: the exception held on to it.
        if not chosen:
            self._halve_rows(stepped)
            return []
        self.active = stepped
        for answer, token in zip(stepped, chosen, strict=True):
            answer.append(token, self.stop_ids)
        self._drop_ended()
        return stepped

    def _choose(self, stepped: list[ActiveRequest], running: int) -> list[int]:
        """The next token of each answer, of which the first `running` are in the cache."""
        if running == 1 and self._frequencies_change(stepped[0]):
            self.decoder.restart(self.rows)
            running = 0
        new_tokens = [
            *(answer.token_ids[-1:] for answer in stepped[:running]),
            *(answer.known_ids for answer in stepped[running:]),
        ]
        if self.router is not None:
            adapters = [answer.request.adapter for answer in stepped]
            self.router.route(adapters, [len(ids) for ids in new_tokens])
        logits_RV = self.decoder.logits(new_tokens)
        rows = [
            AdjustedRow(row, answer.request.adjustments, answer.token_ids, answer.matcher)
            for row, answer in enumerate(stepped)
            if answer.request.adjustments is not None
        ]
        draws = [answer.sampling() for answer in stepped]
        chosen = sample_tokens(adjusted_logits(logits_RV, rows), draws)
        self._record(stepped, logits_RV, chosen)
        return chosen

    def _frequencies_change(self, answer: ActiveRequest) -> bool:
        rope = self.decoder.rope
        return rope is not None and rope.changes_at(len(answer.known_ids))

    def _halve_rows(self, stepped: list[ActiveRequest]) -> None:
        """Take all answers out of the cache and into the queue; half as many rows from now on."""
        if len(stepped) == 1:
            self.active = []
            self.decoder.restart(self.rows)
            release_memory()
            raise MachineError(
                f"the memory does not suffice for a prompt and answer of "
                f"{len(stepped[0].known_ids):,} tokens. Free memory, shorten the prompt, or use a "
                "smaller model."
            )
        self.rows = len(stepped) // 2
        self.active = []
        self.waiting.extendleft(reversed(stepped))
        self.decoder.restart(self.rows)
        release_memory()

    def run(self) -> Iterator[list[ActiveRequest]]:
        """Steps until no request is left."""
        while self.waiting or self.active:
            yield self.step()

    def _admitted(self) -> list[ActiveRequest]:
        """Requests that start in this step, in order, as rows and prompt tokens allow."""
        admitted: list[ActiveRequest] = []
        if self.active and not self.decoder.joins:
            return admitted
        if not self.active and self.decoder.rope is not None:
            self.decoder.restart(self.rows)
        tokens = 0
        while self.waiting and len(self.active) + len(admitted) < self.rows:
            tokens += len(self.waiting[0].known_ids)
            if admitted and tokens > self.prompt_tokens and self.decoder.joins:
                break
            if not self._fits(self.waiting[0], self.active + admitted):
                break
            admitted.append(self.waiting.popleft())
        return admitted

    def _fits(self, answer: ActiveRequest, others: list[ActiveRequest]) -> bool:
        """Whether an answer may share the batch of others; they all share one already."""
        if not others:
            return True
        if self.decoder.equal_lengths and len(answer.known_ids) != len(others[0].known_ids):
            return False
        one_adapter = answer.request.adapter == others[0].request.adapter
        if self.router is not None and not self.decoder.joins and not one_adapter:
            return False
        rope = self.decoder.rope
        if rope is None:
            return True
        groups = [
            rope.group(
                len(each.known_ids), len(each.request.prompt_ids) + each.request.max_new_tokens - 1
            )
            for each in (answer, others[0])
        ]
        return groups[0] is not None and groups[0] == groups[1]

    def _record(
        self, stepped: list[ActiveRequest], logits_RV: torch.Tensor, chosen: list[int]
    ) -> None:
        recorded = [row for row, answer in enumerate(stepped) if answer.request.logprobs]
        if not recorded:
            return
        tops = [stepped[row].request.top_logprobs for row in recorded]
        own, most_likely = top_log_probs(
            logits_RV[recorded], [chosen[row] for row in recorded], max(tops)
        )
        for row, value, pairs, top in zip(recorded, own, most_likely, tops, strict=True):
            stepped[row].logprobs.append(value)
            stepped[row].top_logprobs.append(pairs[:top])

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
