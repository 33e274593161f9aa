"""A row has one owner at a time, whichever processes want it."""

import time

import pytest
from sqlalchemy import select

from jangin.serving.state.leases import claim, new_owner, release, renew
from jangin.serving.state.server import migrate
from jangin.serving.state.tables import Job

WAITING = select(Job).where(Job.status == "queued").order_by(Job.seq)


def job(number):
    return Job(
        id=f"ftjob-{number}", project="local", created_at=1, seq=number, status="queued",
        model="m", seed=1, method_type="supervised", owner_key="local", training_file="file-1",
    )  # fmt: skip


@pytest.fixture
def database(empty):
    migrate(empty)
    return empty


def add_jobs(database, count):
    with database.write() as session:
        session.add_all([job(number) for number in range(count)])


def claimed(database, owner, now, seconds=10):
    with database.write() as session:
        row = claim(session, WAITING, owner=owner, now=now, seconds=seconds)
        return None if row is None else (row.id, row.attempts)


@pytest.mark.slow
def test_each_claim_gets_the_next_row(database):
    add_jobs(database, 2)
    assert claimed(database, "a", 100) == ("ftjob-0", 1)
    assert claimed(database, "b", 100) == ("ftjob-1", 1)
    assert claimed(database, "c", 100) is None


def test_a_lease_ends_unless_it_is_renewed(database):
    add_jobs(database, 1)
    assert claimed(database, "a", 100)
    with database.write() as session:
        assert renew(session, Job, "ftjob-0", owner="a", now=105, seconds=10)
    assert claimed(database, "b", 114) is None
    assert claimed(database, "b", 115) == ("ftjob-0", 2)
    with database.write() as session:
        assert not renew(session, Job, "ftjob-0", owner="a", now=116, seconds=10)
        assert not release(session, Job, "ftjob-0", owner="a")
    assert claimed(database, "c", 120) is None


def test_a_released_row_can_be_claimed_at_once(database):
    add_jobs(database, 1)
    assert claimed(database, "a", 100)
    with database.write() as session:
        assert release(session, Job, "ftjob-0", owner="a")
    assert claimed(database, "b", 100) == ("ftjob-0", 2)


def test_a_claim_that_is_rolled_back_is_none(database):
    add_jobs(database, 1)

    def interrupted():
        with database.write() as session:
            claim(session, WAITING, owner="a", now=100, seconds=10)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert claimed(database, "b", 100) == ("ftjob-0", 1)


def test_owners_are_never_the_same():
    assert len({new_owner() for _ in range(1000)}) == 1000


@pytest.mark.slow
def test_processes_never_get_the_same_row(url, empty, fork, tmp_path):
    """They also create the tables of an empty database at the same moment."""
    count, jobs, begin, shared = 3, 150, tmp_path / "begin", tmp_path / "shared"
    processes = [
        fork(
            "tests.serving.state.claimer:main",
            [url, begin, shared],
            output=tmp_path / f"{number}.txt",
        )
        for number in range(count)
    ]
    for process in processes:
        while process.printed() != "ready\n":
            assert process.poll() is None, process.printed()
            time.sleep(0.01)
    add_jobs(empty, jobs)
    begin.touch()
    for process in processes:  # else a busy machine could give everything to one
        while process.printed() == "ready\n" and process.poll() is None:
            time.sleep(0.01)
    shared.touch()
    assert [process.wait() for process in processes] == [0] * count
    claims = [process.printed().split()[1:] for process in processes]
    together = [row for rows in claims for row in rows]
    assert len(together) == jobs
    assert len(set(together)) == jobs
    assert all(claims)
