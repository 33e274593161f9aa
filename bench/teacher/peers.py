"""DataDesigner and bespokelabs-curator beside us: the same rows, endpoint, kills and faults."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ours
from material import HERE, Endpoint, code, endpoint

VENVS = HERE.parent / ".venvs"
INSTALLS = {
    "datadesigner": ("data-designer==0.9.7",),
    "curator": ("bespokelabs-curator==0.1.31", "datasets==3.6.0", "openai==2.30.0"),
}
CONTESTANTS = {
    "ours": (),
    "datadesigner": (),
    "curator": (),
    "curator, rows may be missing": ("curator", "missing"),
}
"""What is run, and its script with an argument where the name does not say it."""
QUIET = {
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
LIMIT_SECONDS = 150
"""A command that takes longer is taken to hang; our own takes a few seconds."""


def install(peer: str) -> str:
    """Make the peer's environment where it is missing; returns why that failed, or nothing."""
    home = VENVS / peer
    done = home / "installed"
    wanted = "\n".join(INSTALLS[peer]) + "\n"
    if done.exists() and done.read_text() == wanted:
        return ""
    print(f"installing {peer} into {home}", flush=True)
    venv.create(home, with_pip=True, clear=True)
    command = [home / "bin" / "python", "-m", "pip", "install", "--quiet", *INSTALLS[peer]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        return lines[0] if lines else result.stderr[-300:]
    done.write_text(wanted)
    return ""


@dataclass
class Leg:
    """One command on one folder."""

    exit_code: int | None = None
    """None when it was taken to hang."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    rows: int = 0
    asked: int = 0
    """Requests that reached the endpoint during this command, failed tries included."""
    paid_twice: int = 0
    """Requests that the endpoint answered whole more than once, all commands together."""
    note: str = ""

    @property
    def ending(self) -> str:
        """How the command ended."""
        return "hangs" if self.exit_code is None else f"exit {self.exit_code}"


@dataclass
class Card:
    """Everything that one contestant did."""

    name: str
    clean: Leg = field(default_factory=Leg)
    added: Leg = field(default_factory=Leg)
    killed: Leg = field(default_factory=Leg)
    faults: Leg = field(default_factory=Leg)
    problem: str = ""


Start = Callable[[Path, int, Endpoint], subprocess.Popen[bytes]]
Count = Callable[[Path], int]


def start_ours(folder: Path, rows: int, server: Endpoint) -> subprocess.Popen[bytes]:
    return ours.start(ours.write_project(folder, rows, server))


def rows_of_ours(folder: Path) -> int:
    return ours.look(folder / "project.yaml", 0, 0.0).rows


def starter(peer: str, *arguments: str) -> Start:
    def start(folder: Path, rows: int, server: Endpoint) -> subprocess.Popen[bytes]:
        home = VENVS / peer
        (folder / "rows.jsonl").unlink(missing_ok=True)
        environment = {**os.environ, **QUIET, "HOME": str(folder)}
        for place in home.glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers"):
            environment["TIKTOKEN_CACHE_DIR"] = str(place)  # it ships the file it would download
        command = [
            home / "bin" / "python",
            HERE / f"{peer}_peer.py",
            str(server.port),
            str(rows),
            str(folder),
            *arguments,
        ]
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    return start


def rows_of_peer(folder: Path) -> int:
    """Rows whose text holds the pair with the right answer."""
    path = folder / "rows.jsonl"
    right = set()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        try:
            (pair,) = json.loads(row["text"])["pairs"]
            if pair["answer"] == code(row["number"]):
                right.add(row["number"])
        except (ValueError, TypeError, KeyError):
            continue
    return len(right)


def finish(
    start: Start, count: Count, folder: Path, rows: int, server: Endpoint, limit: float
) -> Leg:
    """Run one command to its end, or for `limit` seconds."""
    asked = server.totals()["asked"]
    used = _children_cpu()
    begun = time.monotonic()
    process = start(folder, rows, server)
    leg = Leg()
    try:
        leg.exit_code = process.wait(limit)
    except subprocess.TimeoutExpired:
        _kill(process)
    leg.wall_seconds = time.monotonic() - begun
    leg.cpu_seconds = _children_cpu() - used
    leg.rows = count(folder)
    totals = server.totals()
    leg.asked, leg.paid_twice = totals["asked"] - asked, totals["paid_twice"]
    return leg


def kill_half_way(start: Start, folder: Path, rows: int, server: Endpoint) -> None:
    """Kill -9 the command and all of its children once half of the rows were answered."""
    process = start(folder, rows, server)
    end = time.monotonic() + LIMIT_SECONDS
    while server.totals()["answered"] < rows // 2 and process.poll() is None:
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    _kill(process)
    time.sleep(0.3)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def contest(name: str, rows: int, seed: int) -> Card:
    """All legs of one contestant."""
    card = Card(name)
    if name == "ours":
        start, count = start_ours, rows_of_ours
    else:
        peer, *arguments = CONTESTANTS[name] or (name,)
        card.problem = install(peer)
        if card.problem:
            return card
        start, count = starter(peer, *arguments), rows_of_peer
    place = Path(tempfile.mkdtemp())
    try:
        folders = [place / leg for leg in ("clean", "killed", "faults")]
        for folder in folders:
            folder.mkdir()
        clean, killed, faults = folders
        with endpoint("--seed", seed) as server:
            card.clean = finish(start, count, clean, rows, server, LIMIT_SECONDS)
            card.added = finish(start, count, clean, rows + 1, server, LIMIT_SECONDS)
        with endpoint("--seed", seed) as server:
            kill_half_way(start, killed, rows, server)
            card.killed = finish(start, count, killed, rows, server, LIMIT_SECONDS)
        with endpoint("--seed", seed, "--faults") as server:
            card.faults = finish(start, count, faults, rows, server, 2 * LIMIT_SECONDS)
        for folder in folders:
            log = f"teacher-{name.split(',')[0]}-{folder.name}.log"
            shutil.copy(folder / "log.txt", Path(tempfile.gettempdir()) / log)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return card


def table(cards: list[Card], rows: int) -> str:
    """One line per contestant, as Markdown."""
    lines = [
        "| | clean: wall s, CPU s, rows | one row added: calls, rows "
        "| killed half-way, resumed: paid twice, rows | with faults: rows, calls, wall s |",
        "|---|---|---|---|---|",
    ]
    for card in cards:
        if card.problem:
            lines.append(f"| {card.name} | cannot be installed: {card.problem} | | | |")
            continue
        c, a, k, f = card.clean, card.added, card.killed, card.faults
        lines.append(
            f"| {card.name} | {c.wall_seconds:.1f}, {c.cpu_seconds:.1f}, {c.rows} ({c.ending}) "
            f"| {a.asked}, {a.rows} of {rows + 1} ({a.ending}) "
            f"| {k.paid_twice}, {k.rows} ({k.ending}) "
            f"| {f.rows} of {rows}, {f.asked}, {f.wall_seconds:.1f} ({f.ending}) |"
        )
    return "\n".join(lines)
