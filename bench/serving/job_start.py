"""CPU time and seconds of short jobs, one after the other: what a job costs beside its training.

    python bench/serving/job_start.py [--jobs 6]

Starts `jangin serve` twice, for one job and for `--jobs` jobs of 12 steps on starters of 0.5M
parameters, with the official SDK as the client. The CPU time is that of the server and of every
process it started, as the system counts it once they have ended; the difference of both runs is
what a further job costs.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openai

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"{n}번 창구?"},
            {"role": "assistant", "content": "예"},
        ]
    }
    for n in range(12)
]


def cpu_seconds() -> float:
    """Of children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, jobs: int) -> tuple[float, list[float]]:
    """(CPU-seconds of the server and all its processes, seconds of each job)."""
    before = cpu_seconds()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "jangin.cli.main", "serve", "--port", "0", "--folder", folder]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    try:
        url = process.stdout.readline().strip().partition("=")[2]
        client = openai.OpenAI(base_url=url, api_key="x", timeout=60)
        content = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
        file = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
        seconds = []
        for number in range(jobs):
            start = time.monotonic()
            job = client.fine_tuning.jobs.create(
                model="gpt-4.1-nano",
                training_file=file.id,
                seed=number,
                hyperparameters={"n_epochs": 1, "batch_size": 1},
            )
            while job.status not in ("succeeded", "failed", "cancelled"):
                time.sleep(0.05)
                job = client.fine_tuning.jobs.retrieve(job.id)
            if job.status != "succeeded":
                sys.exit(f"{job.id} is {job.status}: {job.error}")
            seconds.append(time.monotonic() - start)
    finally:
        process.terminate()
        process.wait(60)
    return cpu_seconds() - before, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jangin-bench-") as name:
        one, (first,) = measure(Path(name) / "one", 1)
        several, seconds = measure(Path(name) / "several", options.jobs)
    print(
        f"load average {os.getloadavg()[0]:.1f}; {options.jobs} jobs: {several:.1f} CPU-s, one: "
        f"{one:.1f}; a further job: {(several - one) / (options.jobs - 1):.2f} CPU-s; seconds "
        f"until it succeeded: first {first:.1f} and {seconds[0]:.1f}, then "
        f"{statistics.median(seconds[1:]):.1f}"
    )


if __name__ == "__main__":
    main()
