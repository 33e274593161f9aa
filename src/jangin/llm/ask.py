"""Ask a chat model through the reply cache, with concurrency and budget."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

from jangin.core.errors import (
    BudgetError,
    ChatError,
    JanginError,
    RefusedError,
    StoppedError,
    TooLongError,
    counted,
    counted_of,
)
from jangin.core.execution.signals import on_signals, restored_handlers, run_async
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.llm.budget import Budget
from jangin.llm.learned import THINKING_TOKENS, Learned, is_cut_by_thinking
from jangin.llm.token_estimates import estimate_prompt


@dataclass(slots=True)
class CachedChat:
    """A ChatModel whose replies are stored in the ledger before they are used."""

    inner: ChatModel
    ledger: Ledger
    budget: Budget | None = None
    """Budget that paid replies are charged to. None: count calls, no money."""
    scope: str = ""
    """Added to the source, where replies must not be shared with other uses of the same model."""
    _asking: "WeakValueDictionary[str, asyncio.Lock]" = field(
        default_factory=WeakValueDictionary, repr=False
    )
    """One lock per request in flight: an equal request waits for its reply instead of paying."""
    _changes: "list[tuple[Callable[[], None], asyncio.Future[None]]]" = field(
        default_factory=list, repr=False
    )
    """Writes queued in this event-loop iteration and committed together.

    A commit of SQLite costs more than the inserts.
    """

    @property
    def model(self) -> str:
        """Name of the inner model."""
        return self.inner.model

    @property
    def source(self) -> str:
        """Source of the inner model, and the scope."""
        return self.inner.source + self.scope

    @property
    def batch_size(self) -> int:
        """Requests that the model needs at once to fill a batch."""
        return batch_size_of(self.inner)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply from the ledger, or else from the model; the latter is stored in the ledger."""
        digest = request.digest
        async with self._asking.setdefault(digest, asyncio.Lock()):
            known = self.ledger.reply(digest, self.source)
            if known is not None:
                await self._write(partial(self.ledger.record_use, digest, self.source))
                return ChatReply.model_validate_json(known)
            recovered = recovered_reply(self.inner, request)
            if recovered is not None:
                learned = learned_of(self.inner) or Learned()
                sent = with_room(request, learned.thinking_tokens)
                await self._record_recovered(sent, digest, recovered)
                return recovered
            return await self._ask(request, digest)

    async def _ask(self, request: ChatRequest, digest: str) -> ChatReply:
        """The model's reply; asked again with room to think if thinking left none for it."""
        learned = learned_of(self.inner)
        if learned is None:
            return await self._send(request, digest)
        reply = await self._send(with_room(request, learned.thinking_tokens), digest)
        if learned.thinking_tokens or not is_cut_by_thinking(reply):
            return reply
        try:
            return await self._send(with_room(request, THINKING_TOKENS), digest)
        except (TooLongError, BudgetError):
            return reply

    async def _send(self, request: ChatRequest, digest: str) -> ChatReply:
        if self.budget is not None:
            return await self._pay(request, digest, self.budget)
        await self._write(partial(self.ledger.record_request, digest, self.source, request.model))
        reply = await self.inner.complete(request)
        text = reply.model_dump_json()
        await self._write(partial(self.ledger.record_reply, digest, self.source, text))
        return reply

    async def _record_recovered(self, request: ChatRequest, digest: str, reply: ChatReply) -> None:
        """Record a reply to a request that an interrupted run has counted at its highest cost."""
        tokens, correction = (reply.prompt_tokens, reply.completion_tokens), 0.0
        if self.budget is not None and any(tokens):
            correction = self.budget.usd_of(reply)
            correction -= _worst(request, self.budget)
            self.budget.limit.spent_usd += correction
        key, text = (digest, self.source), reply.model_dump_json()
        await self._write(partial(self.ledger.record_reply, *key, text, *tokens, usd=correction))
        await self._write(partial(self.ledger.record_use, *key))

    async def _pay(self, request: ChatRequest, digest: str, budget: Budget) -> ChatReply:
        """Send a request within the budget. A cancelled one stays counted at its highest cost."""
        worst = _worst(request, budget)
        await budget.limit.reserve(worst)
        spent = worst
        priced = None if budget.price is None else worst
        key = (digest, self.source)
        try:
            await self._write(
                partial(self.ledger.record_request, *key, request.model, budget.teacher, priced)
            )
            reply = await self.inner.complete(request)
            tokens = (reply.prompt_tokens, reply.completion_tokens)
            if any(tokens):
                spent = budget.usd_of(reply)
            text = reply.model_dump_json()
            await self._write(
                partial(self.ledger.record_reply, *key, text, *tokens, usd=spent - worst)
            )
        except JanginError:
            spent = 0.0
            self.ledger.add_cost(*key, -worst)
            raise
        finally:
            budget.limit.commit(worst, spent)
        return reply

    async def _write(self, change: Callable[[], None]) -> None:
        """Write to the ledger, in one commit with all writes of this event-loop iteration."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._changes.append((change, done))
        if len(self._changes) == 1:
            loop.call_soon(self._commit)
        await done

    def _commit(self) -> None:
        changes, self._changes = self._changes, []
        problem: JanginError | None = None
        try:
            with self.ledger.transaction():
                for change, _ in changes:
                    change()
        except JanginError as error:
            problem = error
        for _, done in changes:
            if done.done():
                continue
            if problem is None:
                done.set_result(None)
            else:
                done.set_exception(problem)

    def charge_lost(self, request: ChatRequest) -> None:
        """Count the cost of an attempt without a reply that may have been charged."""
        if self.budget is not None:
            worst = _worst(request, self.budget)
            self.ledger.add_cost(request.digest, self.source, worst)
            self.budget.limit.spent_usd += worst

    def uncount_resumed(self, request: ChatRequest) -> None:
        """Undo the count of a request that an earlier run has sent and counted."""
        worst = 0.0 if self.budget is None else _worst(request, self.budget)
        self.ledger.uncount_request(request.digest, self.source, worst)
        if self.budget is not None:
            self.budget.limit.spent_usd -= worst

    async def close(self) -> None:
        """Close the inner model."""
        await self.inner.close()


def _worst(request: ChatRequest, budget: Budget) -> float:
    """Highest possible cost of a request in US dollars."""
    per_character = budget.tokens_per_character
    prompt_tokens = estimate_prompt(
        request.messages, request.json_schema, per_character, len(request.images)
    )
    return budget.most_usd(prompt_tokens, request.max_tokens + request.thinking_tokens)


MAX_CONSECUTIVE_FAILURES = 8
"""Failures in a row after which a model counts as unreachable."""
SHUTDOWN_SECONDS = 10.0
"""How long a stopping run waits for the calls in flight, which will be charged."""


def layers_of(chat: ChatModel) -> Iterator[ChatModel]:
    """The model and those that it asks in turn, such as the endpoint behind a cache."""
    behind: ChatModel | None = chat
    while behind is not None:
        yield behind
        behind = getattr(behind, "inner", None)


def budget_of(chat: ChatModel) -> Budget | None:
    """The budget that a model's replies are charged to, or None."""
    budgets = (getattr(each, "budget", None) for each in layers_of(chat))
    return next((budget for budget in budgets if isinstance(budget, Budget)), None)


def batch_size_of(chat: ChatModel) -> int:
    """Requests that a model needs at once to fill a batch; 0 if it does not matter."""
    return int(getattr(chat, "batch_size", 0))


def learned_of(chat: ChatModel) -> Learned | None:
    """What is known of the endpoint behind a model; None where there is no endpoint."""
    for name in ("inner", "endpoint"):
        behind = getattr(chat, name, None)
        if behind is not None:
            return learned_of(behind)
    learned = getattr(chat, "learned", None)
    return learned if isinstance(learned, Learned) else None


def with_room(request: ChatRequest, tokens: int) -> ChatRequest:
    """The request with tokens for reasoning beside `max_tokens`."""
    return request.model_copy(update={"thinking_tokens": tokens}) if tokens else request


def stop_sending(chat: ChatModel) -> int:
    """Make a model send no more requests; returns the number of calls in flight to wait for."""
    stops = (getattr(each, "stop_sending", None) for each in layers_of(chat))
    stop = next(filter(None, stops), None)
    return 0 if stop is None else int(stop())


def recovered_reply(chat: ChatModel, request: ChatRequest) -> ChatReply | None:
    """A reply that an interrupted run of this model received and did not record."""
    senders = (getattr(each, "sender", None) for each in layers_of(chat))
    sender = next((sender for sender in senders if sender is not None), None)
    reply: ChatReply | None = None if sender is None else sender.recovered(request)
    return reply


def has_known_reply(chat: ChatModel, request: ChatRequest) -> bool:
    """True if an earlier run has the reply, so that nothing is sent."""
    ledger = getattr(chat, "ledger", None)
    return isinstance(ledger, Ledger) and ledger.reply(request.digest, chat.source) is not None


def ask_all(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    concurrency: int,
    on_reply: Callable[[int, ChatReply | ChatError], None],
    notify: Callable[[str], None] = lambda _text: None,
) -> None:
    """Send every request, at most `concurrency` at once; pass each reply to `on_reply`.

    A request that fails is passed on as its `ChatError` and the others continue. Three things stop
    everything, because the next request would fail in the same way: a `RefusedError` (wrong key,
    unknown model), a `BudgetError`, and `MAX_CONSECUTIVE_FAILURES`. Requests in flight are paid
    for, so their replies are awaited and passed on, but no longer than `SHUTDOWN_SECONDS` if the
    model has failed repeatedly or after SIGINT or SIGTERM. A model with a larger `batch_size` than
    `concurrency` gets that many requests at once. `on_reply` runs in the calling thread.

    Raises:
        RefusedError, BudgetError, ChatError: One of the three reasons above.
        KeyboardInterrupt: After SIGINT or SIGTERM.

    """
    round_of = _Round(chat, requests, on_reply, notify)
    try:
        with restored_handlers():
            run_async(round_of.work(min(max(concurrency, batch_size_of(chat)), len(requests))))
    except ExceptionGroup as group:
        raise _first_cause(group) from group
    if round_of.interrupted:
        raise KeyboardInterrupt
    if isinstance(round_of.stop, BudgetError):
        left = sum(
            index not in round_of.handed_over and not has_known_reply(chat, request)
            for index, request in enumerate(requests)
        )
        raise BudgetError(
            f"{counted_of(left, len(requests), 'request', 'was', 'were')} not sent: {round_of.stop}"
        ) from round_of.stop
    if round_of.stop is not None:
        raise round_of.stop


def _first_cause(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first_cause(first) if isinstance(first, ExceptionGroup) else first


@dataclass(slots=True)
class _Round:
    """State of one `ask_all`."""

    chat: ChatModel
    requests: Sequence[ChatRequest]
    on_reply: Callable[[int, ChatReply | ChatError], None]
    notify: Callable[[str], None]
    failures: int = 0
    """Failures in a row."""
    handed_over: set[int] = field(default_factory=set)
    """Indices of the requests whose replies were passed on."""
    stop: JanginError | None = None
    interrupted: bool = False
    _workers: "asyncio.Task[None] | None" = None

    async def work(self, concurrency: int) -> None:
        """Send all requests, then close the model."""
        with on_signals(self._interrupt):
            try:
                self._workers = asyncio.create_task(self._ask_all(concurrency))
                with suppress(asyncio.CancelledError):
                    await self._workers
            finally:
                await self.chat.close()

    async def _ask_all(self, concurrency: int) -> None:
        waiting = iter(range(len(self.requests)))
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._ask_next(waiting))

    def _interrupt(self) -> None:
        """Wait for the calls in flight; on the second call, cancel them."""
        if self.interrupted:
            self._drop()
            return
        self.interrupted = True
        count = stop_sending(self.chat)
        if not count:
            self._drop()
            return
        self.notify(f"waiting for {counted(count, 'call')} in flight; Ctrl-C again to drop them")
        asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, self._drop)

    def _drop(self) -> None:
        if self._workers is not None:
            self._workers.cancel()

    async def _ask_next(self, waiting: Iterator[int]) -> None:
        """Worker: send one request after the other."""
        for index in waiting:
            if self.stop is not None or self.interrupted:
                return
            try:
                reply: ChatReply | ChatError = await self.chat.complete(self.requests[index])
                self.failures = 0
            except StoppedError:
                return
            except (RefusedError, BudgetError) as error:
                self.stop = self.stop or error
                return
            except TooLongError as error:
                reply = error
            except ChatError as error:
                self.failures += 1
                if self.failures >= MAX_CONSECUTIVE_FAILURES:
                    self._give_up(error)
                    return
                reply = error
            self.handed_over.add(index)
            self.on_reply(index, reply)

    def _give_up(self, error: ChatError) -> None:
        if self.stop is None:
            self.stop = error
            stop_sending(self.chat)
            asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, self._drop)
