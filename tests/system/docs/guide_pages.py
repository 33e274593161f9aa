"""Blocks of the pages in docs/guides, and a teacher that answers by rules."""

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

GUIDES = Path(__file__).parents[3] / "docs" / "guides"
NOT_RUN = ("Not run by the tests: ", "시험에서 실행하지 않음: ")
"""Titles of blocks that need what a test does not have; the reason follows."""
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n([\s\S]*?)^```$", flags=re.M)
FACT = re.compile(
    r"(?:^|(?<=\. ))(?:The )?([^.|\n]+?)(?:은|는| is| are) ([\d,]+ ?\w+?)(?:이다)?\.", re.M
)
"""A sentence with an amount: its subject and the amount."""
FRAMES = {
    True: (
        "혹시 {} 알려 주세요.",
        "{} 좀 찾아봐 주실래요",
        "궁금한데 {}",
        "{} 규정에 뭐라고 되어 있죠",
    ),
    False: ("Please tell me: {}", "{} I forgot.", "Could somebody explain {}", "By our rules {}"),
}


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str

    @property
    def is_run(self):
        return not self.title.startswith(NOT_RUN)

    @property
    def skeleton(self):
        """What both languages of a page have in common: all but comments and quoted texts."""
        if self.language in ("markdown", "text") or not self.is_run:
            return (self.language, self.is_run)
        if self.language == "yaml":
            data = yaml.safe_load(self.text)
            data.pop("prompts", None)
            return (self.language, self.title, json.dumps(data))
        bare = re.sub(r"\s*# .*$", "", self.text, flags=re.M)
        return (self.language, self.title, re.sub(r'"[^"\n]*[가-힣 ][^"\n]*"', '"..."', bare))


def blocks_of(page: Path) -> list[Block]:
    return [Block(*match.groups(default="")) for match in FENCE.finditer(page.read_text("utf-8"))]


def answer(system: str, user: str) -> object:
    """One question about every line such as `Annual leave is 15 days.`"""
    korean = bool(re.search(r"[가-힣]", user))
    if '"paraphrases"' in system:
        asked = re.search(r"(?:질문|Question): (.+)", user)[1]
        return {"paraphrases": [frame.format(asked.rstrip("?")) for frame in FRAMES[korean]]}
    if '"verdict"' in system:
        gold, given = (
            re.search(rf"\[(?:{mark})\]\n(.+)", user)[1]
            for mark in ("기준 답|Reference answer", "심사할 답|Answer to judge")
        )
        return {"reason": gold, "verdict": "right" if gold in given else "wrong"}
    if '"items"' in system:
        facts = re.findall(r"^(\d+)\. (.+?) / (.+?): (.+)$", user, flags=re.M)
        ask = "{} {}: 얼마인가요?" if korean else "What is the {1} of {0}?"
        return {
            "items": [
                {"number": int(number), "question": ask.format(row, column), "answer": value}
                for number, row, column, value in facts
            ]
        }
    ask = "{}: 얼마인가요?" if korean else "How much is {}?"
    return {
        "pairs": [
            {"question": ask.format(m[1].lower()), "answer": m[2], "evidence": m[0]}
            for m in FACT.finditer(user)
        ]
    }


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = {m["role"]: m["content"] for m in body["messages"]}
        content = json.dumps(answer(texts.get("system", ""), texts["user"]), ensure_ascii=False)
        message = {"role": "assistant", "content": content}
        usage = {"prompt_tokens": 100, "completion_tokens": 50}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_words):
        pass


class Teacher(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"
