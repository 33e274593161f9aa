"""Clients that begin a request and do not go on are sent away; others are served meanwhile."""

import http.client
import json
import socket
import time
from contextlib import ExitStack

import httpx2
import pytest

from tests.serving.running import ANY_KEY, run_server

HEAD = f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ANY_KEY}\r\n"
FORM = "content-type: multipart/form-data; boundary=x\r\ncontent-length: 9000000\r\n\r\n"
PART = '--x\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
SECONDS = 1.0


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    limits = {"stalled_seconds": SECONDS, "connections": 40}
    with run_server(tmp_path_factory.mktemp("server") / "data", limits=limits) as running:
        yield running


def connect(running):
    return socket.create_connection(("127.0.0.1", httpx2.URL(running.url).port), 100)


def is_closed_in_time(connection):
    try:
        while connection.recv(1000):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def is_ended_though_it_drips(connection):
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        try:
            connection.sendall(b"x")
        except OSError:
            return True
        time.sleep(0.02)
    return False


def wait_until_alone(running):
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        try:
            if httpx2.get(f"{running.root}/healthz").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail("the server does not answer")


@pytest.mark.parametrize(
    "text", ["", "GET /healthz HTTP/1.1\r\nhost: lo", HEAD, HEAD + FORM, HEAD + FORM + PART]
)
def test_a_request_that_does_not_go_on_is_ended(running, text):
    with connect(running) as connection:
        connection.sendall(text.encode())
        assert is_closed_in_time(connection)
    wait_until_alone(running)


def test_a_head_that_drips_is_ended_and_so_is_a_body(running):
    with connect(running) as head, connect(running) as body:
        body.sendall((HEAD + FORM + PART).encode())
        assert is_ended_though_it_drips(head)
        assert is_ended_though_it_drips(body)


def test_a_slow_upload_that_goes_on_is_taken(running):
    body = (PART + "x" * 20_000 + "\r\n--x\r\n").encode()
    body += b'content-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--x--\r\n'
    head = HEAD + FORM.replace("9000000", str(len(body)))
    with connect(running) as connection:
        connection.sendall(head.encode())
        for start in range(0, len(body), 1000):
            connection.sendall(body[start : start + 1000])
            time.sleep(SECONDS / 8)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_client_that_waits_for_its_next_request_is_not_hurried(running):
    with httpx2.Client() as client:
        for _ in range(2):
            assert client.get(f"{running.root}/healthz").status_code == 200
            time.sleep(SECONDS * 1.5)


def test_a_second_request_has_all_of_its_time(running):
    with connect(running) as connection:
        for pause in (SECONDS * 0.8, SECONDS * 0.5):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nho")
            time.sleep(pause)
            connection.sendall(b"st: localhost\r\n\r\n")
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            assert (reply.status, json.load(reply)["status"]) == (200, "ok")


def test_a_reply_that_nobody_reads_is_ended(running):
    client = running.client()
    file = client.files.create(file=("a.bin", bytes(30_000_000)), purpose="user_data")
    ask = f"GET /v1/files/{file.id}/content HTTP/1.1\r\nhost: localhost\r\n"
    with connect(running) as connection:
        connection.sendall(f"{ask}authorization: Bearer {ANY_KEY}\r\n\r\n".encode())
        time.sleep(SECONDS * 4)
        received = 0
        try:
            while piece := connection.recv(1 << 20):
                received += len(piece)
        except ConnectionError:
            pass
        assert received < 30_000_000


def test_more_connections_than_allowed_are_refused_until_there_are_fewer(running):
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connect(running))
        assert httpx2.get(f"{running.root}/healthz").status_code == 503
    wait_until_alone(running)
