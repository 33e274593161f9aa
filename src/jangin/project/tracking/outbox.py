"""What is still to be sent to a tracker, kept on disk so that nothing is lost while it is down.

    <store>/tracking/<stage>-<key16>/run.json         all that is to be sent; see `RunContent`
    <store>/tracking/<stage>-<key16>/<tracker>.json   what one tracker has of it; see `Sent`

Metrics are read from `metrics.jsonl` of the run's folder, their times from `runtime/pace.jsonl`.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, Field

from jangin.core.digest import digest_file, digest_value
from jangin.core.store import MANIFEST, RUNTIME
from jangin.project.tracking.tracker import (
    Point,
    RunContent,
    TrackedRun,
    TrackedTable,
    TrackerConfig,
)

FOLDER = "tracking"
RUN = "run.json"
METRICS = "metrics.jsonl"
PACE = f"{RUNTIME}/pace.jsonl"
_RETRY_SECONDS = 30.0
_LINES_AT_ONCE = 200
_NOT_SENT = frozenset({MANIFEST, RUN})
_TABLES = ".parquet"
"""Tables of examples hold the organisation's texts; no tracker gets them."""
_MIB = 1024**2


class Sent(BaseModel):
    """What a tracker has of one run."""

    run_id: str | None = None
    parameters: bool = False
    step: int = 0
    """Metrics up to this step."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Of tables and files."""
    complete: str = ""
    """Digest of the ended run that the tracker has completely; empty if there is none."""


@dataclass(slots=True)
class Outbox:
    """The runs of one store, for one tracker."""

    store: Path
    tracker: TrackerConfig
    notify: Callable[[str], None]
    retry_seconds: float = _RETRY_SECONDS
    _open: dict[Path, TrackedRun] = field(default_factory=dict)
    _tails: dict[Path, "_Tail"] = field(default_factory=dict)
    _problem: str = ""
    """Why the last attempt failed; empty if it did not."""
    _retry_at: float = 0.0
    _hopeless: bool = False

    def sync(self, *, last: bool = False) -> bool:
        """Send what is new of every run; returns True if nothing is left to send.

        After a failure, tries again from `retry_seconds` on, or at once with `last`.
        """
        left = unsent(self.store, self.tracker)
        if self._hopeless or not left or (time.monotonic() < self._retry_at and not last):
            return not left
        for folder in left:
            try:
                self._send(folder, last=last)
            except ImportError as error:
                self._hopeless = True
                self._report(missing_package(self.tracker, error))
                return False
            except (Exception, SystemExit) as error:  # noqa: BLE001  clients of trackers raise anything
                self._open.pop(folder, None)
                self._retry_at = time.monotonic() + self.retry_seconds
                self._report(
                    f"{self._name} does not take what is sent: {_first_line(error)}. The run goes "
                    "on; what is missing is kept and sent later."
                )
                return False
        self._problem = ""
        return not unsent(self.store, self.tracker)

    @property
    def _name(self) -> str:
        return f"{getattr(self.tracker, 'type', 'tracker')} ({self.tracker.destination})"

    def _report(self, problem: str) -> None:
        """Report a problem once, until it is over."""
        if not self._problem:
            self.notify(problem)
        self._problem = problem

    def _send(self, folder: Path, *, last: bool) -> None:
        run = read_run(folder)
        path = folder / f"{self.tracker.label}.json"
        sent = _read_sent(path)
        opened = self._open.get(folder)
        if opened is None:
            opened = self._open[folder] = self.tracker.open(run, sent.run_id, self.store)
        sent.run_id = opened.run_id
        _write(path, sent)
        if not sent.parameters:
            opened.parameters(run.parameters)
            sent.parameters = True
            _write(path, sent)
        tail = self._tails.setdefault(folder, _Tail())
        for points in _batches(tail.after(run.folder, sent.step)):
            opened.metrics(points)
            sent.step = points[-1].step
            _write(path, sent)
        if run.figures and _is_new(sent, "figures", digest_value(run.figures)):
            opened.metrics([Point(max(sent.step, 1), time.time(), run.figures)])
        for table in (*run.tables, *_larger_files(run, self.tracker.largest_file_mib)):
            if _is_new(sent, f"table {table.name}", digest_value(table.model_dump(mode="json"))):
                opened.table(table)
        for file, name in _small_files(run, self.tracker.largest_file_mib):
            if _is_new(sent, f"file {name}", digest_file(file)):
                opened.file(file, name)
        _write(path, sent)
        if run.state != "running" or last:
            # A run that is not followed any more was killed.
            opened.close("stopped" if run.state == "running" else run.state)
            del self._open[folder]
            sent.complete = "" if run.state == "running" else _digest(run)
            _write(path, sent)


def unsent(store: Path, tracker: TrackerConfig) -> list[Path]:
    """Folders of the runs that this tracker does not have completely."""
    folders = []
    for path in sorted((store / FOLDER).glob(f"*/{RUN}")):
        run = read_run(path.parent)
        if tracker.label not in run.trackers or not run.folder.exists():
            continue
        if _read_sent(path.parent / f"{tracker.label}.json").complete != _digest(run):
            folders.append(path.parent)
    return folders


def folder_of(store: Path, stage: str, key: str) -> Path:
    """Where a run is described."""
    return store / FOLDER / f"{stage}-{key[:16]}"


def read_run(folder: Path) -> RunContent:
    """The description of a run."""
    return RunContent.model_validate_json((folder / RUN).read_bytes())


def write_run(store: Path, run: RunContent) -> None:
    """Describe a run, for the trackers' processes to send."""
    folder = folder_of(store, run.stage, run.key)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RUN).exists() or read_run(folder) != run:
        _write(folder / RUN, run)


def missing_package(tracker: TrackerConfig, error: ImportError | None = None) -> str:
    """That the tracker's package is not installed, and how to install it."""
    kind = getattr(tracker, "type", "")
    detail = "" if error is None or error.name in (None, tracker.package) else f" ({error})"
    return (
        f"`track: [{kind}]` needs the package {tracker.package}, which cannot be imported{detail}. "
        f"Install it with: pip install 'jangin[{kind}]'"
    )


def _digest(run: RunContent) -> str:
    return digest_value(run.model_dump(mode="json"))


def _read_sent(path: Path) -> Sent:
    return Sent.model_validate_json(path.read_bytes()) if path.exists() else Sent()


def _write(path: Path, content: BaseModel) -> None:
    """Replace a file in one step: another process reads the old one or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(content.model_dump_json(), encoding="utf-8")
    partial.replace(path)


def _is_new(sent: Sent, name: str, digest: str) -> bool:
    """True where the tracker has another version or none; noted as sent."""
    if sent.digests.get(name) == digest:
        return False
    sent.digests[name] = digest
    return True


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text[:200].rstrip(".")


@dataclass(slots=True)
class _Tail:
    """How far `metrics.jsonl` has been read."""

    offset: int = 0

    def after(self, folder: Path, step: int) -> list[Point]:
        """The points of complete lines that are new, with a higher step than `step`."""
        path = folder / METRICS
        if not path.exists():
            return []
        if path.stat().st_size < self.offset:  # a resumed run truncates it
            self.offset = 0
        with path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        pace = _pace(folder) if whole else {}
        points = [_point(json.loads(line), pace) for line in whole.splitlines()]
        self.offset += len(whole)
        return [point for point in points if point.step > step]


def _pace(folder: Path) -> dict[int, dict[str, float]]:
    """{step: time and speed}; empty for artifacts from before they were recorded."""
    rows: dict[int, dict[str, float]] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / PACE).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[int(row["step"])] = row
    return rows


def _point(line: dict[str, float | None], pace: dict[int, dict[str, float]]) -> Point:
    step = int(line.pop("step") or 0)
    values = {name: float(value) for name, value in line.items() if value is not None}
    timed = pace.get(step)
    if timed is None:
        return Point(step, time.time(), values)
    values["tokens_per_second"] = timed["tokens_per_second"]
    return Point(step, timed["at"], values)


def _batches(points: list[Point]) -> Iterator[list[Point]]:
    for start in range(0, len(points), _LINES_AT_ONCE):
        yield points[start : start + _LINES_AT_ONCE]


def _files(run: RunContent) -> Iterator[tuple[Path, str]]:
    """(file, its name in the run) of an ended run; while training, files still change."""
    if run.state == "finished":
        for path in sorted(run.folder.rglob("*")):
            if path.is_file() and path.suffix != _TABLES and path.name not in _NOT_SENT:
                yield path, path.relative_to(run.folder).as_posix()
    for path in run.files:
        if path.exists():
            yield path, path.name


def _small_files(run: RunContent, largest_mib: float) -> list[tuple[Path, str]]:
    return [(p, name) for p, name in _files(run) if p.stat().st_size <= largest_mib * _MIB]


def _larger_files(run: RunContent, largest_mib: float) -> Iterator[TrackedTable]:
    """A table that names the files that are not sent."""
    rows = tuple(
        (name, path.stat().st_size, digest_file(path), str(path.resolve()))
        for path, name in _files(run)
        if path.stat().st_size > largest_mib * _MIB
    )
    if rows:
        yield TrackedTable(name="files", columns=("file", "bytes", "sha256", "path"), rows=rows)
