"""What pages and terminal say of three projects, as text: one file a project and kind of page.

Such a file has the words, addresses and charts of its pages in their order, without digests, times
and versions. A change of code that is not to be seen leaves the files as they are; after any other,

    python -m tests.views.golden

writes them anew, and the difference in git is what changed for people.
"""

import contextlib
import hashlib
import io
import re
import shutil
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

import jangin
from jangin.cli.main import main
from jangin.project.session import open_session
from jangin.report.compare import as_csv, as_html, compare_variants
from jangin.report.data.results import variant_costs
from jangin.report.page import write_report
from jangin.report.terminal.console import choose_language
from jangin.serving.state.tables import Job, JobEvent
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench
from tests.views.projects import EDITED, PROJECTS

FILES = Path(__file__).with_name("golden")
SILENT = ("script", "style")
INLINE = ("a", "b", "em", "i", "mark", "small", "span", "strong", "sub", "sup", "abbr", "code")
VOID = ("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source")
ADDRESSES = ("href", "hx-get", "src", "data-curves")
VARYING = (
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?(?: UTC)?", "TIME"),
    (r"\b\d\d:\d\d(?::\d\d)?\b", "TIME"),
    (r"\b\d{8}T\d{6}-\d+-[0-9a-f]{4}\b", "TOKEN"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "DIGEST"),
    (r"\b\d+\.\d+(?:\.\w+)+(?:\+\w+)?", "VERSION"),
    (r"(?:/[\w.-]+)*/(?:handbook|reviews|prices)\b", "FOLDER"),
    (r"\b\d+(?:\.\d+)?(?: (?:s|ms|GiB)\b| ?초)", "FIGURE"),
)
"""What differs from one time or machine to the next."""
PAGES = (
    *("/", "/runs", "/runs/1", "/data", "/data/dropped", "/data/distributions", "/review"),
    *("/compare", "/compare/answers", "/compare/answers?change=changed"),
)
WIDTH = 140


class Outline(HTMLParser):
    """Lines of a page: texts by block, addresses, and each chart with a number of its shapes."""

    def __init__(self, html):
        super().__init__()
        self.lines, self._text, self._silent, self._charts = [], [], 0, []
        html = re.sub(r".*<main[^>]*>|</main>.*", "", html, flags=re.DOTALL)
        self.feed(html)
        self._end_block()

    def _end_block(self):
        text = " ".join("".join(self._text).split())
        self.lines += [text] if text else []
        self._text = []

    def handle_starttag(self, tag, attributes):
        if tag == "svg":
            self._end_block()
            self._charts.append([])
        if self._charts:
            self._charts[-1].append(tag + repr(attributes))
        if tag in SILENT:
            self._silent += 1
        if tag not in INLINE:
            self._end_block()
        given = dict(attributes)
        self._text += [f"<{given[name]}>" for name in ADDRESSES if given.get(name)]

    def handle_endtag(self, tag):
        if tag not in INLINE:
            self._end_block()
        if tag in SILENT:
            self._silent -= 1
        if tag == "svg":
            shapes = self._charts.pop()
            number = int(hashlib.sha256("".join(shapes).encode()).hexdigest(), 16) % 1_000_000
            self.lines.append(f"[chart of {len(shapes)} shapes, {number}]")

    def handle_data(self, data):
        if not self._silent:
            self._text.append(data)


def outline(text):
    """A page or what a terminal shows, without what varies."""
    if text.lstrip().startswith("<"):
        text = "\n".join(Outline(text).lines)
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def printed(*words):
    """What a command prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jangin", *map(str, words)])
        patch.setenv("COLUMNS", str(WIDTH))
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            contextlib.suppress(SystemExit),
        ):
            main()
    choose_language("auto")
    return out.getvalue()


def terminal(path):
    """{name: what the terminal and Python show of a project}."""
    shown = {}
    for language in ("en", "ko"):
        for command in (("plan",), ("compare",), ("report", "--output", path.parent / "r.html")):
            name = f"jangin {command[0]} ({language})"
            shown[name] = printed("--language", language, *command, "-p", path)
    choose_language("en")
    project = jangin.open(path)
    shown["results in Python"] = str(project.results())
    shown["results in a notebook"] = project.results()._repr_html_()
    shown["plan in Python"] = str(project.plan())
    choose_language("auto")
    return shown


def reports(path):
    """{name: HTML of the report and of the page of variants in its languages, CSV}."""
    pages = {}
    with open_session(path) as session:
        artifacts = {name: session.artifacts(name) for name in session.project.variants}
        costs = variant_costs(session, artifacts)
        table = compare_variants(session.project, artifacts, session.seconds(artifacts), costs)
        for language in ("en", "ko") if len(artifacts) > 1 else ("en",):
            output = write_report(session, path.parent / "report.html", language)
            pages[f"report ({language})"] = output.read_text("utf-8")
            output.unlink()
            pages[f"compare ({language})"] = as_html(table, artifacts, language)
        pages["compare as CSV"] = as_csv(table)
    return pages


def add_job(running):
    """A finished job with its log, as a training writes them."""
    with running.server.database.write() as session:
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
        session.add(
            Job(
                id="ftjob-1", project="local", created_at=101, seq=1, status="succeeded",
                model="base", training_file="file-1", method_type="supervised", seed=1,
                hyperparameters={"n_epochs": 2}, method=method, owner_key="k", result_files=[],
            )
        )  # fmt: skip
        session.flush()
        for step in range(1, 9):
            data = {"step": step, "train_loss": 4 / step, "total_steps": 8}
            data |= {"train_mean_token_accuracy": 1 - 1 / step}
            data |= {"valid_loss": 5 / step} if step % 4 == 0 else {}
            session.add(
                JobEvent(
                    id=f"ftevent-{step}", job_id="ftjob-1", created_at=step, level="info",
                    message=f"Step {step}/8", type="metrics", data=data,
                )
            )  # fmt: skip


def workbench(path):
    """{address: page of the workbench}, before and after the project file is edited."""
    pages = {}
    with (
        run_workbench(path.parent / "server", project=path) as running,
        Browser(running.root, "en") as browser,
    ):
        add_job(running)

        def visit(address, language=""):
            page = browser.get(address).text
            while 'hx-get="/runs/plan"' in page:  # it is being computed
                time.sleep(0.1)
                page = browser.get(address).text
            pages[address + language] = page

        for address in (*PAGES, "/jobs", "/jobs/ftjob-1", "/jobs/ftjob-1/curves.json"):
            visit(address)
        links = set(re.findall(r'href="(/data/tables/[^"?]+)', pages["/data"]))
        curves = re.findall(r'"(/runs/curves/[^"]+)"', pages["/runs/1"])
        questions = re.findall(r'href="(/compare/question[^"]+)"', pages["/compare/answers"])
        tables = sorted(links) if path.parent.name == "handbook" else ()
        for address in (*tables, *curves, *questions[:1]):
            visit(address.replace("&amp;", "&"))
        if path.parent.name == "handbook":
            browser.get("/preferences")
            browser.submit("/preferences", language="ko")
            for address in ("/", "/runs/1", "/data/dropped", "/compare", "/compare/answers"):
                visit(address, " (ko)")
            path.write_text(EDITED, "utf-8")
            visit("/", " after a change (ko)")
    return pages


def pages_of(name, folder):
    """{kind of page: {name: page}} of one of the three projects, written into a folder."""
    path = PROJECTS[name](folder / name)
    kinds = {"terminal": terminal(path), "report": reports(path), "workbench": workbench(path)}
    if name == "handbook":
        for language in ("en", "ko"):
            title = f"jangin plan after a change ({language})"
            kinds["terminal"][title] = printed("--language", language, "plan", "-p", path)
    return kinds


def text_of(pages):
    """The pages of one kind as the text of their file."""
    parts = [f"##### {outline(name)}\n\n{outline(page)}" for name, page in pages.items()]
    return "\n\n".join(parts) + "\n"


def write_files():
    """Write all files anew."""
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir()
    for project in PROJECTS:
        with tempfile.TemporaryDirectory() as place:
            for kind, pages in pages_of(project, Path(place)).items():
                (FILES / f"{project}.{kind}.txt").write_text(text_of(pages), "utf-8")


if __name__ == "__main__":
    write_files()
