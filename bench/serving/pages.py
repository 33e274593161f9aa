"""Time and size of the pages of the workbench on a large project.

    python bench/serving/pages.py [--rows 1000000] [--queue 50000] [--events 100000] [--loads 20]

The demo's project is run once with models that learn nothing; then tables of its store are replaced
by larger ones of the same form: `--rows` curated examples, `--queue` examples to review, a tenth of
`--rows` answers of the evaluation, and a job with `--events` events. `jangin serve` runs as a
process of its own. Shown are, for each page and the pages that its links to further rows lead to,
the time of the first reply, right after the start, which may say that the page is being prepared,
after how long the page itself was there, the time of a reply (median, 95th percentile, slowest)
once everything is prepared, and the size of the HTML. With Chromium and Playwright
installed, also the time to the first paint and all bytes that a page loads but pictures. What
`polars` needs for 50 rows in the middle of the table says what the disk and the format cost.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from sqlalchemy import insert

import jangin
from jangin.core.digest import short_digest
from jangin.serving.state.database import Database
from jangin.serving.state.settings import SQLITE_FILE
from jangin.serving.state.tables import Job, JobEvent

HANDBOOK = Path(__file__).parents[2] / "projects" / "handbook"
MODELS = {
    "catalog": {"base": {"type": "starter", "size": "3M"}},
    "sft": {
        "method": {"type": "full"},
        "length": {"type": "steps", "steps": 3},
        "examples_per_step": 4,
    },
    "evaluate": {"max_new_tokens": 4, "few_shot": 0},
}
JOB = "ftjob-bench"
PATIENCE_SECONDS = 180
OK, PREPARING = 200, 202
"""Statuses of a page, and of one that says that it is still being prepared."""
SPINNER = b'class="spinner"'
"""What a page has of which a part is still being prepared."""
LOOK_SECONDS = 0.1
ROW_GROUP = 100_000
TABLE = "/data/tables/curate/examples"
ROOMS = ("/", "/review", "/runs", "/compare", "/playground", "/jobs", f"/jobs/{JOB}", "/data")
QUERIES = ("", "?is_kind=original", "?search=휴가", "?sort=question")
SUMMARIES = ("/data/dropped", "/data/distributions", "/data/documents")
NEXT = re.compile(r'<a[^>]*rel="next"[^>]*href="([^"]+)"')
PAINT = """new Promise(resolve => new PerformanceObserver(
    list => list.getEntriesByName("first-contentful-paint").forEach(e => resolve(e.startTime))
).observe({type: "paint", buffered: true}))"""
HEADERS = {"accept": "text/html", "accept-language": "ko"}


def make_project(folder: Path) -> Path:
    """The demo's project, run; returns its file."""
    shutil.copytree(HANDBOOK / "documents", folder / "documents")
    shutil.copy(HANDBOOK / "replies.jsonl", folder)
    keys = yaml.safe_load((HANDBOOK / "project.yaml").read_text("utf-8")) | {"models": MODELS}
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(keys, allow_unicode=True, sort_keys=False), "utf-8")
    jangin.open(folder).run(progress=lambda _line: None)
    return path


def enlarge(table: Path, rows: int) -> None:
    """Repeat the rows of a table, each with an id of its own, the same in every table."""
    small = pq.read_table(table)
    parts = range(rows // small.num_rows)
    with pq.ParquetWriter(table, small.schema, compression="zstd") as writer:
        step = max(ROW_GROUP // small.num_rows, 1)
        for first in parts[::step]:
            batch = parts[first : first + step]
            writer.write_table(pa.concat_tables(_part(small, number) for number in batch))


def _part(small: pa.Table, number: int) -> pa.Table:
    for name in {"id", "example_id"} & set(small.column_names):
        ids = [short_digest([value, number]) for value in small.column(name).to_pylist()]
        index = small.column_names.index(name)
        small = small.set_column(index, small.schema.field(name), pa.array(ids))
    return small


def add_job(folder: Path, events: int) -> None:
    """A job with events, in the database of the server of a folder."""
    database = Database(f"sqlite:///{folder.absolute() / SQLITE_FILE}")
    now = int(time.time())
    job = Job(
        id=JOB,
        project="local",
        created_at=now,
        seq=1,
        status="succeeded",
        model="bench",
        training_file="file-bench",
        method_type="supervised",
        seed=1,
        owner_key="local",
    )
    log = [
        {
            "id": f"ftevent-{n}",
            "job_id": JOB,
            "created_at": now,
            "level": "info",
            "message": f"Step {n}/{events}: training loss={1 / (n + 1):.4f}",
            "type": "metrics",
            "data": {"step": n, "train_loss": 1 / (n + 1)},
        }
        for n in range(events)
    ]
    with database.write() as session:
        session.add(job)
        session.flush()
        session.execute(insert(JobEvent), log)
    database.close()


@contextmanager
def serving(folder: Path, project: Path) -> Iterator[str]:
    """The address of a server of the project."""
    settings = folder.with_name("server.yaml")
    settings.write_text("workbench: true\n")
    words = ["serve", "--port", "0", "--folder", folder, "--project", project, "--models", settings]
    process = subprocess.Popen(
        [sys.executable, "-m", "jangin.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process.stdout.readline().strip().partition("=")[2].removesuffix("/v1")
    finally:
        process.terminate()
        process.wait(timeout=60)


def load(url: str) -> tuple[float, bytes, int]:
    """(seconds, body, status) of one page."""
    start = time.perf_counter()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(quote(url, safe=":/?=&%"), headers=HEADERS)
        ) as reply:
            body, status = reply.read(), reply.status
    except urllib.error.HTTPError as error:
        body, status = error.read(), error.code
    return time.perf_counter() - start, body, status


def addresses(table: Path) -> tuple[str, ...]:
    """The pages that are measured; one of them is a row in the middle of a table."""
    middle = f"{TABLE}/{pq.read_metadata(table).num_rows // 2}"
    return (*ROOMS, *(f"{TABLE}{query}" for query in QUERIES), middle, *SUMMARIES)


def prepare(root: str, pages: Sequence[str]) -> dict[str, tuple[float, float]]:
    """{page: (seconds of its first reply, seconds until it was there)}, once all of them are."""
    begun, first, there = {}, {}, {}
    for page in pages:
        begun[page] = time.perf_counter()
        first[page], body, status = load(f"{root}{page}")
        if _is_there(page, body, status):
            there[page] = first[page]
    while waiting := [page for page in pages if page not in there]:
        time.sleep(LOOK_SECONDS)
        for page in waiting:
            _, body, status = load(f"{root}{page}")
            if _is_there(page, body, status):
                there[page] = time.perf_counter() - begun[page]
            elif time.perf_counter() - begun[page] > PATIENCE_SECONDS:
                raise SystemExit(f"{page} is not there {PATIENCE_SECONDS} s after it was asked for")
    return {page: (first[page], there[page]) for page in pages}


def _is_there(page: str, body: bytes, status: int) -> bool:
    """True for the whole page; an error ends the bench, as it would never become one."""
    if status not in (OK, PREPARING):
        raise SystemExit(f"{page} answers {status}")
    return status == OK and SPINNER not in body


def measure(root: str, page: str, loads: int, first: float, there: float) -> str:
    """One line of the table: the page, and the pages after it."""
    seconds, sizes, address = [], [], page
    for _ in range(loads):
        took, body, _ = load(f"{root}{address}")
        seconds.append(took)
        sizes.append(len(body))
        following = NEXT.search(body.decode())
        address = following[1].replace("&amp;", "&") if following else page
    late = sorted(seconds)[min(len(seconds) - 1, round(0.95 * len(seconds)))]
    return (
        f"{page:48} first {first * 1000:6.1f} ms   there {there:5.2f} s   "
        f"median {statistics.median(seconds) * 1000:7.1f} "
        f"  p95 {late * 1000:7.1f}   slowest {max(seconds) * 1000:7.1f} ms   "
        f"{max(sizes) / 1000:6.1f} kB"
    )


def paints(root: str, pages: Sequence[str]) -> Iterator[str]:
    """A line per page: time to the first paint, and bytes loaded."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        yield "first paint: not measured, because playwright is not installed"
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for page in pages:
            context = browser.new_context(base_url=root, locale="ko-KR")
            tab = context.new_page()
            loaded: list[int] = []
            tab.on(
                "response",
                lambda response, loaded=loaded: loaded.append(
                    0 if "image" in response.headers.get("content-type", "") else _size(response)
                ),
            )
            tab.goto(page)
            tab.wait_for_load_state("load")
            paint = tab.evaluate(PAINT)
            yield f"{page:48} first paint {paint:7.0f} ms   {sum(loaded) / 1000:7.1f} kB in all"
            context.close()
        browser.close()


def _size(response) -> int:
    if response.status != 200 or "event-stream" in response.headers.get("content-type", ""):
        return 0
    return len(response.body())


def main() -> None:
    """Build, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queue", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep the project here, to measure again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        path = folder / "project.yaml"
        if not path.exists():
            folder.mkdir(exist_ok=True)
            make_project(folder)
            store = folder / "store"
            for name, rows in (
                ("curate/*/examples", arguments.rows),
                ("paraphrase/*/examples", arguments.queue),
                ("synthesize/*/examples", arguments.queue),
                ("evaluate/*/predictions", arguments.rows // 10),
            ):
                for table in store.glob(f"{name}.parquet"):
                    enlarge(table, rows)
            with serving(folder / "server", path):
                pass  # creates the database
            add_job(folder / "server", arguments.events)
        table = next((folder / "store").glob("curate/*/examples.parquet"))
        start = time.perf_counter()
        pl.scan_parquet(table).slice(arguments.rows // 2, 50).collect()
        print(f"polars, 50 rows in the middle of the table: {time.perf_counter() - start:.3f} s")
        with serving(folder / "server", path) as root:
            pages = addresses(table)
            for page, times in prepare(root, pages).items():
                print(measure(root, page, arguments.loads, *times), flush=True)
            for line in paints(root, pages):
                print(line, flush=True)


if __name__ == "__main__":
    main()
