"""Transactions on SQLite and PostgreSQL, and URLs that are none."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from jangin.core.errors import ConfigError, StoreError
from jangin.serving.state.database import Database
from jangin.serving.state.server import migrate
from jangin.serving.state.tables import File, JobEvent, Key


@pytest.fixture
def database(empty):
    migrate(empty)
    return empty


def key(name):
    return Key(id=name, created_at=1, name=name, project="p", scopes=["files"], hash=name)


def names(database):
    with database.read() as session:
        return sorted(row.name for row in session.query(Key))


def test_a_block_that_raises_writes_nothing(database):
    def failing():
        with database.write() as session:
            session.add(key("a"))
            session.flush()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        failing()
    assert names(database) == []


def test_rows_can_be_used_after_their_transaction(database):
    with database.write() as session:
        row = key("a")
        session.add(row)
    assert (row.name, row.scopes, row.rowid) == ("a", ["files"], 1)


def test_ids_are_unique_and_references_are_checked(database):
    with database.write() as session:
        session.add(key("a"))
    for row in (
        key("a"),
        JobEvent(id="e", created_at=1, job_id="none", level="info", message="", type="message"),
    ):
        with pytest.raises(IntegrityError), database.write() as session:
            session.add(row)


def test_json_and_numbers_above_32_bits_come_back(database):
    report = {"말": [1, None, {"a": 0.5}]}
    with database.write() as session:
        session.add(
            File(
                id="f", project="p", created_at=2**40, bytes=2**40, filename="한글", purpose="x",
                status="x", sha256="", owner_key="", report=report,
            )
        )  # fmt: skip
    with database.read() as session:
        row = session.query(File).one()
    assert (row.bytes, row.report, row.filename, row.expires_at) == (2**40, report, "한글", None)


def test_writers_wait_for_each_other_and_readers_for_nobody(database):
    """Each thread reads and then writes: without the lock at the start SQLite would refuse some."""
    with database.write() as session:
        session.add(key("0"))
    failures = []

    def work(number):
        try:
            for turn in range(10):
                with database.write() as session:
                    session.query(Key).count()
                    session.add(key(f"{number}-{turn}"))
                names(database)
        except Exception as error:  # noqa: BLE001  # shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(names(database)) == 41


def test_a_reader_sees_one_state(database):
    with database.read() as session:
        assert session.query(Key).count() == 0
        with database.write() as other:
            other.add(key("a"))
        assert session.query(Key).count() == 0


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "", "oracle+cx://a"])
def test_another_database_is_refused(url):
    with pytest.raises(ConfigError, match="postgresql://"):
        Database(url)


def test_a_database_that_does_not_answer_is_named_without_its_password():
    database = Database("postgresql://user:secret@127.0.0.1:1/x")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/x") as raised:
        database.check()
    assert "secret" not in str(raised.value)
    with pytest.raises(StoreError, match="does not answer"):
        migrate(database)
    database.close()


def test_a_database_without_a_locale_keeps_korean(postgresql):
    database = Database(postgresql.new_database("SQL_ASCII"))
    migrate(database)
    with database.write() as session:
        session.add(key("연차 휴가"))
    assert names(database) == ["연차 휴가"]
    database.close()


def test_a_database_that_lacks_letters_is_refused(postgresql):
    database = Database(postgresql.new_database("LATIN1"))
    with pytest.raises(StoreError, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
        migrate(database)
    database.close()


def test_sqlite_uses_a_write_ahead_log(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.sqlite")
    with database.read() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
    database.close()
