"""The files in deploy/ fit the server: settings, paths, extras."""

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from jangin.cli.main import app
from jangin.serving.state.settings import read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def options_of(words):
    """Options of a command line after `jangin serve`."""
    return {word for word in words if word.startswith("--")}


@pytest.fixture(scope="module")
def known():
    import typer.main

    group = typer.main.get_command(app)
    return {flag for option in group.commands["serve"].params for flag in option.opts}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_example_of_the_settings_is_right():
    settings = read_settings(DEPLOY / "server.yaml")
    assert settings.needs_keys
    assert settings.database_url.startswith("postgresql://")


def test_the_containers_fit_the_settings_and_the_image(compose, known):
    settings = read_settings(DEPLOY / "server.yaml")
    server, database = compose["services"]["server"], compose["services"]["database"]
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in server["volumes"]}
    assert mounts["/data"] in compose["volumes"]
    assert settings.folder == Path("/data")
    assert (DEPLOY / mounts["/etc/jangin/server.yaml"]).samefile(DEPLOY / "server.yaml")
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).exists()
    assert server["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    assert settings.database == f"postgresql://{user}@database/{name}"
    assert server["command"][0] == "serve"
    assert options_of(server["command"]) <= known
    extras = re.search(r"^ARG EXTRAS=(\S+)", (DEPLOY / "Dockerfile").read_text(), flags=re.M)[1]
    assert {"serve", "postgres", "train"} <= set(extras.split(","))


def test_the_image_copies_what_its_commands_need():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    copied = [
        word
        for line in re.findall(r"^COPY (.+)$", text, flags=re.M)
        for word in shlex.split(line)[:-1]
    ]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "src", project["readme"], *project.get("license-files", ())}
    assert {name.partition("/")[0] for name in needed} <= set(copied)
    extras = re.search(r"^ARG EXTRAS=(\S+)", text, flags=re.M)[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    program = re.search(r'^ENTRYPOINT \["(\w+)"\]', text, flags=re.M)[1]
    assert program in project["scripts"]
    python = re.search(r"^ARG PYTHON=3\.(\d+)", text, flags=re.M)[1]
    assert int(python) >= int(re.search(r">=\s*3\.(\d+)", project["requires-python"])[1])
    torch = next(word for word in project["optional-dependencies"]["train"] if "torch" in word)
    pinned = re.search(r"^ARG TORCH=(\S+)", text, flags=re.M)[1]
    assert Requirement(torch).specifier.contains(pinned)


def test_the_unit_starts_the_server_with_options_that_it_has(known):
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(DEPLOY / "jangin.service")
    for key in ("ExecStart", "ExecStartPre"):
        words = shlex.split(unit["Service"][key])
        assert words[1] == "serve"
        assert options_of(words) <= known
    assert Path("/var/lib/jangin").name == unit["Service"]["StateDirectory"]


def test_prometheus_reads_the_port_of_the_server():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    port = read_settings(None).port
    assert job["static_configs"][0]["targets"] == [f"127.0.0.1:{port}"]
    assert job["metrics_path"] == "/metrics"
