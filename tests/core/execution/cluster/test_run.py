"""A stage on two nodes gives the artifact of one machine, also after its driver was killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.core.execution.cluster.machines import Cluster

DOCUMENTS, DAMAGED = 1200, 600
"""More than the stage reads itself. It prints a line on each that is damaged, and waits when the
pipe is full, so that it cannot end before a test has ended it."""
PIPE_BYTES, BEGUN = 4096, 20


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Small documents, damaged ones among them, and a copy of another."""
    folder = tmp_path_factory.mktemp("project")
    documents = folder / "documents"
    documents.mkdir()
    for number in range(DOCUMENTS):
        rules = "".join(
            f"<p>제{i}조 이 규정은 {number}번 문서의 {i}번째 조항이다.</p>" for i in range(8)
        )
        text = f"<html><body><h1>Document {number}</h1>{rules}</body></html>"
        (documents / f"{number:04d}.html").write_text(text, "utf-8")
    (documents / "0007 copy.html").write_bytes((documents / "0007.html").read_bytes())
    for number in range(DAMAGED):
        name = f"{number * DOCUMENTS // DAMAGED:04d} damaged.docx"
        (documents / name).write_bytes(b"PK no document %d" % number)
    (folder / "project.yaml").write_text(
        "name: test\ndocuments:\n  load: {folder: documents, ocr: {type: never}}\n"
    )
    return folder


def start(project, store, cluster):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "jangin.cli", "run", "load", "-p", str(project)),
            *("--store", str(store), "--cluster", cluster),
        ],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pipesize=PIPE_BYTES,
    )


def finish(process):
    output = process.communicate(timeout=200)[0]
    assert not process.returncode, output
    assert "(raylet)" not in output
    return output


def manifest(store):
    (path,) = store.glob("load/*/manifest.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def expected(project, tmp_path_factory):
    store = tmp_path_factory.mktemp("local")
    finish(start(project, store, "local"))
    return manifest(store)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stage_gives_the_same_artifact_and_resumes_after_its_driver_was_ended(
    cluster, project, expected, tmp_path, number
):
    process = start(project, tmp_path, cluster.address)
    wait_for_lines(process, tmp_path)
    process.send_signal(number)
    process.communicate(timeout=200)
    journal = lines(tmp_path)
    assert len(journal) < DOCUMENTS
    time.sleep(2)
    assert lines(tmp_path) == journal  # workers end with their driver
    output = finish(start(project, tmp_path, cluster.address))
    assert "Ray cluster: 2 nodes" in output
    resumed = manifest(tmp_path)
    assert resumed["content"] == expected["content"]
    assert resumed["key"] == expected["key"]
    assert resumed["summary"] == expected["summary"]


@pytest.mark.usefixtures("cluster")  # for the environment
def test_a_run_whose_head_node_is_lost_ends_with_a_sentence_and_is_resumed(
    project, expected, tmp_path
):
    gone = Cluster(alone=True)
    try:
        process = start(project, tmp_path, gone.address)
        wait_for_lines(process, tmp_path)
        gone.machines[0].kill()
        output = process.communicate(timeout=200)[0]
    finally:
        gone.end()
    assert process.returncode == 2, output
    said = f"error: the head node of the Ray cluster at {gone.address} does not answer any more."
    assert output.count(said) == 1
    assert "Traceback" not in output
    assert BEGUN <= len(lines(tmp_path)) < DOCUMENTS
    finish(start(project, tmp_path, "local"))
    assert manifest(tmp_path)["content"] == expected["content"]


def wait_for_lines(process, store):
    """Wait until a run has read some documents."""
    until = time.monotonic() + 200
    while len(lines(store)) < BEGUN:
        assert time.monotonic() < until
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)


def lines(store):
    files = [*store.glob("load/*.partial/journal/documents.jsonl")]
    return files[0].read_bytes().splitlines() if files else []
