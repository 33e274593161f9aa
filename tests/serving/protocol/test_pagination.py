"""Pages of lists whose rows share a second: every row once, in both orders, with any limit."""

import pytest
from sqlalchemy import select

from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.pagination import Paging, page_fields, page_of
from jangin.serving.state.tables import Job, JobEvent, Key

TIMES = [5, 5, 5, 3, 3, 9, 9, 1, 5]
"""Seconds of the rows in the order in which they were written."""


@pytest.fixture(params=["sqlite", "postgresql"])
def session(request, tmp_path):
    from jangin.serving.state.database import Database
    from jangin.serving.state.server import migrate

    url = f"sqlite:///{tmp_path}/a.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    database = Database(url)
    migrate(database)
    with database.write() as session:
        for number, created_at in enumerate(TIMES):
            session.add(
                Key(id=f"k{number}", created_at=created_at, name="", project="p", scopes=[],
                    hash=str(number))
            )  # fmt: skip
            session.flush()
        yield session
    database.close()


def pages(session, limit, order):
    ids, after = [], None
    while True:
        rows, has_more = page_of(session, select(Key), Paging(limit, after, order))
        ids += [row.id for row in rows]
        assert len(rows) <= limit
        if not has_more:
            return ids
        after = rows[-1].id


def test_every_row_is_on_one_page(session):
    numbers = sorted(range(len(TIMES)), key=lambda n: (TIMES[n], n))
    for limit in range(1, len(TIMES) + 2):
        assert pages(session, limit, "asc") == [f"k{n}" for n in numbers]
        assert pages(session, limit, "desc") == [f"k{n}" for n in reversed(numbers)]


def test_a_row_that_is_written_meanwhile_moves_no_page(session):
    first, _ = page_of(session, select(Key), Paging(3, None, "desc"))
    session.add(Key(id="new", created_at=99, name="", project="p", scopes=[], hash="new"))
    session.flush()
    rest, _ = page_of(session, select(Key), Paging(100, first[-1].id, "desc"))
    assert [row.id for row in (*first, *rest)] == pages(session, 100, "desc")[1:]


def test_a_cursor_outside_the_query_is_unknown(session):
    for after, query in (("none", select(Key)), ("k0", select(Key).where(Key.created_at == 9))):
        with pytest.raises(ApiError) as raised:
            page_of(session, query, Paging(1, after, "desc"))
        assert (raised.value.status, raised.value.param) == (400, "after")


def test_first_and_last_are_those_of_the_page(session):
    rows, has_more = page_of(session, select(Key), Paging(2, None, "desc"))
    assert page_fields(rows, has_more) == {"has_more": True, "first_id": "k6", "last_id": "k5"}
    assert page_fields([], has_more=False)["first_id"] is None


def test_a_page_of_a_long_log_uses_its_index(session):
    """Without it a page would sort the whole log."""
    if session.get_bind().dialect.name != "sqlite":
        pytest.skip("PostgreSQL reads a table of one page without an index")
    job = Job(
        id="j", project="p", created_at=1, seq=1, status="paused", model="m", seed=1,
        method_type="supervised", owner_key="k", training_file="f",
    )  # fmt: skip
    session.add(job)
    session.flush()
    query = (
        select(JobEvent.id)
        .where(JobEvent.job_id == "j")
        .order_by(JobEvent.created_at.desc(), JobEvent.rowid.desc())
        .limit(20)
    )
    text = str(query.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
    plan = [row[3] for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert any("events_of_job" in step for step in plan)
    assert not any("B-TREE" in step for step in plan), plan
