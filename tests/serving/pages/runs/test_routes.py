"""The pages that follow runs, as a browser without scripts sees them; runs are real processes."""

import json
import os
import re
import signal
import time
from pathlib import Path

import httpx2
import pytest

from jangin.core.ledger import Ledger
from jangin.project.tracking.run_record import live_runs, read_log, recorded_runs
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

PROJECT = """\
name: rules
documents:
  load:
    folder: documents
  chunk:
    measure: characters
"""


def wait_for(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


@pytest.mark.slow
def test_the_pipeline_of_a_finished_project_says_what_came_out(browser):
    page = wait_for(
        lambda: (page := browser.get("/").text) and "모든 단계가 끝났습니다" in page and page
    )
    assert page.count('class="step cached"') == 12
    assert "예제 47개" in page
    assert "단계를 실행합니다" not in page
    assert "hx-on" not in page
    assert " style=" not in page


def test_the_history_leads_to_a_run_with_its_curves_and_log(browser):
    page = browser.get("/runs").text
    (number,) = re.findall(r'href="/runs/(\d+)"', page)
    detail = browser.get(f"/runs/{number}").text
    assert detail.count('<svg class="chart"') == 2
    assert "학습 손실" in detail
    assert "기본 모델 완료" in detail
    address = re.search(r'data-curves="([^"]+)"', detail)[1]
    data = browser.get(address).json()
    assert data["steps"]
    assert len(data["steps"]) == len(data["train_loss"]) == len(data["tokens_per_second"])
    same = browser.get("/runs/compare", params={"before": number, "after": number}).text
    assert "모두 같습니다" in same


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/runs/999", 404),
        ("/runs/compare?before=1&after=999", 404),
        ("/runs/curves/sft/ffffffffffffffff", 404),
        ("/runs/curves/..%2F..%2Fetc/passwd", 404),
        ("/runs/record/..%2F..%2Fserver", 404),
        ("/runs/record/20200101T000000-1-abcd", 404),
        ("/runs?before=x", 400),
    ],
)
def test_what_does_not_exist_is_said_on_a_page(browser, address, status):
    reply = browser.get(address)
    assert reply.status_code == status
    assert "첫 화면으로" in reply.text


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server of a project without a model, and its folder."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "documents").mkdir()
    (folder / "documents" / "rules.md").write_text("# 휴가\n\n연차는 15일입니다.\n", "utf-8")
    (folder / "project.yaml").write_text(PROJECT, "utf-8")
    path = folder / "project.yaml"
    with run_workbench(folder / "server", project=path, new_project=True) as running:
        yield running, folder


@pytest.fixture
def visitor(small):
    running, _ = small
    with Browser(running.root) as client:
        client.get("/preferences")
        yield client


@pytest.mark.slow
def test_a_run_is_started_followed_stopped_and_outlives_its_server(
    small, visitor, tmp_path, monkeypatch
):
    _, folder = small
    store = folder / "store"
    page = wait_for(
        lambda: (page := visitor.get("/").text) and "2개 단계를 실행합니다" in page and page
    )
    assert "비용이 들지 않습니다" in page
    assert visitor.submit("/runs/start", last="chunk", variant="nobody").status_code == 400
    assert visitor.submit("/runs/start", last="no_stage").status_code == 400
    # It stops itself as it begins, so that it does not end before what is asked next.
    stops_itself = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    (tmp_path / "sitecustomize.py").write_text(stops_itself)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert visitor.submit("/runs/start").status_code == 200
    (run,) = live_runs(store)
    stat = Path(f"/proc/{run.state.process}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    assert os.getpgid(run.state.process) == run.state.process, "Ctrl-C at the server is not for it"
    page = visitor.get("/").text
    assert f"/runs/{run.token}/stop" in page
    assert visitor.submit("/runs/start").status_code == 400
    assert len(live_runs(store)) == 1
    os.kill(run.state.process, signal.SIGCONT)
    wait_for(lambda: not live_runs(store))
    ended = next(recorded_runs(store))
    assert ended.phase == "done", (folder / "server/runs" / f"{run.token}.log").read_text()
    assert [line.event for line in read_log(ended.folder)[0]] == ["begins", "made"] * 2
    assert visitor.submit(f"/runs/{run.token}/stop").status_code == 400
    wait_for(lambda: "모든 단계가 끝났습니다" in visitor.get("/").text)
    position = visitor.get("/runs/poll").json()
    assert position == []
    # Another run, which is stopped at once: as Ctrl-C, while it is still starting.
    assert visitor.submit("/runs/start").status_code == 200
    run = next(recorded_runs(store))
    wait_for(lambda: next(recorded_runs(store)).phase != "starting" or not live_runs(store))
    if live_runs(store):
        visitor.submit(f"/runs/{run.token}/stop")
    wait_for(lambda: not live_runs(store))
    assert next(recorded_runs(store)).phase in ("stopped", "done")


def test_a_run_that_cannot_begin_says_why(small, visitor):
    _, folder = small
    path = folder / "project.yaml"
    path.write_text(PROJECT + "  rank:\n", "utf-8")
    try:
        page = visitor.get("/")
        assert page.status_code == 200
        assert "documents.rank: needs" in page.text
        assert "/start/file" in page.text
        reply = visitor.submit("/runs/start")
        assert reply.status_code == 400
        assert live_runs(folder / "store") == []
    finally:
        path.write_text(PROJECT, "utf-8")


@pytest.mark.parametrize(("outcome", "word"), [("failed: no.", "실패"), ("stopped", "중단")])
def test_a_step_failed_if_its_run_did_and_was_interrupted_otherwise(small, visitor, outcome, word):
    _, folder = small
    ledger = Ledger(folder / "store" / "ledger.sqlite")
    run = ledger.start_run("run", "0", "../project.yaml")
    ledger.record_step(run, "main", "chunk", "", "interrupted", (), 1.0)
    ledger.end_run(run, outcome)
    ledger.close()
    assert f'<span class="tag bad">{word}</span>' in visitor.get(f"/runs/{run}").text


def test_events_are_streamed_and_continue_where_the_browser_was(small, visitor):
    from jangin.core.events import Notice
    from jangin.project.tracking.run_record import recorded

    _, folder = small
    with recorded(folder / "store", variants=("main",)) as record:
        record.take(Notice("하나 <script>alert(1)</script>"))
        page = visitor.get("/").text
        assert "하나 &lt;script&gt;" in page
        position = re.search(r'data-position="([^"]+)"', page)[1]
        record.take(Notice("둘"))
        events = read_events(visitor, {"last-event-id": position}, "log")
        assert events["log"][0] == f"{position.split('~')[0]}~{position_after(record)}~~0"
        assert "둘" in events["log"][1]
        assert "하나" not in events["log"][1]
        sent = visitor.get("/runs/poll", params={"position": position}).json()
        assert [each["event"] for each in sent] == ["log", "status"]
        assert "지금까지 쓴 비용" in sent[1]["data"]["status"]


def position_after(record):
    return (record._folder / "log.jsonl").stat().st_size


def read_events(client, headers, until):
    """{kind: (id, data)} of a stream, up to the first event of a kind."""
    events, kind, event_id = {}, "", ""
    options = {"cookies": dict(client.cookies), "headers": headers, "timeout": 100}
    with httpx2.stream(
        "GET", f"{str(client.base_url).rstrip('/')}/runs/events", **options
    ) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                event_id = value
            elif name == "data":
                events[kind] = (event_id, json.loads(value))
                if kind == until:
                    return events
    return events
