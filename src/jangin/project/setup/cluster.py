"""Where a run does the work of its stages: on this machine, or on the nodes of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jangin.core.errors import ConfigError
from jangin.core.execution.settings import Cluster, LocalMachine, RayCluster
from jangin.core.executor import Executor, Resources
from jangin.project.file import LoadedProject
from jangin.project.plan import PlannedStage
from jangin.project.stages import STAGES


def chosen_cluster(loaded: LoadedProject, override: str = "") -> Cluster:
    """The cluster of a project file; `override` is `local`, `auto`, or the address of another.

    Raises `ConfigError` where variants name different ones, where a stage with resources does not
    exist, and where the override is no address.
    """
    clusters = [project.cluster for project in loaded.variants.values()]
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
            f"{loaded.path}: the variants have different settings under `cluster`, but one run has "
            "one cluster. Write `cluster` at the top of the file only."
        )
    if isinstance(chosen, RayCluster):
        known = [stage.name for stage in STAGES]
        for stage in chosen.resources:
            if stage not in known:
                raise ConfigError(
                    f"{loaded.path}: cluster.resources.{stage}: there is no stage with this name. "
                    f"Known stages: {', '.join(known)}."
                )
    return chosen


@contextmanager
def opened_executor(
    cluster: Cluster, local: Executor, store: Path, project: Path, message: Callable[[str], None]
) -> Iterator[Executor]:
    """The executor of a run: `local`, or one on the nodes of the cluster.

    Raises `MachineError` where the cluster cannot be used.
    """
    if not isinstance(cluster, RayCluster):
        yield local
        return
    from jangin.core.execution.ray_connection import on_ray

    with on_ray(cluster, store, project, local.workers, message) as executor:
        yield executor


def locations(steps: Sequence[PlannedStage], cluster: Cluster) -> list[str]:
    """A line on each group of stages that would run: where, and what one call of theirs takes."""
    if not isinstance(cluster, RayCluster):
        return []
    steps = [step for step in steps if step.state != "cached"]
    names = list(dict.fromkeys(step.stage.name for step in steps if step.stage.maps))
    lines = []
    if names:
        wanted = [
            f"{name} ({_wish(cluster.resources[name].as_resources())} a call)"
            if name in cluster.resources
            else name
            for name in names
        ]
        where = "the cluster of this machine" if cluster.address == "auto" else cluster.address
        lines.append(f"On the nodes of Ray at {where}: {', '.join(wanted)}.")
    here = list(dict.fromkeys(step.stage.name for step in steps if not step.stage.maps))
    if here:
        lines.append(f"On this machine: {', '.join(here)}.")
    return lines


def _wish(resources: Resources) -> str:
    parts = [f"{resources.cpus:g} CPUs"] if resources.cpus else []
    parts += [f"{resources.gpus:g} GPUs"] if resources.gpus else []
    parts += [f"{resources.memory_bytes / 1e9:g} GB"] if resources.memory_bytes else []
    return ", ".join(parts)
