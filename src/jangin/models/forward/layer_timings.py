"""What was measured on this machine: one line for each device, model and size of batches."""

import os
from contextlib import suppress
from math import ceil
from pathlib import Path

from jangin.core.errors import DataError, counted
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Record


class Timing(Record):
    """One line of compile.jsonl: the layers of a model, eager and compiled."""

    key: str
    """Digest of the device's name, torch's version, the layers and the size of batches."""
    device: str
    eager: float
    """Seconds of a forward and a backward pass per token."""
    compiled: float | None
    """The same with compiled layers; None where compiling took too long."""
    compiling: float
    """Seconds that compiling took."""

    def break_even(self, tokens: float) -> float | None:
        """Steps of this many tokens after which compiling has paid; None: never."""
        if self.compiled is None or self.compiled >= self.eager:
            return None
        return self.compiling / ((self.eager - self.compiled) * tokens)

    def text(self, tokens: float) -> str:
        """Both ways and the break-even, in seconds per step of this many tokens."""
        eager = f"a step takes {self.eager * tokens:.3g} s eagerly"
        if self.compiled is None:
            return f"{eager}, and compiling took longer than {self.compiling:.0f} s"
        steps = self.break_even(tokens)
        paid = "never pay" if steps is None else f"pay after {counted(ceil(steps), 'step')}"
        both = f"{eager} and {self.compiled * tokens:.3g} s compiled"
        return f"{both}; {self.compiling:.3g} s of compiling {paid}"


def timings_file() -> Path:
    """The file of this user on this machine."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "jangin" / "compile.jsonl"


def find_timing(key: str) -> Timing | None:
    """The newest with this key; None as well where the file cannot be read."""
    with suppress(OSError, RuntimeError, DataError):  # of a home folder that is not known
        lines = [line for line in complete_records(timings_file(), Timing) if line.key == key]
        return lines[-1] if lines else None
    return None


def keep_timing(timing: Timing) -> None:
    """Add it to the file; where that cannot be written, the next run measures again."""
    with suppress(OSError, RuntimeError):
        path = timings_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        append_durably(path, [timing.model_dump_json()])
