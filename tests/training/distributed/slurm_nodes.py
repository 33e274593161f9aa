"""A Slurm cluster of two nodes on this machine: its own munged, slurmctld and two slurmd.

The nodes are two loopback addresses, or, for what allows one node a machine, two sets of
namespaces: processes, network and some files of their own.
"""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

import psutil

from tests.training.distributed.test_machines import free_address

NODES = {"n1": "127.0.0.2", "n2": "127.0.0.3"}
APART = {"n1": "10.77.0.1", "n2": "10.77.0.2"}
"""Addresses that only the two nodes know."""
SETTINGS = """
    ClusterName=tests
    SlurmctldHost=localhost({host})
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


@contextmanager
def namespaces(folder):
    """{node: the words before a command that runs there} of two machines joined by a cable.

    Each has its own processes and its own folder `ray`; neither knows the name of the other.
    """
    (folder / "ray").mkdir()
    enter = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    own = 'mount -t tmpfs none "$0/ray" && echo up && exec cat >/dev/null'
    with ExitStack() as stack:
        inside = {}
        for name in APART:
            machine = stack.enter_context(
                subprocess.Popen(
                    [*enter, "sh", "-c", own, str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            stack.callback(machine.kill)
            assert machine.stdout.readline() == b"up\n"
            (first,) = psutil.Process(machine.pid).children()
            inside[name] = first.pid
        network = {name: ["nsenter", f"--net=/proc/{pid}/ns/net"] for name, pid in inside.items()}
        peer = ["peer", "name", "n2", "netns", str(inside["n2"])]
        subprocess.run(
            [*network["n1"], "ip", "link", "add", "n1", "type", "veth", *peer], check=True
        )
        for name, address in APART.items():
            (other,) = (at for at in APART.values() if at != address)
            for words in (
                f"link set lo up\nlink set {name} up\naddr add {address}/24 dev {name}\n"
                # Ray asks the kernel for the address that it would reach the internet from.
                f"route add default via {other}"
            ).splitlines():
                subprocess.run([*network[name], "ip", *words.split()], check=True)
        yield {
            name: ["nsenter", f"--target={pid}", "--net", "--mount", "--pid"]
            for name, pid in inside.items()
        }


class Slurm:
    """Submits jobs and says how they ended."""

    def __init__(self, folder, before=()):
        self.folder = folder
        self.before = before
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def ask(self, *words):
        """What one of Slurm's programs prints."""
        done = subprocess.run(
            [*self.before, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
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
def two_slurm_nodes(folder, apart=False):
    """`Slurm` while its daemons run; `apart` if each node is in namespaces of its own."""
    with ExitStack() as stack:
        before = stack.enter_context(namespaces(folder)) if apart else {name: [] for name in NODES}
        slurm = Slurm(folder, before["n1"])
        slurm.environment |= {"RAY_TMPDIR": str(folder / "ray")} if apart else {}
        _write_settings(folder, APART if apart else NODES)
        _start(stack, slurm, _munged(folder))
        while not (folder / "munge.socket").exists():
            time.sleep(0.05)
        settings = ["-D", "-f", f"{folder}/slurm.conf"]
        _start(stack, slurm, [*before["n1"], "/usr/sbin/slurmctld", *settings])
        for name in NODES:
            _start(stack, slurm, [*before[name], "/usr/sbin/slurmd", *settings, "-N", name])
        stack.callback(_end_jobs, slurm)
        end = time.monotonic() + 60
        while "2" not in (states := _idle(slurm)):
            assert time.monotonic() < end, states + (folder / "daemons.log").read_text()
            time.sleep(0.3)
        yield slurm


def _write_settings(folder, addresses):
    settings = SETTINGS.format(
        folder=folder,
        user=subprocess.run(
            ["id", "-un"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        host=addresses["n1"] if addresses is APART else "127.0.0.1",
        controller=free_address().rpartition(":")[2],
    )
    lines = [line.strip() for line in settings.strip().splitlines()]
    for name, address in addresses.items():
        port = free_address().rpartition(":")[2]
        lines.append(f"NodeName={name} NodeHostname={name} NodeAddr={address} Port={port} CPUs=1")
    lines.append("PartitionName=all Nodes=n1,n2 Default=YES State=UP")
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()


def _munged(folder):
    """The command of munged, whose key is written."""
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    return [
        *["/usr/sbin/munged", "--foreground", "--force", f"--key-file={folder}/munge.key"],
        *[f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"],
        *[f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"],
    ]


def _start(stack, slurm, command):
    """Start a daemon that ends with the stack."""
    with (slurm.folder / "daemons.log").open("ab") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env=slurm.environment)
    stack.callback(_end, daemon)


def _end(daemon):
    daemon.terminate()
    with suppress(subprocess.TimeoutExpired):
        daemon.wait(10)
    daemon.kill()
    daemon.wait()


def _end_jobs(slurm):
    for node in NODES:
        for process in slurm.processes(node):
            with suppress(psutil.Error):
                process.kill()


def _idle(slurm):
    """Number of idle nodes, as Slurm prints it."""
    with suppress(AssertionError):
        return slurm.ask("sinfo", "--noheader", "--states=idle", "--format=%D").strip()
    return ""


def jangin(*words):
    """The words of a command."""
    return [sys.executable, "-m", "jangin.cli", *words]
