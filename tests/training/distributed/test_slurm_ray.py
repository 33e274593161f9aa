"""The script of the guide: `ray symmetric-run` in jobs of a real Slurm, by `make test-slurm`."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.core.execution.cluster.test_run import finish, lines, manifest, project, start
from tests.system.docs.guide_pages import GUIDES, blocks_of
from tests.training.distributed.slurm_nodes import NODES, two_slurm_nodes

__all__ = ("project",)
"""A fixture of another file."""
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("JANGIN_SLURM") or os.geteuid() != 0,
        reason="needs Slurm and namespaces; `make test-slurm` as root runs it",
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def slurm():
    folder = Path(tempfile.mkdtemp(prefix="sl"))  # paths of sockets have 107 bytes at most
    with two_slurm_nodes(folder, apart=True) as slurm:
        slurm.environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "25",  # a minute by default
        }
        yield slurm
    shutil.rmtree(folder, ignore_errors=True)


def submit(slurm, folder, **changes):
    """Number of a job with the script, for two nodes of one core each, and its log."""
    (script,) = (block.text for block in blocks_of(GUIDES / "scale.md") if block.title == "job.sh")
    for old, new in {"--nodes=4": "--nodes=2", "task=64": "task=1", **changes}.items():
        assert script.count(old) == 1
        script = script.replace(old, new)
    (folder / "job.sh").write_text(script)
    log = folder / f"{time.monotonic_ns()}.log"
    return slurm.ask("sbatch", "--parsable", f"--output={log}", str(folder / "job.sh")).strip(), log


def test_the_script_of_the_guide_resumes_a_cancelled_job_and_gives_the_artifact_of_one_machine(
    slurm, project, tmp_path
):
    finish(start(project, tmp_path / "local", "local"))
    store = tmp_path / "store"
    run = {"-p /shared/rules": f"load -p {project} --store {store}"}
    job, log = submit(slurm, tmp_path, **run)
    until = time.monotonic() + 240
    while len(lines(store)) < 300:
        assert time.monotonic() < until, log.read_text()
        assert slurm.state(job) in ("PENDING", "RUNNING"), log.read_text()
        time.sleep(0.01)
    slurm.ask("scancel", job)
    assert slurm.wait(job) == "CANCELLED"
    assert not any(list(slurm.processes(node)) for node in NODES)
    kept = len(lines(store))
    job, log = submit(slurm, tmp_path, **run)
    assert slurm.wait(job, 240) == "COMPLETED", log.read_text()
    assert "Ray cluster: 2 nodes, 2 CPUs" in log.read_text()
    assert kept >= 300
    assert manifest(store)["content"] == manifest(tmp_path / "local")["content"]


def test_a_run_that_fails_fails_its_job(slurm, tmp_path):
    job, log = submit(slurm, tmp_path, **{"/shared/rules": str(tmp_path / "missing")})
    assert slurm.wait(job, 240) == "FAILED"
    assert str(tmp_path / "missing") in log.read_text()
