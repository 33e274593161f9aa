"""Files that are too large: the client gets 413, not a broken connection, and nothing is kept."""

import openai
import pytest

from tests.serving.running import run_server


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited") / "data"
    with run_server(folder, limits={"file_mb": 1, "part_mb": 1}) as running:
        yield running


@pytest.mark.parametrize("size", [1_000_001, 3_000_000])
def test_a_file_that_is_too_large_is_refused(limited, size):
    files = limited.server.settings.folder / "files"
    before = [path for path in files.rglob("*") if path.is_file()]
    with pytest.raises(openai.APIStatusError, match="maximum of 1 MB") as raised:
        limited.client().files.create(file=("a.bin", bytes(size)), purpose="user_data")
    assert raised.value.status_code == 413
    assert raised.value.param == "file"
    assert [path for path in files.rglob("*") if path.is_file()] == before


def test_a_file_of_just_the_limit_is_stored(limited):
    file = limited.client().files.create(file=("a.bin", bytes(1_000_000)), purpose="user_data")
    assert file.bytes == 1_000_000
