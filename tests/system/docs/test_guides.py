"""The pages in docs/guides are true: their files are written and their commands run, in order."""

import io
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jangin.cli.main import main
from jangin.project.file import open_project
from jangin.serving.state.settings import read_settings
from tests.forked import Process, fork_server
from tests.serving.forked import LIBRARIES, Serving
from tests.shared import free_port
from tests.system.docs.guide_pages import GUIDES, Teacher, blocks_of

SETTINGS = ("server.yaml", "behind-nginx.yaml")
"""Files of pages with settings of a server."""
SERVER_PORT = "8080"
"""Port of the server in the pages; the tests choose a free one."""
STARTER = {"type": "starter", "size": "0.5M", "vocabulary_size": 300, "context_length": 256}
PRICE = {"input_usd_per_million": 0.4, "output_usd_per_million": 1.6}
PAGES = {
    "first-model": 1,
    "poor-results": 0,
    "deploy": 6,
    "base-and-gpu": 0,
    "own-prompts": 0,
    "own-rows": 0,
    "passages": 0,
    "reading-the-report": 0,
    "checking-grades": 1,
    "extending": 0,
    "from-openai": 1,
    "workbench": 2,
    "backup": 1,
    "personal-data": 0,
    "versions": 0,
    "scale": 10,
}
"""Pages in the order of the site, with the number of their blocks that no test can run."""


def smaller(text, url):
    """A project file of a page with the rule-based teacher, a tiny starter and two steps."""
    data = yaml.safe_load(text)
    for writer in data.get("teachers", {}).values():
        if writer.get("provider") == "openai":
            writer |= {"base_url": url, "price": PRICE}
    for part in (data, *(v or {} for v in data.get("variants", {}).values())):
        models = part.get("models") or {}
        if "catalog" in models:
            models["catalog"] = {"base": STARTER}
        for stage in ("sft", "continue_sft", "dpo"):
            if stage in models:
                training = models[stage] = models[stage] or {}
                if part is data or "length" in training:
                    training["length"] = {"type": "steps", "steps": 2}
                training.pop("method", None)
        if "evaluate" in models:
            models["evaluate"] = (models["evaluate"] or {}) | {"max_new_tokens": 4}
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False)


def write(block, folder, url):
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, "utf-8")
    if path.name in SETTINGS:
        assert read_settings(path).model_fields_set
    elif block.language == "yaml":
        assert open_project(path).variants
        path.write_text(smaller(block.text, url), "utf-8")


class Background:
    """`jangin serve` of a page, which runs beside the next commands; it says when it is ready."""

    def __init__(self, words):
        assert words[:2] == ["jangin", "serve"]
        self.process = Serving(words[2:], preload=[LIBRARIES])
        # The first server of a machine says before its address that it compiles kernels.
        assert any("http://" in line for line in self.process.stdout)

    def stop(self):
        self.process.terminate()
        # uvicorn ends in order, and then by the signal that it was sent.
        assert self.process.wait(100) == -signal.SIGTERM
        self.process.stdout.close()


def run(command, monkeypatch, servers):
    words = shlex.split(command, comments=True)
    if words[-1:] == ["&"]:
        servers.append(Background(words[:-1]))
        return
    if words[:1] == ["export"]:
        monkeypatch.setenv(*words[1].split("=", 1))
    elif words[:1] == ["jangin"]:
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        with pytest.raises(SystemExit) as leave:
            main()
        assert not leave.value.code, command
    elif words[:1] == ["python"]:
        log = Path("python.log").resolve()
        script = Process(fork_server(), "tests.forked:run_script", words[1:], output=log)
        assert script.wait(600) == 0, script.printed()
    elif words:
        subprocess.run(words, check=True)


def play(page, folder, url, monkeypatch):
    """Write and run the blocks of a page in a folder."""
    monkeypatch.chdir(folder)
    servers, port = [], str(free_port())
    try:
        for block in blocks_of(page):
            if not block.is_run:
                continue
            if block.language == "sh":
                text = re.sub(r"\\\n", "", block.text).replace(SERVER_PORT, port)
                for line in text.splitlines():
                    run(line, monkeypatch, servers)
            else:
                assert block.title, f"{page.name}: a file without a name:\n{block.text}"
                write(block, folder, url)
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="module")
def teacher():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        server = Teacher()
        yield server.url
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def first(tmp_path_factory, teacher):
    """The folder in which the first page was followed."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        play(GUIDES / "first-model.md", folder, teacher, patch)
    return folder


@pytest.mark.slow
def test_the_blocks_of_the_first_page_end_with_a_report(first):
    assert (first / "rules" / "store" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if name == "from-openai" else [])
        for name in list(PAGES)[1:]
    ],
)
def test_the_blocks_of_a_page_run_in_order_after_those_of_the_first(
    name, first, teacher, tmp_path, monkeypatch
):
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    play(GUIDES / f"{name}.md", tmp_path, teacher, monkeypatch)


@pytest.mark.slow
def test_the_korean_document_of_the_first_page_becomes_questions(tmp_path, teacher, monkeypatch):
    """The other commands are those of the English page, which trains a model."""
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(GUIDES / "first-model.ko.md"):
        if block.title.startswith("rules/"):
            write(block, tmp_path, teacher)
    run("jangin run synthesize -p rules", monkeypatch, [])
    run("jangin review -p rules --to queue.csv", monkeypatch, [])
    assert "연차휴가 일수: 얼마인가요?" in (tmp_path / "queue.csv").read_text("utf-8")


@pytest.mark.slow
def test_the_page_on_versions_shows_what_it_says(tmp_path, teacher, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    shown = {}
    for block in blocks_of(GUIDES / "versions.md"):
        if block.language == "sh":
            for number, line in enumerate(block.text.splitlines()):
                run(line, monkeypatch, [])
                shown[len(shown), number] = capsys.readouterr().out
        else:
            write(block, tmp_path, teacher)
    outputs = " ".join("\n".join(shown.values()).split())
    assert "leave_2023.md and leave_2026.md: 3 questions" in outputs
    assert "leave_2026.md replaces leave_2023.md" in outputs
    assert "left out: leave_2023.md: it is replaced (load.replaces) by leave_2026.md" in outputs
    assert "Staff hired before 2024: " in outputs
    assert "1 contradiction between documents in queue.csv" in outputs
    lines = (tmp_path / "queue.csv").read_text("utf-8").splitlines()
    assert "leave_2023.md" in lines[1]


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_of_a_page_have_the_same_blocks(name):
    english, korean = (blocks_of(GUIDES / f"{name}{end}.md") for end in ("", ".ko"))
    assert [b.skeleton for b in english] == [b.skeleton for b in korean]
    assert sum(not block.is_run for block in english) == PAGES[name]


def test_every_page_is_tested_and_in_the_navigation_of_the_site():
    assert {path.name.split(".")[0] for path in GUIDES.glob("*.md")} == set(PAGES)
    shown = (GUIDES.parents[1] / "mkdocs.yml").read_text("utf-8")
    assert re.findall(r"guides/([\w-]+)\.md", shown) == list(PAGES)
