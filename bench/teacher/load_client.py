"""Our client alone, in a process of its own: PORT CALLS LEDGER; prints what it took.

The requests are made one by one as they are asked for, so that what grows is the client's own.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from material import CONCURRENCY, code, passage

from jangin.core.errors import ChatError
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.llm.ask import CachedChat, ask_all
from jangin.llm.endpoint import EndpointChat

SYSTEM = 'Set an exam question about the passage. Reply with JSON only: {"pairs": [...]}'
PAGE = resource.getpagesize()


class Requests(Sequence[ChatRequest]):
    """`count` requests that are made when they are accessed."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        """How many."""
        return self.count

    @overload
    def __getitem__(self, index: int) -> ChatRequest: ...
    @overload
    def __getitem__(self, index: slice) -> list[ChatRequest]: ...
    def __getitem__(self, index: int | slice) -> ChatRequest | list[ChatRequest]:
        """The request about passage `index`."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        if index >= self.count:
            raise IndexError(index)
        messages = (
            Message(role="system", content=SYSTEM),
            Message(role="user", content=passage(index)),
        )
        return ChatRequest(model="teacher", messages=messages)


def rss_mib() -> float:
    """What the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def main() -> None:
    port, calls, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    ledger = Ledger(path)
    chat = CachedChat(EndpointChat("teacher", f"http://127.0.0.1:{port}/v1"), ledger)
    marks = [mark for mark in (1_000, 10_000, 50_000, 100_000) if mark <= calls]
    held: dict[int, float] = {}
    done = wrong = 0

    def take(index: int, reply: ChatReply | ChatError) -> None:
        nonlocal done, wrong
        done += 1
        wrong += isinstance(reply, ChatError) or code(index) not in reply.content
        if done in marks:
            held[done] = rss_mib()

    before, cpu = time.monotonic(), time.process_time()
    ask_all(chat, Requests(calls), CONCURRENCY, take)
    wall, used = time.monotonic() - before, time.process_time() - cpu
    ledger.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"done": done, "wrong": wrong, "wall": wall, "cpu": used, "held": held, "peak": peak}
        )
    )


if __name__ == "__main__":
    main()
