"""A run is followed in Chromium without a stream of events and through a killed server."""

import os
import signal
from contextlib import suppress

import pytest
import yaml

from jangin.project.tracking.run_record import live_runs, recorded_runs
from jangin.serving.pages.runs.processes import stop
from tests.serving.pages.browser.conftest import check_accessibility
from tests.serving.running import spawn_server
from tests.shared import free_port

pytestmark = pytest.mark.slow
STEPS = 100_000
"""The training does not end by itself."""


@pytest.fixture
def long_training(project):
    """The first step to run is a training that can be watched."""
    path = project / "project.yaml"
    keys = yaml.safe_load(path.read_text("utf-8"))
    keys["models"]["sft"]["length"]["steps"] = STEPS
    path.write_text(yaml.safe_dump(keys, allow_unicode=True, sort_keys=False), "utf-8")
    yield
    for run in live_runs(project / "store"):
        with suppress(ProcessLookupError):
            os.kill(run.state.process, signal.SIGKILL)


@pytest.mark.usefixtures("long_training")
def test_a_page_without_a_stream_follows_a_run_through_a_killed_server(new_page, project, tmp_path):
    store, blocked = project / "store", []
    words = ("-p", project / "project.yaml", "--port", str(free_port()))
    with spawn_server(tmp_path / "server", *words, workbench=True) as (process, url):
        root = url.removesuffix("/v1")
        page = new_page(root, allowed=("ERR_", "htmx:"))  # what a page asks of a killed server
        page.route("**/runs/events?*", lambda route: (blocked.append(route), route.abort()))
        page.goto("/")
        page.locator("#plan:not([hx-get])").wait_for()
        page.get_by_role("button", name="▶ 실행").click()
        page.get_by_role("heading", name="지금 하는 일").wait_for()
        page.evaluate("window.sameVisit = true")
        (run,) = live_runs(store)
        page.locator("#run-curve canvas").wait_for()
        check_accessibility(page)
        process.kill()
        process.wait()
        status = page.locator("#run-status").inner_text()
    with spawn_server(tmp_path / "server", *words, workbench=True):
        assert [each.token for each in live_runs(store)] == [run.token], "it outlives the server"
        page.wait_for_function(
            "before => document.getElementById('run-status').innerText !== before", arg=status
        )
        assert page.evaluate("window.sameVisit"), "the page was not loaded again"
        stop(store, run.token)
        page.wait_for_function("() => !window.sameVisit")  # the page was loaded again
        page.get_by_text("실행을 멈췄습니다").wait_for()
        check_accessibility(page)
    assert len(blocked) >= 3
    newest = next(recorded_runs(store))
    assert (newest.token, newest.phase) == (run.token, "stopped")
