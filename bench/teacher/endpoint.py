"""An OpenAI-compatible endpoint to be loaded, broken and counted on; plain asyncio, no framework.

    python bench/teacher/endpoint.py --port 8798 [--faults] [--shortest 0.05] [--longest 0.2]

What a reply says depends on the request alone, as with a model at temperature 0. How it travels
(delay, 429, 500, silence, half a body) depends on the request and on how often it was asked. So a
run that was killed and resumed must end with the very result of a run that was not. Chance goes by
the passage and the number of messages, not by a prompt's wording, which may change.

GET /count says what was asked and answered; see `Books.totals`. With `--pause-after` a run cannot
end before it is killed, however late the kill comes; GET /resume ends the pause.
"""

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

FACT = re.compile(r"locker (?P<number>\d+) is (?P<code>\w+)")
PASSAGE = re.compile(r"The code of locker \d+ is \w+")
GOOD, MALFORMED = "good", "malformed"
FAULTS = {"429": 0.20, "500": 0.05, "silence": 0.02, "half a body": 0.01}
"""Share of the tries that each way of failing takes; what is left gets a whole reply."""
PAUSE = 0.05
"""Seconds after which an answer looks whether a pause is over."""
MALFORMED_SHARE = 0.02
"""Share of the requests whose whole reply is not the JSON that was asked for."""


@dataclass(frozen=True)
class Manners:
    """How the endpoint behaves."""

    shortest: float = 0.05
    longest: float = 0.2
    faults: bool = False
    most_faults: int = 1_000
    """Tries of one request that may fail; the next one is answered."""
    retry_after: str = "1"
    per_second: int = 0
    """Tries per second that are accepted, the others get 429; 0 for no limit."""
    pause_after: int = 0
    """Answered requests after which the others wait for GET /resume; 0 for no pause."""
    seed: int = 0

    def chance(self, *about: object) -> float:
        """A number in [0, 1) that depends on the seed and on what it is about, and on no order."""
        text = "\0".join(str(part) for part in (self.seed, *about))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56

    def delay(self, about: str, attempt: int) -> float:
        """Seconds that a try takes."""
        return self.shortest + (self.longest - self.shortest) * self.chance(about, attempt, "wait")

    def fault(self, about: str, attempt: int) -> str:
        """How this try fails, or an empty string."""
        if not self.faults or attempt > self.most_faults:
            return ""
        chance = self.chance(about, attempt, "fault")
        for name, share in FAULTS.items():
            if chance < share:
                return name
            chance -= share
        return ""

    def malformed(self, about: str) -> bool:
        """Whether the content of the reply is of no use."""
        return self.faults and self.chance(about, "content") < MALFORMED_SHARE


@dataclass(slots=True)
class Account:
    """What happened to one request, by its content."""

    asked: int = 0
    whole: int = 0
    """Replies with status 200 whose last byte was handed to a connection that was still open."""


@dataclass
class Books:
    """Everything that is counted."""

    accounts: dict[str, Account] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    delay_seconds: float = 0.0
    """What callers were made to wait, all together; over concurrency, the least time for all."""
    active: int = 0
    most_active: int = 0
    admitted: deque[float] = field(default_factory=deque)
    """When tries of the last second were let in."""
    answered: int = 0
    """Requests with a whole reply."""
    resumed: bool = False
    """Whether a pause is over."""

    def note(self, outcome: str) -> None:
        """Count an outcome."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def totals(self) -> dict[str, Any]:
        """Counts; `paid_twice` are requests that got more than one whole reply."""
        accounts = self.accounts.values()
        return {
            "asked": sum(a.asked for a in accounts),
            "different": len(self.accounts),
            "whole": sum(a.whole for a in accounts),
            "answered": self.answered,
            "paid_twice": sum(a.whole > 1 for a in accounts),
            "delay_seconds": self.delay_seconds,
            "active": self.active,
            "most_active": self.most_active,
            "outcomes": self.outcomes,
        }


def content_of(text: str) -> str:
    """What a well-behaved teacher writes about the passage in this conversation."""
    passage = PASSAGE.search(text)
    fact = FACT.search(passage.group()) if passage else None
    if passage is None or fact is None:
        return json.dumps({"name": "Jason", "age": 25})  # what curator tries an endpoint with
    question = f"What is the code of locker {fact['number']}?"
    if '"paraphrases"' in text:
        return json.dumps({"paraphrases": [f"Tell me: {question}", f"Please, {question}"]})
    pair = {"question": question, "answer": fact["code"], "evidence": passage.group()}
    return json.dumps({"pairs": [pair]})


def spoil(content: str, chance: float) -> str:
    """The same reply cut off, in prose, or with other names; `chance` chooses."""
    kind, rest = divmod(chance * 3, 1)
    if kind == 0:
        return content[: int(rest * len(content))]
    if kind == 1:
        return "Certainly! Let me know which passage you mean and I will set the questions."
    return content.replace('"answer"', '"reply"').replace('"paraphrases"', '"others"')


class Caller(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, manners: Manners, books: Books) -> None:
        self.manners, self.books = manners, books
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.waiting: asyncio.TimerHandle | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """Give up what was not answered yet."""
        if self.waiting is not None:
            self.waiting.cancel()
        if self.busy:
            self.books.note("caller left")
            self.books.active -= 1
            self.busy = False

    def data_received(self, data: bytes) -> None:
        """Take the next request once it is whole."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].decode("latin-1").lower()
        found = re.search(r"content-length: *(\d+)", head)
        length = int(found[1]) if found else 0
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        if head.startswith("post"):
            self.ask(json.loads(body))
        elif head.startswith("get /count"):
            self.send(200, self.books.totals())
        elif head.startswith("get /resume"):
            self.books.resumed = True
            self.send(200, {})
        else:
            self.send(200, {"object": "list", "data": [{"id": "teacher", "object": "model"}]})

    def ask(self, request: dict[str, Any]) -> None:
        """Decide what happens to a try, and when."""
        identity = [request.get("model"), request["messages"], request.get("seed")]
        digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
        account = self.books.accounts.setdefault(digest, Account())
        account.asked += 1
        attempt = account.asked
        self.busy = True
        self.books.active += 1
        self.books.most_active = max(self.books.most_active, self.books.active)
        text = "\n".join(str(message["content"]) for message in request["messages"])
        passage = PASSAGE.search(text)
        about = f"{passage.group()} {len(request['messages'])}" if passage else digest
        fault = self.refuse() or self.manners.fault(about, attempt)
        if fault == "silence":
            self.books.note(fault)
            return
        delay = 0.005 if fault == "429" else self.manners.delay(about, attempt)
        self.books.delay_seconds += delay
        loop = asyncio.get_running_loop()
        content, outcome = content_of(text), GOOD
        if self.manners.malformed(about):
            content, outcome = spoil(content, self.manners.chance(about, "how")), MALFORMED
        reply = completion(request, text, content, digest)
        self.waiting = loop.call_later(delay, self.answer, reply, account, fault or outcome)

    def refuse(self) -> str:
        """429 where more came within the last second than may come."""
        if not self.manners.per_second:
            return ""
        now = time.monotonic()
        recent = self.books.admitted
        while recent and recent[0] < now - 1:
            recent.popleft()
        if len(recent) >= self.manners.per_second:
            return "429"
        recent.append(now)
        return ""

    def answer(self, reply: dict[str, Any], account: Account, outcome: str) -> None:
        """Send what was decided, if the client is still connected."""
        self.waiting = None
        if self.transport.is_closing():
            return
        pause = self.manners.pause_after
        if pause and self.books.answered >= pause and not self.books.resumed:
            loop = asyncio.get_running_loop()
            self.waiting = loop.call_later(PAUSE, self.answer, reply, account, outcome)
            return
        self.busy = False
        self.books.active -= 1
        self.books.note(outcome)
        if outcome in ("429", "500"):
            words = "slow down" if outcome == "429" else "oops"
            self.send(int(outcome), {"error": {"message": words}})
            return
        self.send(200, reply, cut=outcome == "half a body")
        if outcome in (GOOD, MALFORMED):
            self.books.answered += account.whole == 0
            account.whole += 1

    def send(self, status: int, value: object, *, cut: bool = False) -> None:
        """Write a reply; `cut` stops in the middle of the body and hangs up."""
        body = json.dumps(value, ensure_ascii=False).encode()
        extra = f"Retry-After: {self.manners.retry_after}\r\n" if status == 429 else ""
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + (body[: len(body) // 2] if cut else body))
        if cut:
            self.transport.close()


def completion(request: dict[str, Any], text: str, content: str, digest: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    asked, written = len(text) // 4 + 1, len(content) // 4 + 1
    return {
        "id": f"chatcmpl-{digest}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request.get("model", "teacher"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": written,
            "total_tokens": asked + written,
        },
    }


async def serve(port: int, manners: Manners) -> None:
    books = Books()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Caller(manners, books), "127.0.0.1", port, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--shortest", type=float, default=0.05, help="seconds")
    parser.add_argument("--longest", type=float, default=0.2, help="seconds")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--most-faults", type=int, default=1_000)
    parser.add_argument("--retry-after", default="1")
    parser.add_argument("--per-second", type=int, default=0, help="tries let in; others get 429")
    parser.add_argument("--pause-after", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    asyncio.run(serve(options.pop("port"), Manners(**options)))


if __name__ == "__main__":
    main()
