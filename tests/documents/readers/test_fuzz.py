"""Damaged and hostile files are read or reported: no traceback, no hang, nothing outside memory."""

import json
import os
import resource
import subprocess
import sys
import time

import pytest

from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.documents.readers.reader import ReaderSettings, SourceFile, UnreadableError
from jangin.documents.reading import _read
from tests.documents.corpus.every import all_cases
from tests.documents.corpus.mutations import bombs, mutated

REFUSED = (
    "spaces.docx", "styles.docx", "laughs.docx", "outside.docx", "section.hwpx", "entries.docx",
)  # fmt: skip
MEMORY = 1536 * 1024**2


def outcomes(folder, files):
    """{name: `read` or the reason}, and the seconds of CPU time of the slowest file."""
    ledger = Ledger(folder / "ledger.sqlite")
    settings = ReaderSettings(ledger, Progress(), ocr="never")
    results, slowest = {}, 0.0
    for name, data in files:
        path = folder / f"file{name[name.rfind('.') :]}"
        path.write_bytes(data)
        start = time.process_time()
        try:
            _read(SourceFile(name, path, "0" * 64), settings)
            results[name] = "read"
        except UnreadableError as error:
            results[name] = error.reason
        slowest = max(slowest, time.process_time() - start)
    ledger.close()
    return results, slowest


@pytest.mark.slow
def test_mutated_files_are_read_or_reported(tmp_path):
    results, slowest = outcomes(tmp_path, mutated(all_cases(), 300, seed=1))
    assert len(results) == 300
    assert 50 < sum(result == "read" for result in results.values()) < 250
    surprises = {name: result for name, result in results.items() if "an error in jangin" in result}
    assert not surprises
    assert slowest < 5


@pytest.mark.long
@pytest.mark.slow
def test_bombs_are_refused_in_little_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.documents.readers.test_fuzz", str(tmp_path)],
        capture_output=True, text=True, timeout=240, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    results, slowest = json.loads(done.stdout)
    assert all(results[name] != "read" for name in REFUSED)
    assert not {name: result for name, result in results.items() if "memory" in result}
    assert slowest < 20


if __name__ == "__main__":
    from pathlib import Path

    folder = Path(sys.argv[1])
    hostile = bombs()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stdout.write(json.dumps(outcomes(folder, hostile)))
