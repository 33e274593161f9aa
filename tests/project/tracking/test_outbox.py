"""What trackers are sent, while they work, while they are down, and after a kill."""

import importlib
import json
import tomllib
from pathlib import Path

import pytest

from jangin.project.tracking.outbox import FOLDER, Outbox, folder_of, unsent, write_run
from jangin.project.tracking.table import TRACKERS, config_of, type_of
from jangin.project.tracking.tracker import RunContent, TrackedTable, TrackerConfig

KEY = "ab" * 32
TABLE = TrackedTable(name="results", columns=("system", "right"), rows=(("tuned", 0.75),))


class Diary(TrackerConfig):
    """A tracker that keeps what it is told in a file, and fails while a file says so."""

    type: str = "diary"

    @property
    def package(self):
        return "json"

    @property
    def destination(self):
        return "the diary"

    def open(self, run, run_id, store):
        return DiaryRun(store, run_id or f"run of {run.stage}")


class DiaryRun:
    def __init__(self, store, run_id):
        self.store, self.run_id = store, run_id
        self.note("open", run_id)

    def note(self, *what):
        if (self.store / "down").exists():
            raise ConnectionError("no route to host")
        with (self.store / "diary.jsonl").open("a") as stream:
            stream.write(json.dumps(what) + "\n")

    def parameters(self, values):
        self.note("parameters", values)

    def metrics(self, points):
        for point in points:
            self.note("step", point.step, point.at, dict(point.values))

    def table(self, table):
        self.note("table", table.name)

    def file(self, path, name):
        self.note("file", name)

    def close(self, state):
        self.note("close", state)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "sft").mkdir()
    return tmp_path


def describe(store, state="running", **changes):
    fields = {
        "project": "small",
        "variant": "main",
        "stage": "sft",
        "key": KEY,
        "state": state,
        "folder": store / "sft",
        "project_folder": store,
        "parameters": {"sft.learning_rate": 0.001},
        "trackers": (Diary().label,),
    }
    write_run(store, RunContent(**fields | changes))


def train(store, *steps):
    (store / "sft" / "runtime").mkdir(exist_ok=True)
    with (store / "sft" / "runtime" / "pace.jsonl").open("a") as stream:
        for step in steps:
            stream.write(json.dumps({"step": step, "at": 100.0 + step, "tokens_per_second": 9}))
            stream.write("\n")
    with (store / "sft" / "metrics.jsonl").open("a") as stream:
        for step in steps:
            line = {"step": step, "train_loss": 1 / step, "valid_loss": None}
            stream.write(json.dumps(line) + "\n")


def diary(store):
    path = store / "diary.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps(store):
    return [entry[1] for entry in diary(store) if entry[0] == "step"]


def test_metrics_are_sent_as_they_are_written_with_their_time_and_speed(store):
    outbox = Outbox(store, Diary(), print)
    describe(store)
    train(store, 1)
    outbox.sync()
    train(store, 2, 3)
    with (store / "sft" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "train_')  # half a line
    outbox.sync()
    assert steps(store) == [1, 2, 3]
    assert diary(store)[3] == ["step", 2, 102.0, {"train_loss": 0.5, "tokens_per_second": 9}]
    assert [entry[0] for entry in diary(store)].count("parameters") == 1


def test_a_tracker_that_is_down_is_named_once_and_gets_everything_later(store):
    said = []
    outbox = Outbox(store, Diary(), said.append, retry_seconds=0)
    (store / "down").touch()
    describe(store)
    for step in (1, 2, 3):
        train(store, step)
        assert not outbox.sync()
    assert len(said) == 1
    assert "no route to host" in said[0]
    assert steps(store) == []
    (store / "down").unlink()
    outbox.sync()
    assert steps(store) == [1, 2, 3]
    (store / "down").touch()
    train(store, 4)
    outbox.sync()
    assert len(said) == 2


def test_a_tracker_that_is_down_is_not_tried_at_every_turn(store):
    outbox = Outbox(store, Diary(), print, retry_seconds=600)
    (store / "down").touch()
    describe(store)
    outbox.sync()
    (store / "down").unlink()
    assert not outbox.sync()
    assert diary(store) == []
    outbox.sync(last=True)
    assert diary(store)


def test_a_resumed_run_goes_on_in_the_same_run_and_repeats_no_step(store):
    describe(store)
    train(store, 1, 2, 3)
    Outbox(store, Diary(), print).sync(last=True)
    assert diary(store)[-1] == ["close", "stopped"]
    # Resumed from the checkpoint of step 2: the file is truncated, and step 3 written again.
    metrics = store / "sft" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    train(store, 3, 4)
    describe(store, "finished")
    assert Outbox(store, Diary(), print).sync()
    assert steps(store) == [1, 2, 3, 4]
    assert {entry[1] for entry in diary(store) if entry[0] == "open"} == {"run of sft"}
    assert [entry[0] for entry in diary(store)].count("parameters") == 1
    assert unsent(store, Diary()) == []


def test_results_and_small_files_are_sent_once_and_again_when_they_change(store):
    train(store, 1)
    (store / "sft" / "adapter").mkdir()
    (store / "sft" / "adapter" / "adapter_config.json").write_text("{}")
    (store / "sft" / "adapter" / "adapter.safetensors").write_bytes(bytes(3 * 2**20))
    (store / "sft" / "rows.parquet").write_bytes(b"secret")
    tracker = Diary(largest_file_mib=2)
    describe(store, "finished", tables=(TABLE,), figures={"evaluate/test/tuned/right": 0.75})
    assert Outbox(store, tracker, print).sync()
    told = diary(store)
    assert ["table", "results"] in told
    assert ["file", "adapter/adapter_config.json"] in told
    assert ["table", "files"] in told, "the weights are named, not sent"
    assert not any("safetensors" in str(entry) or "parquet" in str(entry) for entry in told)
    assert Outbox(store, tracker, print).sync()
    assert diary(store) == told
    report = store / "report.html"
    report.write_text("<p>")
    describe(
        store,
        "finished",
        tables=(TABLE,),
        figures={"evaluate/test/tuned/right": 0.75},
        files=(report,),
    )
    assert Outbox(store, tracker, print).sync()
    new = [entry for entry in diary(store)[len(told) :] if entry[0] not in ("open", "close")]
    assert new == [["file", "report.html"]]


def test_a_run_is_only_for_the_trackers_that_it_names(store):
    describe(store, trackers=("mlflow-12345678",))
    train(store, 1)
    assert Outbox(store, Diary(), print).sync()
    assert diary(store) == []


def test_a_missing_package_is_one_sentence_and_is_not_tried_again(store):
    class Absent(Diary):
        def open(self, run, run_id, store):
            importlib.import_module("no_such_package_here")

    said = []
    outbox = Outbox(store, Absent(), said.append, retry_seconds=0)
    describe(store, trackers=(Absent().label,))
    assert not outbox.sync()
    assert not outbox.sync()
    (sentence,) = said
    assert "pip install 'jangin[diary]'" in sentence


def test_another_destination_is_another_tracker():
    here, there = (
        config_of(TRACKERS[0](type="mlflow", uri=uri)) for uri in ("http://a", "http://b")
    )
    assert here.label != there.label
    small = TRACKERS[0](type="mlflow", uri="http://a", largest_file_mib=1)
    assert small.label == here.label


@pytest.mark.parametrize("row", TRACKERS, ids=type_of)
def test_every_tracker_has_a_pip_extra_of_its_name(row):
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert any(config_of(type_of(row)).package in line for line in extras[type_of(row)])


def test_the_outbox_is_a_folder_of_the_store(store):
    describe(store)
    assert folder_of(store, "sft", KEY) == store / FOLDER / f"sft-{KEY[:16]}"
