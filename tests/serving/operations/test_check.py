"""`jangin serve --check` finds what would fail, and serves nothing."""

import sys
from contextlib import closing

import pytest

from jangin.cli.main import main
from jangin.models.starter import make_starter
from jangin.serving.run import listen
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings
from tests.serving.running import run_server
from tests.tiny_project import write_project

MODELS = """\
models:
  gpt-4o-mini-2024-07-18:
    base: {type: local, path: missing-model}
  babbage-002:
    base: {type: starter}
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    def run(*words):
        command = ["jangin", "serve", "--check", "--folder", str(tmp_path / "data"), *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0), capsys.readouterr().out

    return run


def test_a_machine_that_can_serve_is_ok(check, tmp_path):
    code, printed = check("--port", "0")
    assert code == 0
    assert "error" not in printed
    for name in ("database", "storage", "keys", "packages", "port"):
        assert f"ok {name}" in printed
    assert list(tmp_path.iterdir()) == [], "a check creates nothing"


def test_a_folder_that_cannot_be_created_is_an_error(check, tmp_path):
    (tmp_path / "data").touch()
    code, printed = check("--port", "0", "--folder", str(tmp_path / "data" / "inside"))
    assert code == 1
    assert "error database" in printed


def test_a_project_without_a_finished_model_is_a_note(check, tmp_path):
    project = write_project(tmp_path / "project") / "project.yaml"
    code, printed = check("--port", "0", "--project", str(project))
    assert code == 0
    assert f"note project: the project {project} has no finished model" in printed


def test_a_server_that_others_reach_is_told_of_encryption(check, monkeypatch):
    monkeypatch.setattr("jangin.serving.run.try_port", lambda _settings: None)
    code, printed = check("--port", "0", "--host", "10.0.0.1")
    assert code == 2, "it has no key"
    assert "note encryption" in printed


def test_every_problem_is_named(check, tmp_path):
    settings = tmp_path / "server.yaml"
    settings.write_text(MODELS + "require_keys: true\nproject: none.yaml\n")
    with listen(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        code, printed = check("--port", str(port), "--models", str(settings))
    assert code == 2
    errors = [line for line in printed.splitlines() if line.startswith("error")]
    assert len(errors) == 4
    assert "jangin keys add" in errors[0]
    assert str(tmp_path / "none.yaml") in errors[1]
    assert "gpt-4o-mini-2024-07-18" in errors[2]
    assert str(tmp_path / "missing-model") in errors[2]
    assert f"127.0.0.1:{port}" in errors[3]


def test_models_that_cannot_be_loaded_are_told_from_those_to_be_downloaded(
    check, tmp_path, monkeypatch
):
    for name, config in (("broken", "{}"), ("good", None)):
        folder = tmp_path / name
        make_starter(
            folder, ["some text"], size="0.5M", vocabulary_size=300, context_length=64, seed=0
        )
        if config is not None:
            (folder / "config.json").write_text(config)
    (tmp_path / "broken.gguf").write_bytes(b"none")
    settings = tmp_path / "server.yaml"
    settings.write_text(
        "models:\n"
        f"  broken: {{base: {{type: local, path: {tmp_path / 'broken'}}}}}\n"
        f"  good: {{base: {{type: local, path: {tmp_path / 'good'}}}}}\n"
        f"  file: {{base: {{type: gguf, path: {tmp_path / 'broken.gguf'}}}}}\n"
        "  far: {base: {type: hub, id: nobody/none-1B}}\n"
    )
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    code, printed = check("--port", "0", "--models", str(settings))
    lines = {line.split(":")[0]: line for line in printed.splitlines()}
    assert code == 2
    assert "ok model good" in lines
    for name in ("broken", "file", "far"):
        assert "cannot be loaded: " in lines[f"error model {name}"]
    assert "not in the cache" in lines["error model far"]


def test_a_database_that_does_not_answer_is_an_error(check, tmp_path):
    settings = tmp_path / "server.yaml"
    settings.write_text("database: postgresql://user:secret@127.0.0.1:1/x\n")
    code, printed = check("--port", "0", "--models", str(settings))
    assert code == 1
    assert "127.0.0.1:1/x" in printed
    assert "secret" not in printed


def test_with_postgresql_the_port_of_a_server_that_runs_is_a_note(
    check, tmp_path, postgresql, monkeypatch
):
    monkeypatch.setattr("jangin.serving.operations.check._PATIENCE_SECONDS", 100)
    database = postgresql.new_database()
    with run_server(tmp_path / "other", database=database) as running:
        port = running.url.rpartition(":")[2].partition("/")[0]
        settings = tmp_path / "server.yaml"
        settings.write_text(f"database: {database}")
        code, printed = check("--port", port, "--models", str(settings))
    assert code == 0, printed
    assert f"a server answers on port {port} already" in printed


def test_files_beside_no_database_are_an_error_and_the_trash_is_a_note(check, tmp_path):
    with (
        closing(Server(ServerSettings(folder=tmp_path / "data"))) as server,
        server.storage.writer("trash-file-1") as stream,
    ):
        stream.write(b"{}")
    code, printed = check("--port", "0")
    assert code == 0
    assert "note installation: 1 files and models that the database does not know" in printed
    (tmp_path / "data" / "server.sqlite").unlink()
    code, printed = check("--port", "0")
    assert code == 1
    assert "error installation: the database sqlite:///" in printed
    assert not (tmp_path / "data" / "server.sqlite").exists()
