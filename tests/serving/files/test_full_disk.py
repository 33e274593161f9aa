"""A full disk: uploads are refused with a sentence, nothing half-written stays."""

import openai
import pytest

from tests.serving.running import run_server

MB = 1_000_000


def test_a_full_disk_is_said(small_disk):
    with run_server(small_disk / "data") as running:
        client = running.client(max_retries=2)
        kept = client.files.create(file=("a.bin", b"1" * 1000), purpose="user_data")
        with pytest.raises(openai.InternalServerError, match="disk") as raised:
            client.files.create(file=("large.bin", bytes(20 * MB)), purpose="user_data")
        assert raised.value.code == "disk_full"
        assert raised.value.response.headers["x-should-retry"] == "false"
        stored = [path.name for path in (small_disk / "data" / "files").rglob("file-*")]
        assert stored == [kept.id]
        assert client.files.content(kept.id).read() == b"1" * 1000
        assert client.files.create(file=("b.bin", bytes(MB)), purpose="user_data").bytes == MB
