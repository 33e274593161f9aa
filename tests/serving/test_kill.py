"""kill -9 while files are uploaded: what the server acknowledged is there and whole afterwards."""

import itertools
import threading
import time

import openai
import pytest

from tests.serving.running import spawn_server


def upload_until_killed(url, turn, acknowledged):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
    for number in itertools.count():
        content = f"{turn}-{number}-".encode() * (1 + number % 5 * 40_000)
        try:
            file = client.files.create(file=(f"{number}.bin", content), purpose="user_data")
        except (openai.APIConnectionError, openai.InternalServerError):
            break
        acknowledged[file.id] = content
    client.close()


@pytest.mark.slow
def test_acknowledged_files_survive_a_kill(tmp_path):
    acknowledged = {}
    with spawn_server(tmp_path / "data") as (process, url):
        threads = [
            threading.Thread(target=upload_until_killed, args=(url, n, acknowledged))
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 20:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        for thread in threads:
            thread.join(timeout=100)
    with (
        spawn_server(tmp_path / "data") as (_, url),
        openai.OpenAI(base_url=url, api_key="x") as client,
    ):
        stored = {file.id: file for file in client.files.list()}
        assert set(acknowledged) <= set(stored)
        for file_id, file in stored.items():
            content = client.files.content(file_id).read()
            assert len(content) == file.bytes
            assert content == acknowledged.get(file_id, content)
