"""kill -9 the demo at random moments, run it again each time, and compare what comes out.

    python bench/kill [--kills 20] [--seed 0] [--small]

The teacher is a server on this machine that counts requests, so that "no reply is asked for
twice" is counted by the one who would send the bill. Exits 1 if a digest differs or a finished
call was repeated.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
HANDBOOK = ROOT / "projects" / "handbook"


def copy_project(folder: Path, port: int, *, small: bool) -> Path:
    """The demo with an endpoint instead of recorded replies; `small` has no scan and few steps."""
    shutil.copytree(HANDBOOK, folder, ignore=shutil.ignore_patterns("store", "replies.jsonl"))
    path = folder / "project.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    live = data["teachers"]["writer"]["record_from"]
    data["teachers"]["writer"] = {**live, "base_url": f"http://127.0.0.1:{port}/v1"}
    if small:
        for pdf in (folder / "documents").glob("*.pdf"):
            pdf.unlink()
        data["models"]["catalog"]["base"]["size"] = "0.5M"
        sft = data["models"]["sft"]
        sft |= {"length": {"type": "steps", "steps": 24}, "checkpoint_every_steps": 6}
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def start(project: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jangin.cli", "run", "--project", str(project)]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)


def digests(project: Path) -> dict[str, str]:
    """Content digest of every artifact, by stage and key."""
    found = {}
    for path in sorted((project.parent / "store").glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found[f"{manifest['stage']} {manifest['key'][:16]}"] = manifest["content"]
    return found


def count(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count") as response:
        return dict(json.load(response))


@contextmanager
def serve(port: int) -> Iterator[None]:
    """The handbook's teacher as a server, which counts what it answered."""
    command = [sys.executable, str(HANDBOOK / "teach.py"), "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--delay-seconds", "0.05"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            try:
                count(port)
            except OSError:
                time.sleep(0.2)
            else:
                break
        else:
            sys.exit("the teacher's server did not start")
        yield
    finally:
        server.kill()
        server.wait()


@dataclass(frozen=True)
class Round:
    """One store from its first run to the one that came through."""

    kills: int
    digests: dict[str, str]


def run_killed(project: Path, kills: int, longest_seconds: float, chance: random.Random) -> Round:
    """Run, kill after a random time, run again, until a run comes through."""
    folder = project.parent
    log = folder / "log.txt"
    used = 0
    while True:
        process = start(project, log)
        try:
            process.wait(chance.uniform(0.3, longest_seconds) if used < kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            used += 1
            continue
        if process.returncode:
            sys.exit(f"a run after {used} kills failed:\n{log.read_text(encoding='utf-8')[-3000:]}")
        return Round(used, digests(project))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="no scan, few training steps")
    parser.add_argument("--port", type=int, default=8799)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serve(options.port):
            begun = time.monotonic()
            project = copy_project(folder / "calm", options.port, small=options.small)
            calm = run_killed(project, 0, 0, chance)
            seconds = time.monotonic() - begun
            calls = count(options.port)["requests"]
        print(f"undisturbed: {seconds:.0f} s, {len(calm.digests)} artifacts, {calls} calls")
        left, number = options.kills, 0
        while left > 0:
            number += 1
            with serve(options.port):
                place = folder / f"round{number}"
                project = copy_project(place, options.port, small=options.small)
                killed = run_killed(project, left, seconds / 2, chance)
                counted = count(options.port)
            left -= killed.kills
            same = killed.digests == calm.digests
            failed |= not same or counted["asked_again"] > 0
            print(
                f"round {number}: {killed.kills} kills, digests "
                f"{'equal' if same else 'DIFFER'}, {counted['requests']} calls answered, "
                f"{counted['asked_again']} of them twice",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
