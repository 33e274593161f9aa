"""`ChatModel` over a model in this process; requests join a running continuous batch."""

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin.core.digest import digest_file, digest_tree, digest_value, files_of
from jangin.core.errors import ChatError, ConfigError, JanginError, TooLongError
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatReply, ChatRequest, resolve
from jangin.text.reasoning import closing_tag

NAMESPACE = "model-digest"


def folder_identity(folder: Path, ledger: Ledger) -> str:
    """Content digest of a model folder, cached until a size or modification time changes.

    Raises:
        ConfigError: the folder has no config.json.

    """
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"{folder} is not a model folder: it has no config.json. Correct `base: path` of the "
            "teacher."
        )
    digest = _known_digest(files_of(folder), ledger, digest_tree)
    return f"local {digest[:16]}"


def gguf_digest(file: Path, ledger: Ledger) -> str:
    """Digest of a GGUF file, cached until its size or modification time changes."""
    return _known_digest({str(file): file}, ledger, lambda digests: next(iter(digests.values())))


def _known_digest(
    files: Mapping[str, Path], ledger: Ledger, join: Callable[[dict[str, str]], str]
) -> str:
    seen = digest_value(
        [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in files.items()]
    )
    known = ledger.get(NAMESPACE, seen)
    if known is None:
        known = join({name: digest_file(path) for name, path in files.items()})
        ledger.put(NAMESPACE, seen, known)
    return known


def hub_identity(model_id: str, revision: str) -> str:
    """The commit of a branch or tag on the hub; downloads the config if needed.

    Raises:
        MachineError: the model cannot be loaded.

    """
    from transformers import AutoConfig

    from jangin.models.loading import loading_error
    from jangin.models.references import pinned_commit

    try:
        AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise loading_error(model_id, error) from error
    return f"hub {pinned_commit(model_id, revision)}"


@dataclass(slots=True)
class _PendingRequest:
    request: ChatRequest
    reply: "asyncio.Future[ChatReply]"
    loop: asyncio.AbstractEventLoop

    def resolve(self, result: ChatReply | JanginError) -> None:
        """Pass the result from the generation thread to the event loop that waits for it."""
        self.loop.call_soon_threadsafe(resolve, self.reply, result)


@dataclass(slots=True)
class LocalChat:
    """Generates replies with a model on this machine, in a thread of its own.

    A reply fits the schema of its request, and its lists have an item; a further turn of a
    conversation may leave them empty. A sampled reply depends on the request alone; so does a
    greedy one, except for rounding that depends on the other requests of the batch.
    """

    model: str
    source: str
    path: str | Callable[[], str]
    """What transformers loads, a folder or a hub id; a function makes it with the first request."""
    revision: str | None = None
    rows: int = 16
    _queue: "queue.SimpleQueue[_PendingRequest | None]" = field(
        default_factory=queue.SimpleQueue, repr=False
    )
    _thread: threading.Thread | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while a request is queued, and while the thread checks that the queue is empty."""
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)
    _grammars: Any = field(default=None, repr=False)

    @property
    def batch_size(self) -> int:
        """Concurrent requests: twice the rows, so that no row is idle while requests wait."""
        return 2 * self.rows

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The model's reply.

        Raises:
            TooLongError: prompt and reply together exceed the context length.
            ChatError: generation failed, the model was closed, or the request has pictures.

        """
        if request.images:
            raise ChatError(
                f"model {self.model!r} runs in this process and reads text only. For pictures name "
                "a teacher of type endpoint whose model sees."
            )
        loop = asyncio.get_running_loop()
        pending = _PendingRequest(request, loop.create_future(), loop)
        with self._lock:
            self._queue.put(pending)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="local-chat", daemon=True)
                self._thread.start()
        return await pending.reply

    async def close(self) -> None:
        """Stop generating; the model stays loaded for later requests."""
        with self._lock:
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._queue = queue.SimpleQueue()

    def unload(self) -> None:
        """Free the memory of the model; a later request loads it again. Not while it answers."""
        from jangin.inference.plain_decoder import release_memory

        with self._lock:
            if self._loaded is not None and self._thread is None:
                self._loaded = self._grammars = None
                release_memory()

    def _serve(self) -> None:
        """The thread: serve requests until `close` or an error."""
        active: dict[int, _PendingRequest] = {}
        problem: JanginError = ChatError(f"model {self.model!r} was closed. Run again.")
        try:
            if self._loaded is None:
                path = self.path if isinstance(self.path, str) else self.path()
                self._loaded = _load(path, self.revision)
            while (first := self._queue.get()) is not None:
                if not self._generate([first], active):
                    break
        except JanginError as error:
            problem = error
        except (RuntimeError, ValueError, MemoryError) as error:
            problem = ChatError(f"model {self.model!r} cannot answer: {error}. Lower max_tokens.")
        finally:
            with self._lock:
                self._thread = None
                for pending in (*active.values(), *self._queued()[0]):
                    pending.resolve(problem)

    def _generate(self, new: list[_PendingRequest], active: dict[int, _PendingRequest]) -> bool:
        """Generate until no request is left; new ones join. Returns False after `close`."""
        from jangin.inference.constraints import GrammarCompiler
        from jangin.inference.continuous_batching import ContinuousBatcher
        from jangin.inference.decoder import open_decoder, rows_that_fit
        from jangin.inference.generate import stop_tokens
        from jangin.inference.reasoning import AnswerReader
        from jangin.models.shape import UNLIMITED, context_length

        model: Any
        model, tokenizer = self._loaded or (None, None)
        context = context_length(model.config) or UNLIMITED
        typical = min(context, TYPICAL_TOKENS)
        rows = min(self.rows, rows_that_fit(model, typical))
        reader, stop_ids = AnswerReader(tokenizer), stop_tokens(model, tokenizer)
        self._grammars = self._grammars or GrammarCompiler(tokenizer, stop_ids)
        with open_decoder(model, rows, typical) as decoder:
            batch = ContinuousBatcher(decoder, tokenizer, stop_ids, rows)
            running = True
            while running and (new or active):
                for pending in new:
                    wanted = _generation_request(
                        pending, tokenizer, self._grammars, context, self.model
                    )
                    if wanted is not None:
                        active[batch.add(wanted)] = pending
                for answer in batch.step():
                    if answer.ended:
                        active.pop(answer.index).resolve(_reply(answer, tokenizer, reader))
                new, running = self._queued()
        for pending in new:
            pending.resolve(ChatError(f"model {self.model!r} was closed. Run again."))
        return running

    def _queued(self) -> tuple[list[_PendingRequest], bool]:
        """(requests queued meanwhile, False after `close`)."""
        received: list[_PendingRequest] = []
        while True:
            try:
                pending = self._queue.get_nowait()
            except queue.Empty:
                return received, True
            if pending is None:
                return received, False
            received.append(pending)


PROMPT_END = 16
"""Tokens at the end of a prompt in which a tag that begins reasoning is looked for."""
TYPICAL_TOKENS = 2048
"""The cache is allocated for this many tokens per prompt and reply; longer ones make it grow."""


def _load(path: str, revision: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from jangin.models.loading import loading_error, use_native_precision, without_progress_bars

    try:
        with without_progress_bars():
            options = {"revision": revision, "trust_remote_code": False}
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto", **options)
            tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise loading_error(path, error) from error
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{path} has no chat template, so conversations cannot be rendered. "
            "Choose its instruct version as a teacher."
        )
    if torch.cuda.is_available():
        model = model.cuda()
    return use_native_precision(model).eval(), tokenizer


def _generation_request(
    pending: _PendingRequest, tokenizer: Any, grammars: Any, context: int, name: str
) -> Any:
    """The request for the batch; None if it is too long, which resolves `pending` with an error."""
    from jangin.inference.continuous_batching import GenerationRequest
    from jangin.models.tokens.chat_template import render_prompts

    request = pending.request
    # A teacher reads documents, which may mention its control tokens.
    (ids,) = render_prompts(tokenizer, [request.messages], control_tokens="escape")
    if len(ids) + request.max_tokens > context:
        pending.resolve(
            TooLongError(
                f"the prompt has {len(ids):,} tokens and the reply may take "
                f"{request.max_tokens:,}, more than the {context:,} tokens of model {name!r}. "
                "Shorten the text or lower max_tokens."
            )
        )
        return None
    seed = int(request.digest[:12], 16)
    return GenerationRequest(
        ids,
        request.max_tokens,
        request.temperature,
        seed=seed,
        adjustments=_adjustments(request, str(tokenizer.decode(ids[-PROMPT_END:])), grammars),
    )


def _adjustments(request: ChatRequest, prompt_end: str, grammars: Any) -> Any:
    """The grammar of the reply; None for free text, or if the prompt makes the model think first.

    Raises:
        DataError: the schema cannot be enforced.
        MachineError: llguidance is not installed.

    """
    from jangin.inference.constraints import Adjustments

    if not request.json_schema or closing_tag(prompt_end):
        return None
    schema = request.ordered_schema
    if all(message.role != "assistant" for message in request.messages):
        # A small model takes the shortest way, which is an empty list.
        for value in schema.get("properties", {}).values():
            if value.get("type") == "array":
                value.setdefault("minItems", 1)
    return Adjustments(grammar=grammars.json_schema(schema))


def _reply(answer: Any, tokenizer: Any, reader: Any) -> ChatReply:
    """The reply without the reasoning before it."""
    text = str(tokenizer.decode(answer.token_ids, skip_special_tokens=True)).strip()
    return ChatReply(
        content=reader.read(answer.request.prompt_ids, answer.token_ids, text).text,
        finish_reason="stop" if answer.finished else "length",
        prompt_tokens=len(answer.request.prompt_ids),
        completion_tokens=len(answer.token_ids),
    )
