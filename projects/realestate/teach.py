"""A teacher made of what we wrote in `teacher/`: an OpenAI-compatible server on this machine.

It exists to record the replies that the project ships, with jangin's own recorder:

    python projects/realestate/teach.py &
    jangin run synthesize --record --project projects/realestate

Asked about words, it gives our questions about them; asked questions, our answers.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

HERE = Path(__file__).parent
WORD = re.compile(r"^- (.+?)(?:: \d+)?$", re.MULTILINE)
QUESTION = re.compile(r"^질문 \d+: (.+)$", re.MULTILINE)


def answer(entries: dict[str, dict[str, str]], user: str) -> dict[str, Any]:
    answers = {question: text for pairs in entries.values() for question, text in pairs.items()}
    asked = QUESTION.findall(user)
    if asked:
        rows = [{"question": q, "answer": answers[q], "snippets": [1]} for q in asked]
        return {"answers": rows}
    words = WORD.findall(user)
    return {"words": [{"word": w, "questions": list(entries[w])} for w in words]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8766)
    options = parser.parse_args()
    entries = yaml.safe_load((HERE / "teacher" / "questions.yaml").read_text(encoding="utf-8"))

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        content = json.dumps(answer(entries, body["messages"][-1]["content"]), ensure_ascii=False)
        message = {"role": "assistant", "content": content}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    web.run_app(app, host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
