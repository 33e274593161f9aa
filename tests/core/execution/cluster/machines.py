"""Two "machines" on this one: Ray nodes at two loopback addresses, as child processes."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.shared import free_port

HOSTS = ("127.0.0.2", "127.0.0.3")
"""Ray replaces 127.0.0.1 by the machine's own address; these are two hosts to it."""
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a-token-of-tests",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A dead node, which refuses connections, is noticed after 5 seconds instead of 15; a slow
    # one, on a machine that is busy with other tests, may take a minute to answer.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "12000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "PYTHONUNBUFFERED": "1",  # so that the log says at once that the head node is up
    # Otherwise Ray ends our calls when another program fills the memory.
    "RAY_memory_monitor_refresh_ms": "0",
    "NO_PROXY": "127.0.0.1,127.0.0.2,127.0.0.3,localhost",
}


_WITHOUT = 'mount -t tmpfs none "$0" && exec "$@"'
"""A command that sees an empty folder."""


class Machine:
    """A node; killed, it is gone with every process that it started, as a real one would be.

    It does not see what is in the folder `without`, if there is one.
    """

    def __init__(self, folder, host, *options, cpus=1, environment=(), without=None):
        hidden = ["unshare", "--map-root-user", "--mount", "sh", "-c", _WITHOUT, str(without)]
        command = [
            *(hidden if without else []),
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            *("--disable-usage-stats", "--node-ip-address", host, "--num-cpus", str(cpus)),
            *("--num-gpus", "0", "--object-store-memory", str(80 << 20)),
            *("--min-worker-port", "0", "--max-worker-port", "0", *options),
        ]
        with (folder / f"{host}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | ENVIRONMENT | dict(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.host = host

    def processes(self):
        """All that it started."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def kill(self):
        """As if its power were cut: afterwards no process of it is left."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.process.pid).suspend()
        family = []
        while new := [process for process in self.processes() if process not in family]:
            for process in new:  # suspended, it starts none that would be missed here
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            family += new
        self.process.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        assert not psutil.wait_procs(family, timeout=100)[1]

    def end(self):
        """As `ray stop` would, of this node only."""
        family = self.processes()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Cluster:
    """Two machines, or the head alone."""

    def __init__(self, cpus=1, *, alone=False):
        self.folder = Path(tempfile.mkdtemp(prefix="rj"))  # paths of sockets have 107 bytes at most
        self.port = free_port()
        self.address = f"{HOSTS[0]}:{self.port}"
        self.cpus = cpus
        head = (
            *("--head", "--port", str(self.port), "--include-dashboard", "false"),
            *("--temp-dir", str(self.folder), "--object-spilling-directory"),
            str(self.folder / "spilled"),
        )
        self.machines = [Machine(self.folder, HOSTS[0], *head, cpus=cpus)]
        self._wait_for_head()
        if not alone:
            self.machines.append(self.start())

    def start(self, host=HOSTS[1], **options):
        """A machine that joins the first."""
        joins = ("--address", self.address, "--include-log-monitor", "false")
        return Machine(self.folder, host, *joins, **{"cpus": self.cpus, **options})

    def replace(self):
        """A second machine in place of one that was killed."""
        self.machines[1] = self.start()

    def _wait_for_head(self):
        # Its port answers before it is a node, and the second machine would ask for one in vain.
        until, log = time.monotonic() + 240, self.folder / f"{HOSTS[0]}.log"
        while b"Ray runtime started" not in log.read_bytes():
            assert self.machines[0].process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < until, log.read_text(errors="replace")
            time.sleep(0.05)

    def end(self):
        """End both, and delete what they wrote."""
        for machine in reversed(self.machines):
            machine.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def answers(node):
    """True if a node answers: one that was killed counts as alive for some seconds."""
    address = node["NodeManagerAddress"], node["NodeManagerPort"]
    with suppress(OSError), socket.create_connection(address, timeout=60):
        return True
    return False


def wait_for_nodes(count, seconds=200):
    """Wait until Ray counts `count` nodes as alive and all of them are; this process is connected.

    The count alone would do where one that was killed and is not missed yet is counted, and one
    that replaces it is not there yet.
    """
    import ray

    until = time.monotonic() + seconds
    while True:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) == count and all(map(answers, nodes)):
            return
        assert time.monotonic() < until, [node["NodeManagerAddress"] for node in nodes]
        time.sleep(0.05)


@contextmanager
def two_machines(cpus=1):
    """A cluster while the block runs."""
    cluster = Cluster(cpus)
    try:
        yield cluster
    finally:
        cluster.end()
