"""A request that a client sent again is recognised: same key, same body, a short time ago."""

import pytest
from starlette.requests import Request

from jangin.serving.jobs.routes import WINDOW, body_hash, is_retry, job_of_retry
from jangin.serving.protocol.objects import new_id
from jangin.serving.state.caller import Caller
from jangin.serving.state.database import Database
from jangin.serving.state.server import migrate
from jangin.serving.state.tables import Job

CALLER = Caller("p", frozenset({"jobs"}), "key_1")
BODY = b'{"model": "m"}'
NOW = 10_000


def request(**headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("count", "answer"), [(None, False), ("0", False), ("1", True), ("2", True), ("x", False)]
)
def test_the_client_says_that_it_tries_again(count, answer):
    headers = {} if count is None else {"x_stainless_retry_count": count}
    assert is_retry(request(**headers)) is answer


@pytest.mark.parametrize(
    ("caller", "body", "now", "is_same"),
    [
        (CALLER, BODY, NOW, True),
        (CALLER, BODY, NOW + WINDOW - 1, True),
        (CALLER, BODY, NOW + WINDOW, False),
        (CALLER, BODY + b" ", NOW, False),
        (Caller("p", frozenset(), "key_2"), BODY, NOW, False),
        (Caller("q", frozenset(), "key_1"), BODY, NOW, False),
    ],
)
def test_only_the_same_request_is_the_same_job(tmp_path, caller, body, now, is_same):
    database = Database(f"sqlite:///{tmp_path}/a.sqlite")
    migrate(database)
    with database.write() as session:
        for number in (1, 2):
            session.add(
                Job(
                    id=f"ftjob-{number}", project="p", created_at=NOW, seq=number, status="queued",
                    model="m", seed=1, method_type="supervised", owner_key="key_1",
                    training_file="f", body_hash=body_hash(BODY),
                )
            )  # fmt: skip
            session.flush()
        job = job_of_retry(session, caller, body_hash(body), now)
        assert (job.id if job else None) == ("ftjob-2" if is_same else None)
    database.close()


def test_ids_cannot_be_guessed_and_never_repeat():
    ids = {new_id("file-") for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(each) == 29 and each[5:].isalnum() for each in ids)
    counts = [sum(each[5 + position] == "a" for each in ids) for position in range(24)]
    assert all(90 < count < 240 for count in counts), "about 10,000 / 62 at every position"
