"""Artifacts that several machines share; `test_s3.py` does the same over HTTP."""

import json
import shutil

import pytest

from jangin.core.errors import LockedStoreError, StoreError, UnreadableStoreError
from jangin.core.parquet import read_table
from jangin.core.records import Message
from jangin.core.store import MANIFEST
from jangin.project.remote import Lease
from tests.project.remote.conftest import KEY, OTHER_KEY


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_one_machine_built_another_downloads_as_it_is(machine):
    ours, theirs = machine("a"), machine("b")
    built = ours.store.share(ours.build(model=b"weights", empty=b""))
    found = theirs.store.find("chunk", KEY)
    assert found == built or found.manifest == built.manifest
    assert not found.folder.exists(), "nothing is downloaded before it is read"
    assert files_of(found.path) == files_of(built.path)
    again = theirs.store.find("chunk", KEY)
    assert again.fetch is None, "it is here now"


def test_only_the_table_that_is_read_is_downloaded(machine):
    ours, theirs = machine("a"), machine("b")
    ours.store.share(ours.build(model=bytes(5000)))
    found = theirs.store.find("chunk", KEY)
    before = theirs.store.missing(found)
    rows = read_table(found.file("t.parquet"), Message)
    assert [row.content for row in rows] == ["one", "two"]
    assert {*files_of(found.folder)} == {
        "t.parquet/part-00000.parquet",
        "t.parquet/part-00001.parquet",
    }
    assert theirs.store.missing(found) == 5000
    assert theirs.exchange.downloaded == before - 5000
    assert not found.file("other.parquet").exists()
    assert theirs.store.find("chunk", KEY).fetch is not None, "half an artifact is none"


def test_half_an_upload_is_not_seen_and_the_next_one_continues_it(machine, names, memory):
    import obstore

    ours, theirs = machine("a"), machine("b")
    built = ours.build(model=b"weights")
    record_of = ours.store.share(built)
    assert record_of == built
    manifest = next(iter(names("chunk/")))
    objects = names("objects/")
    obstore.delete(memory, manifest)  # as a kill before the last write leaves it
    lost = sorted(objects)[0]
    obstore.delete(memory, lost)
    kept = {name: obstore.head(memory, name)["e_tag"] for name in names("objects/")}
    assert theirs.store.find("chunk", KEY) is None
    assert ours.store.offer(built) == ""
    assert names("objects/") == objects
    assert {name: obstore.head(memory, name)["e_tag"] for name in kept} == kept, "sent once"
    assert files_of(theirs.store.find("chunk", KEY).path) == files_of(built.path)


def test_equal_files_are_stored_once(machine, names):
    ours = machine("a")
    for key in (KEY, OTHER_KEY):
        ours.store.share(ours.build(("same", "same"), key, one=b"x", two=b"x"))
    assert len(names("objects/")) == 2
    assert len(names("chunk/")) == 2


def test_the_loser_of_a_race_continues_from_the_result_of_the_winner(machine):
    ours, theirs = machine("a"), machine("b")
    first = ours.share("ours")
    built = theirs.build(("theirs",))
    taken = theirs.store.share(built)
    assert taken.manifest == first.manifest
    assert files_of(taken.path) == files_of(first.path)
    assert not list(taken.folder.parent.glob("*.old*"))


def test_a_result_from_before_is_kept_and_the_conflict_is_named(machine):
    ours, theirs = machine("a"), machine("b")
    ours.share("ours")
    built = theirs.build(("theirs",))
    assert theirs.store.offer(built) == "s3://bucket/rules"
    assert theirs.store.find("chunk", KEY).manifest == built.manifest


def test_a_rebuild_replaces_what_is_there(machine):
    ours, theirs = machine("a"), machine("b")
    ours.share("first")
    rebuilt = ours.share("second", replaces=True)
    assert [row.content for row in read_table(rebuilt.path / "t.parquet", Message)] == ["second"]
    assert theirs.store.find("chunk", KEY).manifest == rebuilt.manifest


def test_a_part_that_was_deleted_here_comes_back(machine):
    ours = machine("a")
    built = ours.share()
    part = built.path / "t.parquet" / "part-00001.parquet"
    content = part.read_bytes()
    shutil.rmtree(part.parent)
    assert ours.store.find("chunk", KEY).path == built.path
    assert part.read_bytes() == content


def test_a_part_that_was_deleted_there_is_named(machine, memory):
    import obstore

    ours, theirs = machine("a"), machine("b")
    built = ours.build(("one",), model=b"weights")
    ours.store.share(built)
    record = json.loads(bytes(obstore.get(memory, f"chunk/{KEY}.json").bytes()))
    sha256 = record["objects"]["model"]["sha256"]
    obstore.delete(memory, f"objects/{sha256[:2]}/{sha256}")
    found = theirs.store.find("chunk", KEY)
    with pytest.raises(StoreError) as failed:
        _ = found.path
    assert f"s3://bucket/rules/objects/{sha256[:2]}/{sha256} is missing" in str(failed.value)
    assert f"Delete s3://bucket/rules/chunk/{KEY}.json and run again" in str(failed.value)
    assert found.file("t.parquet").exists(), "what is there is used"
    obstore.delete(memory, f"chunk/{KEY}.json")  # as the message says
    ours.store.offer(built)
    assert files_of(machine("b").store.find("chunk", KEY).path) == files_of(built.path)


@pytest.mark.parametrize("content", [b"Weights", b"weight"])
def test_a_file_that_was_damaged_there_is_not_used(machine, memory, content):
    import obstore

    ours, theirs = machine("a"), machine("b")
    ours.store.share(ours.build(("one",), model=b"weights"))
    record = json.loads(bytes(obstore.get(memory, f"chunk/{KEY}.json").bytes()))
    sha256 = record["objects"]["model"]["sha256"]
    obstore.put(memory, f"objects/{sha256[:2]}/{sha256}", content)
    found = theirs.store.find("chunk", KEY)
    with pytest.raises(StoreError, match=r"is damaged, the file model of chunk"):
        _ = found.path
    assert not (found.folder / MANIFEST).exists()
    assert "model" not in files_of(found.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"format": 1, "manifest": {}}'])
def test_a_manifest_that_was_damaged_there_is_named(machine, memory, content):
    import obstore

    obstore.put(memory, f"chunk/{KEY}.json", content)
    with pytest.raises(UnreadableStoreError, match=rf"s3://bucket/rules/chunk/{KEY}.json is dama"):
        machine("a").store.find("chunk", KEY)


def test_a_newer_format_is_refused(machine, memory):
    import obstore

    obstore.put(memory, f"chunk/{KEY}.json", b'{"format": 2}')
    with pytest.raises(UnreadableStoreError, match=r"newer jangin \(format 2, .* up to 1\)"):
        machine("a").store.find("chunk", KEY)


def test_an_artifact_that_refers_to_a_folder_is_used_where_that_exists(machine, tmp_path):
    ours, theirs = machine("a"), machine("b")
    weights = tmp_path / "weights"
    weights.mkdir()
    workspace = ours.store.workspace("catalog", KEY, keep=False)
    (workspace / "runtime").mkdir()
    (workspace / "runtime" / "location.json").write_text(json.dumps({"path": str(weights)}))
    ours.store.share(ours.store.publish("catalog", 1, KEY, {}, {}, {}))
    assert theirs.store.find("catalog", KEY) is not None
    weights.rmdir()
    assert machine("c").store.find("catalog", KEY) is None


def test_two_machines_do_not_work_on_the_same_artifact(machine, memory):
    import obstore

    ours, theirs = machine("a"), machine("b")
    with ours.store.lock("chunk", KEY):
        with pytest.raises(
            LockedStoreError, match=r"process \d+ on \S+\) is working on chunk in s"
        ):
            theirs.store.lock("chunk", KEY).__enter__()
        with theirs.store.lock("chunk", OTHER_KEY):
            pass
    with theirs.store.lock("chunk", KEY):
        pass
    assert bytes(obstore.get(memory, f"locks/chunk/{KEY}.json").bytes()) == b"{}"


def test_the_lock_of_a_killed_process_is_free_in_its_own_folder_at_once(machine):
    ours = machine("a")
    lease = Lease(ours.exchange.bucket, f"locks/chunk/{KEY}.json", ours.store.root, print)
    lease._take("chunk")  # and killed
    with ours.store.lock("chunk", KEY):
        pass


def test_the_lock_of_a_killed_process_is_free_elsewhere_after_its_time(machine):
    ours, theirs = machine("a"), machine("b")
    lease = Lease(ours.exchange.bucket, f"locks/chunk/{KEY}.json", ours.store.root, print)
    lease._take("chunk")
    with pytest.raises(LockedStoreError, match=r"free 90 seconds after its last renewal"):
        theirs.store.lock("chunk", KEY).__enter__()
    with machine("c", lease_seconds=-1).store.lock("chunk", KEY):
        pass


def test_a_lock_is_renewed_and_its_loss_is_told(machine, memory):
    import time

    import obstore

    ours = machine("a", lease_seconds=0.12)
    name = f"locks/chunk/{KEY}.json"

    def etag():
        return obstore.head(memory, name)["e_tag"]

    with ours.store.lock("chunk", KEY):
        first, patience = etag(), time.monotonic() + 100
        while etag() == first:
            assert time.monotonic() < patience
            time.sleep(0.01)
        obstore.put(memory, name, b'{"owner": "another"}')
        while not ours.progress.messages:
            assert time.monotonic() < patience
            time.sleep(0.01)
    assert ours.progress.messages == [
        "another run has taken the lock on chunk in s3://bucket/rules, because this one could not "
        "renew it. The one that is finished first is kept."
    ]
    assert bytes(obstore.get(memory, name).bytes()) == b'{"owner": "another"}', "it is theirs"


def test_a_server_with_conditional_writes_passes_the_probe_and_keeps_nothing_of_it(machine, names):
    machine("a").exchange.check()
    assert names() == set()
