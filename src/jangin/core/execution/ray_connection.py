"""The connection to a Ray cluster: made, checked, and ended."""

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jangin.core.errors import MachineError
from jangin.core.execution import nodes
from jangin.core.execution.on_ray import OnRay, alive_nodes
from jangin.core.execution.settings import RayCluster
from jangin.core.execution.signals import restored_handlers

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning at each start of a call without GPU
}
_REACH_SECONDS = 5.0
_ANSWER_SECONDS = 120.0
_DEATH_SECONDS = 20.0
"""With Ray's defaults a dead node is noticed after about 15 seconds."""
_HOW_TO_GUARD = (
    "Write one with `ray get-auth-token --generate`, copy ~/.ray/auth_token to every node, and "
    "start Ray on each with RAY_AUTH_MODE=token"
)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node of the cluster as `jangin cluster` shows it."""

    host: str
    cpus: float
    gpus: float
    memory_bytes: float
    software: Mapping[str, str]
    faults: tuple[str, ...]
    """Why it cannot do the work of this project, as sentences without subject."""


@contextmanager
def connected(settings: RayCluster) -> Iterator[None]:
    """A connection to the cluster, with which this process is its driver.

    One that exists already, as in a notebook, is used and left open.

    Raises `MachineError` without Ray, where no cluster answers, and with a wrong token.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    if settings.authentication == "token":
        os.environ["RAY_AUTH_MODE"] = "token"
    try:
        import ray
    except ImportError as error:
        raise MachineError(
            "`cluster: {type: ray}` needs Ray. Install it on every node: pip install 'jangin[ray]'"
        ) from error
    if ray.is_initialized():
        yield
        return
    address = _address(settings)
    with restored_handlers():
        _connect(ray, address)
    # Without a public switch, it writes reports of dying nodes to the standard output.
    vars(ray._private.worker)["print_to_stdstream"] = lambda *_, **__: None
    try:
        yield
    finally:
        ray.shutdown()


def _address(settings: RayCluster) -> str:
    """The address for Ray, of which something answers."""
    variable = os.environ.get("RAY_ADDRESS", "")
    address = variable if settings.address == "auto" and variable else settings.address
    source = "RAY_ADDRESS" if variable == address else "cluster.address"
    if "://" in address:
        raise MachineError(
            f"{source} is {address!r}, an address for Ray's client, which jangin does not use. "
            "Run jangin on a node of the cluster with: --cluster auto"
        )
    if address == "auto":
        return address
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise MachineError(
            f"no Ray cluster answers at {address} ({source}: {error}). Correct the address, or "
            "start Ray there: ray start --head"
        ) from error
    return address


def _connect(ray: Any, address: str) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            with _errors_to(log):
                ray.init(
                    address=address,
                    namespace="jangin",
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level=logging.ERROR,
                )
        except ray.exceptions.AuthenticationError as error:
            raise MachineError(
                f"the Ray cluster at {address} wants a token that this machine does not have. "
                f"{_HOW_TO_GUARD}; or set `cluster.authentication: off`."
            ) from error
        except Exception as error:
            log.seek(0)
            if "InvalidAuthToken" in log.read():
                raise MachineError(
                    f"the Ray cluster at {address} refuses the token of this machine. Copy "
                    "~/.ray/auth_token of the head node here, or set RAY_AUTH_TOKEN."
                ) from error
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise MachineError(
                f"cannot connect to Ray at {address}: {reason}. Run jangin on a node of the "
                "cluster, with the same version of Ray; see: ray status"
            ) from error


@contextmanager
def _errors_to(log: IO[str]) -> Iterator[None]:
    """Write the standard error of the process to a file; Ray's library knows no other way."""
    sys.stderr.flush()
    usual = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(usual, 2)
        os.close(usual)


def examine(settings: RayCluster, store: Path, project: Path) -> list[NodeReport]:
    """Every node of the connected cluster, but those that die meanwhile.

    Raises `MachineError` where a node does not answer and is not known to be dead.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # By value: a node without jangin, or with another version, has to answer too.
    ray.cloudpickle.register_pickle_by_value(nodes)
    ours = nodes.software()
    alive = alive_nodes()
    try:
        with nodes.store_probe(store, project) as probe:
            ask: Any = ray.remote(nodes.answer)
            asked_nodes = {
                node["NodeID"]: ask.options(
                    num_cpus=0,
                    max_retries=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                ).remote(probe, node["NodeID"])
                for node in alive
            }
            reports = [
                _report(node, asked_nodes[node["NodeID"]], ours, probe, settings) for node in alive
            ]
            return [report for report in reports if report is not None]
    finally:
        ray.cloudpickle.unregister_pickle_by_value(nodes)


def _report(
    node: Mapping[str, Any],
    answer: Any,
    ours: Mapping[str, str],
    probe: nodes.StoreProbe,
    settings: RayCluster,
) -> NodeReport | None:
    """What a node told, or None if it is dead by now."""
    import ray

    host, has = node["NodeManagerAddress"], node["Resources"]
    try:
        told: nodes.Answer = ray.get(answer, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        if _dies(node["NodeID"]):
            return None
        raise MachineError(
            f"node {host} of the Ray cluster does not answer ({type(error).__name__}). End Ray "
            "there, or start it again."
        ) from error
    different = nodes.differences(ours, told.software)
    faults = [f"has {', '.join(different)}. Install the same versions."] if different else []
    faults += [told.fault] if told.fault else []
    if not told.fault and not nodes.sees_back(probe, node["NodeID"]):
        faults.append(
            "writes files into the store that this machine does not see. Put the store on a file "
            "system that all nodes share, at the same path."
        )
    if settings.authentication == "token" and not told.is_guarded:
        faults.append(
            f"admits everybody who reaches its ports. {_HOW_TO_GUARD}; or set "
            "`cluster.authentication: off`."
        )
    return NodeReport(
        host,
        has.get("CPU", 0.0),
        has.get("GPU", 0.0),
        has.get("memory", 0.0),
        told.software,
        tuple(faults),
    )


def _dies(node: str) -> bool:
    """True as soon as Ray knows that a node is dead; False if it does not within some seconds."""
    until = time.monotonic() + _DEATH_SECONDS
    while node in {each["NodeID"] for each in alive_nodes()}:
        if time.monotonic() > until:
            return False
        time.sleep(_DEATH_SECONDS / 20)
    return True


@contextmanager
def on_ray(
    settings: RayCluster, store: Path, project: Path, workers: int, message: Callable[[str], None]
) -> Iterator[OnRay]:
    """An executor on a cluster all nodes of which can do the work of this project.

    Raises `MachineError` where one cannot; the message names it.
    """
    with connected(settings):
        reports = examine(settings, store, project)
        faults = [f"node {report.host} {fault}" for report in reports for fault in report.faults]
        if faults:
            raise MachineError("\n".join(faults))
        cpus = sum(report.cpus for report in reports)
        gpus = sum(report.gpus for report in reports)
        message(f"Ray cluster: {len(reports)} nodes, {cpus:g} CPUs, {gpus:g} GPUs")
        yield OnRay(
            workers,
            message,
            nodes.software(),
            settings.wait_minutes * 60,
            {stage: wanted.as_resources() for stage, wanted in settings.resources.items()},
        )
