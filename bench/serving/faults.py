"""kill -9 workers, servers and PostgreSQL at random moments while jobs train.

    python -m bench.serving.faults [--jobs 10] [--kills 12] [--postgresql [--servers 2]] [--seed 0]

First every job trains undisturbed, then again while processes are killed. Exits 1 unless all jobs
end `succeeded`, each exactly once, with the same table of results, byte for byte.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import openai

from tests.serving.forked import workers_of
from tests.serving.jobs.conftest import messages, upload, wait_for
from tests.serving.jobs.material import chats
from tests.serving.jobs.server_process import ServerProcess
from tests.serving.postgresql import run_postgresql

SETTINGS = """
lease_seconds: 3
models:
  tiny: {base: {type: starter, size: 0.5M, vocabulary_size: 400}, sft: {checkpoint_every_steps: 5}}
"""
PATIENCE_SECONDS = 3_600


class Server(ServerProcess):
    """`jangin serve` as users start it; the tests' servers and jobs are forks of the test."""

    def start(self):
        """Start the process, and a client of its address."""
        command = [sys.executable, "-m", "jangin.cli", "serve", "--port", "0"]
        command += ["--folder", self.folder / "data", "--models", self.settings]
        with self.settings.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                text=True,
            )
        url = self.process.stdout.readline().partition("=")[2].strip()
        self.client = openai.OpenAI(base_url=url, api_key="x", max_retries=8, timeout=10)


def create(client, training, jobs):
    return [
        client.fine_tuning.jobs.create(
            model="tiny",
            training_file=training,
            seed=seed,
            hyperparameters={"n_epochs": 4, "batch_size": 1},
        ).id
        for seed in range(jobs)
    ]


def table(client, job):
    return client.files.content(job.result_files[0]).read()


def undisturbed(folder, jobs):
    """The results of every job, and seconds."""
    started = time.monotonic()
    server = Server(folder, SETTINGS)
    try:
        ids = create(server.client, upload(server.client, chats(12)), jobs)
        finished = [wait_for(server.client, i, seconds=PATIENCE_SECONDS) for i in ids]
        return [table(server.client, job) for job in finished], time.monotonic() - started
    finally:
        server.stop()


def strike(servers, postgresql, rng):
    """Kill something; returns what."""
    server = rng.choice(servers)
    workers = workers_of(server.process.pid)
    victims = ["server"] + ["worker"] * (2 * bool(workers)) + ["postgresql"] * bool(postgresql)
    victim = rng.choice(victims)
    if victim == "worker":
        os.kill(rng.choice(workers), signal.SIGKILL)
    elif victim == "postgresql":
        postgresql.kill()
        # Its shared memory goes with its children, some moments later.
        time.sleep(1)
        (postgresql.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        postgresql.start()
    else:
        server.kill()
        server.start()
    return victim


def disturbed(folder, options, expected):
    """What is wrong after all jobs ended; nothing, if all is well."""
    rng, killed = random.Random(options.seed), Counter()
    with ExitStack() as stack:
        postgresql = stack.enter_context(run_postgresql()) if options.postgresql else None
        database = f"database: {postgresql.new_database()}\n" if postgresql else ""
        servers = [
            Server(folder, database + SETTINGS, f"server{n}") for n in range(options.servers)
        ]
        try:
            client = servers[0].client
            ids = create(client, upload(client, chats(12)), len(expected))
            for _ in range(options.kills):
                time.sleep(rng.uniform(0.5, 8))
                killed[strike(servers, postgresql, rng)] += 1
            client = servers[0].client
            faults = []
            for job_id, result in zip(ids, expected, strict=True):
                job = wait_for(client, job_id, seconds=PATIENCE_SECONDS)
                if job.status != "succeeded":
                    faults.append(f"{job_id} is {job.status}: {job.error.message}")
                    continue
                if table(client, job) != result:
                    faults.append(f"{job_id} has other results")
                log = messages(client, job_id)
                steps = Counter(line for line in log if line.startswith("Step "))
                if max(steps.values()) > 1 or log.count("The job has successfully completed") != 1:
                    faults.append(f"{job_id} ran twice")
            files = len(client.files.list(purpose="fine-tune-results").data)
            if files != len(ids):
                faults.append(f"{files} result files of {len(ids)} jobs")
        finally:
            for server in servers:
                server.stop()
    return faults, killed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    if options.servers > 1 and not options.postgresql:
        parser.error("several servers share a database only with --postgresql")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        for part in ("undisturbed", "disturbed"):
            (Path(name) / part).mkdir()
        expected, seconds = undisturbed(Path(name) / "undisturbed", options.jobs)
        started = time.monotonic()
        faults, killed = disturbed(Path(name) / "disturbed", options, expected)
    print(f"{commit}: {options.jobs} jobs undisturbed in {seconds:.0f} s")
    print(f"killed {dict(killed)}; done in {time.monotonic() - started:.0f} s")
    print("\n".join(faults) or "all succeeded, once each, with equal results")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
