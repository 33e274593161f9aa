"""Where a run does the work of its stages: on this machine, or on the nodes of a cluster."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jangin.core.errors import ConfigError
from jangin.core.execution.settings import Cluster, LocalMachine, RayCluster
from jangin.core.execution.transfer import ProjectFiles
from jangin.core.executor import Executor


def chosen_cluster(
    file: Path, clusters: Sequence[Cluster], stages: Collection[str], override: str = ""
) -> Cluster:
    """The cluster of a run.

    `clusters` are those of the variants in `file`, `stages` the names of all stages; `override` is
    `local`, `auto`, or the address of another cluster.

    Raises `ConfigError` where variants name different ones, where a stage with resources does not
    exist, and where the override is no address.
    """
    chosen = clusters[0]
    if override == "local":
        return LocalMachine()
    if override:
        settings = chosen.model_dump() if isinstance(chosen, RayCluster) else {}
        try:
            chosen = RayCluster.model_validate({**settings, "type": "ray", "address": override})
        except ValueError as error:
            raise ConfigError(
                f"--cluster {override!r} is no address. Write host:port, such as gpu1:6379, or "
                "`auto`, or `local`."
            ) from error
    elif any(cluster != chosen for cluster in clusters):
        raise ConfigError(
            f"{file}: the variants have different settings under `cluster`, but one run has one "
            "cluster. Write `cluster` at the top of the file only."
        )
    unknown = [name for name in getattr(chosen, "resources", {}) if name not in stages]
    if unknown:
        raise ConfigError(
            f"{file}: cluster.resources.{unknown[0]}: there is no stage with this name. Known "
            f"stages: {', '.join(stages)}."
        )
    return chosen


@contextmanager
def opened_executor(
    cluster: Cluster,
    local: Executor,
    project: Callable[[], ProjectFiles],
    message: Callable[[str], None],
) -> Iterator[Executor]:
    """The executor of a run: `local`, or one on the nodes of the cluster, which need the project.

    Raises `MachineError` where the cluster cannot be used.
    """
    if not isinstance(cluster, RayCluster):
        yield local
        return
    from jangin.core.execution.ray_connection import on_ray

    with on_ray(cluster, project(), local.workers, message) as executor:
        yield executor
