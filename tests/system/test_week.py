"""A week of one user: files of all kinds, own rows and corrections, and what comes of them."""

import csv
import io
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

import jangin
from jangin.cli.main import main
from tests.documents.corpus.every import all_cases
from tests.system.docs.guide_pages import Handler, Teacher

RULES = {
    "leave.md": "# 휴가\n\n## 연차\n\n연차휴가는 15일이다.\n\n## 병가\n\n병가는 60일이다.\n",
    "notice.txt": "공지\n\n정전 시간은 30분이다. 점검 주기는 12개월이다.\n",
    "travel.html": "<html><body><nav>홈</nav><h1>출장</h1><p>일비는 45달러이다.</p></body></html>",
    "rooms.md": "# 회의실\n\n## 예약\n\n예약 시간은 90분이다.\n\n## 취소\n\n취소 기한은 3일이다.\n",
}
STARTER = {"type": "starter", "size": "0.5M", "vocabulary_size": 400, "context_length": 128}
SETTINGS = {
    "name": "rules",
    "budget": {"usd": 0.0001},
    "teachers": {
        "writer": {
            "type": "endpoint",
            "model": "rules",
            "price": {"input_usd_per_million": 0.4, "output_usd_per_million": 1.6},
        }
    },
    "documents": {"load": {"folder": "documents"}, "chunk": {"measure": "characters"}},
    "examples": {
        "synthesize": {"teacher": "writer", "allow_failed": 1.0},
        "paraphrase": {"source": {"type": "teacher", "teacher": "writer", "count": 4}},
        "curate": {},
        "split": {},
    },
    "models": {
        "catalog": {"base": STARTER},
        "sft": {"method": {"type": "full"}, "length": {"type": "steps", "steps": 3}},
        "evaluate": {"max_new_tokens": 4},
    },
}


ANSWERED = 3
"""Requests that are answered before the run is killed."""


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A folder with a file of every kind that is read, and one that is not."""
    company = tmp_path_factory.mktemp("company")
    folder = company / "documents"
    folder.mkdir()
    for name, text in RULES.items():
        (folder / name).write_bytes(text.encode("cp949" if name == "notice.txt" else "utf-8"))
    for case in all_cases():
        suffix = Path(case.name).suffix
        if not any(folder.glob(f"*{suffix}")):
            (folder / case.name).write_bytes(case.data)
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    return company


class Witness(Teacher):
    """The teacher by rules, which keeps every request: what a hosted one would send a bill for.

    While `go_on` is not set, it answers the first requests only.
    """

    def __init__(self):
        self.requests, self.go_on = [], threading.Event()
        self.go_on.set()
        super().__init__()
        self.RequestHandlerClass = WitnessHandler

    def repeated(self):
        """Number of requests that were sent before."""
        return len(self.requests) - len({*self.requests})

    def handle_error(self, request, client_address):
        """A client that was killed is no error of the teacher."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class WitnessHandler(Handler):
    def do_POST(self):  # noqa: N802  http.server calls it so
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        self.server.requests.append(body)
        if len(self.server.requests) > ANSWERED:
            self.server.go_on.wait(100)
        self.rfile = io.BytesIO(body)
        super().do_POST()
        self.close_connection = True


@pytest.fixture(scope="module")
def teacher():
    server = Witness()
    yield server
    server.shutdown()
    server.server_close()


class User:
    """Types commands in the folder of the project, and edits its file."""

    def __init__(self, folder, url, monkeypatch, capsys, fork):
        self.folder, self.patch, self.capsys, self.fork = folder, monkeypatch, capsys, fork
        self.settings = yaml.safe_load(yaml.safe_dump(SETTINGS))
        self.settings["teachers"]["writer"]["base_url"] = url
        self.save()

    def save(self):
        text = yaml.safe_dump(self.settings, allow_unicode=True)
        (self.folder / "project.yaml").write_text(text, "utf-8")

    def types(self, *words, code=0, keyboard=""):
        """All that a command prints, in one text without the line breaks of the terminal."""
        self.patch.setattr(sys, "argv", ["jangin", *words])
        self.patch.setattr(sys, "stdin", io.StringIO(keyboard))
        with pytest.raises(SystemExit) as leave:
            main()
        printed = self.capsys.readouterr()
        text = printed.out + printed.err
        assert (leave.value.code or 0) == code, text
        assert "Traceback" not in text
        return " ".join(text.split())


@pytest.mark.long
@pytest.mark.slow
def test_a_week(company, teacher, monkeypatch, capsys, fork):
    """Each day continues from the one before it; nothing is paid for twice."""
    monkeypatch.chdir(company)
    user = User(company, teacher.url, monkeypatch, capsys, fork)
    for day in (monday, tuesday, wednesday, thursday, friday):
        day(user, teacher)


def monday(user, _teacher):
    """What would it cost? More than the budget allows, so nothing is sent and the budget raised."""
    assert len({path.suffix for path in (user.folder / "documents").iterdir()}) >= 12
    planned = user.types("plan")
    assert "budget" in planned
    assert "old.doc" in planned
    stopped = user.types("run", "synthesize", code=2)
    assert "the budget of $0.0001 would be exceeded" in stopped
    user.settings["budget"] = {"usd": 5}
    user.save()


def tuesday(user, teacher):
    """A run is killed while it asks the teacher; the next one asks for the rest only."""
    kill_while_asking(user.folder, teacher, user.fork)
    user.types("run", "split")
    assert teacher.repeated() <= 8, "only calls in flight may be lost"
    sources = {row["source"] for row in jangin.open(user.folder).table("examples")}
    assert {"leave.md", "notice.txt", "travel.html", "rooms.md"} <= sources
    assert "old.doc" in user.types("show", "unreadable")


def wednesday(user, teacher):
    """Own rows beside the teacher's, one correction and one rejection by a colleague."""
    text = "question,answer\n주차장은 몇 층인가요?,지하 2층\n"
    (user.folder / "faq.csv").write_text(text, "utf-8")
    table = {"type": "table", "prompt": "{question}", "completion": "{answer}"}
    user.settings["examples"]["read"] = {"path": "faq.csv", "format": table}
    user.save()
    user.types("run", "split")
    user.types("review", "--to", "queue.csv")
    with (user.folder / "queue.csv").open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    wrong = next(row for row in rows if row["answer"] == "90분")
    wrong["answer"], wrong["evidence"] = "90분까지", ""
    trivial = next(row for row in rows if row["answer"] == "45달러")
    trivial["decision"], trivial["reason"] = "반려", "trivial"
    with (user.folder / "queue.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert "2 decisions of lee" in user.types("review", "--from", "queue.csv", "--by", "lee")
    before = len(teacher.requests)
    user.types("run")
    assert len(teacher.requests) - before <= 1, "only wordings of the corrected question are new"
    answers = {row["answer"] for row in jangin.open(user.folder).table("splits")}
    assert {"90분까지", "지하 2층"} <= answers
    assert not {"90분", "45달러"} & answers


def thursday(user, teacher):
    """Another base beside the first one: the same questions, so nothing is asked again."""
    other = {"models": {"catalog": {"base": {**STARTER, "seed": 1}}}}
    user.settings["variants"] = {"first": None, "second": other}
    user.save()
    before = len(teacher.requests)
    user.types("run")
    assert len(teacher.requests) == before
    compared = user.types("compare")
    assert "first" in compared
    assert "second" in compared
    page = jangin.open(user.folder).report()
    assert "old.doc" in Path(page).read_text("utf-8")


def friday(user, _teacher):
    """Talk to the model, make the final one, and list what would be published."""
    assert "연차휴가" in user.types("chat", keyboard="연차휴가: 얼마인가요?\n/base\n/quit\n")
    user.types("finish", "final", "-v", "first")
    listed = user.types("publish", "company/rules", "final", "--dry-run")
    assert "model.safetensors" in listed
    assert "README.md" in listed
    answer = jangin.open(user.folder).ask("연차휴가: 얼마인가요?", variant="second")
    assert answer.taught_answer == "15일"
    assert answer.source.startswith("leave.md")
    assert "waits" not in user.types("plan")


def kill_while_asking(folder, teacher, fork):
    """Start a run in a process of its own and kill it when its teacher has been asked."""
    words = ["run", "synthesize", "-p", folder]
    teacher.go_on.clear()
    process = fork("tests.forked:run_command", words, output=folder.parent / "killed.txt")
    deadline = time.monotonic() + 120
    while len(teacher.requests) <= ANSWERED:
        assert process.poll() is None, process.printed()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    teacher.go_on.set()
