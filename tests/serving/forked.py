"""`jangin serve` and the processes of its jobs as forks: they start in a tenth of the CPU time.

Some tests start fresh interpreters, as users do: of the command in `test_run`, of the exporter in
`jobs/test_recipe`.
"""

import importlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from jangin.core.events import WorkAdvances, WorkBegins
from jangin.serving.jobs import scheduler, worker
from jangin.serving.operations.workers import JobProcesses
from jangin.training.kernels import load_kernels
from tests import forked

LIBRARIES = f"{__name__}:load_libraries"


class Fork(forked.Process):
    """Waits as `subprocess.Popen` does."""

    def wait(self, timeout=100):
        if not self.has_ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode

    def terminate(self):
        self.send_signal(signal.SIGTERM)


class Serving(Fork):
    """`jangin serve` with these words; `stdout` is what it prints, and its log goes to `log`."""

    def __init__(self, words, log=os.devnull, preload=()):
        pipe = Path(tempfile.mkdtemp()) / "stdout"
        os.mkfifo(pipe)
        super().__init__(
            forked.fork_server(),
            f"{__name__}:serve",
            map(str, words),
            output=pipe,
            errors=log,
            preload=preload,
        )
        self.stdout = pipe.open(encoding="utf-8")  # waits for the process to open the other end
        shutil.rmtree(pipe.parent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stdout.close()
        self.wait()


def serve(*words):
    """`jangin serve`; the processes of its jobs are forks of a fork made before it has threads."""
    forked.start_server()
    scheduler.JobProcesses = QuickProcesses
    forked.run_command("serve", *words)


class QuickProcesses(JobProcesses):
    """Processes of jobs by the fork server of this process, which has imported everything."""

    def is_ready(self):
        return True

    def start(self, given, environment, output):
        job = Path(output.name).with_suffix(".stdin")
        job.write_bytes(given)
        return Fork(
            forked.fork_server(),
            f"{__name__}:work",
            [job],
            output=output.name,
            preload=[LIBRARIES],
            environment=environment,
        )


def fork_exporter(given):
    """What `export.run_exporter` does."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("stdin", "stdout", "stderr")
        stdin, stdout, stderr = (Path(folder) / name for name in names)
        stdin.write_bytes(given)
        process = Fork(
            forked.fork_server(),
            "jangin.serving.jobs.export:main",
            output=stdout,
            errors=stderr,
            stdin=stdin,
        )
        return subprocess.CompletedProcess(
            [], process.wait(), stdout.read_bytes(), stderr.read_bytes()
        )


SLOW_STEPS = 100
"""Steps of a job that take longer than the model needs, so that tests can stop it among them."""


STOPS = ".stops"
"""Of the file beside the log of a job that says that its process stops at the next step."""


class Hold:
    """Makes the trainings of a server wait, in its folder `data`, for what a test looks at."""

    def __init__(self, data):
        self._path = Path(data) / "hold"

    def after(self, step):
        """Let them do this many steps, and then wait."""
        partial = self._path.with_suffix(".partial")
        partial.write_text(str(step))
        partial.replace(self._path)

    def release(self):
        """Let them end."""
        self._path.unlink(missing_ok=True)

    def wait(self, done):
        """Called by a training after this number of steps."""
        while self._path.exists() and done >= int(self._path.read_text()):
            time.sleep(0.01)


def work(job):
    """The process of a job, slow enough to be stopped before the end of the tests' few steps."""
    steps, trained, hold = itertools.count(), itertools.count(1), Hold(Path(job).parents[2])
    take_event, stop = worker.Worker.take, worker.Worker._stop

    def take(self, event):
        match event:
            case WorkBegins(label="training"):
                hold.wait(self.resumed_at)
            case WorkAdvances():
                if next(steps) < SLOW_STEPS:
                    time.sleep(0.02)
                if self.total_steps:
                    hold.wait(self.resumed_at + next(trained))
        take_event(self, event)

    def note_stop(self, reason):
        stop(self, reason)
        Path(job).with_suffix(STOPS).touch()

    worker.TICK_SECONDS = 0.05
    worker.Worker.take, worker.Worker._stop = take, note_stop
    return worker.run(Path(job).read_bytes(), os.getppid())


def load_libraries():
    """Load what every training loads, without using it: forks share it."""
    for name in ("peft", "transformers.models.llama.modeling_llama"):
        importlib.import_module(name)
    load_kernels(torch.bfloat16, print)


def workers_of(server):
    """Processes of jobs that a forked server has: children of its fork server."""
    return [each for child in children_of(server) for each in children_of(child)]


def children_of(pid):
    """Processes that any thread of a process started."""
    children = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended since
            children += map(int, file.read_text().split())
    return children
