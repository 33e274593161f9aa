"""Objects below a folder of a bucket are deleted, all or the old ones."""

from datetime import UTC, datetime, timedelta

from jangin.project.remote import Bucket
from tests.project.remote.conftest import URL


def test_what_is_below_a_folder_is_deleted_and_nothing_else(memory, names):
    bucket = Bucket(memory, URL)
    for name in ("transfer/a/1", "transfer/a/2", "transfer/b/1", "transferred", "objects/aa/1"):
        bucket.write(name, b"x")
    bucket.delete_below("transfer/a")
    assert names() == {"transfer/b/1", "transferred", "objects/aa/1"}
    bucket.delete_below("transfer", datetime.now(UTC) - timedelta(days=1))
    assert names("transfer/") == {"transfer/b/1"}
    bucket.delete_below("transfer", datetime.now(UTC) + timedelta(days=1))
    assert names() == {"transferred", "objects/aa/1"}
    bucket.delete_below("nothing")
