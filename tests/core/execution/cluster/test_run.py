"""A stage on two nodes gives the artifact of one machine, also after its driver was killed."""

import json
import os
import subprocess
import sys
import time

import pytest

DOCUMENTS = 1500
"""More than the stage reads itself."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Small documents, one that is no document, and a copy of another."""
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
    (documents / "broken.docx").write_bytes(b"PK no document")
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


def test_a_stage_gives_the_same_artifact_and_resumes_after_kill_9(
    cluster, project, expected, tmp_path
):
    process = start(project, tmp_path, cluster.address)
    until = time.monotonic() + 120
    while len(journal := lines(tmp_path)) < 300:
        assert time.monotonic() < until
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
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


def lines(store):
    files = [*store.glob("load/*.partial/journal/documents.jsonl")]
    return files[0].read_bytes().splitlines() if files else []
