"""`jangin serve` as a process: it says where it listens, and a signal ends it."""

import http.client
import json
import signal
import socket
import sys
import time

import httpx2
import pytest

from jangin.cli.main import main
from jangin.core.errors import ConfigError, LockedStoreError, MachineError
from jangin.serving.run import listen, serve
from jangin.serving.state.leases import sole_server
from jangin.serving.state.settings import ServerSettings
from tests.serving.running import spawn_server
from tests.tiny_project import write_project


@pytest.mark.slow
def test_the_command_serves_until_a_signal(tmp_path):
    with spawn_server(tmp_path / "data", fresh=True) as (process, url):
        assert httpx2.get(url.removesuffix("/v1") + "/healthz").json()["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=100) == -signal.SIGTERM
    # Everything is in the one file, which may be copied now, and the lock names nobody.
    assert [path.name for path in (tmp_path / "data").glob("server.sqlite*")] == ["server.sqlite"]
    assert (tmp_path / "data" / "serving.lock").read_bytes() == b""


@pytest.mark.slow
def test_one_process_serves_a_folder_until_it_is_killed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "data"
    settings = ServerSettings(folder=folder, port=0)
    with spawn_server(folder) as (process, url):
        with pytest.raises(LockedStoreError, match=f"process {process.pid}, {url}"):
            serve(settings, say=lambda _line: pytest.fail("it listens"))
        port = url.rpartition(":")[2].removesuffix("/v1")
        words = ["jangin", "serve", "--check", "--folder", str(folder), "--port", port]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as leave:
            main()
        printed = capsys.readouterr().out
        assert not leave.value.code, printed
        assert f"note port: a server of {folder} runs already" in printed
        process.kill()
        process.wait()
        with sole_server(settings):
            pass


@pytest.mark.slow
def test_the_start_says_which_models_of_the_project_can_be_called(tmp_path, tiny):
    project, _, _ = tiny
    with spawn_server(tmp_path / "a", "--project", project.path) as (process, _):
        assert process.stdout.readline() == "model ft:starter-0.5m:tiny:main (main)\n"
    untrained = write_project(tmp_path / "untrained") / "project.yaml"
    with spawn_server(tmp_path / "b", "--project", untrained) as (process, _):
        line = process.stdout.readline()
    assert line.startswith(f"note: the project {untrained} has no finished model")


def test_a_project_that_is_not_there_is_refused_before_anything_is_created(tmp_path):
    settings = ServerSettings(folder=tmp_path / "data", port=0, project=tmp_path / "nothere")
    with pytest.raises(ConfigError, match="nothere"):
        serve(settings, say=lambda _line: pytest.fail("it listens"))
    assert not settings.folder.exists()


def test_a_port_that_is_taken_is_named():
    with listen(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"127.0.0.1:{port}"):
            listen(ServerSettings(port=port))


def test_the_start_says_at_once_what_it_does(tmp_path, monkeypatch, capsys):
    with listen(ServerSettings(port=0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["jangin", "serve", "--folder", str(tmp_path / "data"), "--port", port]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit):
            main()
    printed = capsys.readouterr()
    assert printed.out == ""  # its first line is the address
    assert printed.err.splitlines()[0] == f"Starting the server of {tmp_path / 'data'} ..."


def wait_until_refused(url):
    """A connection that was just accepted may also be closed without an answer."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        try:
            httpx2.get(url.removesuffix("/v1") + "/healthz")
        except httpx2.ConnectError:
            return
        except httpx2.TransportError:
            continue
    pytest.fail("the server still accepts connections")


HEAD = (
    b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--x\r\n'
    b'content-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
)


@pytest.mark.slow
def test_a_request_in_progress_is_answered_before_the_server_stops(tmp_path):
    body = HEAD + b"1" * 1000 + b"2" * 1000 + b"\r\n--x--\r\n"
    head = (
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\n"
        "content-type: multipart/form-data; boundary=x\r\n"
        f"content-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
    )
    with spawn_server(tmp_path / "data") as (process, url):
        with socket.create_connection(("127.0.0.1", httpx2.URL(url).port), 100) as connection:
            connection.sendall(head.encode())
            # The server asks for the body once it has begun to answer, not as it is connected.
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body[:1000])
            process.send_signal(signal.SIGTERM)
            wait_until_refused(url)
            connection.sendall(body[1000:])
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            assert (reply.status, json.load(reply)["bytes"]) == (200, 2000)
        process.wait(timeout=100)
    stored = [path for path in (tmp_path / "data" / "files").rglob("file-*") if path.is_file()]
    assert [path.stat().st_size for path in stored] == [2000]
