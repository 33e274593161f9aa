"""`jangin cluster`: the nodes of a Ray cluster, and whether each can do the work of a project."""

import typer
from rich.markup import escape

from jangin.cli.options import HERE, ClusterOption, ProjectOption, StoreOption
from jangin.cli.terminal import console, errors


def cluster(
    project: ProjectOption = HERE, store: StoreOption = None, cluster: ClusterOption = ""
) -> None:
    """Show the nodes of the cluster, and what keeps one from working on this project.

    Exits with code 2 where a node has other versions, does not see the store, does not notice a
    lock on it, or admits everybody who reaches its ports.
    """
    from jangin.core.errors import ConfigError
    from jangin.core.execution.ray_connection import connected, examine
    from jangin.core.execution.settings import RayCluster
    from jangin.project.file import open_project
    from jangin.project.session import cluster_of

    loaded = open_project(project)
    settings = cluster_of(loaded, cluster)
    if not isinstance(settings, RayCluster):
        raise ConfigError(
            f"{loaded.path} names no cluster. Name one with --cluster auto or --cluster host:port."
        )
    root = store or loaded.folder / "store"
    with connected(settings):
        reports = examine(settings, root, loaded.path)
    for report in reports:
        versions = ", ".join(f"{name} {version}" for name, version in report.software.items())
        console.print(
            f"{report.host}: {report.cpus:g} CPUs, {report.gpus:g} GPUs, "
            f"{report.memory_bytes / 1e9:.1f} GB; {escape(versions)}",
            highlight=False,
            soft_wrap=True,
        )
    faults = [f"node {report.host} {fault}" for report in reports for fault in report.faults]
    for fault in faults:
        errors.print(f"[red]error:[/] {escape(fault)}", highlight=False, soft_wrap=True)
    if faults:
        raise typer.Exit(2)
    console.print(f"All {len(reports)} nodes can work on {loaded.path}.", highlight=False)
