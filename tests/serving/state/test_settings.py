"""server.yaml: every problem with its line; options of the command line win."""

from pathlib import Path

import pytest

from jangin.core.errors import ConfigError
from jangin.serving.state.settings import is_loopback, read_settings

GOOD = """\
port: 9000
folder: data
storage: bytes
project: ../project.yaml
models:
  gpt-4o-mini-2024-07-18:
    base: {type: local, path: models/tiny, chat_template: my.jinja}
  babbage-002:
    kind: completion
    base: {type: starter}
limits: {file_mb: 1}
"""


def test_paths_are_relative_to_the_file_and_options_win(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text(GOOD)
    settings = read_settings(path, port=9001, host=None)
    assert (settings.port, settings.host, settings.limits.file_mb) == (9001, "127.0.0.1", 1)
    assert settings.folder == tmp_path / "data"
    assert settings.storage == str(tmp_path / "bytes")
    assert settings.project == tmp_path / ".." / "project.yaml"
    base = settings.models["gpt-4o-mini-2024-07-18"].base
    assert base.path == tmp_path / "models" / "tiny"
    assert base.chat_template == str(tmp_path / "my.jinja")
    assert read_settings(path, folder=Path("/x")).folder == Path("/x")


def test_without_a_file_there_are_defaults(tmp_path):
    settings = read_settings(folder=tmp_path)
    assert (settings.host, settings.needs_keys, settings.models) == ("127.0.0.1", False, {})
    assert settings.database_url == f"sqlite:///{tmp_path}/server.sqlite"
    assert settings.store == tmp_path / "store"


def test_the_folder_of_a_project_means_its_project_file(tmp_path):
    (tmp_path / "my").mkdir()
    assert read_settings(None, project=tmp_path / "my").project == tmp_path / "my" / "project.yaml"
    path = tmp_path / "my" / "other.yaml"
    assert read_settings(None, project=path).project == path


def test_an_empty_file_is_one_with_defaults(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text("# nothing yet\n")
    assert read_settings(path).port == 8080


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("port: many", ["1: port"]),
        ("port: 1\ncolour: red\nslots: 0", ["2: colour", "3: slots"]),
        ("models:\n  a:\n    base: {type: cloud}", ["3: models.a.base"]),
        ("models:\n  a: tiny", ["2: models.a"]),
        ("models: [a]", ["1: models"]),
        ("- a", ["1: "]),
        ("port: 1\nport: 2", ["2: "]),
        ("\tport: 1", ["1: "]),
        ("organization: Große Firma", ["1: organization"]),
        (
            "models:\n  a:\n    base: {type: starter}\n    sft: {method: {type: lora, r: 12}}",
            ["4: models.a.sft"],
        ),
    ],
)
def test_every_problem_has_its_line(tmp_path, text, problems):
    path = tmp_path / "server.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_settings(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == len(problems)
    for line, start in zip(lines, problems, strict=True):
        assert line.startswith(f"{path}:{start}")


def test_a_file_that_is_not_there_gets_advice_on_its_own_option(tmp_path):
    with pytest.raises(ConfigError, match=r"nothere\.yaml cannot be read.*--models") as raised:
        read_settings(tmp_path / "nothere.yaml")
    assert "--project" not in str(raised.value)


def test_a_wrong_option_is_named():
    with pytest.raises(ConfigError, match="port"):
        read_settings(port=70_000)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.com", False)],
)  # fmt: skip
def test_only_loopback_works_without_keys(host, loopback):
    assert is_loopback(host) == loopback
    assert read_settings(host=host).needs_keys != loopback
