"""A ChatModel in this process: requests join a continuous batch while others are being written."""

import asyncio
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin.core.chat import ChatReply, ChatRequest
from jangin.core.digest import digest_file, digest_tree, digest_value, files_of
from jangin.core.errors import ChatError, ConfigError, JanginError, TooLongError
from jangin.core.ledger import Ledger

NAMESPACE = "model-digest"


def local_source(folder: Path, ledger: Ledger) -> str:
    """Digest of a model folder's files, remembered until one of them changes.

    Raises `ConfigError` where the folder holds no model.
    """
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"{folder} is no model folder: it has no config.json. Correct `base: path` of the "
            "teacher."
        )
    files = files_of(folder)
    seen = digest_value(
        [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in files.items()]
    )
    known = ledger.get(NAMESPACE, seen)
    if known is None:
        known = digest_tree({name: digest_file(path) for name, path in files.items()})
        ledger.put(NAMESPACE, seen, known)
    return f"local {known[:16]}"


def hub_source(model_id: str, revision: str) -> str:
    """The commit that a branch or tag of the hub stands for; the config is fetched if needed."""
    from transformers import AutoConfig

    from jangin.models.loading import unreachable
    from jangin.models.references import pinned_commit

    try:
        AutoConfig.from_pretrained(model_id, revision=revision)
    except (OSError, ValueError) as error:
        raise unreachable(model_id, error) from error
    return f"hub {pinned_commit(model_id, revision)}"


@dataclass(slots=True)
class _Asked:
    request: ChatRequest
    reply: "asyncio.Future[ChatReply]"
    loop: asyncio.AbstractEventLoop

    def settle(self, outcome: ChatReply | JanginError) -> None:
        """From the writing thread: hand the outcome to the loop that waits."""
        self.loop.call_soon_threadsafe(_settle, self.reply, outcome)


def _settle(reply: "asyncio.Future[ChatReply]", outcome: ChatReply | JanginError) -> None:
    if reply.done():
        return
    if isinstance(outcome, ChatReply):
        reply.set_result(outcome)
    else:
        reply.set_exception(outcome)


@dataclass(slots=True)
class LocalChat:
    """Writes replies with a model on this machine, in a thread of its own.

    The schema of a request is not enforced: the prompt has to ask for JSON. A sampled reply
    depends on the request alone; a greedy one too, but for rounding where others are written at
    the same time.
    """

    model: str
    source: str
    path: str
    """What transformers loads: a folder or a hub id."""
    revision: str | None = None
    rows: int = 16
    _queue: "queue.SimpleQueue[_Asked | None]" = field(
        default_factory=queue.SimpleQueue, repr=False
    )
    _thread: threading.Thread | None = field(default=None, repr=False)
    _door: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while a request is queued, and while the thread makes sure that none is left."""
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)

    @property
    def batch_size(self) -> int:
        """Twice the rows, so that a row is never free while there is work."""
        return 2 * self.rows

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The model's answer; raises `TooLongError` where it cannot fit into the context."""
        loop = asyncio.get_running_loop()
        asked = _Asked(request, loop.create_future(), loop)
        with self._door:
            self._queue.put(asked)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="local-chat", daemon=True)
                self._thread.start()
        return await asked.reply

    async def close(self) -> None:
        """Stop writing; the model stays loaded and may be asked again."""
        with self._door:
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._queue = queue.SimpleQueue()

    def _work(self) -> None:
        """The thread: write whatever is asked until `close`, or until something breaks."""
        under_way: dict[int, _Asked] = {}
        problem: JanginError = ChatError(f"model {self.model!r} was closed. Run again.")
        try:
            self._loaded = self._loaded or _load(self.path, self.revision)
            while (first := self._queue.get()) is not None:
                if not self._write([first], under_way):
                    break
        except JanginError as error:
            problem = error
        except (RuntimeError, ValueError, MemoryError) as error:
            problem = ChatError(f"model {self.model!r} cannot answer: {error}. Ask less of it.")
        finally:
            with self._door:
                self._thread = None
                for asked in (*under_way.values(), *self._queued()[0]):
                    asked.settle(problem)

    def _write(self, new: list[_Asked], under_way: dict[int, _Asked]) -> bool:
        """Write until nothing is left; what is asked meanwhile joins. False once it shall stop."""
        from jangin.inference.continuous_batching import ContinuousBatch
        from jangin.inference.decoder import open_decoder, rows_that_fit
        from jangin.inference.generate import stop_tokens
        from jangin.models.shape import UNLIMITED, context_length

        model: Any
        model, tokenizer = self._loaded or (None, None)
        context = context_length(model.config) or UNLIMITED
        likely = min(context, LIKELY_TOKENS)
        rows = min(self.rows, rows_that_fit(model, likely))
        with open_decoder(model, rows, likely) as decoder:
            batch = ContinuousBatch(decoder, tokenizer, stop_tokens(model, tokenizer), rows)
            going = True
            while going and (new or under_way):
                for asked in new:
                    wanted = _wanted(asked, tokenizer, context, self.model)
                    if wanted is not None:
                        under_way[batch.add(wanted)] = asked
                for one in batch.step():
                    if one.ended:
                        under_way.pop(one.number).settle(_reply(one, tokenizer))
                new, going = self._queued()
        for asked in new:
            asked.settle(ChatError(f"model {self.model!r} was closed. Run again."))
        return going

    def _queued(self) -> tuple[list[_Asked], bool]:
        """(what was asked meanwhile, whether to go on)."""
        found: list[_Asked] = []
        while True:
            try:
                asked = self._queue.get_nowait()
            except queue.Empty:
                return found, True
            if asked is None:
                return found, False
            found.append(asked)


LIKELY_TOKENS = 2048
"""The cache is made for prompts and answers of so many tokens; longer ones make it grow."""


def _load(path: str, revision: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from jangin.models.loading import no_bars, unreachable

    try:
        with no_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype="auto")
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        raise unreachable(path, error) from error
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{path} has no chat template, so nobody knows how it writes a turn. "
            "Choose its instruct version as a teacher."
        )
    return (model.cuda() if torch.cuda.is_available() else model).eval(), tokenizer


def _wanted(asked: _Asked, tokenizer: Any, context: int, name: str) -> Any:
    """The answer to write, or None where it cannot be written and the asker was told."""
    from jangin.inference.continuous_batching import Request
    from jangin.models.tokens.chat_template import render_prompts

    request = asked.request
    (ids,) = render_prompts(tokenizer, [request.messages])
    if len(ids) + request.max_tokens > context:
        asked.settle(
            TooLongError(
                f"the prompt has {len(ids):,} tokens and the reply may take "
                f"{request.max_tokens:,}, more than the {context:,} of model {name!r}. Make the "
                "text or max_tokens smaller."
            )
        )
        return None
    seed = int(request.digest[:12], 16)
    return Request(ids, request.max_tokens, request.temperature, seed=seed)


def _reply(one: Any, tokenizer: Any) -> ChatReply:
    return ChatReply(
        content=str(tokenizer.decode(one.token_ids, skip_special_tokens=True)).strip(),
        finish_reason="stop" if one.finished else "length",
        prompt_tokens=len(one.request.prompt_ids),
        completion_tokens=len(one.token_ids),
    )
