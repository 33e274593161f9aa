"""The playground over HTTP, on a real project: answers, sources, saved rows."""

import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from jangin.core.parquet import read_table
from jangin.core.records import SplitExample
from jangin.examples.formats.additions import FILES
from jangin.project.session import open_session
from jangin.serving.pages.playground.taught import best_variant
from jangin.serving.security.keys import add_key
from jangin.serving.state.project import VariantState
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

pytestmark = pytest.mark.slow
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def models(browser):
    """{label: id} of the models of the page."""
    page = browser.get("/playground").text
    rows = re.findall(r'name="chosen" value="([^"]+)" data-label="([^"]+)"', page)
    return {label: model for model, label in rows}


@pytest.fixture(scope="module")
def taught(project):
    """An example that the last variant was trained on."""
    with open_session(project / "project.yaml", creates_store=False) as session:
        split = session.artifacts("paraphrased")["split"]
    rows = read_table(split.path / "splits.parquet", SplitExample)
    return next(row.example for row in rows if row.split == "train" and row.example.evidence)


def post(browser, address, body):
    headers = {"x-csrf-token": browser.token, "hx-request": "true"}
    return browser.post(address, json=body, headers=headers)


def test_variants_their_base_and_nothing_else_can_be_talked_to(models):
    assert list(models) == [
        "plain (학습한 모델)", "paraphrased (학습한 모델)", "starter-0.5m (기본 모델)",
    ]  # fmt: skip


def test_an_answer_is_streamed_and_its_settings_are_checked(browser, models):
    for model in models.values():
        body = {
            "model": model, "turns": [{"role": "user", "content": "휴가는?"}], "max_tokens": 3,
        }  # fmt: skip
        response = post(browser, "/playground/answer", body)
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[-2][6:])["choices"][0]["finish_reason"] in ("stop", "length")
    hot = post(browser, "/playground/answer", body | {"temperature": 3})
    assert (hot.status_code, "temperature" in hot.text) == (400, True)
    empty = post(browser, "/playground/answer", body | {"turns": []})
    assert empty.status_code == 400
    gone = post(browser, "/playground/answer", body | {"model": "model:gone"})
    assert gone.status_code == 404


def test_earlier_turns_and_a_strange_system_message_are_left_out_and_that_is_said(browser, models):
    tuned, base = models["paraphrased (학습한 모델)"], models["starter-0.5m (기본 모델)"]
    turns = [
        {"role": "user", "content": "휴가는?"}, {"role": "assistant", "content": "15일"},
        {"role": "user", "content": "병가는?"},
    ]  # fmt: skip
    body = {"model": tuned, "turns": turns, "max_tokens": 2, "system": "해적처럼 답하세요."}

    def left_out(**changes):
        return post(browser, "/playground/answer", body | changes).headers["x-left-out"]

    assert left_out() == "turns system"
    assert left_out(system="") == "turns"
    assert left_out(history="all") == ""
    assert left_out(model=base) == ""
    assert 'data-single="yes"' in browser.get("/playground").text
    page = browser.submit(
        "/playground/whole", model=tuned, question="병가는?", turns=json.dumps(turns[:2]),
        max_tokens=2,
    ).text  # fmt: skip
    assert page.count("앞의 대화는 보내지 않습니다") == 2  # for scripts, and below the answer
    assert page.count("시스템 메시지는 보내지 않습니다") == 1


def test_a_page_without_scripts_has_the_whole_answer(browser, models, taught):
    page = browser.submit(
        "/playground/whole",
        model=models["paraphrased (학습한 모델)"],
        question=taught.question,
        turns=json.dumps([{"role": "user", "content": HOSTILE}]),
        max_tokens=4,
    ).text
    assert taught.source in page
    assert f"/pictures/{taught.document_id}/{taught.page}" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_source_of_an_answer_is_the_page_that_taught_it(browser, models, taught):
    body = {"model": models["plain (학습한 모델)"], "question": taught.question}
    page = post(browser, "/playground/source", body | {"answer": taught.answer}).text
    assert 'class="source taught"' in page
    assert taught.source in page
    differs = post(browser, "/playground/source", body | {"answer": "전혀 다른 답 9,999"}).text
    assert 'class="source differs"' in differs
    base = body | {"model": models["starter-0.5m (기본 모델)"], "answer": taught.answer}
    assert post(browser, "/playground/source", base).text.strip() == ""


def test_a_source_says_what_its_example_asks_and_how_near_that_is(browser, models, taught):
    def source(question, answer):
        body = {"model": models["plain (학습한 모델)"], "question": question, "answer": answer}
        return post(browser, "/playground/source", body).text

    same = source(taught.question, taught.answer)
    assert f'href="/data/examples/{taught.id}">{taught.question}' in same
    assert "질문이 닮은 정도 100%" in same
    assert "다른 것을 묻는 예제일 수 있습니다" not in same
    elsewhere = source("화성까지는 얼마나 먼가요?", taught.answer)
    assert 'data-status="elsewhere"' in elsewhere
    assert taught.answer in elsewhere or "질문이 닮은 정도" in elsewhere
    invented = source("화성 탐사선의 이름", "패스파인더")
    assert 'data-status="invented"' in invented
    assert "가까운 예제" in invented


def test_a_visitor_begins_with_the_variant_that_was_right_most_often(finished):
    with open_session(finished / "project.yaml", creates_store=False) as session:
        names = session.project.variants
        states = {name: VariantState(name, session.artifacts(name), dict) for name in names}

    def right(share):
        return {"seen_questions": {"tuned": 1.0}, "held_out_paraphrases": {"tuned": share}}

    for shares, best in (
        ((0.5, 0.3), "plain"),
        ((0.3, 0.5), "paraphrased"),
        ((0, 0), "paraphrased"),
    ):
        for (name, state), share in zip(states.items(), shares, strict=True):
            manifest = state.last["evaluate"].manifest
            changed = manifest.model_copy(update={"summary": {"right": right(share)}})
            evaluation = replace(state.last["evaluate"], manifest=changed)
            states[name] = replace(state, last={"evaluate": evaluation})
        assert best_variant(states) == best


class Slow(BaseHTTPRequestHandler):
    """An endpoint that sends half of its answer, and the rest when it is told to."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in ("해마다 ", "15일"):
            event = {"choices": [{"index": 0, "delta": {"content": piece}}]}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            self.server.go.wait(100)
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_words):
        pass


@pytest.fixture
def hosted(project):
    """The endpoint of a teacher that the project has while the test runs."""
    path = project / "project.yaml"
    before = path.read_text("utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.go = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        keys = yaml.safe_load(before)
        address = f"http://127.0.0.1:{server.server_port}/v1"
        keys["teachers"]["hosted"] = {"type": "endpoint", "model": "big", "base_url": address}
        path.write_text(yaml.safe_dump(keys, allow_unicode=True, sort_keys=False), "utf-8")
        yield server
        server.shutdown()
    path.write_text(before, "utf-8")


def test_the_answer_of_a_hosted_teacher_arrives_piece_by_piece(browser, hosted):
    browser.get("/playground")
    body = {"model": "teacher:hosted", "turns": [{"role": "user", "content": "휴가는?"}]}
    headers = {"x-csrf-token": browser.token, "hx-request": "true"}
    events = []
    with browser.stream("POST", "/playground/answer", json=body, headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line[6:]))
                hosted.go.set()  # only now the endpoint sends the rest
    pieces = [choice["delta"].get("content") for event in events for choice in event["choices"]]
    assert pieces == ["해마다 ", "15일", None]
    again = post(browser, "/playground/answer", body).text  # from the ledger, in one piece
    assert [json.loads(line[6:]) for line in again.splitlines() if "whole" in line] == [
        {"choices": [], "whole": "해마다 15일"}
    ]


def test_rows_are_saved_taken_back_and_deleted(browser, models, project):
    turns = json.dumps([{"role": "user", "content": f"새 질문 {HOSTILE}"}])
    fields = {"turns": turns, "model": models["plain (학습한 모델)"]}
    headers = {"x-csrf-token": browser.token, "hx-request": "true"}
    saved = browser.post(
        "/playground/save", data={"kind": "question", "right": "새 답", **fields}, headers=headers
    ).text
    path = project / FILES["question"]
    row = json.loads(path.read_text("utf-8"))
    assert row["messages"][-1] == {"role": "assistant", "content": "새 답"}
    assert row["variant"] == "plain"
    assert row["by"]  # as a review has
    assert HOSTILE not in browser.get("/playground").text
    token = re.search(r'name="token" value="([^"]+)"', saved)[1]
    undo = browser.post("/playground/undo", data={"token": token}, headers=headers).text
    assert "되돌렸습니다." in undo
    assert not path.exists()
    again = browser.post("/playground/undo", data={"token": token}, headers=headers).text
    assert "되돌리지 못했습니다" in again
    browser.submit("/playground/save", kind="example", right="새 답", **fields)
    page = browser.get("/playground").text
    row_id = re.search(r'name="row" value="([^"]+)"', page)[1]
    browser.submit("/playground/delete", row=row_id)
    assert not (project / FILES["example"]).exists()
    empty = browser.submit("/playground/save", kind="example", right=" ", **fields)
    assert empty.status_code == 400


def test_other_projects_neither_talk_to_the_models_nor_save(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    options = {"project": project / "project.yaml", "require_keys": True}
    with run_workbench(folder, **options) as running, Browser(running.root) as visitor:
        with running.server.database.write() as session:
            scopes = ("review", "inference")
            _, text = add_key(session, name="x", project="other", scopes=scopes, now=1)
        visitor.post("/sign-in", data={"key": text})
        visitor.get("/preferences")
        page = visitor.get("/playground").text
        assert "plain" not in page
        fields = {"kind": "example", "turns": "[]", "right": "답"}
        assert visitor.submit("/playground/save", **fields).status_code == 403
        assert visitor.submit("/playground/delete", row="r").status_code == 403
        assert visitor.get("/playground/saved").status_code == 403
        body = {"question": "q", "answer": "a"}
        for model in ("model:ft:starter-0.5m:handbook:plain", "model:starter-0.5m"):
            response = post(visitor, "/playground/source", {**body, "model": model})
            assert response.status_code == 404
            turns = [{"role": "user", "content": "?"}]
            response = post(visitor, "/playground/answer", {"model": model, "turns": turns})
            assert response.status_code == 404
