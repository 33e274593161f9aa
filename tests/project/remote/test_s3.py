"""Machines that share a bucket of moto's server: `make test-s3` runs these."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from jangin.core.events import Progress
from jangin.core.store import Store
from jangin.project.remote import Exchange, open_bucket
from jangin.project.session import open_session
from tests.s3_server import KEYS, MOTO, moto_server
from tests.tiny_project import KEYS as PROJECT
from tests.tiny_project import write_project

pytestmark = [
    pytest.mark.skipif(not MOTO, reason="only in `make test-s3`"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    if importlib.util.find_spec("obstore") is None:
        pytest.fail("obstore is not installed: pip install -e '.[s3]'")
    with moto_server(tmp_path_factory.mktemp("moto")) as endpoint:
        make = ["curl", "-sSf", "-X", "PUT", "-H", "Content-Length: 0", f"{endpoint.url}/bucket"]
        subprocess.run(make, check=True)
        yield endpoint


@pytest.fixture(autouse=True)
def aws_environment(endpoint, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint.url}.items():
        monkeypatch.setenv(name, value)


class Machine:
    """A folder with a copy of the project, and the command line in it."""

    def __init__(self, folder, url, **changes):
        self.folder = folder
        self.keys = PROJECT | ({"store": url} if url else {}) | changes
        write_project(folder, self.keys)

    def change(self, **changes):
        write_project(self.folder, self.keys | changes)

    def jangin(self, *arguments, code=0):
        command = [sys.executable, "-m", "jangin.cli", *arguments, "-p", str(self.folder)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return " ".join((ended.stdout + ended.stderr).split())

    def start(self):
        """A run in the background."""
        command = [sys.executable, "-m", "jangin.cli", "run", "-p", str(self.folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def artifacts(self):
        """{stage: content} of what is finished, here or in the bucket."""
        with open_session(self.folder, creates_store=False) as session:
            return {
                stage: artifact.manifest.content
                for stage, artifact in session.artifacts("main").items()
            }

    def files(self):
        store = self.folder / "store"
        return {path.relative_to(store).as_posix() for path in store.glob("*/*/**/*")}


@pytest.fixture
def machine(tmp_path, request):
    """name -> a machine that shares a prefix of its own with the others of the test."""
    url = f"s3://bucket/{request.node.name[:40].strip('[]')}"

    def make(name, url=url, **changes):
        return Machine(tmp_path / name, url, **changes)

    return make


LIGHT = {"models": {}}


def test_a_second_machine_finds_everything_and_runs_what_is_missing(machine):
    alone, ours, theirs = machine("alone", url=""), machine("ours"), machine("theirs")
    alone.jangin("run")
    said = ours.jangin("plan")
    assert f"{ours.folder / 'store'}, shared in s3://bucket/test_a_sec" in said
    assert "artifacts that are only there: 0;" in said
    ours.jangin("run")
    assert alone.artifacts() == ours.artifacts()

    said = theirs.jangin("plan")
    assert "artifacts that are only there: 5;" in said
    assert "a run would download 0.0 MB (0 bytes)" in said
    said = theirs.jangin("run")
    assert "never ran" not in said
    assert theirs.artifacts() == ours.artifacts()
    assert not any(name.startswith("sft/") and "/model/" in name for name in theirs.files())

    theirs.change(models=PROJECT["models"] | {"evaluate": {"max_new_tokens": 5}})
    said = theirs.jangin("plan")
    assert "a run would download 0.0 MB" not in said
    theirs.jangin("run")
    assert any(name.startswith("sft/") and "/model/" in name for name in theirs.files())
    ours.change(models=PROJECT["models"] | {"evaluate": {"max_new_tokens": 5}})
    said = ours.jangin("plan")
    assert "artifacts that are only there: 1;" in said
    assert ours.artifacts() == theirs.artifacts()


def test_a_store_from_before_is_published_by_its_next_run(machine):
    ours = machine("ours", url="", **LIGHT)
    ours.jangin("run")
    ours = machine("ours", **LIGHT)
    ours.jangin("run")
    theirs = machine("theirs", **LIGHT)
    assert theirs.artifacts() == ours.artifacts() != {}
    with open_session(theirs.folder) as session:
        assert len(session.examples("main", "train")) > 0
    assert any(name.startswith("split/") for name in theirs.files())


def test_an_endpoint_that_ends_in_the_middle_loses_nothing(machine, endpoint):
    ours, theirs = machine("ours", **LIGHT), machine("theirs", **LIGHT)
    for after in (4000, 9000):
        with endpoint.away(after=after):
            said = ours.jangin("run", code=1)
        assert "s3://bucket/test_an_endpoint" in said
        assert "cannot be reached: " in said
        assert "Traceback" not in said
        assert "finished work is kept on this machine" in said
    assert theirs.artifacts().keys() <= {"read"}, "no half artifact"
    ours.jangin("run")
    assert theirs.artifacts() == ours.artifacts()
    with endpoint.away():
        assert "cannot be reached: " in theirs.jangin("plan", code=1)
        assert theirs.folder.joinpath("store", "read").exists() is False
        assert ours.artifacts().keys() == {"read", "split"}, "what is here needs no server"


def test_a_server_that_ignores_conditions_is_refused(machine, endpoint):
    endpoint.ignores_conditions = True
    try:
        said = machine("ours", **LIGHT).jangin("run", code=2)
    finally:
        endpoint.ignores_conditions = False
    assert "ignores the conditions of writes (If-None-Match and If-Match)" in said
    assert "never ran" not in said


@pytest.mark.parametrize(
    ("url", "environment", "code", "sentence"),
    [
        ("s3://missing/a", {}, 2, "s3://missing/a: there is no such bucket. Create it"),
        ("s3://bucket/a", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 1, "reached: no connection"),
        ("s3://bucket/a", {"AWS_ACCESS_KEY_ID": ""}, 2, "there are no credentials for s3://buck"),
        ("s3://bucket/a", {"AWS_ACCESS_KEY_ID": "", "AWS_PROFILE": "x"}, 2, "profile (x) could"),
        ("bucket/a", {}, 2, "project.yaml:"),
        ("s3:///a", {}, 2, "project.yaml:"),
    ],
)
def test_what_is_wrong_is_one_sentence(machine, monkeypatch, url, environment, code, sentence):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = machine("ours", url=url, **LIGHT).jangin("run", code=code)
    assert sentence in said
    assert "Traceback" not in said
    assert said.count("error:") == 1


def test_an_unknown_option_and_a_url_as_folder_are_refused(machine):
    ours = machine("ours", store_options={"colour": "red"}, **LIGHT)
    said = ours.jangin("run", code=2)
    assert "'colour' is not valid" in said
    assert "Correct `store_options`" in said
    assert "Name a bucket in the project file" in ours.jangin("run", "--store", "s3://b/c", code=2)


def test_options_of_the_file_are_used(machine, endpoint, monkeypatch):
    for name in (*KEYS, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    options = {
        "endpoint": endpoint.url,
        "access_key_id": "a",
        "secret_access_key": "b",
        "region": "us-east-1",
    }
    ours = machine("ours", store_options=options, **LIGHT)
    ours.jangin("run")
    assert machine("theirs", store_options=options, **LIGHT).artifacts().keys() == {"read", "split"}


def test_credentials_of_a_profile_are_used(machine, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    profile = tmp_path / "credentials"
    profile.write_text("[work]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "work")
    machine("ours", **LIGHT).jangin("run")


def test_two_runs_do_not_work_on_the_same_artifact(machine):
    ours, theirs = machine("ours", **LIGHT), machine("theirs", **LIGHT)
    said = ours.jangin("plan")
    assert "never ran" in said
    url = ours.keys["store"]
    root = theirs.folder / "store"
    root.mkdir()
    with open_session(ours.folder) as session:
        key = session.plan("main")[0].key
    holder = Exchange(url, {}, root, Progress())
    with holder.lock("read", key):
        said = ours.jangin("run", code=1)
    assert f"(process {os.getpid()} on " in said
    assert f"is working on read in {url}" in said
    ours.jangin("run")


def test_a_run_that_is_killed_while_it_uploads_is_continued(machine, endpoint):
    """An upload of several parts is killed in its middle: nothing of it is seen."""
    ours, theirs = machine("ours", **LIGHT), machine("theirs", **LIGHT)
    url, root = ours.keys["store"], ours.folder / "store"
    store = Store(root, Exchange(url, {}, root, Progress()))
    workspace = store.workspace("sft", "ab" * 32, keep=False)
    (workspace / "model").write_bytes(os.urandom(40_000_000))
    artifact = store.publish("sft", 1, "ab" * 32, {}, {}, {})
    script = (
        "import sys; from pathlib import Path; from jangin.core.store import Store;"
        "from jangin.core.stage import Progress;"
        "from jangin.project.remote import Exchange;"
        "root = Path(sys.argv[2]);"
        "store = Store(root, Exchange(sys.argv[1], {}, root, Progress()));"
        "store.share(store.find('sft', 'ab' * 32))"
    )
    endpoint.cut_after = 1 << 40
    process = subprocess.Popen([sys.executable, "-c", script, url, str(root)])
    try:
        patience = time.monotonic() + 60
        while (1 << 40) - endpoint.cut_after < 18_000_000:
            assert time.monotonic() < patience
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        endpoint.cut_after = None
    elsewhere = theirs.folder / "store"
    other = Store(elsewhere, Exchange(url, {}, elsewhere, Progress()))
    assert other.find("sft", "ab" * 32) is None
    assert store.offer(artifact) == ""
    copied = other.find("sft", "ab" * 32)
    assert (
        copied.path.joinpath("model").read_bytes() == artifact.path.joinpath("model").read_bytes()
    )


@pytest.mark.parametrize("sent", [2_000, 6_000, 12_000, 20_000, 30_000])
def test_a_run_that_is_killed_at_any_moment_leaves_a_whole_store(machine, endpoint, sent):
    """`sent`: bytes that the server got; a whole run sends 33 kB."""
    ours, theirs = machine("ours", **LIGHT), machine("theirs", **LIGHT)
    endpoint.cut_after = 1 << 40
    process = ours.start()
    while process.poll() is None and (1 << 40) - endpoint.cut_after < sent:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    endpoint.cut_after = None
    with open_session(theirs.folder) as session:
        for artifact in session.artifacts("main").values():
            assert {*artifact.manifest.files} <= names_in(artifact.path)
    ours.jangin("run")
    assert "never ran" not in theirs.jangin("run")
    assert theirs.artifacts() == ours.artifacts()


def names_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_two_runs_that_begin_together_end_with_the_same_results(machine):
    machines = [machine(name, **LIGHT) for name in ("ours", "theirs")]
    started = [each.start() for each in machines]
    for process in started:
        said = process.communicate(timeout=250)[0].decode()
        assert process.returncode == 0 or "is working on" in " ".join(said.split()), said
    assert 0 in [process.returncode for process in started]
    for each in machines:
        each.jangin("run")
    assert machines[0].artifacts() == machines[1].artifacts()


def test_the_probe_leaves_nothing_behind():
    import obstore

    bucket = open_bucket("s3://bucket/probe", {})
    bucket.check_conditions()
    assert [each for batch in obstore.list(bucket.store) for each in batch] == []


def test_a_cache_that_is_deleted_is_filled_again(machine):
    ours = machine("ours", **LIGHT)
    ours.jangin("run")
    before = ours.artifacts()
    shutil.rmtree(ours.folder / "store" / "split")
    assert "never ran" not in ours.jangin("run")
    assert ours.artifacts() == before
    manifest = next((ours.folder / "store").glob("read/*/manifest.json"))
    assert json.loads(manifest.read_text())["stage"] == "read"
    assert yaml.safe_load((ours.folder / "project.yaml").read_text())["store"] == ours.keys["store"]
