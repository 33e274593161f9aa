"""`jangin open` as a process: address, browser, one server per folder."""

import os
import re
import signal
import stat
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


def wait_for_text(path, part=""):
    """The lines of a file, once it has some, with `part` in them."""
    deadline = time.monotonic() + 100
    while not (path.exists() and (text := path.read_text()).endswith("\n") and part in text):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return text


def opened(tmp_path):
    return wait_for_text(tmp_path / "opened").split()


@pytest.mark.slow
def test_an_empty_folder_opens_the_page_that_starts_a_project(tmp_path, environment, fork):
    def start(log, *words):
        words = ["open", "-p", *words]
        return fork("tests.forked:run_command", words, output=log, environment=environment)

    def again(path):
        """(exit code, output) of a second command for a folder that is served."""
        process = start(tmp_path / f"{path.stem}.log", path, "--no-browser")
        return process.wait(), process.printed()

    folder = tmp_path / "rules"
    folder.mkdir()
    first = start(tmp_path / "first.log", folder, "--port", "0")
    try:
        said = wait_for_text(tmp_path / "first.log", "http://")
        assert said.startswith(f"Starting the pages of {folder / 'project.yaml'} ...\n")
        (address,) = re.findall(r"http://\S+", said)
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
    assert first.wait() == 130


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
