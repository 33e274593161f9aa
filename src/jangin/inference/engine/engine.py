"""One model in one thread: requests of many threads join one running batch, token by token.

The thread owns the model. Everything that touches it arrives through one queue: requests,
cancellations, adapters to drop. Each step gives every running answer one token, whichever adapter
it has; where memory does not suffice, the rows are halved and the answers resume.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import torch

from jangin.core.errors import BusyError, ChatError, JanginError, MachineError
from jangin.inference.constraints import GrammarCompiler
from jangin.inference.continuous_batching import ActiveRequest, ContinuousBatcher
from jangin.inference.decoder import open_decoder, rows_that_fit
from jangin.inference.engine.adapters import AdapterBank
from jangin.inference.engine.requests import (
    AnswerProgress,
    EngineAnswer,
    EngineRequest,
    FinishReason,
    Listener,
    PromptScores,
    prompts_of_one_pass,
    score_prompts,
    vocabulary_of,
)
from jangin.inference.engine.tools import ToolFormat
from jangin.inference.generate import Generation, generation_of, most_rows, stop_tokens
from jangin.inference.plain_decoder import is_out_of_memory, release_memory
from jangin.inference.reasoning import AnswerReader
from jangin.models.loading import base_model, has_adapter, load_tokenizer
from jangin.models.shape import UNLIMITED, context_length
from jangin.models.tokens.token_bytes import longest_token

_TYPICAL_TOKENS = 1024
"""The cache is allocated for this many tokens per prompt and answer; longer ones make it grow."""
_SCORED_TOKENS = {False: 2048, True: 16384}
"""Prompt tokens that are scored before the running answers get their next token."""


@dataclass(slots=True)
class _Job:
    """One request in the engine."""

    request: EngineRequest
    listener: Listener
    scores: PromptScores | None = None
    index: int | None = None
    """In the batch; None as long as it waits to be scored."""


@dataclass(frozen=True, slots=True)
class ModelTexts:
    """How the texts of one model are read and written: the base's, or those of an adapter."""

    tokenizer: Any
    stop_ids: frozenset[int]
    reader: AnswerReader
    grammars: GrammarCompiler
    tools: ToolFormat
    longest_token: int
    """Bytes: a text has at least its bytes divided by these tokens."""


@dataclass(slots=True)
class EngineState:
    """What an engine is doing, for metrics."""

    running: int = 0
    waiting: int = 0
    adapters: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0


@dataclass(slots=True)
class _Work:
    """What the thread has in hand."""

    batch: ContinuousBatcher
    bank: AdapterBank
    jobs: dict[int, _Job] = field(default_factory=dict)
    """By ticket, in the order of arrival."""
    unscored: deque[int] = field(default_factory=deque)
    """Tickets whose prompt has to be scored."""
    tickets: dict[int, int] = field(default_factory=dict)
    """{index in the batch: ticket}."""
    deleted: set[str] = field(default_factory=set)
    """Adapters to drop as soon as no answer uses them."""


class Engine:
    """A base model, or one of full weights, and the thread that generates with it."""

    def __init__(
        self,
        load: Callable[[], tuple[Any, Any]],
        *,
        name: str,
        rows: int | None = None,
        most_adapters: int = 64,
    ) -> None:
        """`load` returns (model, tokenizer) and runs in the thread, with the first request.

        `rows`: answers at a time; by default as many as this machine gains from.
        """
        self.name = name
        self.state = EngineState()
        self._load = load
        self._rows = rows
        self._most_adapters = most_adapters
        self._inbox: queue.SimpleQueue[Callable[[_Work], None] | None] = queue.SimpleQueue()
        self._numbers = count()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._loaded = threading.Event()
        self._failure: JanginError | None = None
        self._closed = False
        self._pending: dict[int, Listener] = {}
        self._model: Any = None
        self._tokenizer: Any = None
        self.wording = lru_cache(maxsize=most_adapters)(self._wording)
        """How an artifact of this base or of an adapter of it reads and writes texts; None stands
        for what the engine was loaded with."""

    @property
    def busy(self) -> bool:
        """Whether an answer is running or waiting."""
        return bool(self._pending)

    @property
    def is_closed(self) -> bool:
        """Whether it answers no more, after `close` or a failure."""
        return self._closed

    @property
    def context_length(self) -> int:
        """Tokens of a prompt and its answer; loads the model."""
        return context_length(self._loaded_model().config) or UNLIMITED

    @property
    def vocabulary(self) -> int:
        """Number of logits; loads the model."""
        return vocabulary_of(base_model(self._loaded_model()))

    def wait_until_loaded(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            JanginError: why it cannot be loaded.

        """
        self._start()
        self._loaded.wait()
        if self._failure is not None:
            raise self._failure

    def _loaded_model(self) -> Any:
        self.wait_until_loaded()
        model = self._model
        if model is None:
            raise self._unloaded()
        return model

    def _unloaded(self) -> BusyError:
        return BusyError(f"the model {self.name} was unloaded. Send the request again.")

    def submit(self, request: EngineRequest, listener: Listener) -> int:
        """Queue a request; returns its ticket. The listener gets all events, failures included."""
        if not request.generation.prompt_ids:
            raise ValueError("a request needs at least one prompt token")
        ticket = next(self._numbers)
        with self._lock:
            if self._closed:
                raise self._unloaded()
            self._pending[ticket] = listener
        self._start()
        self._inbox.put(lambda work: self._accept(work, ticket, _Job(request, listener)))
        return ticket

    def cancel(self, ticket: int) -> None:
        """Stop generating for a request; its listener hears nothing more."""
        with self._lock:
            self._pending.pop(ticket, None)
        self._inbox.put(lambda work: self._drop(work, ticket))

    def answers(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """The answers to requests that run together; waits for them.

        Raises:
            JanginError: the first failure.

        """
        reports: queue.SimpleQueue[tuple[int, AnswerProgress]] = queue.SimpleQueue()

        def listener(number: int) -> Listener:
            return lambda report: reports.put((number, report))

        for number, request in enumerate(requests):
            self.submit(request, listener(number))
        answers: dict[int, EngineAnswer] = {}
        while len(answers) < len(requests):
            number, report = reports.get()
            if report.error is not None:
                raise report.error
            if report.answer is not None:
                answers[number] = report.answer
        return [answers[number] for number in range(len(requests))]

    def unload_adapter(self, folder: Path) -> None:
        """Free the memory of an adapter, once no answer uses it."""
        self._inbox.put(lambda work: work.deleted.add(str(folder)))

    def close(self) -> None:
        """Stop generating, fail what is unanswered and free the model."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._inbox.put(None)
        if thread is None:
            self._failure = self._unloaded()
            self._loaded.set()
        else:
            thread.join()

    def _wording(self, artifact: Path | None) -> ModelTexts:
        model = self._loaded_model()
        adapter = artifact / "adapter" if artifact is not None and has_adapter(artifact) else None
        tokenizer = self._tokenizer if artifact is None else load_tokenizer(artifact)
        stops = model if adapter is None else _Stops(adapter, model)
        stop_ids = stop_tokens(stops, tokenizer)
        grammars = GrammarCompiler(tokenizer, stop_ids)
        return ModelTexts(
            tokenizer,
            stop_ids,
            AnswerReader(tokenizer),
            grammars,
            ToolFormat.of(tokenizer),
            longest_token(tokenizer),
        )

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._serve, name=f"engine {self.name}", daemon=True
                )
                self._thread.start()

    def _serve(self) -> None:
        """The thread."""
        problem: Exception = self._unloaded()
        try:
            self._model, self._tokenizer = self._load()
            self._loaded.set()
            self._run()
        except JanginError as error:
            problem = self._failure = error
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
            problem = self._failure = ChatError(
                f"the model {self.name} cannot answer: {error}. See the server's log."
            )
        finally:
            with self._lock:
                self._closed = True
                pending, self._pending = self._pending, {}
            self._model = None
            self._loaded.set()
            for listener in pending.values():
                listener(AnswerProgress(error=problem))
            release_memory()

    def _run(self) -> None:
        model = self._model
        wanted = self._rows or most_rows()
        context = context_length(model.config) or UNLIMITED
        typical = min(context, _TYPICAL_TOKENS)
        rows = min(wanted, rows_that_fit(model, typical))
        bank = AdapterBank(base_model(model), self._most_adapters)
        with open_decoder(model, rows, typical) as decoder, torch.inference_mode():
            stops = stop_tokens(model, self._tokenizer)
            batch = ContinuousBatcher(decoder, self._tokenizer, stops, rows, router=bank)
            work = _Work(batch, bank)
            while self._received(work):
                self._score(work)
                self._step(work)
                self._unload_deleted(work)
                self.state.running = len(batch.active)
                self.state.waiting = len(batch.waiting) + len(work.unscored)
                self.state.adapters = len(bank.loaded)
                if not work.jobs and batch.rows < rows:
                    batch.rows = rows  # the memory that was short may be free again
                    decoder.restart(rows)

    def _received(self, work: _Work) -> bool:
        """Take what has arrived, waiting for something if there is nothing to do."""
        waits = not work.jobs
        while True:
            try:
                command = self._inbox.get(block=waits)
            except queue.Empty:
                return True
            if command is None:
                return False
            command(work)
            waits = False

    def _accept(self, work: _Work, ticket: int, job: _Job) -> None:
        if ticket not in self._pending:
            return  # cancelled before it began
        work.jobs[ticket] = job
        adapter = job.request.generation.adapter
        try:
            if adapter is not None:
                in_use = {other.request.generation.adapter for other in work.jobs.values()}
                work.bank.load(adapter, [name for name in in_use if name is not None])
        except JanginError as error:
            self._report(work, ticket, AnswerProgress(error=error))
            return
        if job.request.prompt_tops is not None:
            work.unscored.append(ticket)
        else:
            self._generate(work, ticket)

    def _generate(self, work: _Work, ticket: int) -> None:
        job = work.jobs[ticket]
        job.index = work.batch.add(job.request.generation)
        work.tickets[job.index] = ticket
        self.state.prompt_tokens += len(job.request.generation.prompt_ids)

    def _score(self, work: _Work) -> None:
        """Score waiting prompts, as many as one pass takes."""
        tickets = list(work.unscored)
        if not tickets or (work.batch.decoder.rope is not None and work.batch.active):
            return
        prompts = [work.jobs[ticket].request.generation.prompt_ids for ticket in tickets]
        device = work.batch.decoder.device
        number = prompts_of_one_pass(prompts, self.vocabulary, device.type)
        limit, tokens = _SCORED_TOKENS[device.type == "cuda"], 0
        for position in range(number):
            tokens += len(prompts[position])
            if position and tokens > limit:
                number = position
                break
        number = 1 if work.batch.decoder.rope is not None else number
        tickets = [work.unscored.popleft() for _ in range(number)]
        requests = [work.jobs[ticket].request for ticket in tickets]
        try:
            scores = self._scores(work, requests)
        except JanginError as error:
            for ticket in tickets:
                self._report(work, ticket, AnswerProgress(error=error))
            return
        for ticket, score in zip(tickets, scores, strict=True):
            job = work.jobs[ticket]
            job.scores = score
            if job.request.generation.max_new_tokens > 0:
                self._generate(work, ticket)
            else:
                self._report(work, ticket, AnswerProgress(answer=_scored(job)))

    def _scores(self, work: _Work, requests: Sequence[EngineRequest]) -> list[PromptScores]:
        prompts = [request.generation.prompt_ids for request in requests]
        work.bank.route(
            [request.generation.adapter for request in requests], [len(ids) for ids in prompts]
        )
        try:
            tops = [request.prompt_tops or 0 for request in requests]
            return list(score_prompts(work.batch.decoder, prompts, tops))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        finally:
            if work.batch.decoder.rope is not None:
                work.batch.decoder.restart(work.batch.rows)
        release_memory()
        if len(requests) == 1:
            raise MachineError(
                f"the memory does not suffice to score a prompt of {len(prompts[0]):,} tokens. "
                "Shorten it, free memory, or use a smaller model."
            )
        return [score for request in requests for score in self._scores(work, [request])]

    def _step(self, work: _Work) -> None:
        """One token of every running answer."""
        if not (work.batch.active or work.batch.waiting):
            return
        try:
            stepped = work.batch.step()
        except MachineError as error:
            known = {answer.index for answer in (*work.batch.active, *work.batch.waiting)}
            for index in [index for index in work.tickets if index not in known]:
                self._report(work, work.tickets[index], AnswerProgress(error=error))
            return
        self.state.generated_tokens += len(stepped)
        for answer in stepped:
            ticket = work.tickets.get(answer.index)
            if ticket is not None:
                self._tell(work, ticket, answer)

    def _tell(self, work: _Work, ticket: int, answer: ActiveRequest) -> None:
        """Report the newest token of a streamed answer, or the end of any."""
        request = answer.request
        if not (request.streamed or answer.ended):
            return
        text = ""
        if request.streamed and answer.detokenizer is not None:
            words = answer.detokenizer
            text = words.remaining_text() if answer.ended else words.next_text()
        job, whole = work.jobs[ticket], None
        if answer.ended:
            wording = self.wording(job.request.artifact)
            generation = generation_of(answer, wording.tokenizer, wording.reader)
            reason: FinishReason = "stop" if generation.finished else "length"
            whole = EngineAnswer(generation, reason, len(request.prompt_ids), job.scores)
        own = answer.logprobs[-1] if answer.logprobs else None
        top = answer.top_logprobs[-1] if answer.top_logprobs else ()
        self._report(work, ticket, AnswerProgress(text, answer.token_ids[-1], own, top, whole))

    def _report(self, work: _Work, ticket: int, report: AnswerProgress) -> None:
        if report.is_last:
            job = work.jobs.pop(ticket)
            if job.index is not None:
                work.tickets.pop(job.index, None)
            with self._lock:
                listener = self._pending.pop(ticket, None)
        else:
            listener = self._pending.get(ticket)
        if listener is not None:
            listener(report)

    def _drop(self, work: _Work, ticket: int) -> None:
        job = work.jobs.pop(ticket, None)
        if job is None:
            return
        if job.index is None:
            work.unscored.remove(ticket)
        else:
            work.tickets.pop(job.index, None)
            work.batch.cancel(job.index)

    @staticmethod
    def _unload_deleted(work: _Work) -> None:
        in_use = {job.request.generation.adapter for job in work.jobs.values()}
        for adapter in [name for name in work.deleted if name not in in_use]:
            work.bank.unload(adapter)
            work.deleted.discard(adapter)


class _Stops:
    """The generation config of an adapter, where `stop_tokens` looks for that of a model."""

    def __init__(self, adapter: Path, model: Any) -> None:
        from transformers import GenerationConfig

        has_own = (adapter / "generation_config.json").exists()
        base = base_model(model).generation_config
        self.generation_config = GenerationConfig.from_pretrained(adapter) if has_own else base


def _scored(job: _Job) -> EngineAnswer:
    """The answer to a request that generates nothing."""
    prompt = job.request.generation.prompt_ids
    return EngineAnswer(Generation("", (), finished=False), "length", len(prompt), job.scores)
