"""Bodies that are too large and requests that are too many are refused before they cost."""

import itertools

import httpx2
import openai
import pytest

from jangin.serving.security.keys import add_key
from jangin.serving.security.limits import MOST_CLIENTS, RateLimitMiddleware
from jangin.serving.state.settings import Limits
from tests.serving.running import ANY_KEY, run_server

KEY = {"authorization": f"Bearer {ANY_KEY}"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited") / "data"
    with run_server(folder, limits={"body_mb": 0.01, "requests_per_minute": 30}) as running:
        yield running


def new_key(running):
    with running.server.database.write() as session:
        return add_key(session, name="x", project="p", scopes=["files"], now=1)[1]


def pieces(size):
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_body_that_is_too_large_is_refused(small, in_pieces):
    content = pieces(20_000) if in_pieces else b" " * 10_001
    reply = httpx2.post(f"{small.url}/uploads", headers=KEY, content=content)
    assert reply.status_code == 413
    assert "0.01 MB" in reply.json()["error"]["message"]


def test_files_have_a_limit_of_their_own(small):
    file = small.client().files.create(file=("a.bin", bytes(50_000)), purpose="user_data")
    assert file.bytes == 50_000


@pytest.mark.slow
def test_a_key_that_sends_too_much_waits_and_others_do_not(small):
    busy, other = small.client(new_key(small)), small.client(new_key(small))
    assert busy.files.list().data == other.files.list().data == []  # now they are known

    sent = itertools.count()

    def send():
        while next(sent) < 1000:
            busy.files.list()

    with pytest.raises(openai.RateLimitError) as raised:
        send()
    assert next(sent) > 30  # a slow machine sends more: one comes back every two seconds
    assert raised.value.type == "requests"
    assert raised.value.code == "rate_limit_exceeded"
    assert 0 < int(raised.value.response.headers["retry-after-ms"]) <= 2001
    assert other.files.list().data is not None


@pytest.mark.slow
def test_who_invents_keys_is_one_client_and_does_not_hurt_those_with_one(tmp_path):
    limits = {"requests_per_minute": 20}
    with run_server(tmp_path / "data", limits=limits, require_keys=True) as running:
        own = {"authorization": f"Bearer {new_key(running)}"}
        assert httpx2.get(f"{running.url}/files", headers=own).status_code == 200
        statuses = [
            httpx2.get(
                f"{running.url}/files", headers={"authorization": f"Bearer sk-jangin-{number}"}
            ).status_code
            for number in range(30)
        ]
        assert set(statuses) == {401, 429}
        assert statuses[0] == 401
        assert httpx2.get(f"{running.url}/files", headers=own).status_code == 200


@pytest.mark.slow
def test_the_sdk_waits_as_long_as_it_is_told(small):
    patient = small.client(new_key(small), max_retries=2)
    for _ in range(31):
        patient.files.list()


def test_requests_come_back_with_time():
    seconds = [0.0]
    limit = RateLimitMiddleware(None, Limits(requests_per_minute=2), clock=lambda: seconds[0])
    assert [limit.seconds_to_wait("a") for _ in range(3)] == [0, 0, 30]
    seconds[0] = 29
    assert limit.seconds_to_wait("a") == pytest.approx(1)
    seconds[0] = 30
    assert limit.seconds_to_wait("a") == 0
    seconds[0] = 10_000
    assert [limit.seconds_to_wait("a") for _ in range(3)] == [0, 0, 30]


def test_it_does_not_remember_clients_without_end():
    limit = RateLimitMiddleware(None, Limits(requests_per_minute=1), clock=lambda: 0.0)
    for client in range(MOST_CLIENTS + 10):
        limit.seconds_to_wait(client)
    assert len(limit._left) == MOST_CLIENTS
    assert limit.seconds_to_wait(MOST_CLIENTS) > 0
    assert limit.seconds_to_wait(0) == 0
