"""A cluster of two nodes for all tests of this folder."""

import os
import threading
from pathlib import Path

import pytest

from jangin.core.execution.settings import RayCluster
from tests.core.execution.cluster.machines import ENVIRONMENT, two_machines, wait_for_nodes


def pytest_collection_modifyitems(items):
    """`make test` starts no cluster; `make test-cluster` never skips."""
    if os.environ.get("JANGIN_CLUSTER"):
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.skip("`make test-cluster` starts Ray"))


@pytest.fixture(scope="session")
def cluster():
    """Two nodes of one core each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with two_machines() as nodes:
            yield nodes


@pytest.fixture
def settings(cluster):
    """Settings of the cluster, as of a project file."""
    return RayCluster(type="ray", address=cluster.address)


@pytest.fixture
def both(settings):
    """Both nodes are there, for commands that count them."""
    from jangin.core.execution.ray_connection import connected

    with connected(settings):
        wait_for_nodes(2)


@pytest.fixture
def executor(settings, tmp_path):
    """An executor on both nodes, and what it says."""
    from jangin.core.execution.ray_connection import connected, on_ray
    from jangin.core.execution.transfer import ProjectFiles

    said = []
    (tmp_path / "project.yaml").write_text("name: test\n")
    with connected(settings):
        wait_for_nodes(2)
        files = ProjectFiles(tmp_path / "store", tmp_path / "project.yaml")
        with on_ray(settings, files, 1, said.append) as opened:
            yield opened
    assert threading.active_count() < 20
