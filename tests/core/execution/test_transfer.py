"""Files of the driver on a node that does not see them: both sides in this process."""

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from jangin.core.digest import digest_file
from jangin.core.errors import MachineError, StoreError
from jangin.core.execution import transfer
from jangin.core.execution.nodes import store_probe
from jangin.core.execution.transfer import (
    BucketAccess,
    Delivered,
    FolderAccess,
    NodeFiles,
    object_name,
    opened_transfer,
)


class FolderObjects:
    """A bucket that is a folder."""

    def __init__(self, root):
        self.root = root
        self.traffic = []

    def read(self, name):
        path = self.root / name
        return (path.read_bytes(), "etag") if path.exists() else None

    def size(self, name):
        path = self.root / name
        return path.stat().st_size if path.exists() else None

    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def upload(self, path, name, sent):
        self.traffic.append(("up", name))
        self.write(name, path.read_bytes())
        sent(path.stat().st_size)

    def download(self, name, size, path, received):
        self.traffic.append(("down", name))
        content = (self.root / name).read_bytes()
        path.write_bytes(content)
        received(size)
        return hashlib.sha256(content).hexdigest()

    def delete_below(self, folder, before=None):
        for path in [*(self.root / folder).rglob("*")]:
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if path.is_file() and (before is None or written < before):
                path.unlink()


class Two:
    """A driver, and a node that has a folder of its own for temporary files."""

    def __init__(self, folder, monkeypatch):
        monkeypatch.setattr(transfer, "INLINE_BYTES", 20)
        monkeypatch.setattr(transfer, "INLINE_BYTES", 20)
        for name in ("bucket", "node", "project"):
            (folder / name).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "node"))
        self.project, self.bucket = folder / "project", FolderObjects(folder / "bucket")
        self.access = BucketAccess("s3://bucket", lambda: self.bucket, "transfer/run")
        (self.project / "project.yaml").write_text("name: test\n")
        with store_probe(self.project / "store", self.project / "project.yaml") as probe:
            self.probe = probe  # gone after the block, so that the node does not see it

    def node(self):
        return NodeFiles(FolderAccess(self.probe, frozenset(), self.access), "node")

    def call(self, work, item):
        """The result of a call on the node, with all files on the driver."""
        with opened_transfer(self.access, digest_file) as driver:
            packed_work, packed_item = driver.pack(work), driver.pack(item)
            away = self.project.with_name("away")
            self.project.rename(away)  # the node must not see it
            try:
                node = self.node()
                loaded, folder = node.loaded(packed_work)
                delivered = pickle.loads(pickle.dumps(node.called(loaded, packed_item, folder)))
                assert not self.project.exists()
            finally:
                shutil.rmtree(self.project, ignore_errors=True)
                away.rename(self.project)
            return driver.take(delivered) if isinstance(delivered, Delivered) else delivered


@pytest.fixture
def two(tmp_path, monkeypatch):
    return Two(tmp_path, monkeypatch)


def copy(target, source):
    """Work that reads a file or a folder, and writes a file for each into a folder."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    target.mkdir(parents=True, exist_ok=True)
    for path in files:
        if path.is_file():
            partial_file = target / f"{path.name}.partial"
            partial_file.write_bytes(path.read_bytes()[::-1])
            partial_file.replace(target / path.name)
    return [path.name for path in files]


@pytest.mark.parametrize("content", [b"small", b"large " * 20], ids=["inline", "bucket"])
def test_a_call_reads_a_file_and_its_output_comes_back(two, content):
    source, target = two.project / "one.txt", two.project / "out" / "parts"
    source.write_bytes(content)
    assert two.call(partial(copy, target), source) == ["one.txt"]
    assert (target / "one.txt").read_bytes() == content[::-1]
    assert [path.name for path in target.iterdir()] == ["one.txt"]
    through = {way for way, _ in two.bucket.traffic}
    assert through == (set() if content == b"small" else {"up", "down"})
    assert not [path for path in two.bucket.root.rglob("*") if path.is_file()]


def test_a_folder_is_sent_with_all_below_it_and_kept_for_the_next_call(two):
    source, target = two.project / "model", two.project / "out"
    (source / "deep").mkdir(parents=True)
    (source / "weights").write_bytes(b"weights" * 20)
    (source / "deep" / "config").write_bytes(b"{}")
    assert two.call(partial(copy, target), source) == ["deep", "config", "weights"]
    two.bucket.traffic.clear()
    (source / "deep" / "config").write_bytes(b"[]")
    two.call(partial(copy, target), source)
    assert (target / "config").read_bytes() == b"]["
    name = hashlib.sha256(b"weights" * 20).hexdigest()
    assert ("down", f"transfer/run/{name}") not in two.bucket.traffic


def test_what_a_finished_artifact_has_in_the_bucket_is_not_sent_again(two):
    content = b"weights" * 20
    source = two.project / "weights"
    source.write_bytes(content)
    name = object_name(hashlib.sha256(content).hexdigest())
    two.bucket.write(name, content)
    two.call(partial(copy, two.project / "out"), source)
    assert ("down", name) in two.bucket.traffic
    sent = {each for way, each in two.bucket.traffic if way == "up"}
    assert sent == {f"transfer/run/{hashlib.sha256(content[::-1]).hexdigest()}"}
    assert two.bucket.read(name) == (content, "etag")


def test_an_output_that_is_damaged_on_its_way_gets_no_name(two):
    source, target = two.project / "one.txt", two.project / "out"
    source.write_bytes(b"large " * 20)
    send = two.bucket.upload

    def upload(path, name, sent):
        send(path, name, sent)
        if "node" in path.parts:
            two.bucket.write(name, b"wrong " * 20)

    two.bucket.upload = upload
    with pytest.raises(StoreError, match=r"out/one\.txt arrived damaged"):
        two.call(partial(copy, target), source)
    assert not [*target.iterdir()]


def test_each_call_delivers_what_it_wrote_itself(two):
    sources = [two.project / name for name in ("one", "two")]
    for source in sources:
        source.write_bytes(source.name.encode())
    with opened_transfer(two.access, digest_file) as driver:
        node = two.node()
        work, folder = node.loaded(driver.pack(partial(copy, two.project / "out")))
        calls = [node.called(work, driver.pack(source), folder) for source in sources]
    assert [[Path(file.name).name for file in each.files] for each in calls] == [["one"], ["two"]]


def replace_input(_target, source):
    fresh = source.with_name("fresh")
    fresh.write_bytes(b"changed")
    fresh.replace(source)


def test_an_input_that_a_call_replaces_comes_back_and_the_kept_one_stays(two):
    source = two.project / "one.txt"
    source.write_bytes(b"as it was")
    two.call(partial(replace_input, None), source)
    assert source.read_bytes() == b"changed"
    source.write_bytes(b"as it was")
    two.call(partial(copy, two.project / "out"), source)
    assert (two.project / "out" / "one.txt").read_bytes() == b"as it was"[::-1]


def refuse(target, _source):
    (target.parent / "half").write_bytes(b"half")
    raise ValueError("refused")


def test_a_call_that_fails_delivers_nothing(two):
    source = two.project / "one.txt"
    source.write_bytes(b"x")
    with pytest.raises(ValueError, match="refused"):
        two.call(partial(refuse, two.project / "out"), source)
    assert sorted(path.name for path in two.project.iterdir()) == [
        "one.txt",
        "project.yaml",
        "store",
    ]


def test_a_damaged_object_is_named_and_not_kept(two):
    source = two.project / "one.txt"
    source.write_bytes(b"large " * 20)
    damage = two.bucket.upload

    def upload(path, name, sent):
        damage(path, name, sent)
        two.bucket.write(name, b"wrong " * 20)

    two.bucket.upload = upload
    with pytest.raises(StoreError, match=r"one\.txt arrived damaged"):
        two.call(partial(copy, two.project / "out"), source)
    two.bucket.upload = damage
    two.call(partial(copy, two.project / "out"), source)
    assert (two.project / "out" / "one.txt").read_bytes() == (b"large " * 20)[::-1]


def test_an_object_that_was_deleted_is_named(two):
    source = two.project / "one.txt"
    source.write_bytes(b"large " * 20)
    send = two.bucket.upload

    def upload(path, name, sent):
        send(path, name, sent)
        (two.bucket.root / name).unlink()

    two.bucket.upload = upload
    with pytest.raises(StoreError, match=r"is missing in the bucket, where it was for .*one\.txt"):
        two.call(partial(copy, two.project / "out"), source)


def weights_of(_target, base):
    location = json.loads((base / "runtime" / "location.json").read_text())
    return (Path(location["path"]) / "weights").read_bytes()


def test_a_base_that_refers_to_weights_elsewhere_brings_them_along(two):
    base, weights = two.project / "base", two.project / "downloads" / "model"
    (base / "runtime").mkdir(parents=True)
    weights.mkdir(parents=True)
    (weights / "weights").write_bytes(b"weights" * 20)
    (base / "runtime" / "location.json").write_text(json.dumps({"path": str(weights)}))
    assert two.call(partial(weights_of, None), base) == b"weights" * 20


def test_a_node_that_sees_the_folder_reads_it(two):
    source = two.project / "one.txt"
    source.write_bytes(b"large " * 20)
    with (
        store_probe(two.project / "store", two.project / "project.yaml") as probe,
        opened_transfer(two.access, digest_file) as driver,
    ):
        node = NodeFiles(FolderAccess(probe, frozenset(), two.access), "late")
        packed = driver.pack(partial(copy, two.project / "out"))
        work, folder = node.loaded(packed)
        assert folder is None
        assert node.called(work, driver.pack(source), folder) == ["one.txt"]
    assert (two.project / "out" / "one.txt").exists()
    assert not [each for each in two.bucket.traffic if each[0] == "down"]


def test_a_node_that_joins_late_without_the_folder_is_refused(two):
    with pytest.raises(MachineError, match=r"joined the cluster during the run .*project/store"):
        NodeFiles(FolderAccess(two.probe, frozenset()), "late")


def test_folders_of_processes_that_were_killed_are_deleted(two):
    node = two.node()
    calls = Path(tempfile.gettempdir()) / f"jangin-files-{os.getuid()}" / "calls"
    (mine,) = calls.iterdir()
    killed = calls / "killed"
    killed.mkdir()
    (killed / "lock").touch()
    os.utime(killed, (0, 0))
    os.utime(mine, (0, 0))
    two.node()
    assert not killed.exists()
    assert mine.exists()
    del node
