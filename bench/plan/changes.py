"""Ten changes of a project: the calls that `jangin plan` counts beside those that a run sends.

`python bench/plan/changes.py` prints a table, with `-v` the calls of each stage. The teacher is a
server on this machine that asks for every number of a passage; of its replies 5 % are torn JSON,
3 % refusals, and 3 % of the answers have a wrong number. Like a real one it asks other questions
under another prompt or temperature.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path

from aiohttp import web

from jangin.core.records import Message
from jangin.examples.formats.additions import add_row
from jangin.examples.reviews.log import ReviewableTexts, append_decisions, decide
from jangin.project.session import open_session
from jangin.project.setup.forecast import forecast

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.web_app import serve

PROJECT = """\
name: changes
teachers:
  writer: {{type: endpoint, model: m, base_url: {url}}}
documents:
  load: {{folder: documents}}
  chunk: {{measure: characters, max_characters: 400}}
examples:
  synthesize:
    teacher: writer
    pairs_per_chunk: 3
    temperature: {temperature}
    allow_failed: 1
  judge: {{teacher: writer, allow_failed: 1}}
  review:
  paraphrase: {{source: {{type: teacher, teacher: writer, count: {count}}}, allow_failed: 1}}
  curate: {{conflicts: keep}}
  split:
{prompts}"""
OTHER_PROMPT = """\
prompts:
  synthesize:
    ko:
      system: 질문과 답을 만드세요.
      user: |-
        문서: $source, $section
        본문:
        $text
        $count개
"""
NAMES = ["휴가", "병가", "출장", "교육", "경조", "당직", "연구", "파견"]
THINGS = ["신청 기한", "최대 기간", "담당자 수"]
STYLES = [
    "혹시 {q}",
    "{t} 얼마나 되는지 궁금합니다",
    "{t} 좀 알려 주세요",
    "{t}에 관해 규정은 어떻게 정하나요?",
    "알고 싶은데요, {t} 말이에요",
    "{t} 관련 기준이 뭐죠?",
    "담당 부서에 묻습니다. {t} 어떻게 되나요?",
]
CRITERIA = ("correctness", "completeness", "clarity", "self_contained")
AGAIN = "JSON만"
"""In a second request after a reply that could not be used."""


def document(number: int) -> str:
    """Eight articles of one to three facts."""
    parts = [f"# 규정 {number}"]
    for article, topic in enumerate(NAMES):
        name = f"{topic} {number + 1}종"
        facts = [
            f"{name}의 {thing}은 {2 + article * 3 + index + number}일이다."
            for index, thing in enumerate(THINGS[: 1 + article % 3])
        ]
        parts += [f"## 제{article + 1}조({name})", f"{' '.join(facts)} 자세한 절차는 따로 정한다."]
    return "\n\n".join(parts)


def draw(text: str) -> float:
    """A number from 0 to 1 that only the text decides."""
    return int(sha256(text.encode()).hexdigest()[:8], 16) / 16**8


def kind_of(messages: list[dict[str, str]]) -> str:
    """The stage that a request is of."""
    text = messages[1]["content"]
    if "본문:" in text:
        return "judge" if "질문:" in text else "synthesize"
    return "paraphrase"


def reply_to(messages: list[dict[str, str]], temperature: float) -> str:
    """What the teacher says."""
    kind, text, last = kind_of(messages), messages[1]["content"], messages[-1]["content"]
    chance = draw(f"{text}{temperature}{AGAIN in last}")
    if chance < 0.03:
        return "죄송하지만 도와 드릴 수 없습니다."
    if chance < 0.08 and AGAIN not in last:
        return '{"pairs": [{"question": "이어지지 않는'
    if kind == "judge":
        return json.dumps({"reason": "", **dict.fromkeys(CRITERIA, 4)})
    if kind == "paraphrase":
        question = re.search(r"질문: (.+)", text)[1]
        wanted = int(re.findall(r"표현을 (\d+)개", last if AGAIN not in last else text)[0])
        topic = re.sub(r"[은는이가]? ?(며칠인가요|몇 일입니까|얼마 동안인가요)?\??$", "", question)
        told = sum(m["content"].count('",') + 1 for m in messages if m["role"] == "assistant")
        words = [style.format(q=question, t=topic) for style in STYLES][told:][:wanted]
        return json.dumps({"paraphrases": words}, ensure_ascii=False)
    ending = "며칠인가요" if "JSON으로만" in messages[0]["content"] else "몇 일입니까"
    ending = "얼마 동안인가요" if temperature else ending
    pairs = [
        {
            "question": f"{m[1]}의 {m[2]}은 {ending}?",
            "answer": f"{int(m[3]) + (draw(m[0]) < 0.03)}일",
            "evidence": m[0],
        }
        for m in re.finditer(r"(\w+ \d+종)의 ([가-힣 ]+)은 (\d+)일이다\.", text)
    ]
    return json.dumps({"pairs": pairs}, ensure_ascii=False)


class Project:
    """A project in a folder, and the changes of it."""

    def __init__(self, folder: Path, url: str) -> None:
        """Write five documents and the project file."""
        self.folder, self.documents = folder, folder / "documents"
        self.documents.mkdir()
        for number in range(5):
            (self.documents / f"{number}.md").write_text(document(number), encoding="utf-8")
        self.settings = {"url": url, "temperature": 0.0, "count": 4, "prompts": ""}
        self.set()

    def set(self, **changed: object) -> None:
        """Change settings of the project file."""
        self.settings |= changed
        text = PROJECT.format(**self.settings)
        (self.folder / "project.yaml").write_text(text, encoding="utf-8")

    def edit(self) -> None:
        """Change one sentence of one document."""
        path = self.documents / "0.md"
        path.write_text(path.read_text(encoding="utf-8").replace("은 2일이다", "은 9일이다"))

    def decide(self, *, reject: bool) -> None:
        """Reject an example of training, or correct its question."""
        with open_session(self.folder / "project.yaml") as session:
            rows = [r for r in session.examples("main", "train") if r.kind == "original"]
        row = rows[-1] if reject else rows[0]
        question = f"규정에 따르면 {row.question}"
        words = ReviewableTexts(question=question, answer=row.answer, evidence=row.evidence)
        kind = "reject" if reject else "edit"
        decision = decide(row, kind, "kim", after=None if reject else words)
        append_decisions(self.folder / "reviews.jsonl", [decision])

    def add(self) -> None:
        """Save a question with its answer, as the chat does."""
        texts = {"user": "식당은 언제 여나요?", "assistant": "7시에 엽니다."}
        turns = [Message(role=role, content=text) for role, text in texts.items()]
        add_row(self.folder, "example", turns, "main")

    def planned(self) -> tuple[Counter[str], int]:
        """({stage: likely calls}, calls at most)."""
        with open_session(self.folder / "project.yaml") as session:
            result = forecast(session, ["main"])
        likely: Counter[str] = Counter()
        for step, calls in zip(result.steps, result.likely, strict=True):
            likely[step.stage.name] += calls.count
        return +likely, sum(step.calls.count for step in result.steps)

    def run(self) -> None:
        """As `jangin run`."""
        with open_session(self.folder / "project.yaml") as session:
            session.run(["main"])


def main() -> None:
    """Make the changes in order, each on what the one before left."""
    sent: list[list[dict[str, str]]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        sent.append(body["messages"])
        content = reply_to(body["messages"], body.get("temperature", 0))
        usage = {"prompt_tokens": 300, "completion_tokens": len(content) // 2}
        choice = {"message": {"content": content}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": usage})

    with (
        tempfile.TemporaryDirectory() as name,
        serve(web.post("/v1/chat/completions", answer)) as url,
    ):
        project = Project(Path(name), f"{url}/v1")
        files = project.documents
        print(f"{'change':<24} {'planned':>14} {'sent':>6}  likely/sent")
        for title, change in (
            ("first run", lambda: None),
            ("nothing", lambda: None),
            ("a sentence edited", project.edit),
            ("a document added", lambda: (files / "new.md").write_text(document(9))),
            ("a document deleted", (files / "1.md").unlink),
            ("a document renamed", lambda: (files / "2.md").rename(files / "zz.md")),
            ("a correction in review", lambda: project.decide(reject=False)),
            ("an addition", project.add),
            ("a rejected row", lambda: project.decide(reject=True)),
            ("6 paraphrases, not 4", lambda: project.set(count=6)),
            ("another prompt", lambda: project.set(prompts=OTHER_PROMPT)),
            ("temperature 0.5, not 0", lambda: project.set(temperature=0.5)),
        ):
            change()
            likely, most = project.planned()
            sent.clear()
            project.run()
            few = likely.total()
            share = f"{few / len(sent):.2f}" if sent else "-"
            print(f"{title:<24} {f'{few} to {most}':>14} {len(sent):>6}  {share}", flush=True)
            if "-v" in sys.argv:
                print("   ", dict(likely), dict(Counter(map(kind_of, sent))))


if __name__ == "__main__":
    main()
