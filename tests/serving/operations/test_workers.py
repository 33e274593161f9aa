"""Processes of jobs: forks of one process, each on its own, or fresh interpreters.

Real jobs in such forks run in `clients/test_clients.py` and `clients/test_job_processes.py`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest

from jangin.serving.operations import workers
from jangin.serving.operations.workers import ForkedWorkers, FreshWorkers
from tests.forked import is_alive

PROGRAM = "tests.serving.operations.forking_program"
WAIT = b"import time; time.sleep(60)"
pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open"
)


@pytest.fixture
def forked(tmp_path, monkeypatch):
    """`start(job, **environment)` and the `ForkedWorkers` behind it."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    started = ForkedWorkers(PROGRAM)
    with (tmp_path / "log").open("ab") as output:

        def start(job, **environment):
            return started.start(job, {**os.environ, **environment}, output)

        yield start, started
    started.close()


def ends(holds):
    patience = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.01)
    return True


def test_each_fork_has_its_environment_log_session_and_status(forked, tmp_path):
    start, _ = forked
    job = b"import os; print(os.environ['GPU'], os.getsid(0) == os.getpid()); raise SystemExit(3)"
    first = start(job.replace(b"3", b"0"), GPU="first")
    second = start(job, GPU="second")
    assert (first.wait(100), second.wait(100)) == (0, 3)
    assert (first.poll(), second.returncode) == (0, 3)
    assert {*(tmp_path / "log").read_text().splitlines()} == {"first True", "second True"}
    failing = start(b"1 / 0")
    assert failing.wait(100) == 1
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_a_killed_fork_hurts_no_other_process(forked, tmp_path):
    start, started = forked
    begun = tmp_path / "begun"
    first = start(WAIT)
    second = start(f"open({str(begun)!r}, 'w').close()\n".encode() + WAIT)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.01)
    first.kill()
    assert first.wait(100) == -signal.SIGKILL
    assert second.poll() is None
    assert started.is_ready()
    assert ends(begun.exists)  # Python drops a Ctrl-C that comes while it forks
    second.send_signal(signal.SIGINT)
    assert second.wait(100) != 0


def test_a_killed_parent_is_started_again_and_its_forks_are_followed_to_their_end(forked):
    start, started = forked
    orphan = start(WAIT)
    parent = started._process
    parent.kill()
    assert ends(lambda: not is_alive(parent.pid))
    assert orphan.poll() is None
    assert start(b"pass").wait(100) == 0
    orphan.kill()
    assert orphan.wait(100) == workers.LOST
    orphan.send_signal(signal.SIGTERM)  # nothing: its id may be that of another process now


def test_a_server_that_ends_while_the_parent_starts_leaves_no_traceback():
    ours, theirs = Pipe()
    command = [sys.executable, "-m", PROGRAM, str(theirs.fileno())]
    ours.close()
    ended = subprocess.run(
        command, pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False
    )
    theirs.close()
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_parent_without_jobs_ends_after_a_while(forked, monkeypatch):
    start, started = forked
    assert start(b"pass").wait(100) == 0
    parent = started._process
    started.rest()
    assert is_alive(parent.pid)
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0)
    monkeypatch.setattr(workers, "END_SECONDS", 100)
    started.rest()
    assert parent.returncode == 0


def test_forks_learn_that_the_server_is_gone(forked, tmp_path):
    start, started = forked
    job = f"""
import os, pathlib, time
while os.getppid() == parent:
    time.sleep(0.01)
pathlib.Path({str(tmp_path / "told")!r}).touch()
"""
    fork = start(job.encode())
    started._control.close()
    assert ends((tmp_path / "told").exists)
    assert ends(lambda: fork.poll() is not None)
    started._control = Pipe()[0]  # what a closed server does not use any more


def test_a_program_that_cannot_start_is_an_error(tmp_path):
    started = ForkedWorkers("tests.no_such_module")
    with (tmp_path / "log").open("ab") as output, pytest.raises(OSError, match="ended"):
        started.start(b"", {}, output)
    started.close()


@pytest.mark.slow
def test_a_fresh_process_reads_its_job_from_stdin(tmp_path):
    given = json.dumps({"job": "ftjob-x", "owner": "x", "settings": {"folder": 5}}).encode()
    with (tmp_path / "log").open("wb") as output:
        process = FreshWorkers().start(given, dict(os.environ), output)
        assert process.wait(200) == 1
    assert "ServerSettings\nfolder" in (tmp_path / "log").read_text()
