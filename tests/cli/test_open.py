"""`jangin open` as a process: address, browser, one server per folder."""

import os
import re
import signal
import stat
import subprocess
import sys
import time

import httpx2
import pytest

from jangin.cli.open import _check, _has_browser
from jangin.core.errors import ConfigError


@pytest.fixture
def environment(tmp_path):
    """A browser that writes down what it is to open."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return os.environ | {"BROWSER": f"{script} %s", "COLUMNS": "200"}


def start(environment, *words):
    command = [sys.executable, "-m", "jangin.cli.main", "open", *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def opened(tmp_path):
    deadline = time.monotonic() + 10
    while not (tmp_path / "opened").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return (tmp_path / "opened").read_text().split()


@pytest.mark.slow
def test_an_empty_folder_opens_the_page_that_starts_a_project(tmp_path, environment, fork):
    def again(path):
        """(exit code, output) of a second command for a folder that is served."""
        words = ["open", "-p", path, "--no-browser"]
        log = tmp_path / f"{path.stem}.log"
        process = fork("tests.forked:run_command", words, output=log, environment=environment)
        return process.wait(60), process.printed()

    folder = tmp_path / "rules"
    folder.mkdir()
    first = start(environment, "-p", folder, "--port", 0)
    with first:
        try:
            (address,) = re.findall(r"http://\S+", first.stdout.readline())
            reply = httpx2.get(address, follow_redirects=True, headers={"accept": "text/html"})
            assert reply.url.path == "/start/documents"
            assert opened(tmp_path) == [address]
            code, said = again(folder / "project.yaml")
            assert (code, "served already" in said, address in said) == (0, True, True)
            (folder / "other.yaml").write_text("name: other\n")
            code, said = again(folder / "other.yaml")
            assert (code, "Traceback" in said) == (2, False)
            assert f"serves the project {folder / 'project.yaml'} already, at {address}" in said
            (folder / "other.yaml").unlink()
            assert opened(tmp_path) == [address]
            assert sorted(path.name for path in folder.iterdir()) == ["server"]
        finally:
            first.send_signal(signal.SIGINT)
        assert first.wait(30) == 130


@pytest.mark.parametrize("name", ["none/project.yaml", "rules.pdf"])
def test_what_is_no_project_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=name.split("/")[0]):
        _check(tmp_path / name)


def test_a_browser_of_the_terminal_is_not_opened(monkeypatch):
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert _has_browser() is (sys.platform == "darwin")
    monkeypatch.setenv("DISPLAY", ":0")
    assert _has_browser()
