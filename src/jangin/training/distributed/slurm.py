"""Training on the nodes of a Slurm job: srun starts `jangin worker` on the other ones.

`jangin run` is a line of the job's script, and so runs on the job's first node.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jangin.core.errors import MachineError
from jangin.training.distributed.machines import reserved_port

_IDLE = 300
"""Seconds without a training after which a worker ends, should it lose sight of its srun."""
_GRACE = 20.0


@dataclass(frozen=True, slots=True)
class SlurmWorkers:
    """`jangin worker` on the other nodes of the job."""

    rendezvous: str
    """Where they look for the first node."""
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Raise `MachineError` where srun has ended."""
        status = self.process.poll()
        if status is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise MachineError(
                f"srun, which starts the other nodes of the training, ended with status {status}: "
                f"{lines[-1] if lines else 'it wrote nothing'}. See {self.log}; then run again to "
                "resume."
            )


@contextmanager
def slurm_workers(count: int, log: Path) -> Iterator[SlurmWorkers]:
    """Workers on `count` - 1 other nodes of this Slurm job, ended at the end; they write to `log`.

    Raises `MachineError` outside a job, in one of fewer nodes, and without srun.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES") or 0)
    if not job:
        raise MachineError(
            "`nodes: {launcher: slurm}` trains on the nodes of a Slurm job, but this run is in "
            f"none. Submit it: sbatch --nodes={count} --ntasks-per-node=1 --wrap 'jangin run'"
        )
    if nodes < count:
        raise MachineError(
            f"`nodes.count: {count}`, but Slurm job {job} has {nodes} node{'s' * (nodes != 1)}. "
            f"Submit it with --nodes={count}, or lower `count`."
        )
    srun = shutil.which("srun")
    if srun is None:
        raise MachineError(
            "`nodes: {launcher: slurm}` needs srun, which is not in PATH. Add Slurm's folder of "
            "programs to PATH in the job's script."
        )
    here = os.environ.get("SLURMD_NODENAME") or platform.node()
    with reserved_port() as port:
        rendezvous = f"{_address(here)}:{port}"
        others = str(count - 1)
        step = ["--nodes", others, "--ntasks", others, "--ntasks-per-node", "1", "--exclude", here]
        worker = [sys.executable, "-m", "jangin.cli", "worker", rendezvous, "--idle", str(_IDLE)]
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603  Slurm's own program
                [srun, *step, "--overlap", "--export=ALL", *worker],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C reaches `jangin run` only, which ends the training
            )
        try:
            yield SlurmWorkers(rendezvous, process, log)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            if process.poll() is None:
                process.kill()
                process.wait()


def _address(node: str) -> str:
    """Where other nodes reach a node: its name where that is known to DNS, else Slurm's address."""
    with suppress(OSError):
        socket.getaddrinfo(node, None)
        return node
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "show", "node", node, "--oneliner"]
        shown = subprocess.run(  # noqa: S603  Slurm's own program
            command, capture_output=True, text=True, check=True, timeout=_GRACE
        ).stdout
        for word in shown.split():
            key, _, value = word.partition("=")
            if key == "NodeAddr":
                return value
    return node
