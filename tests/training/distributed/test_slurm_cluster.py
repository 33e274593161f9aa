"""`launcher: slurm` in jobs of a real Slurm, which `make test-slurm` installs."""

import json
import os
import signal
import time

import pytest

from jangin.training.loop.config import StepMetrics
from tests.tiny_project import KEYS, write_project
from tests.training.distributed.slurm_nodes import jangin, two_slurm_nodes

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("JANGIN_SLURM"), reason="needs Slurm; `make test-slurm` installs it"
    ),
    pytest.mark.timeout(600),
]
STEPS = 20


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with two_slurm_nodes(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


def project(folder, **nodes):
    models = KEYS["models"]
    sft = models["sft"] | {
        "length": {"type": "steps", "steps": STEPS},
        "checkpoint_every_steps": 2,
        "log_every_steps": 1,
        "precision": "fp32",
    }
    if nodes:
        sft["nodes"] = nodes
    return write_project(folder, KEYS | {"models": models | {"sft": sft}})


def losses(folder):
    (path,) = folder.glob("store/sft/*/metrics.jsonl")
    return [
        StepMetrics.model_validate_json(line).train_loss for line in path.read_bytes().splitlines()
    ]


def devices(folder):
    (path,) = folder.glob("store/sft/*/runtime/training.json")
    return json.loads(path.read_bytes())["devices"]


@pytest.fixture(scope="module")
def alone(slurm, tmp_path_factory):
    """The losses of a job of one node."""
    folder = project(tmp_path_factory.mktemp("alone") / "project")
    log = folder / "job.log"
    job = slurm.submit(log, *jangin("run", "--project", str(folder / "project.yaml")), nodes=1)
    assert slurm.wait(job) == "COMPLETED", log.read_text()
    return losses(folder)


def test_a_job_of_two_nodes_trains_what_one_node_trains(slurm, alone, tmp_path):
    folder = project(tmp_path / "project", count=2, launcher="slurm")
    log = folder / "job.log"
    job = slurm.submit(log, *jangin("run", "--project", str(folder / "project.yaml")))
    assert slurm.wait(job) == "COMPLETED", log.read_text()
    assert devices(folder) == 2
    assert losses(folder) == pytest.approx(alone, abs=1e-6)
    assert not list(slurm.processes("n2"))


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_job_whose_node_dies_resumes_when_it_is_submitted_again(slurm, alone, tmp_path, node):
    folder = project(tmp_path / "project", count=2, launcher="slurm")
    log = folder / "job.log"
    command = jangin("run", "--project", str(folder / "project.yaml"))
    job = slurm.submit(log, *command)
    end = time.monotonic() + 120
    while not list(folder.glob("store/sft/*/**/step-*")):
        assert time.monotonic() < end
        assert slurm.state(job) in ("PENDING", "RUNNING"), log.read_text()
        time.sleep(0.1)
    for process in slurm.processes(node):
        process.send_signal(signal.SIGKILL)
    assert slurm.wait(job) == "FAILED"
    again = slurm.submit(folder / "again.log", *command)
    assert slurm.wait(again) == "COMPLETED", (folder / "again.log").read_text()
    assert losses(folder) == pytest.approx(alone, abs=1e-5)


def test_a_job_that_is_too_small_says_so(slurm, tmp_path):
    folder = project(tmp_path / "project", count=2, launcher="slurm")
    log = folder / "job.log"
    job = slurm.submit(log, *jangin("run", "--project", str(folder / "project.yaml")), nodes=1)
    assert slurm.wait(job) == "FAILED"
    assert f"`nodes.count: 2`, but Slurm job {job} has 1 node." in log.read_text()
