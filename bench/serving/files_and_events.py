"""Memory of the server while a large file is uploaded, and time to page through a job's log.

    python bench/serving/files_and_events.py --megabytes 500 --events 10000

`jangin serve` runs as a process of its own on an empty folder. The upload is measured beside one to
`http.server`, which only writes the body to a file, so that disk and client show in both; the pages
beside one SELECT of as many rows.
"""

import argparse
import contextlib
import http.server
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import openai
from sqlalchemy import create_engine, text

from jangin.serving.state.database import Database
from jangin.serving.state.tables import Job, JobEvent

PAGE = 100


@contextlib.contextmanager
def serving(folder: Path):
    """(process, url) of a server."""
    command = [sys.executable, "-m", "jangin.cli.main", "serve", "--port", "0", "--folder", folder]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process, process.stdout.readline().strip().partition("=")[2]
    finally:
        process.terminate()
        process.wait(timeout=60)


def memory(process) -> tuple[float, float]:
    """(resident memory now, its peak) in MB."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
    )
    return tuple(int(fields[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))


class Sink(http.server.BaseHTTPRequestHandler):
    """Writes a body to a file."""

    target: Path

    def do_POST(self) -> None:
        """Write the body."""
        with self.target.open("wb") as stream:
            left = int(self.headers["content-length"])
            while left:
                left -= stream.write(self.rfile.read(min(left, 1 << 20)))
            os.fsync(stream.fileno())
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments) -> None:
        """Say nothing."""


def plain_seconds(path: Path, folder: Path) -> float:
    """Seconds that the file takes to a server that only writes it."""
    Sink.target = folder / "sink"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    start = time.perf_counter()
    with path.open("rb") as stream, openai.DefaultHttpxClient(timeout=600) as client:
        client.post(f"http://127.0.0.1:{server.server_port}/", files={"file": stream})
    seconds = time.perf_counter() - start
    server.shutdown()
    server.server_close()
    Sink.target.unlink()
    return seconds


def upload(folder: Path, megabytes: int) -> None:
    """Print memory and time of an upload and of a download."""
    path = folder / "large.jsonl"
    row = (
        b'{"messages": [{"role": "user", "content": "' + secrets.token_hex(500).encode() + b'"}]}\n'
    )
    with path.open("wb") as stream:
        for _ in range(megabytes * 1_000_000 // len(row)):
            stream.write(row)
    plain = plain_seconds(path, folder)
    with serving(folder / "server") as (process, url):
        client = openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=600)
        client.files.create(file=("warm.bin", b"1"), purpose="user_data")
        before, _ = memory(process)
        start = time.perf_counter()
        file = client.files.create(file=path, purpose="user_data")
        seconds = time.perf_counter() - start
        after, peak = memory(process)
        print(f"upload of {file.bytes / 1e6:.0f} MB: {seconds:.1f} s")
        print(f"{seconds / plain:.2f} times a server that only writes it ({plain:.1f} s)")
        print(f"memory: {before:.0f} MB before, peak {peak:.0f} MB, {after:.0f} MB after")
        start = time.perf_counter()
        with client.files.with_streaming_response.content(file.id) as content:
            content.stream_to_file(folder / "back")
        print(f"download: {time.perf_counter() - start:.1f} s, peak {memory(process)[1]:.0f} MB")
        assert (folder / "back").stat().st_size == file.bytes
        start = time.perf_counter()
        client.files.create(file=path, purpose="fine-tune")
        print(f"the same for fine-tuning: {time.perf_counter() - start:.1f} s until the reply")
        while client.files.list().data[0].status == "uploaded":
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        print(f"checked after {seconds:.1f} s, peak {memory(process)[1]:.0f} MB")


def events(folder: Path, count: int) -> None:
    """Print the time of a page at several depths of the log."""
    with serving(folder / "log") as (_, url):
        database_url = f"sqlite:///{folder}/log/server.sqlite"
        add_events(database_url, count)
        client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
        client.fine_tuning.jobs.list_events("ftjob-long", limit=1)  # connects, compiles queries
        engine = create_engine(database_url)
        rows, after = 0, openai.omit
        times = []
        while True:
            start = time.perf_counter()
            page = client.fine_tuning.jobs.list_events("ftjob-long", limit=PAGE, after=after)
            times.append((time.perf_counter() - start) * 1000)
            rows += len(page.data)
            if not page.has_more:
                break
            after = page.data[-1].id
        assert rows == count
        start = time.perf_counter()
        with engine.connect() as connection:
            connection.execute(text(f"SELECT * FROM events ORDER BY rowid DESC LIMIT {PAGE}")).all()
        plain = (time.perf_counter() - start) * 1000
        engine.dispose()
    print(
        f"{count} events in pages of {PAGE}: median {statistics.median(times):.1f} ms, "
        f"99th percentile {sorted(times)[int(len(times) * 0.99)]:.1f} ms, first {times[0]:.1f} ms, "
        f"last {times[-1]:.1f} ms; a SELECT of {PAGE} rows takes {plain:.1f} ms"
    )


def add_events(url: str, count: int) -> None:
    """A paused job with a long log, several lines per second."""
    database = Database(url)
    job = Job(
        id="ftjob-long", project="local", created_at=1, seq=1, status="paused", model="m", seed=1,
        method_type="supervised", owner_key="local", training_file="file-none",
    )  # fmt: skip
    with database.write() as session:
        session.add(job)
        session.flush()
        session.add_all(
            JobEvent(
                id=f"ftevent-{number}", job_id=job.id, created_at=number // 4, level="info",
                message=f"Step {number}/{count}: training loss=0.98", type="metrics",
                data={"step": number, "train_loss": 0.98, "train_mean_token_accuracy": 0.5},
            )
            for number in range(count)
        )  # fmt: skip
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--events", type=int, default=10_000)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    folder = Path(tempfile.mkdtemp(prefix="jangin-bench-"))
    try:
        events(folder, options.events)
        upload(folder, options.megabytes)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
