"""A teacher made of what we wrote in `teacher/`: an OpenAI-compatible server on this machine.

It exists to record the replies that the demo ships, with jangin's own recorder:

    python projects/handbook/teach.py &
    jangin run paraphrase --record --project projects/handbook

It looks nothing up but our own texts: a question about a section gets the pairs that we wrote for
that section, if the passage holds their evidence; a question to paraphrase gets our paraphrases.
"""

import argparse
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from jangin.text.grounding import support

HERE = Path(__file__).parent
ENOUGH = 0.9
ASKED_ABOUT = re.compile(r"문서: (?P<source>.*)\n항목: .*\n\n본문:\n(?P<text>[\s\S]*)\n\n질문과")
ASKED_TO_REWRITE = re.compile(r"질문: (?P<question>.*)\n답: ")


def letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def load_entries(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.yaml")):
        entries += yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries


def pairs_for(entries: list[dict[str, Any]], source: str, text: str) -> list[dict[str, str]]:
    """Pairs of this document whose evidence is in the passage.

    Not by heading: a scan's heading may be read with a wrong character.
    """
    return [
        {name: pair[name] for name in ("question", "answer", "evidence")}
        for entry in entries
        if entry["source"] == source
        for pair in entry["pairs"]
        if support(pair["evidence"], text) >= ENOUGH
    ]


def paraphrases_of(entries: list[dict[str, Any]], question: str) -> list[str]:
    for entry in entries:
        for pair in entry["pairs"]:
            if letters(pair["question"]) == letters(question):
                return list(pair["paraphrases"])
    return []


def answer(entries: list[dict[str, Any]], user: str) -> dict[str, Any]:
    about = ASKED_ABOUT.search(user)
    if about:
        return {"pairs": pairs_for(entries, about["source"], about["text"])}
    rewrite = ASKED_TO_REWRITE.search(user)
    return {"paraphrases": paraphrases_of(entries, rewrite["question"]) if rewrite else []}


def make_app(entries: list[dict[str, Any]], delay_seconds: float = 0.0) -> web.Application:
    """The server; `/count` says what it answered, in all and how many different requests."""
    asked: dict[str, int] = {}
    under_way = 0

    async def complete(request: web.Request) -> web.Response:
        nonlocal under_way
        under_way += 1
        try:
            return await reply(request)
        finally:
            under_way -= 1

    async def reply(request: web.Request) -> web.Response:
        body = await request.json()
        key = json.dumps(body, sort_keys=True, ensure_ascii=False)
        await asyncio.sleep(delay_seconds)
        if request.transport is not None and not request.transport.is_closing():
            asked[key] = asked.get(key, 0) + 1
        # The first turn is the question; a second one asks whether there is really nothing.
        user = next(turn["content"] for turn in body["messages"] if turn["role"] == "user")
        content = json.dumps(answer(entries, user), ensure_ascii=False)
        message = {"role": "assistant", "content": content}
        return web.json_response(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        )

    async def count(_request: web.Request) -> web.Response:
        answers = sum(asked.values())
        return web.json_response(
            {"requests": len(asked), "answers": answers, "under_way": under_way}
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/count", count)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--delay-seconds", type=float, default=0.0)
    options = parser.parse_args()
    app = make_app(load_entries(HERE / "teacher"), options.delay_seconds)
    web.run_app(app, host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
