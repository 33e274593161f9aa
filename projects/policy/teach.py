"""A teacher made of what we wrote in `teacher/`: an OpenAI-compatible server on this machine.

It exists to record the replies that the project ships, with jangin's own recorder:

    python projects/policy/teach.py &
    jangin run judge --record --project projects/policy

It looks nothing up but our own texts. Pairs and multiple-choice items are given for the passage
that holds their evidence; a question to evolve gets what we wrote for it; a question to compare is
equal where we say so; grades are full marks where we wrote none.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from jangin.text.grounding import support

HERE = Path(__file__).parent
ENOUGH = 0.9
MADE_FROM = re.compile(
    r"문서: (?P<source>.*)\n항목: .*\n\n본문:\n(?P<text>[\s\S]*)\n\n(?P<what>질문|문항)"
)
ABOUT = re.compile(r"본문:\n[\s\S]*\n\n질문: (?P<question>.*)\n답: ")
COMPARED = re.compile(r"첫째 질문: .*\n둘째 질문: (?P<question>.*)")
FULL_MARKS = {
    "reason": "",
    **dict.fromkeys(("correctness", "completeness", "clarity", "self_contained"), 5),
}
SHOWN = {"pairs": ("question", "answer", "evidence")}
SHOWN["items"] = ("question", "answer", "distractors", "evidence")

Row = dict[str, Any]


def load_entries(folder: Path) -> list[Row]:
    entries: list[Row] = []
    for path in sorted(folder.glob("*.yaml")):
        entries += yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries


def rows_of(entries: list[Row]) -> list[Row]:
    return [row for entry in entries for kind in SHOWN for row in entry.get(kind, [])]


def letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def made_from(entries: list[Row], kind: str, source: str, text: str) -> list[Row]:
    """Pairs or items of this document whose evidence is in the passage, not by heading."""
    return [
        {name: row[name] for name in SHOWN[kind]}
        for entry in entries
        if entry["source"] == source
        for row in entry.get(kind, [])
        if support(row["evidence"], text) >= ENOUGH
    ]


def find_row(entries: list[Row], question: str) -> Row:
    """The pair, item or evolved question with these letters."""
    rows = rows_of(entries)
    rows += [way for row in rows for way in row.get("evolved", {}).values()]
    return next((r for r in rows if letters(r["question"]) == letters(question)), {})


def evolved(row: Row, system: str) -> Row:
    """What we wrote for this question; the operation is known by its words."""
    marks = {
        "한 단계 더 깊게": "deepening",
        "다루지 않은 다른 내용": "broadening",
        "사실 둘 이상을 이어야": "reasoning",
        "구체적인 상황으로": "complexifying",
    }
    operation = next(name for mark, name in marks.items() if mark in system)
    written = row.get("evolved", {}).get(operation, {})
    return {name: written.get(name, "") for name in ("question", "answer", "evidence")}


def answer(entries: list[Row], system: str, user: str) -> Row:
    made = MADE_FROM.search(user)
    if made:
        kind = "items" if made["what"] == "문항" else "pairs"
        return {kind: made_from(entries, kind, made["source"], made["text"])}
    compared = COMPARED.search(user)
    if compared:
        reason = find_row(entries, compared["question"]).get("equal", "")
        return {"equal": bool(reason), "reason": reason}
    about = ABOUT.search(user)
    row = find_row(entries, about["question"]) if about else {}
    if "self_contained" in system:
        return {**FULL_MARKS, **row.get("grades", {})}
    return evolved(row, system)


def make_app(entries: list[Row]) -> web.Application:
    async def complete(request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        said = answer(entries, messages[0]["content"], messages[-1]["content"])
        message = {"role": "assistant", "content": json.dumps(said, ensure_ascii=False)}
        return web.json_response(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8767)
    web.run_app(
        make_app(load_entries(HERE / "teacher")), host="127.0.0.1", port=parser.parse_args().port
    )


if __name__ == "__main__":
    main()
