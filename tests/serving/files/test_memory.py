"""Large files go through the server piece by piece: its memory does not grow with them."""

from pathlib import Path

import openai
import pytest

from tests.serving.running import spawn_server

SIZE = 120_000_000


def peak(process):
    """The largest resident memory so far, in MB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


@pytest.mark.slow
def test_an_upload_and_a_download_take_no_memory(tmp_path):
    path = tmp_path / "large.bin"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
    with (
        spawn_server(tmp_path / "data") as (process, url),
        openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client,
    ):
        client.files.create(file=("small.bin", b"1"), purpose="user_data")
        before = peak(process)
        file = client.files.create(file=path, purpose="user_data")
        with client.files.with_streaming_response.content(file.id) as content:
            received = sum(len(piece) for piece in content.iter_bytes())
        grown = peak(process) - before
    assert (file.bytes, received) == (SIZE, SIZE)
    assert grown < 40, f"{grown} MB more for a file of {SIZE / 1e6} MB"
