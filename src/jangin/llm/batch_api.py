"""`ChatModel` over the OpenAI Batch API: half the price, replies within a day.

Open batches are recorded in the ledger, so a run that was killed resumes polling them. The record
is written before the batch is created, and the batch carries the record's name as metadata: a run
that was killed between the two finds its batch in the endpoint's list.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from jangin.core.errors import ChatError, JanginError, RefusedError, counted
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatReply, ChatRequest, resolve
from jangin.llm.endpoint import EndpointChat
from jangin.llm.retry import RetryAfter
from jangin.llm.wire_format import RequestFormat, encode, read_completion, request_body

MOST_REQUESTS = 50_000
MOST_INPUT_BYTES = 100_000_000
"""OpenAI allows 200 MB."""
MOST_OUTPUT_BYTES = 1_000_000_000
NAMESPACE = "batch"
FINISHED = frozenset({"completed", "failed", "expired", "cancelled"})
MARK = "jangin"
"""Key of a batch's metadata that holds the name of its record."""

JSONL = "application/jsonl"

BatchResult = ChatReply | JanginError | RetryAfter
"""`RetryAfter`: the request can be sent in another form at once."""
Pending = tuple[ChatRequest, "asyncio.Future[ChatReply]"]


class BatchRecord(BaseModel):
    """Ledger record of an open batch."""

    base_url: str
    model: str
    source: str
    batch: str = ""
    """The endpoint's id; empty until the batch has been created."""
    digests: list[str]
    refused: tuple[str, ...] = ()
    """See `RequestFormat`: without what its requests were written."""


@dataclass(slots=True)
class BatchChat:
    """Collects requests, sends them as batches and polls until these are done."""

    endpoint: EndpointChat
    ledger: Ledger
    poll_seconds: float = 30.0
    notify: Callable[[str], None] = field(default=lambda _text: None, repr=False)
    on_resumed: Callable[[ChatRequest], None] = field(default=lambda _request: None, repr=False)
    """Called with each request that an earlier run has sent already."""
    gather_seconds: float = 0.2
    """A batch is sent when no request has arrived for this time."""
    _waiting: dict[str, Pending] = field(default_factory=dict, repr=False)
    _work: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.endpoint.model

    @property
    def source(self) -> str:
        """Source of the replies."""
        return self.endpoint.source

    @property
    def batch_size(self) -> int:
        """Largest number of requests in a batch."""
        return MOST_REQUESTS

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply, when its batch is done; raises like `EndpointChat.complete`."""
        self.endpoint.check_length(request)
        reply: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._waiting[request.digest] = request, reply
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._serve())
        return await reply

    async def close(self) -> None:
        """Stop polling; a later run resumes it."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._work = None
        self._waiting.clear()
        await self.endpoint.close()

    async def _serve(self) -> None:
        """Process waiting requests, and those that arrive while batches are open."""
        while self._waiting:
            count = -1
            while count != len(self._waiting):
                count = len(self._waiting)
                await asyncio.sleep(self.gather_seconds)
            pending, self._waiting = self._waiting, {}
            try:
                async with asyncio.TaskGroup() as group:
                    for name, record in await self._open_batches(pending):
                        group.create_task(self._finish(name, record, pending))
            except ExceptionGroup as group_error:
                _fail(pending, group_error.exceptions[0])
            except JanginError as error:
                _fail(pending, error)

    async def _open_batches(self, pending: Mapping[str, Pending]) -> list[tuple[str, BatchRecord]]:
        """The batches with these requests: open ones, then new ones."""
        records, left = [], dict(pending)
        for name, text in self.ledger.get_all(NAMESPACE).items():
            record = BatchRecord.model_validate_json(text)
            mine = (self.endpoint.base_url, self.model, self.source)
            shared = [digest for digest in record.digests if digest in left]
            if (record.base_url, record.model, record.source) != mine or not shared:
                continue
            if not record.batch and not await self._find(name, record):
                self.ledger.delete(NAMESPACE, name)
                continue
            for digest in shared:
                self.on_resumed(left.pop(digest)[0])
            records.append((name, record))
        for part in _parts([request for request, _ in left.values()], self.endpoint):
            record = BatchRecord(
                base_url=self.endpoint.base_url,
                model=self.model,
                source=self.source,
                digests=list(part),
                refused=self.endpoint.learned.refused,
            )
            records.append((await self._send(record, b"\n".join(part.values())), record))
        return records

    async def _send(self, record: BatchRecord, lines: bytes) -> str:
        """Create a batch; its record is written before and completed after."""
        import aiohttp

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData({"purpose": "batch"})
            data.add_field("file", lines, filename="requests.jsonl", content_type=JSONL)
            return data

        uploaded = json.loads(await self.endpoint.fetch("POST", "files", form))
        name = uuid4().hex
        self.ledger.put(NAMESPACE, name, record.model_dump_json())
        order = {
            "input_file_id": uploaded["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {MARK: name},
        }
        reply = await self.endpoint.fetch("POST", "batches", lambda: aiohttp.JsonPayload(order))
        record.batch = str(json.loads(reply)["id"])
        self.ledger.put(NAMESPACE, name, record.model_dump_json())
        self.notify(
            f"batch {record.batch}: {counted(len(record.digests), 'request')} to {self.model}"
        )
        return name

    async def _find(self, name: str, record: BatchRecord) -> bool:
        """Look for a batch whose id was not recorded; False if it was never created."""
        listed = json.loads(await self.endpoint.fetch("GET", "batches?limit=100"))
        for batch in listed.get("data") or ():
            if (batch.get("metadata") or {}).get(MARK) == name:
                record.batch = str(batch["id"])
                self.ledger.put(NAMESPACE, name, record.model_dump_json())
        return bool(record.batch)

    async def _finish(self, name: str, record: BatchRecord, pending: Mapping[str, Pending]) -> None:
        """Poll one batch to its end, store its replies, resolve its requests."""
        while True:
            batch = json.loads(await self.endpoint.fetch("GET", f"batches/{record.batch}"))
            if batch["status"] in FINISHED:
                break
            await asyncio.sleep(self.poll_seconds)
        sent_as = replace(self.endpoint.request_format(), refused=frozenset(record.refused))
        results = {
            str(line.get("custom_id")): self._result(line, pending, sent_as)
            for line in await self._lines(batch)
        }
        with self.ledger.transaction():
            for digest, result in results.items():
                if isinstance(result, ChatReply):
                    self.ledger.record_reply(digest, self.source, result.model_dump_json())
        self.ledger.delete(NAMESPACE, name)
        unfinished = self._unfinished(batch, record)
        for digest in record.digests:
            if digest not in pending:
                continue
            result = results.get(digest, unfinished)
            if isinstance(result, RetryAfter):
                self._waiting[digest] = pending[digest]
            else:
                resolve(pending[digest][1], result)

    async def _lines(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Lines of the output and error files; an expired batch has both."""
        lines: list[dict[str, Any]] = []
        for key in ("output_file_id", "error_file_id"):
            if batch.get(key):
                path = f"files/{batch[key]}/content"
                text = await self.endpoint.fetch("GET", path, most=MOST_OUTPUT_BYTES)
                lines += [json.loads(line) for line in text.splitlines() if line.strip()]
        return lines

    def _result(
        self, line: Mapping[str, Any], pending: Mapping[str, Pending], sent_as: RequestFormat
    ) -> BatchResult:
        """Reply or error of one line's request, which was sent in the form `sent_as`."""
        response = line.get("response") or {}
        status, body = int(response.get("status_code") or 500), response.get("body")
        if status == 200:
            return read_completion(body) or ChatError(f"not a chat completion: {str(body)[:200]!r}")
        text = json.dumps(body or {"error": line.get("error")}, ensure_ascii=False)
        request = pending.get(str(line.get("custom_id")))
        if request is None:
            return ChatError(text)
        try:
            outcome = self.endpoint.interpret_status(status, text, {}, request[0], sent_as)
        except JanginError as error:
            return error
        if isinstance(outcome, RetryAfter) and not outcome.immediately:
            return ChatError(f"{outcome.reason}. Run again.")
        return outcome

    def _unfinished(self, batch: Mapping[str, Any], record: BatchRecord) -> JanginError:
        """The error for a request without a line of its own."""
        status = batch["status"]
        problems = (batch.get("errors") or {}).get("data") or ()
        if status == "failed":
            why = (
                "; ".join(str(problem.get("message")) for problem in problems) or "no reason given"
            )
            return RefusedError(
                f"{record.base_url} refused batch {record.batch}: {why}. Fix that and run again."
            )
        return ChatError(
            f"batch {record.batch} is {status} and has no reply to this request. Run again to send "
            "it once more; finished replies are kept."
        )


def _parts(requests: Sequence[ChatRequest], endpoint: EndpointChat) -> Iterator[dict[str, bytes]]:
    """Yield {request digest: line} per batch file, split before a batch would be too large."""
    part: dict[str, bytes] = {}
    size = 0
    for request in requests:
        digest = request.digest
        body = request_body(request, endpoint.request_format())
        body.pop("stream", None)
        body.pop("stream_options", None)
        line = encode(
            {"custom_id": digest, "method": "POST", "url": "/v1/chat/completions", "body": body}
        )
        if part and (len(part) == MOST_REQUESTS or size + len(line) > MOST_INPUT_BYTES):
            yield part
            part, size = {}, 0
        part[digest] = line
        size += len(line) + 1
    if part:
        yield part


def _fail(pending: Mapping[str, Pending], error: Exception) -> None:
    """Set an error on all unresolved requests."""
    for _, reply in pending.values():
        if not reply.done():
            reply.set_exception(error)
