"""`jangin serve` as a process: it says where it listens, and a signal ends it."""

import signal
import threading
import time

import httpx2
import pytest

from jangin.core.errors import MachineError
from jangin.serving.run import listen
from jangin.serving.state.settings import ServerSettings
from tests.serving.running import spawn_server


@pytest.mark.slow
def test_the_command_serves_until_a_signal(tmp_path):
    with spawn_server(tmp_path / "data") as (process, url):
        assert httpx2.get(url.removesuffix("/v1") + "/healthz").json()["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    assert (tmp_path / "data" / "server.sqlite").exists()


def test_a_port_that_is_taken_is_named():
    with listen(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"127.0.0.1:{port}"):
            listen(ServerSettings(port=port))


class SlowBody:
    """An upload of which the second half waits for a signal."""

    def __init__(self, proceed):
        self.begun, self._proceed = threading.Event(), proceed

    def __iter__(self):
        yield HEAD + b"1" * 1000
        self.begun.set()
        assert self._proceed.wait(20)
        yield b"2" * 1000 + b"\r\n--x--\r\n"


def wait_until_refused(url):
    """A connection that was just accepted may also be closed without an answer."""
    deadline = time.monotonic() + 20
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
    proceed, replies = threading.Event(), []
    with spawn_server(tmp_path / "data") as (process, url):
        body = SlowBody(proceed)
        headers = {
            "authorization": "Bearer x",
            "content-type": "multipart/form-data; boundary=x",
        }
        upload = threading.Thread(
            target=lambda: replies.append(
                httpx2.post(f"{url}/files", headers=headers, content=iter(body), timeout=30)
            )
        )
        upload.start()
        assert body.begun.wait(20)
        process.send_signal(signal.SIGTERM)
        wait_until_refused(url)
        proceed.set()
        upload.join(timeout=20)
        process.wait(timeout=20)
    assert [(reply.status_code, reply.json()["bytes"]) for reply in replies] == [(200, 2000)]
    stored = [path for path in (tmp_path / "data" / "files").rglob("file-*") if path.is_file()]
    assert [path.stat().st_size for path in stored] == [2000]
