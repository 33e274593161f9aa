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
    none = tmp_path / "none.yaml"
    for changed, said in (
        ({"folder": str(elsewhere)}, f"does not see the store {elsewhere.parent}."),
        ({"content": "other"}, f"has another store at {tmp_path / 'store'}."),
        ({"project": str(none)}, f"does not see the project file {none}."),
    ):
        there = dataclasses.replace(probe, **changed)
        answer = nodes.answer(there, "node")
        assert (answer.fault, answer.is_apart) == (said, True)
        assert not nodes.sees(there)
    assert nodes.sees(probe)


def test_a_lock_that_does_not_hold_is_named(probe, tmp_path):
    (tmp_path / "free").touch()
    answer = nodes.answer(dataclasses.replace(probe, lock=str(tmp_path / "free")), "node")
    assert "does not notice locks on the store" in answer.fault
    assert not answer.is_apart  # a bucket would not help


def test_what_a_killed_run_left_is_deleted_and_what_another_run_uses_is_not(probe, tmp_path):
    killed = tmp_path / "store" / ".seen-from-nodes-killed"
    killed.mkdir()
    (killed / "lock").touch()
    with nodes.store_probe(tmp_path / "store", tmp_path / "project.yaml"):
        assert not killed.exists()
        assert nodes.sees(probe)


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
