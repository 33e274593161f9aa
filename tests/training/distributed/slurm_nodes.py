"""A Slurm cluster of two nodes on this machine: its own munged, slurmctld and two slurmd."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil

from tests.training.distributed.test_machines import free_address

NODES = {"n1": "127.0.0.2", "n2": "127.0.0.3"}
SETTINGS = """
    ClusterName=tests
    SlurmctldHost=localhost(127.0.0.1)
    SlurmctldPort={controller}
    SlurmUser={user}
    SlurmdUser={user}
    AuthType=auth/munge
    CredType=cred/munge
    AuthInfo=socket={folder}/munge.socket
    ReturnToService=2
    SlurmctldPidFile={folder}/slurmctld.pid
    SlurmdPidFile={folder}/%n.pid
    SlurmdSpoolDir={folder}/spool-%n
    StateSaveLocation={folder}/state
    SlurmctldLogFile={folder}/slurmctld.log
    SlurmdLogFile={folder}/%n.log
    ProctrackType=proctrack/linuxproc
    TaskPlugin=task/none
    SelectType=select/cons_tres
    SelectTypeParameters=CR_Core
    SlurmdParameters=config_overrides
    MpiDefault=none
    KillWait=5
    SlurmdTimeout=10
"""


class Slurm:
    """Submits jobs and says how they ended."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def ask(self, *words):
        """What one of Slurm's programs prints."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, log, *command, nodes=2):
        """Number of a job that runs a command on the first of its nodes."""
        words = " ".join(f"'{word}'" for word in command)
        shape = [f"--nodes={nodes}", "--ntasks-per-node=1", f"--output={log}"]
        return self.ask("sbatch", "--parsable", *shape, "--wrap", words).strip()

    def state(self, job):
        """Such as RUNNING or COMPLETED."""
        shown = self.ask("scontrol", "show", "job", job, "--oneliner")
        return next(w[len("JobState=") :] for w in shown.split() if w.startswith("JobState="))

    def wait(self, job, seconds=180):
        """Its state when it has ended."""
        end = time.monotonic() + seconds
        while (state := self.state(job)) in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < end, f"job {job} is still {state}"
            time.sleep(0.3)
        return state

    def processes(self, node):
        """Those of the jobs of a node: all below its step daemons."""
        marker = f"SLURMD_NODENAME={node}"
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                same = environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if same and f"SLURMD_NODENAME={environment.get('SLURMD_NODENAME')}" == marker:
                    yield process


@contextmanager
def two_slurm_nodes(folder):
    """`Slurm` while its daemons run."""
    settings = SETTINGS.format(
        folder=folder,
        user=subprocess.run(
            ["id", "-un"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        controller=free_address().rpartition(":")[2],
    )
    lines = [line.strip() for line in settings.strip().splitlines()]
    for name, address in NODES.items():
        port = free_address().rpartition(":")[2]
        lines.append(f"NodeName={name} NodeHostname={name} NodeAddr={address} Port={port} CPUs=1")
    lines.append("PartitionName=all Nodes=n1,n2 Default=YES State=UP")
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    slurm = Slurm(folder)
    daemons = [
        [
            *["/usr/sbin/munged", "--foreground", "--force", f"--key-file={folder}/munge.key"],
            *[f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"],
            *[f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"],
        ],
        ["/usr/sbin/slurmctld", "-D", "-f", f"{folder}/slurm.conf"],
        *(["/usr/sbin/slurmd", "-D", "-f", f"{folder}/slurm.conf", "-N", name] for name in NODES),
    ]
    running = []
    try:
        for command in daemons:
            with (folder / "daemons.log").open("ab") as stream:
                running.append(
                    subprocess.Popen(command, stdout=stream, stderr=stream, env=slurm.environment)
                )
            while len(running) == 1 and not (folder / "munge.socket").exists():
                assert running[0].poll() is None, (folder / "daemons.log").read_text()
                time.sleep(0.05)
        end = time.monotonic() + 60
        while "2" not in (states := _idle(slurm)):
            assert time.monotonic() < end, states + (folder / "daemons.log").read_text()
            time.sleep(0.3)
        yield slurm
    finally:
        for node in NODES:
            for process in slurm.processes(node):
                with suppress(psutil.Error):
                    process.kill()
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _idle(slurm):
    """Number of idle nodes, as Slurm prints it."""
    with suppress(AssertionError):
        return slurm.ask("sinfo", "--noheader", "--states=idle", "--format=%D").strip()
    return ""


def jangin(*words):
    """The words of a command."""
    return [sys.executable, "-m", "jangin.cli", *words]
