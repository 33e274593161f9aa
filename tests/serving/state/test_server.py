"""The server of a folder: for its user alone, with services that are found by their class."""

import pytest

from jangin.core.errors import StoreError
from jangin.serving.app import SERVICES, create_app
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings
from tests.serving.running import run_server


def test_a_new_folder_belongs_to_its_user(tmp_path):
    server = Server(ServerSettings(folder=tmp_path / "a" / "b"))
    server.close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/inside"):
        Server(ServerSettings(folder=tmp_path / "file" / "inside"))


def test_services_start_once_and_are_found(tmp_path):
    with run_server(tmp_path / "data") as running:
        services = [running.server.get(kind) for kind in SERVICES]
        assert [type(service) for service in services] == list(SERVICES)


def test_a_service_that_was_not_added_is_missing(tmp_path):
    server = Server(ServerSettings(folder=tmp_path))
    create_app(server)
    with pytest.raises(KeyError):
        server.get(dict)
    server.close()
