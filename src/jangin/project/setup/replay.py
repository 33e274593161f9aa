"""Run stages that ask a teacher on the replies of earlier runs, to see what is left to ask.

Nothing is sent and nothing is written to the ledger.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jangin.core.errors import JanginError
from jangin.core.executor import InProcess
from jangin.core.ledger import ReadOnlyLedger
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.core.parquet import count_rows, read_table
from jangin.core.records import Example
from jangin.core.stage import Calls, Stage, StageContext
from jangin.core.store import Artifact
from jangin.llm.recorded import recorded_of
from jangin.llm.replies import Failed, calls_of

REPLAYED = frozenset(("synthesize", "evolve", "paraphrase", "judge"))
"""Stages that are replayed."""
MOST_ROWS = 20_000
"""Rows or chunks up to which that takes seconds."""


@dataclass(slots=True)
class Replay:
    """What a stage made of the replies that are there, and the requests without one."""

    calls: Calls = field(default_factory=Calls)
    """Requests that a run would send, with second ones to those that could not be used before."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """{digest of a request without a reply: subject, as far as it is known}."""
    rows: list[Example] = field(default_factory=list)
    before: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    """{text of a chunk: rows that the same teacher, settings and prompts made of it before}."""
    usual: Mapping[str, int] = field(default_factory=dict)
    """{id of a chunk: number of rows that the last run got of it}."""
    stopped: bool = False
    """True where the replies give no row at all, as before a first run."""

    @property
    def complete(self) -> bool:
        """True if a run would make the same rows."""
        return not self.unanswered

    @property
    def subjects(self) -> set[str] | None:
        """Ids of the chunks or examples that a request without a reply is about; None: all."""
        return None if self.stopped else set(self.unanswered.values())


@dataclass(slots=True)
class _Replies:
    """A chat model that gives the replies of earlier runs, and empty ones to other requests."""

    inner: ChatModel
    ledger: ReadOnlyLedger
    replay: Replay
    repaired: Collection[str]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.inner.model

    @property
    def source(self) -> str:
        """Source of the model's replies in the ledger."""
        return self.inner.source

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply of the ledger or of a recording; an empty one is not asked about again."""
        known = self.ledger.reply(request.digest, self.source)
        if known is not None:
            return ChatReply.model_validate_json(known)
        calls = calls_of(self.inner, request)
        self.replay.calls.add(calls)
        recorded = recorded_of(self.inner)
        if recorded is not None and recorded.has_reply(request):
            return await recorded.complete(request)
        if request.digest in self.repaired:
            self.replay.calls.add(calls)
        self.replay.unanswered[request.digest] = ""
        return ChatReply(content="")

    async def close(self) -> None:
        """There is nothing to release."""


def replay(stage: Stage[Any], context: StageContext[Any], last: Artifact | None) -> Replay | None:
    """Run a stage in its workspace on known replies; None where it is not one to replay.

    Replies are looked up in the ledger and, of a recorded teacher, in its file. What could not be
    used in the `last` artifact is asked for again, and once more with the reason.
    """
    if stage.name not in REPLAYED or _rows(context) > MOST_ROWS:
        return None
    result, ledger = Replay(), ReadOnlyLedger(context.services.ledger)
    opens, repaired = context.services.chat, _repaired(last)
    services = replace(
        context.services,
        chat=lambda name: _Replies(opens(name), ledger, result, repaired),
        ledger=ledger,
        executor=InProcess(),
    )
    own = StageContext(context.config, context.inputs, context.workspace, services)
    try:
        stage.run(own)
    except (JanginError, OSError):
        result.stopped = True
        return result if result.unanswered else None
    for row in read_table(context.workspace / "failed.parquet", Failed):
        if row.request in result.unanswered:
            result.unanswered[row.request] = row.subject
    result.rows = read_table(context.workspace / "examples.parquet", Example)
    return result


def _repaired(last: Artifact | None) -> set[str]:
    """Requests whose replies, and those after a second request with the reason, were unusable."""
    if last is None or not (last.path / "failed.parquet").exists():
        return set()
    rows = read_table(last.path / "failed.parquet", Failed)
    return {row.request for row in rows if row.kind in ("malformed", "language")}


def _rows(context: StageContext[Any]) -> int:
    kind = "examples" if context.has("examples") else "chunks"
    return count_rows(context.table(kind)) if context.has(kind) else 0
