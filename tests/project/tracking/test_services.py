"""MLflow, W&B and Trackio themselves, where they are installed: `make test-trackers`."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.project.tracking.conftest import STEPS

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path):
    """URL of an MLflow server with a database of its own, and the process."""
    pytest.importorskip("mlflow.server", reason="no MLflow server; see make test-trackers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = f"sqlite:///{tmp_path}/mlflow.sqlite"
    words = [
        "--backend-store-uri",
        database,
        "--artifacts-destination",
        str(tmp_path / "artifacts"),
    ]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((tmp_path / "server.log").read_text()[-2000:])
        yield url, process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_mlflow_server_has_the_run_with_settings_metrics_and_tables(tracking, server, tmp_path):
    from mlflow import MlflowClient

    url, _ = server
    assert tracking([{"type": "mlflow", "uri": url}]) == []
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("small")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "main-sft-abababab"
    assert run.info.status == "FINISHED"
    assert run.data.params["sft.learning_rate"] == "0.001"
    history = client.get_metric_history(run.info.run_id, "valid_loss")
    assert [(m.step, m.timestamp) for m in history] == [(s, (100 + s) * 1000) for s in STEPS]
    assert [m.value for m in history] == [pytest.approx(4 / step) for step in STEPS]
    assert run.data.metrics["tokens_per_second"] == 9.0
    assert run.data.metrics["evaluate/test/tuned/right_low"] == pytest.approx(0.53)
    path = client.download_artifacts(run.info.run_id, "tables/results.json", str(tmp_path))
    table = json.loads(Path(path).read_text())
    assert dict(zip(table["columns"], table["data"][0], strict=True))["right_high"] == 0.89
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"metrics.jsonl", "runtime", "tables"} <= files


def test_a_server_that_is_down_gets_everything_from_the_next_run(tracking, server):
    from mlflow import MlflowClient

    url, process = server
    os.killpg(process.pid, signal.SIGSTOP)  # takes connections and answers nothing
    begun = time.monotonic()
    said = tracking([{"type": "mlflow", "uri": url}])
    assert time.monotonic() - begun < 100
    assert any("next `jangin run` sends the rest" in line for line in said)
    os.killpg(process.pid, signal.SIGCONT)
    assert tracking([{"type": "mlflow", "uri": url}]) == []
    client = MlflowClient(url)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    whole = [run for run in runs if run.info.status == "FINISHED"]
    assert len(whole) == 1
    history = client.get_metric_history(whole[0].info.run_id, "train_loss")
    assert [m.step for m in history] == list(STEPS)


def wandb_records(path):
    """The records of a .wandb file: a log as LevelDB writes it, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts, records = path.read_bytes(), 7, [], []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(b"".join(parts)))
            parts = []
    return records


def values(items):
    return {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def test_wandb_offline_has_the_run_in_its_file(tracking, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="no W&B; see make test-trackers")
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    assert tracking([{"type": "wandb", "mode": "offline"}]) == []
    (path,) = (tmp_path / "store" / "wandb").glob("offline-run-*/run-*.wandb")
    records = wandb_records(path)
    rows = [values(r.history.item) for r in records if r.HasField("history")]
    trained = [row for row in rows if "valid_loss" in row]
    assert [row["step"] for row in trained] == list(STEPS)
    assert trained[0]["train_loss"] == pytest.approx(0.3)
    assert any(row.get("evaluate/test/tuned/right") == 0.75 for row in rows)
    assert any("results" in name for row in rows for name in row)
    (run,) = [record.run for record in records if record.HasField("run")]
    assert run.display_name == "main-sft-abababab"
    configs = [record.config for record in records if record.HasField("config")]
    settings = {k: v for part in (run.config, *configs) for k, v in values(part.update).items()}
    assert settings["sft.learning_rate"] == 0.001


def test_trackio_has_the_run_in_its_database(tracking, tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="no Trackio; see make test-trackers")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    assert tracking(["trackio"]) == []
    script = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as S; "
        "name = S.get_runs('small')[0]; "
        "print(json.dumps([name, S.get_logs('small', name), S.get_run_config('small', name)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    name, rows, settings = json.loads(done.stdout.splitlines()[-1])
    assert name == "main-sft-abababab"
    assert [row["step"] for row in rows if "valid_loss" in row] == list(STEPS)
    assert any(row.get("evaluate/test/tuned/right") == 0.75 for row in rows)
    assert settings["sft.learning_rate"] == 0.001
