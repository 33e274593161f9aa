"""After a change, a plan counts the calls that a run sends; `bench/plan/changes.py` has more."""

import json
import re

import pytest
from aiohttp import web

from jangin.project.session import open_session
from jangin.project.setup.forecast import forecast
from tests.web_app import serve

PROJECT = """\
name: changes
teachers:
  writer: {{type: endpoint, model: m, base_url: {url}/v1}}
documents:
  load: {{folder: documents}}
  chunk: {{measure: characters, max_characters: 300}}
examples:
  synthesize: {{teacher: writer, allow_failed: 1}}
  paraphrase: {{source: {{type: teacher, teacher: writer, count: 2}}, allow_failed: 1}}
  curate:
"""
ARTICLE = "## 제{n}조({name})\n\n{name} 신청 기한은 {n}일이다. 나머지 절차는 따로 정한다.\n\n"
NAMES = ("연차휴가", "공무병가", "국외출장", "직무교육", "경조휴가", "야간당직")


def reply_to(text):
    """A question about the number of a passage; torn JSON, also the second time, about 출장."""
    if text.startswith("질문:"):
        question = re.search(r"질문: (.+)", text)[1]
        words = [f"{question[:4]} 기한을 알려 주세요", f"언제까지 내야 하나요, {question[:4]}?"]
        return json.dumps({"paraphrases": words}, ensure_ascii=False)
    found = re.search(r"(\S+) 신청 기한은 (\d+)일이다\.", text)
    if found[1] == "국외출장":
        return '{"pairs": [{"question": "잘린'
    pair = {
        "question": f"{found[1]} 신청 기한은 며칠인가요?",
        "answer": f"{found[2]}일",
        "evidence": found[0],
    }
    return json.dumps({"pairs": [pair]}, ensure_ascii=False)


@pytest.fixture
def project(tmp_path):
    """(folder, requests that arrived)."""
    sent = []

    async def answer(request):
        body = await request.json()
        sent.append(body)
        content = reply_to(body["messages"][1]["content"])
        choice = {"message": {"content": content}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice]})

    documents = tmp_path / "documents"
    documents.mkdir()
    for number, names in enumerate((NAMES[:3], NAMES[3:])):
        text = "".join(ARTICLE.format(n=n, name=name) for n, name in enumerate(names, 2))
        (documents / f"{number}.md").write_text(f"# 규정\n\n{text}", encoding="utf-8")
    with serve(web.post("/v1/chat/completions", answer)) as url:
        (tmp_path / "project.yaml").write_text(PROJECT.format(url=url), encoding="utf-8")
        yield tmp_path, sent


def planned_and_sent(folder, sent):
    with open_session(folder / "project.yaml") as session:
        before = session.ledger.count_calls()
        result = forecast(session, ["main"])
        assert session.ledger.count_calls() == before, "a plan writes nothing"
    sent.clear()
    with open_session(folder / "project.yaml") as session:
        session.run(["main"])
    return sum(calls.count for calls in result.likely), len(sent)


@pytest.mark.slow
def test_a_plan_counts_only_the_calls_whose_replies_are_not_there(project):
    folder, sent = project
    _, first = planned_and_sent(folder, sent)
    assert first == 6 + 1 + 5  # of six chunks one needs a second request; five questions
    assert planned_and_sent(folder, sent) == (0, 0)
    path = folder / "documents" / "1.md"
    path.write_text(path.read_text("utf-8").replace("기한은 3일", "기한은 8일"), encoding="utf-8")
    assert planned_and_sent(folder, sent) == (4, 4)  # with both of the one that fails again
    path.rename(folder / "documents" / "다른이름.md")
    assert planned_and_sent(folder, sent) == (5, 5)  # three chunks, and the one that fails


@pytest.mark.slow
def test_the_time_of_a_stage_is_not_that_of_another_project_file(project):
    folder, sent = project
    planned_and_sent(folder, sent)
    other = folder / "other.yaml"
    text = (folder / "project.yaml").read_text("utf-8").replace("count: 2", "count: 3")
    other.write_text(text, encoding="utf-8")
    with open_session(other) as session:
        steps = {step.stage.name: step for step in forecast(session, ["main"]).steps}
        assert (steps["paraphrase"].state, steps["paraphrase"].seconds) == ("run", 0.0)
    with open_session(folder / "project.yaml") as session:
        session.project.path.write_text(text, encoding="utf-8")
    with open_session(folder / "project.yaml") as session:
        steps = {step.stage.name: step for step in forecast(session, ["main"]).steps}
        name = session.project_name
        pace = session.ledger.seconds_per_call("paraphrase", name)
        assert steps["paraphrase"].seconds == pytest.approx(5 * pace)
