"""A finished project, served, and HTTP clients that behave like a browser without scripts."""

import re
import shutil
import time

import httpx2
import pytest

from tests.serving.pages.project import finish_project
from tests.serving.running import run_workbench
from tests.shared import make_once

PREPARING = 202


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project after its run, to copy, never to change."""
    return make_once(tmp_path_factory, "workbench", finish_project)


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    """The folder of a copy, for the tests of one module."""
    folder = tmp_path_factory.mktemp("workbench") / "handbook"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture(scope="module")
def workbench(project):
    """A running server of the project, on loopback, without keys."""
    with run_workbench(project / "server", project=project / "project.yaml") as running:
        yield running


class Browser(httpx2.Client):
    """Sends what a browser sends: cookies, languages, the token of the last page's forms."""

    def __init__(self, root, language="ko"):
        headers = {"accept": "text/html", "accept-language": language}
        super().__init__(base_url=root, headers=headers, follow_redirects=True, timeout=100)
        self.token = ""

    def send(self, request, **options):
        if request.method != "GET":
            request.headers.setdefault("origin", str(self.base_url).rstrip("/"))
        response = super().send(request, **options)
        while response.status_code == PREPARING:  # a browser loads the page again by itself
            time.sleep(0.05)
            response.read()
            response = super().send(request, **options)
        if options.get("stream") and "event-stream" in response.headers["content-type"]:
            return response
        token = re.search(r'X-CSRF-Token": "(\w+)"', response.text)
        self.token = token[1] if token else self.token
        return response

    def submit(self, address, **fields):
        """Send a form of the page that was read last."""
        return self.post(address, data={"csrf": self.token, **fields})


@pytest.fixture
def browser(workbench):
    """A browser with scripts switched off."""
    with Browser(workbench.root) as client:
        client.get("/preferences")
        client.submit("/preferences", name="tester")
        yield client
