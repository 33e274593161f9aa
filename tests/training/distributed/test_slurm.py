"""`launcher: slurm` in a fake job: an srun that starts its processes on this machine."""

import os
import sys
import textwrap

import pytest

from jangin.core.errors import MachineError
from jangin.core.events import Progress
from jangin.training.distributed.fit import fit
from jangin.training.distributed.launch import launch
from jangin.training.distributed.machines import slurm_workers
from tests.training.distributed.test_machines import config, lines

SLURM = {"count": 2, "launcher": "slurm"}
SRUN = """
    #!{python}
    import os, sys, time
    words = sys.argv[1:]
    command = words[words.index("--export=ALL") + 1:]
    open(os.environ["FAKE_SRUN"], "w").write(" ".join(words[: words.index("--export=ALL")]))
    if os.environ.get("FAKE_FAULT"):
        sys.exit(os.environ["FAKE_FAULT"])
    os.execv(command[0], command)
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of two nodes, both this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    srun = folder / "srun"
    srun.write_text(textwrap.dedent(SRUN.format(python=sys.executable)).lstrip())
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SRUN", str(tmp_path / "asked"))
    for name, value in (("JOB_ID", "17"), ("JOB_NUM_NODES", "2")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURMD_NODENAME", "127.0.0.1")
    return tmp_path


@pytest.mark.long
@pytest.mark.slow
def test_two_nodes_of_a_job_train_what_one_process_trains(job, task):
    for name, nodes in (("one", {}), ("two", SLURM)):
        (job / name).mkdir()
        fit(task, config(nodes=nodes), job / name, Progress())
    for alone, together in zip(lines(job / "one"), lines(job / "two"), strict=True):
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-6)
        assert together.trained_tokens == alone.trained_tokens
    asked = (job / "asked").read_text().split()
    assert asked[:6] == ["--nodes", "1", "--ntasks", "1", "--ntasks-per-node", "1"]
    assert asked[6:8] == ["--exclude", "127.0.0.1"]


def test_an_srun_that_ends_ends_the_training_with_its_reason(job, task, monkeypatch):
    monkeypatch.setenv("FAKE_FAULT", "srun: error: Unable to create step for job 17")
    with pytest.raises(
        MachineError, match=r"srun, .* status 1: srun: error: Unable to create step"
    ):
        launch(task, config(nodes=SLURM), job, Progress())


def test_outside_a_job_and_in_a_smaller_one_nothing_is_started(job, tmp_path, monkeypatch):
    with (
        pytest.raises(MachineError, match=r"`nodes.count: 3`, but Slurm job 17 has 2 nodes\."),
        slurm_workers(3, tmp_path / "log"),
    ):
        pytest.fail("started")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="needs srun"), slurm_workers(2, tmp_path / "log"):
        pytest.fail("started")
    monkeypatch.delenv("SLURM_JOB_ID")
    with (
        pytest.raises(MachineError, match=r"this run is in none\. Submit it: sbatch --nodes=2"),
        slurm_workers(2, tmp_path / "log"),
    ):
        pytest.fail("started")
    assert not (job / "asked").exists()
