import json
from pathlib import Path

import pytest

from jangin.core.config import StageConfig
from jangin.core.errors import StoreError
from jangin.core.events import Progress
from jangin.core.records import Message
from jangin.core.stage import Cost, Services, Stage, StageContext
from jangin.core.store import JOURNAL, RUNTIME

ROWS = [Message(role="user", content="a"), Message(role="user", content="b")]


class Counting(Progress):
    """A progress that keeps what it was told."""

    def __init__(self):
        super().__init__()
        self.events = []

    def start(self, label, total):
        self.events.append((label, total))
        return 7

    def advance(self, bar, steps=1, note=""):
        self.events.append((bar, steps, note))

    def stop(self, bar):
        self.events.append(("stop", bar))


@pytest.fixture
def context(make_context):
    return make_context(StageConfig(), {"models": (Message, ROWS)})


def test_a_stage_reads_the_kinds_it_was_given_and_knows_which_there_are(context):
    assert context.read("models", Message) == ROWS
    assert (context.has("models"), context.has("chunks")) == (True, False)
    assert (context.folder("models") / "models.parquet").exists()


def test_what_a_stage_writes_is_a_table_in_its_workspace(context):
    context.write("refs", Message, ROWS)
    assert [path.name for path in context.workspace.iterdir()] == ["refs.parquet"]


def test_a_damaged_input_is_a_store_error(context):
    (context.folder("models") / "models.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="Delete its folder and run again"):
        context.read("models", Message)


def test_a_journal_gives_back_what_was_noted_without_its_torn_end(context):
    assert context.done("refs", Message) == []
    context.note("refs", ROWS[:1])
    context.note("refs", ROWS[1:])
    path = context.workspace / JOURNAL / "refs.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    assert context.done("refs", Message) == ROWS[:1]
    context.note("refs", ROWS[1:])
    assert context.done("refs", Message) == ROWS


def test_runtime_files_have_a_folder_of_their_own(context):
    context.runtime_file("seconds.json").write_text(json.dumps(1))
    assert (context.workspace / RUNTIME / "seconds.json").exists()


def test_tracking_moves_a_bar_for_every_item_and_ends_it_even_after_an_error(tmp_path, ledger):
    progress = Counting()
    services = Services(tmp_path, lambda name: pytest.fail(name), ledger, progress)
    context = StageContext(StageConfig(), {}, tmp_path, services)
    assert list(context.track(["a", "b"], "load")) == ["a", "b"]
    assert progress.events == [("load", 2), (7, 1, ""), (7, 1, ""), ("stop", 7)]
    progress.events.clear()
    tracked = context.track((n for n in range(3)), "load", total=3)
    next(tracked)
    tracked.close()
    assert progress.events == [("load", 3), ("stop", 7)]


def test_a_silent_progress_keeps_its_messages():
    progress = Progress()
    progress.message("two files are unreadable")
    progress.advance(progress.start("x", None))
    assert progress.messages == ["two files are unreadable"]


def test_a_stage_needs_only_name_version_kinds_and_a_function():
    stage = Stage(name="s", version=1, reads=(), makes=("x",), run=lambda _context: None)
    config = StageConfig()
    assert (stage.may_read, stage.resumable) == ((), False)
    assert (stage.sources(config, Path()), stage.machine(config)) == ({}, {})
    assert (stage.teachers(config), stage.cost(None)) == ((), Cost())
