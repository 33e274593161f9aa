"""Files in a bucket, behind moto's S3 server: `make test-s3` runs these, `make test` does not."""

import hashlib
import importlib.util
import io
import json
import secrets
import time
from contextlib import contextmanager

import openai
import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import ConfigError
from jangin.serving.files import uploads
from jangin.serving.files.uploads import FileKeeper
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import StorageAwayError, open_storage
from tests.s3_server import KEYS, MOTO, moto_server
from tests.serving.jobs.conftest import MODEL, messages, upload, wait_for, wait_for_step
from tests.serving.jobs.material import chats
from tests.serving.running import run_server

pytestmark = [
    pytest.mark.skipif(not MOTO, reason="only in `make test-s3`"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]
STARTER = {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 400}}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    if importlib.util.find_spec("s3fs") is None:
        pytest.fail("s3fs is not installed: pip install -e '.[s3]'")
    with (
        moto_server(tmp_path_factory.mktemp("moto")) as endpoint,
        pytest.MonkeyPatch.context() as p,
    ):
        for name, value in KEYS.items():
            p.setenv(name, value)
        filesystem(endpoint).mkdir("bucket")
        yield endpoint


def filesystem(endpoint):
    import s3fs

    return s3fs.S3FileSystem(endpoint_url=endpoint.url, use_listings_cache=False)


def settings_of(endpoint, bucket="bucket"):
    options = {
        "endpoint_url": endpoint.url,
        "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 5},
    }
    return {"storage": f"s3://{bucket}/jangin", "storage_options": options}


def objects(endpoint):
    files = filesystem(endpoint)
    return {path.rpartition("/")[2] for path in files.find("bucket/jangin")} - {"installation"}


@contextmanager
def serving(endpoint, folder):
    options = {"lease_seconds": 3, "models": {MODEL: STARTER}}
    with run_server(folder, **settings_of(endpoint), **options) as running:
        yield running


def test_files_and_uploads_are_objects_and_survive_a_restart(endpoint, tmp_path):
    large = secrets.token_bytes(20_000_000)  # three parts of S3's multi-part upload
    with serving(endpoint, tmp_path / "data") as running:
        client = running.client(timeout=120)
        small = client.files.create(file=("한글.bin", b"bytes"), purpose="user_data")
        empty_parts = objects(endpoint)
        assert small.id in empty_parts
        whole = client.uploads.upload_file_chunked(
            file=large,
            filename="large.bin",
            bytes=len(large),
            mime_type="application/octet-stream",
            purpose="user_data",
            part_size=9_000_000,
            md5=hashlib.md5(large).hexdigest(),
        )
        assert whole.status == "completed"
        assert objects(endpoint) == {small.id, whole.file.id}, "the parts are gone"
    with serving(endpoint, tmp_path / "data") as running:
        client = running.client(timeout=120)
        assert client.files.content(whole.file.id).read() == large
        assert client.files.content(small.id).read() == b"bytes"
        assert client.files.delete(small.id).deleted
        assert client.files.delete(whole.file.id).deleted
        assert objects(endpoint) == set()


def test_a_job_reads_its_files_and_stores_its_results_there(endpoint, tmp_path):
    with serving(endpoint, tmp_path / "data") as running:
        client = running.client()
        training, validation = upload(client, chats(12)), upload(client, chats(4, 50))
        job = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=training,
            validation_file=validation,
            hyperparameters={"n_epochs": 2, "batch_size": 1},
        )
        wait_for_step(client, job.id, 1)
        with endpoint.away():  # training needs no file any more
            time.sleep(1)
        done = wait_for(client, job.id, "succeeded")
        table = client.files.content(done.result_files[0]).read()
        assert done.result_files[0] in objects(endpoint)
    with serving(endpoint, tmp_path / "data") as running:
        client = running.client()
        assert client.files.content(done.result_files[0]).read() == table
        answer = client.chat.completions.create(
            model=done.fine_tuned_model,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=2,
        )
        assert answer.usage.completion_tokens <= 2
        for name in (training, validation, done.result_files[0]):
            client.files.delete(name)
    assert objects(endpoint) == set()


def test_a_backup_in_a_bucket_has_a_server_whose_files_are_in_one(endpoint, tmp_path, monkeypatch):
    """While it trains; the restored server, with files in another bucket, resumes the job."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    filesystem(endpoint).mkdir("elsewhere")
    backup, large = "s3://elsewhere/backup", secrets.token_bytes(20_000_000)
    yaml = {"old": tmp_path / "old.yaml", "new": tmp_path / "new.yaml"}
    for name, path in yaml.items():
        bucket = {"old": "bucket", "new": "elsewhere"}[name]
        written = {"models": {MODEL: STARTER}, "lease_seconds": 3, **settings_of(endpoint, bucket)}
        path.write_text(json.dumps(written))

    def jangin(*words):
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 0, done.exception or done.output
        return done.output

    with run_server(tmp_path / "data", yaml["old"]) as running:
        client = running.client(timeout=120)
        kept = client.files.create(file=("large.bin", large), purpose="user_data").id
        training = upload(client, chats(12))
        job = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=training,
            hyperparameters={"n_epochs": 15, "batch_size": 1},
        )
        wait_for_step(client, job.id, 2)
        for _ in range(2):
            said = jangin("backup", tmp_path / "data", backup, "--models", yaml["old"], "--check",
                          "--keep", 1)  # fmt: skip
            assert "every object was read again" in said
        assert "deleted 1 older snapshot" in said
        with endpoint.away():
            failed = CliRunner().invoke(
                app, ["backup", str(tmp_path / "data"), backup, "--models", str(yaml["old"])]
            )
            assert isinstance(failed.exception, StorageAwayError)
        client.fine_tuning.jobs.cancel(job.id)
        for name in (kept, training):
            client.files.delete(name)
    assert len(jangin("restore", backup).splitlines()) == 1
    jangin("restore", backup, tmp_path / "restored", "--models", yaml["new"])
    with run_server(tmp_path / "restored", yaml["new"]) as running:
        client = running.client(timeout=120)
        assert client.files.content(kept).read() == large
        assert wait_for(client, job.id).status == "succeeded", messages(client, job.id)
    assert objects(endpoint) == set()


def test_an_endpoint_that_fails_in_the_middle_loses_nothing(endpoint, tmp_path, monkeypatch):
    rows = "\n".join(map(json.dumps, chats(12))).encode()
    with serving(endpoint, tmp_path / "data") as running:
        client = running.client(timeout=120)
        kept = client.files.create(file=("kept.bin", b"kept"), purpose="user_data").id
        training = client.files.create(file=("train.jsonl", rows), purpose="fine-tune").id
        while client.files.retrieve(training).status == "uploaded":
            time.sleep(0.05)
        large = ("large.bin", io.BytesIO(bytes(20_000_000)))
        with endpoint.away(after=10_000_000), pytest.raises(openai.InternalServerError) as failed:
            client.files.create(file=large, purpose="user_data")
        assert failed.value.status_code == 503
        assert failed.value.response.headers["x-should-retry"] == "true"
        assert {file.id for file in client.files.list()} == {kept, training}
        assert objects(endpoint) == {kept, training}
        with endpoint.away():
            with pytest.raises(openai.InternalServerError, match="storage of the server"):
                client.files.content(kept)
            job = client.fine_tuning.jobs.create(
                model=MODEL, training_file=training, hyperparameters={"n_epochs": 1}
            )
            assert client.files.delete(kept).deleted, "its row is deleted, its bytes later"
            time.sleep(3)
            assert client.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
        assert wait_for(client, job.id).status == "succeeded", messages(client, job.id)
        assert kept in objects(endpoint)
        monkeypatch.setattr(uploads, "FORGOTTEN", -60)
        running.server.get(FileKeeper).sweep()
        assert kept not in objects(endpoint)


def test_what_another_process_wrote_is_there_after_a_listing(endpoint, tmp_path):
    settings = ServerSettings(folder=tmp_path, **settings_of(endpoint))
    ours, theirs = open_storage(settings), open_storage(settings)
    with ours.writer("file-1") as stream:
        stream.write(b"first")
    assert "file-1" in dict(ours.names())
    with theirs.writer("file-2") as stream:
        stream.write(b"second")
    with ours.reader("file-2") as stream:
        assert stream.read() == b"second"
    for name in ("file-1", "file-2"):
        ours.delete(name)


def test_an_interrupted_write_leaves_no_parts(endpoint, tmp_path):
    storage = open_storage(ServerSettings(folder=tmp_path, **settings_of(endpoint)))

    def interrupted():
        with storage.writer("file-1") as stream:
            stream.write(bytes(20_000_000))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    files = filesystem(endpoint)
    assert not files.exists("bucket/jangin/file-1")
    waiting = files.call_s3("list_multipart_uploads", Bucket="bucket").get("Uploads", [])
    assert "jangin/file-1" not in [each["Key"] for each in waiting]


def test_a_missing_bucket_and_a_dead_endpoint_are_one_sentence(endpoint, tmp_path):
    settings = ServerSettings(folder=tmp_path, **settings_of(endpoint, "missing"))
    with pytest.raises(ConfigError, match="bucket or folder that does not exist"):
        open_storage(settings)
    with endpoint.away(), pytest.raises(StorageAwayError, match="the storage of files failed"):
        open_storage(ServerSettings(folder=tmp_path, **settings_of(endpoint)))
