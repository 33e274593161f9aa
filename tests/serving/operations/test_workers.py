"""Processes of jobs: forks of one process, each on its own.

Real jobs in such forks run in `clients/test_clients.py` and `clients/test_job_processes.py`.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from jangin.core.execution import processes
from jangin.serving.operations import workers
from jangin.serving.operations.workers import JobProcesses
from tests.forked import is_alive

PROGRAM = "tests.serving.operations.forking_program"
WAIT = b"import time; time.sleep(60)"


@pytest.fixture
def forked(tmp_path, monkeypatch):
    """`start(job, **environment)` and the `JobProcesses` behind it."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    started = JobProcesses(PROGRAM, ())
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
    parent = started._server.process
    parent.kill()
    assert ends(lambda: not is_alive(parent.pid))
    assert orphan.poll() is None
    assert start(b"pass").wait(100) == 0
    orphan.kill()
    assert orphan.wait(100) == workers.LOST
    orphan.send_signal(signal.SIGTERM)  # nothing: its id may be that of another process now


def test_a_server_that_closes_while_the_parent_starts_ends_it_without_a_traceback(forked, capfd):
    _, started = forked
    started.is_ready()
    parent = started._server.process
    started.close()
    assert parent.returncode in {0, -signal.SIGKILL}
    assert capfd.readouterr() == ("", "")


def test_a_parent_without_jobs_ends_after_a_while(forked, monkeypatch):
    start, started = forked
    assert start(b"pass").wait(100) == 0
    parent = started._server.process
    started.rest()
    assert is_alive(parent.pid)
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0)
    monkeypatch.setattr(processes, "END_SECONDS", 100)
    started.rest()
    assert parent.returncode == 0


def test_forks_learn_that_the_server_is_gone(forked, tmp_path):
    start, started = forked
    job = f"""
import os, pathlib, time
pathlib.Path({str(tmp_path / "begun")!r}).touch()
while os.getppid() == parent:
    time.sleep(0.01)
pathlib.Path({str(tmp_path / "told")!r}).touch()
"""
    fork = start(job.encode())
    assert ends((tmp_path / "begun").exists)  # before, it is in the group that ends at once
    started._server._control.close()
    assert ends((tmp_path / "told").exists)
    assert ends(lambda: fork.poll() is not None)
    assert started._server.process.wait(100) == -signal.SIGKILL
    started._server = None  # what a closed server does not use any more


def test_a_program_that_cannot_start_is_an_error(tmp_path):
    started = JobProcesses("tests.no_such_module")
    with (
        (tmp_path / "log").open("ab") as output,
        pytest.raises(ImportError, match="no_such_module"),
    ):
        started.start(b"", {}, output)
    started.close()
