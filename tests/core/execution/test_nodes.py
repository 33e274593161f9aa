"""What a node finds out about itself, without a cluster: each fault, with its own files."""

import dataclasses

import pytest

from jangin.core.execution import nodes


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "project.yaml").write_text("name: test\n")
    with nodes.store_probe(tmp_path / "store", tmp_path / "project.yaml") as opened:
        yield opened
    assert not list((tmp_path / "store").iterdir())


def fault(probe, **changed):
    return nodes.answer(dataclasses.replace(probe, **changed), "node").fault


def test_a_node_that_sees_everything_has_no_fault(probe):
    assert fault(probe) == ""
    assert nodes.sees_back(probe, "node")
    assert not nodes.sees_back(probe, "another")


def test_a_store_that_a_node_cannot_see_is_named(probe, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "probe"
    assert fault(probe, folder=str(elsewhere)).startswith(
        f"does not see the store {elsewhere.parent}. Put it on a file system"
    )
    assert fault(probe, content="other").startswith(f"has another store at {tmp_path / 'store'}.")
    assert "does not see the project file" in fault(probe, project=str(tmp_path / "none.yaml"))


def test_a_lock_that_does_not_hold_is_named(probe, tmp_path):
    (tmp_path / "free").touch()
    assert "does not notice locks on the store" in fault(probe, lock=str(tmp_path / "free"))


def test_differing_versions_are_named():
    ours = nodes.software()
    assert nodes.differences(ours, ours) == []
    theirs = {**ours, "numpy": "1.0", "tesseract": nodes.ABSENT}
    assert nodes.differences(ours, theirs) == [
        f"numpy 1.0 instead of {ours['numpy']}",
        f"tesseract absent instead of {ours['tesseract']}",
    ]


def test_the_version_of_jangin_includes_its_code():
    assert len(nodes.software()["jangin"].rpartition("(")[2]) == 9
