"""The connection to a Ray cluster: made, checked, and ended."""

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any

from jangin.core.errors import MachineError, counted
from jangin.core.execution import nodes
from jangin.core.execution.on_ray import OnRay, alive_nodes
from jangin.core.execution.settings import RayCluster
from jangin.core.execution.signals import restored_handlers
from jangin.core.execution.transfer import (
    PROBE,
    SEEN,
    BucketAccess,
    FolderAccess,
    ProjectFiles,
    opened_transfer,
    try_bucket,
)

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning at each start of a call without GPU
}
_REACH_SECONDS = 5.0
_HTTP2_SETTINGS = b"\x04"
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + bytes(5)
"""What a client sends first, with settings that change nothing."""
_ANSWER_SECONDS = 120.0
_DEATH_SECONDS = 90.0
"""With Ray's defaults a node that refuses connections is noticed after about 15 seconds, and one
without power, of which each of five checks times out after 10 seconds, after 65."""
_HOW_TO_GUARD = (
    "Write one with `ray get-auth-token --generate`, copy ~/.ray/auth_token to every node, and "
    "start Ray on each with RAY_AUTH_MODE=token"
)


_HOW_TO_SHARE = (
    "Put it on a file system that all nodes share, at the same path, or share the store in a "
    "bucket: `store: s3://BUCKET/PREFIX`."
)
_Node = Mapping[str, Any]
"""A node as Ray describes it."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node of the cluster as `jangin cluster` shows it."""

    node: str
    """Its id."""
    host: str
    cpus: float
    gpus: float
    memory_bytes: float
    software: Mapping[str, str]
    faults: tuple[str, ...]
    """Why it cannot do the work of this project, as sentences without subject."""
    uses_bucket: bool = False
    """True if it does not see the folders of the driver, and gets their files from a bucket."""
    sees_folders: bool = True
    """False if it does not see the folders of the driver."""


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
        with socket.create_connection((host, int(port)), timeout=_REACH_SECONDS) as server:
            is_ray = _speaks_grpc(server)
    except (OSError, ValueError) as error:
        raise MachineError(
            f"no Ray cluster answers at {address} ({source}: {error}). Correct the address, or "
            "start Ray there: ray start --head"
        ) from error
    if not is_ray:
        raise MachineError(
            f"the server at {address} ({source}) is no Ray cluster. Correct the port: it is that "
            "of `ray start --head`, which is 6379 without its option --port."
        )
    return address


def _speaks_grpc(server: socket.socket) -> bool:
    """False if a server is none of gRPC, at which Ray would wait for minutes.

    It tells by its first frame of HTTP/2 (RFC 9113, section 3.4). Silence is no proof: a busy
    head node may take longer.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "false"):
        return True
    server.sendall(_HTTP2_PREFACE)
    try:
        frame = server.recv(9)
    except TimeoutError:
        return True
    except OSError:
        return False
    return frame[3:4] == _HTTP2_SETTINGS


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
                "Copy ~/.ray/auth_token of the head node here, or set RAY_AUTH_TOKEN; for a "
                "cluster without a token set `cluster.authentication: off`."
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


def examine(
    settings: RayCluster, probe: nodes.StoreProbe, bucket: BucketAccess | None = None
) -> list[NodeReport]:
    """Every node of the connected cluster, but those that die meanwhile.

    The bucket is tried by nodes that do not see the files of `probe`.

    Raises: MachineError: a node does not answer and is not known to be dead. StoreError,
    ConfigError: nodes need the bucket, and the driver cannot use it.
    """
    import ray

    # By value: a node without jangin, or with another version, has to answer too.
    ray.cloudpickle.register_pickle_by_value(nodes)
    try:
        told: list[tuple[_Node, nodes.NodeAnswer]] = _ask(alive_nodes(), nodes.answer, probe)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(nodes)
    ours = nodes.software()
    apart = {node["NodeID"]: _apart(node["NodeID"], answer, probe) for node, answer in told}
    trying = [
        node
        for node, answer in told
        if apart[node["NodeID"]] and not nodes.differences(ours, answer.software)
    ]
    tried = _try_bucket(trying, bucket) if bucket is not None and trying else {}
    reports = []
    for node, answer in told:
        faults = _faults(answer, ours, settings)
        fault, by_bucket = apart[node["NodeID"]], tried.get(node["NodeID"])
        uses_bucket = bool(fault) and by_bucket == ""
        if fault and not uses_bucket:
            faults.append(f"{fault} {by_bucket or _HOW_TO_SHARE}")
        report = _report(node, answer, faults)
        reports.append(replace(report, uses_bucket=uses_bucket, sees_folders=not fault))
    return reports


def _ask(every: Sequence[_Node], question: Any, about: Any) -> list[tuple[_Node, Any]]:
    """(node, its answer) of those that are alive to give one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask: Any = ray.remote(question)
    answers = [
        ask.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(about, node["NodeID"])
        for node in every
    ]
    told = []
    for node, answer in zip(every, answers, strict=True):
        try:
            told.append((node, ray.get(answer, timeout=_ANSWER_SECONDS)))
        except ray.exceptions.RayError as error:
            if _dies(node["NodeID"]):
                continue
            raise MachineError(
                f"node {node['NodeManagerAddress']} of the Ray cluster does not answer "
                f"({type(error).__name__}). End Ray there, or start it again."
            ) from error
    return told


def _try_bucket(every: Sequence[_Node], bucket: BucketAccess) -> dict[str, str]:
    """{id of a node: why it cannot use the bucket, or empty}."""
    objects = bucket.open()
    objects.write(f"{bucket.prefix}/{PROBE}", b"")
    try:
        tried = {node["NodeID"]: fault for node, fault in _ask(every, try_bucket, bucket)}
        for node, fault in tried.items():
            if not fault and objects.size(f"{bucket.prefix}/{SEEN}{node}") is None:
                tried[node] = (
                    f"It writes into another bucket at {bucket.url}. Set the same AWS_ENDPOINT_URL "
                    "there."
                )
        return tried
    finally:
        objects.delete_below(bucket.prefix)


def _apart(node: str, answer: nodes.NodeAnswer, probe: nodes.StoreProbe) -> str:
    """Why the files of the driver are not those of a node, as a sentence; empty if they are."""
    if answer.is_apart:
        return answer.fault
    if not answer.fault and not nodes.sees_back(probe, node):
        return "writes files into the store that this machine does not see."
    return ""


def _faults(answer: nodes.NodeAnswer, ours: Mapping[str, str], settings: RayCluster) -> list[str]:
    """Why a node cannot be used, apart from the folders that it sees."""
    different = nodes.differences(ours, answer.software)
    faults = [f"has {', '.join(different)}. Install the same versions."] if different else []
    if answer.fault and not answer.is_apart:
        faults.append(answer.fault)
    if settings.authentication == "token" and not answer.is_guarded:
        faults.append(
            f"admits everybody who reaches its ports. {_HOW_TO_GUARD}; or set "
            "`cluster.authentication: off`."
        )
    return faults


def _report(node: _Node, answer: nodes.NodeAnswer, faults: Sequence[str]) -> NodeReport:
    has = node["Resources"]
    return NodeReport(
        node["NodeID"],
        node["NodeManagerAddress"],
        has.get("CPU", 0.0),
        has.get("GPU", 0.0),
        has.get("memory", 0.0),
        answer.software,
        tuple(faults),
    )


def _dies(node: str) -> bool:
    """True as soon as Ray knows that a node is dead; False if it does not within some seconds."""
    until = time.monotonic() + _DEATH_SECONDS
    while node in {each["NodeID"] for each in alive_nodes()}:
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


@contextmanager
def on_ray(
    settings: RayCluster, project: ProjectFiles, workers: int, message: Callable[[str], None]
) -> Iterator[OnRay]:
    """An executor on a cluster all nodes of which can do the work of this project.

    Raises `MachineError` where one cannot; the message names it.
    """
    with connected(settings), nodes.store_probe(project.store, project.file) as probe:
        reports = examine(settings, probe, project.bucket)
        faults = [f"node {report.host} {fault}" for report in reports for fault in report.faults]
        apart = [report.host for report in reports if report.uses_bucket]
        if apart and project.needs_folder:
            faults.append(
                f"{project.needs_folder[0]}, which needs a folder that all nodes share, but node "
                f"{apart[0]} does not see the store {project.store}. Put it on a file system that "
                "all nodes share, or do this on one machine."
            )
        if faults:
            raise MachineError("\n".join(faults))
        cpus = sum(report.cpus for report in reports)
        gpus = sum(report.gpus for report in reports)
        through = f"; {len(apart)} get their files from {project.url}" if apart else ""
        message(
            f"Ray cluster: {counted(len(reports), 'node')}, {counted(cpus, 'CPU')}, "
            f"{counted(gpus, 'GPU')}{through}"
        )
        sharing = frozenset(report.node for report in reports if not report.uses_bucket)
        access = FolderAccess(probe, sharing, project.bucket if apart else None)
        with ExitStack() as stack:
            transfer = None
            if access.bucket is not None:
                transfer = stack.enter_context(opened_transfer(access.bucket, project.digest))
            yield OnRay(
                workers,
                message,
                nodes.software(),
                settings.wait_minutes * 60,
                {stage: wanted.as_resources() for stage, wanted in settings.resources.items()},
                access=access,
                transfer=transfer,
            )
