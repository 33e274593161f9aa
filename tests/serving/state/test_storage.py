"""Bytes by id: in a folder and behind an fsspec URL, with the same behaviour."""

import pytest

from jangin.core.errors import ConfigError, StoreError
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import open_storage


@pytest.fixture(params=["folder", "local://", "memory://"])
def storage(request, tmp_path):
    where = {
        "folder": "",
        "local://": f"local://{tmp_path}/remote",
        "memory://": f"memory://{tmp_path.name}",
    }
    return open_storage(ServerSettings(folder=tmp_path, storage=where[request.param]))


def write(storage, name, content):
    with storage.writer(name) as stream:
        stream.write(content)


def test_what_is_written_can_be_read_and_deleted(storage):
    write(storage, "file-1", b"bytes")
    with storage.reader("file-1") as stream:
        assert stream.read() == b"bytes"
    with storage.local_path("file-1") as path:
        assert path.read_bytes() == b"bytes"
    assert [name for name, _ in storage.names()] == ["file-1"]
    storage.delete("file-1")
    storage.delete("file-1")
    with pytest.raises(FileNotFoundError):
        storage.reader("file-1")


def test_an_interrupted_write_leaves_nothing(storage):
    def interrupted():
        with storage.writer("file-1") as stream:
            stream.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    with pytest.raises(FileNotFoundError):
        storage.reader("file-1")
    assert list(storage.names()) == []


@pytest.mark.parametrize("name", ["../file", "a/b", "", "..", "file\n", "ä", "x" * 65])
def test_a_name_that_is_no_id_is_refused(storage, name):
    with pytest.raises(StoreError, match="no id"):
        storage.reader(name)
    with pytest.raises(StoreError, match="no id"), storage.writer(name):
        pass
    with pytest.raises(StoreError, match="no id"):
        storage.delete(name)


def test_an_unknown_kind_of_storage_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing://x"):
        open_storage(ServerSettings(folder=tmp_path, storage="nothing://x"))


def test_a_storage_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/inside"):
        open_storage(ServerSettings(folder=tmp_path, storage=str(tmp_path / "file" / "inside")))
