"""Nodes that cannot do the work of a project are named before any of it begins."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from jangin.core.errors import MachineError
from jangin.core.execution.nodes import store_probe
from jangin.core.execution.ray_connection import connected, examine
from jangin.core.executor import Resources
from tests.core.execution.cluster import work
from tests.core.execution.cluster.machines import wait_for_nodes


def command(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "jangin.cli", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.fixture
def project(tmp_path):
    """A project that reads two documents."""
    (tmp_path / "documents").mkdir()
    for name in ("one", "two"):
        (tmp_path / "documents" / f"{name}.md").write_text(f"# {name}\n\nThe rule {name}.\n")
    (tmp_path / "project.yaml").write_text(
        "name: test\ndocuments:\n  load: {folder: documents, ocr: {type: never}}\n"
    )
    return tmp_path


def test_a_wrong_token_is_refused(cluster, project):
    ended = command(
        *("cluster", "-p", str(project), "--cluster", cluster.address),
        RAY_AUTH_TOKEN="another",
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: the Ray cluster at 127.0.0.2:")
    assert "refuses the token of this machine" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_without_a_token_the_one_of_the_head_node_is_to_be_copied(cluster, project, tmp_path):
    ended = command(
        *("run", "-p", str(project), "--cluster", cluster.address),
        RAY_AUTH_TOKEN="",
        HOME=str(tmp_path),
    )
    assert ended.returncode == 2
    assert "wants a token that this machine does not have. Copy ~/.ray/auth_token" in ended.stderr
    assert ended.stderr.count("\n") == 1


@contextmanager
def third_node(cluster, settings, host, **options):
    """A node beside the two while the block runs."""
    with connected(settings):
        wait_for_nodes(2)  # one that was killed counts for some seconds
    machine = cluster.start(host, **options)
    try:
        with connected(settings):
            wait_for_nodes(3)
        yield
    finally:
        machine.kill()


def test_a_node_with_another_version_is_named(cluster, settings, project, tmp_path):
    fake = tmp_path / "fake" / "numpy-0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    path = os.pathsep.join((str(fake.parent), os.environ.get("PYTHONPATH", "")))
    with third_node(cluster, settings, "127.0.0.4", environment={"PYTHONPATH": path}):
        ended = command("run", "-p", str(project), "--cluster", cluster.address)
    assert ended.returncode == 2
    assert "node 127.0.0.4 has numpy 0.1 instead of" in ended.stderr
    assert "127.0.0.3" not in ended.stderr
    assert not list((project / "store").glob("*/*/manifest.json"))


def test_a_node_that_does_not_see_the_store_is_shown_without_files(cluster, settings, project):
    with third_node(cluster, settings, "127.0.0.6", without=project):
        ended = command("cluster", "-p", str(project), "--cluster", cluster.address)
    assert ended.returncode == 2
    assert "error: node 127.0.0.6 does not see the store" in ended.stderr
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("127.0.0.6"))
    assert "; files: none; " in line


def test_a_stage_that_no_node_has_room_for_ends_with_a_sentence(executor):
    said = []
    impatient = replace(executor, wait_seconds=0, message=said.append)
    with pytest.raises(MachineError, match=r"needs 1 CPU and 1 GPU, which none of the 2 nodes"):
        list(impatient.map(work.square, [1], Resources(gpus=1)))
    assert "let CPUs do it" in said[0]


def test_a_node_that_has_just_died_is_left_out(cluster, settings, project):
    with connected(settings):
        wait_for_nodes(2)
        cluster.machines[1].kill()  # still among the living for some seconds
        try:
            with store_probe(project / "store", project / "project.yaml") as probe:
                reports = examine(settings, probe)
        finally:
            cluster.replace()
            wait_for_nodes(2)
    assert [(report.host, report.faults) for report in reports] == [("127.0.0.2", ())]


@pytest.mark.usefixtures("both")
def test_the_cluster_is_shown(cluster, project):
    ended = command("cluster", "-p", str(project), "--cluster", cluster.address)
    assert ended.returncode == 0, ended.stderr
    assert "127.0.0.2: 1 CPU, 0 GPUs" in ended.stdout
    assert "All 2 nodes can work on" in ended.stdout
    assert not list((project / "store").iterdir())
