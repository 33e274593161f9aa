"""One way to ask a language model: teacher, judge, student and base model alike."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

from jangin.core.chat import ChatModel, ChatReply, ChatRequest
from jangin.core.errors import (
    BudgetError,
    ChatError,
    JanginError,
    RefusedError,
    StoppedError,
    TooLongError,
)
from jangin.core.ledger import Ledger
from jangin.core.signals import kept_handlers, on_signals
from jangin.llm.budget import Account
from jangin.llm.token_estimates import estimate_prompt


@dataclass(slots=True)
class CachedChat:
    """A ChatModel whose every reply is in the ledger before anybody uses it."""

    inner: ChatModel
    ledger: Ledger
    account: Account | None = None
    """Who pays; None counts calls alone."""
    _asking: "WeakValueDictionary[str, asyncio.Lock]" = field(
        default_factory=WeakValueDictionary, repr=False
    )
    """One lock per request under way, so that its twin waits for the reply instead of paying."""
    _changes: "list[tuple[Callable[[], None], asyncio.Future[None]]]" = field(
        default_factory=list, repr=False
    )
    """What this turn of the event loop has to write; SQLite's commits cost more than the calls."""

    @property
    def model(self) -> str:
        """Name of the model asked."""
        return self.inner.model

    @property
    def source(self) -> str:
        """Source of the model asked."""
        return self.inner.source

    @property
    def at_once(self) -> int:
        """Requests that the model asked wants to see at once."""
        return wanted_at_once(self.inner)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply from the ledger, or from the model and then into the ledger."""
        digest = request.digest
        async with self._asking.setdefault(digest, asyncio.Lock()):
            known = self.ledger.reply(digest, self.source)
            if known is not None:
                await self._write(partial(self.ledger.used, digest, self.source))
                return ChatReply.model_validate_json(known)
            if self.account is not None:
                return await self._pay(request, digest, self.account)
            await self._write(partial(self.ledger.asking, digest, self.source, request.model))
            reply = await self.inner.complete(request)
            text = reply.model_dump_json()
            await self._write(partial(self.ledger.answered, digest, self.source, text))
            return reply

    async def _pay(self, request: ChatRequest, digest: str, account: Account) -> ChatReply:
        """Ask within the budget. What is cancelled half-way stays counted at its worst."""
        worst = _worst(request, account)
        await account.budget.reserve(worst)
        spent = worst
        priced = None if account.price is None else worst
        about = (digest, self.source)
        try:
            await self._write(
                partial(self.ledger.asking, *about, request.model, account.teacher, priced)
            )
            reply = await self.inner.complete(request)
            tokens = (reply.prompt_tokens, reply.completion_tokens)
            if any(tokens):
                spent = account.usd(*tokens)
            text = reply.model_dump_json()
            await self._write(
                partial(self.ledger.answered, *about, text, *tokens, usd=spent - worst)
            )
        except JanginError:
            spent = 0.0
            self.ledger.charge(*about, -worst)
            raise
        finally:
            account.budget.settle(worst, spent)
        return reply

    async def _write(self, change: Callable[[], None]) -> None:
        """Change the ledger, in one commit with all that is changed in this turn of the loop."""
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
            with self.ledger.together():
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

    def lost(self, request: ChatRequest) -> None:
        """Count a try that brought no reply but may have been charged."""
        if self.account is not None:
            worst = _worst(request, self.account)
            self.ledger.charge(request.digest, self.source, worst)
            self.account.budget.spent_usd += worst

    def found(self, request: ChatRequest) -> None:
        """Take back the count of a request that an earlier run has sent and counted."""
        worst = 0.0 if self.account is None else _worst(request, self.account)
        self.ledger.unask(request.digest, self.source, worst)
        if self.account is not None:
            self.account.budget.spent_usd -= worst

    async def close(self) -> None:
        """Close the model asked."""
        await self.inner.close()


def _worst(request: ChatRequest, account: Account) -> float:
    """The most that a request may cost, in US dollars."""
    if account.price is None:
        return 0.0
    per_character = account.tokens_per_character
    prompt_tokens = estimate_prompt(request.messages, request.json_schema, per_character)
    return account.usd(prompt_tokens, request.max_tokens)


HOPELESS = 8
"""So many failures in a row, without a reply between them, and the model is taken to be gone."""
PATIENCE_SECONDS = 10.0
"""So long a run that is stopped waits for the calls in flight, which will be charged."""


def account_of(chat: ChatModel) -> Account | None:
    """Who pays for a model's replies, or None where nobody counts."""
    account = getattr(chat, "account", None)
    if isinstance(account, Account):
        return account
    inner = getattr(chat, "inner", None)
    return None if inner is None else account_of(inner)


def wanted_at_once(chat: ChatModel) -> int:
    """Requests that a model wants to see at once, as a batch does; 0 where it does not matter."""
    return int(getattr(chat, "at_once", 0))


def leave(chat: ChatModel) -> int:
    """Have nothing more sent; returns how many calls are in flight that are worth waiting for."""
    own = getattr(chat, "leave", None)
    if own is not None:
        return int(own())
    inner = getattr(chat, "inner", None)
    return 0 if inner is None else leave(inner)


def ask_all(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    concurrency: int,
    on_reply: Callable[[int, ChatReply | ChatError], None],
    say: Callable[[str], None] = lambda _text: None,
) -> None:
    """Ask every request, at most `concurrency` at once; hand over each reply as it comes.

    A request that fails is handed over as its `ChatError` and the others go on. Three things end
    everything, because the next request would fail the same way: a `RefusedError` (wrong key,
    unknown model), a `BudgetError`, and `HOPELESS` failures in a row. What is under way then is
    paid for, so it is waited for and handed over; not longer than `PATIENCE_SECONDS` after SIGINT
    or SIGTERM, which raise `KeyboardInterrupt` then, or where a model is gone.
    A model that wants more requests at once than `concurrency` gets them.
    `on_reply` runs in the calling thread.
    """
    round_of = _Round(chat, requests, on_reply, say)
    try:
        with kept_handlers():
            asyncio.run(round_of.work(min(max(concurrency, wanted_at_once(chat)), len(requests))))
    except ExceptionGroup as group:
        raise _first_cause(group) from group
    if round_of.interrupted:
        raise KeyboardInterrupt
    if isinstance(round_of.stop, BudgetError):
        left = len(requests) - round_of.handed_over
        raise BudgetError(
            f"{left:,} of {len(requests):,} requests were not sent: {round_of.stop}"
        ) from round_of.stop
    if round_of.stop is not None:
        raise round_of.stop


def _first_cause(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first_cause(first) if isinstance(first, ExceptionGroup) else first


@dataclass(slots=True)
class _Round:
    """Requests that are asked together, and how that goes."""

    chat: ChatModel
    requests: Sequence[ChatRequest]
    on_reply: Callable[[int, ChatReply | ChatError], None]
    say: Callable[[str], None]
    failures: int = 0
    """In a row."""
    handed_over: int = 0
    stop: JanginError | None = None
    interrupted: bool = False
    _workers: "asyncio.Task[None] | None" = None

    async def work(self, at_once: int) -> None:
        """Ask everything, and close the model."""
        with on_signals(self._interrupt):
            try:
                self._workers = asyncio.create_task(self._ask_all(at_once))
                with suppress(asyncio.CancelledError):
                    await self._workers
            finally:
                await self.chat.close()

    async def _ask_all(self, at_once: int) -> None:
        waiting = iter(range(len(self.requests)))
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._ask_next(waiting))

    def _interrupt(self) -> None:
        """Wait for what is in flight; the second time, do not."""
        if self.interrupted:
            self._drop()
            return
        self.interrupted = True
        count = leave(self.chat)
        if not count:
            self._drop()
            return
        calls = "call" if count == 1 else "calls"
        self.say(f"waiting for {count} {calls} in flight; Ctrl-C again to drop them")
        asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._drop)

    def _drop(self) -> None:
        if self._workers is not None:
            self._workers.cancel()

    async def _ask_next(self, waiting: Iterator[int]) -> None:
        """One of those who ask, one request after the other."""
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
                if self.failures >= HOPELESS:
                    self._give_up(error)
                    return
                reply = error
            self.handed_over += 1
            self.on_reply(index, reply)

    def _give_up(self, error: ChatError) -> None:
        if self.stop is None:
            self.stop = error
            leave(self.chat)
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._drop)
