"""`jangin grade FILE`: any table of answers is graded and held against a person's verdicts."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from jangin.cli.main import main

ROWS = [
    {
        "question": "How long are parcels kept?",
        "gold": "10 days",
        "answer": "For ten days.",
        "evidence": "Parcels are kept for ten days.",
        "right": True,
    },
    {
        "question": "How long are parcels kept?",
        "gold": "10 days",
        "answer": "For 10 weeks.",
        "evidence": ["Parcels are kept for ten days."],
        "right": False,
    },
    {"question": "소포는 얼마나 보관하나요?", "gold": "10일", "answer": "열흘", "right": False},
]


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["jangin", "grade", *map(str, words)])
        with pytest.raises(SystemExit) as leave:
            main()
        printed = capsys.readouterr()
        return int(leave.value.code or 0), printed.out, printed.err

    return run


def written(folder, rows):
    path = folder / "answers.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_file_is_graded_and_the_rows_that_differ_are_shown(tmp_path, call):
    path = written(tmp_path, ROWS)
    code, out, _ = call(path)
    assert code == 0
    assert "3 answers: 66.7\N{NO-BREAK SPACE}%" in out
    assert "1 of 2 that you call wrong" in out
    assert "0 of 1 that you call right" in out
    assert f"{path}:3: you say wrong, facts say right" in out
    assert "열흘" in out


def test_json_gives_one_line_a_row(tmp_path, call):
    code, out, _ = call(written(tmp_path, ROWS), "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["right"] for row in rows] == [True, False, True]
    assert rows[1]["reason"] == "contradicted"
    assert "10 weeks" in rows[1]["detail"]
    assert [row["label"] for row in rows] == [True, False, False]


def test_a_csv_without_verdicts_is_graded(tmp_path, call):
    path = tmp_path / "answers.csv"
    path.write_text(
        "question,gold,answer\nHow long is it?,3 months,I do not know\n", encoding="utf-8"
    )
    code, out, _ = call(path)
    assert code == 0
    assert "says that it does not know" in out
    assert "Rows without evidence: 1." in out
    assert "agreement" not in out


@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        ({"question": "Q?", "answer": "A"}, "gold", "missing"),
        ({"question": "Q?", "gold": "", "answer": "A"}, "gold", "empty"),
        ({"question": "Q?", "gold": 3, "answer": "A"}, "gold", "3"),
        ({"question": "Q?", "gold": "G", "answer": "A", "right": "maybe"}, "right", "maybe"),
        ({"question": "Q?", "gold": "G", "answer": "A", "evidence": {"a": 1}}, "evidence", "{"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_column(tmp_path, call, row, key, value):
    path = written(tmp_path, [ROWS[0], row])
    code, _, err = call(path)
    flat = " ".join(err.split()).replace(" ", "")
    assert code == 2
    assert f"{path}:2:".replace(" ", "") in flat
    assert f"`{key}`" in flat
    assert value in flat


def test_a_file_that_is_not_there_is_named(tmp_path, call):
    code, _, err = call(tmp_path / "none.jsonl")
    assert code == 2
    assert "none.jsonl" in err.replace("\n", "")


class Judge(BaseHTTPRequestHandler):
    """Calls every answer with the word `ten` or `10` right, and mumbles about a Korean one."""

    asked = 0

    def do_POST(self):
        type(self).asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = {message["role"]: message["content"] for message in body["messages"]}
        mark = "[Answer to judge]"
        answer = texts["user"].partition(mark)[2].split("\n\n")[0]
        verdict = "right" if "ten" in answer or "10" in answer else "wrong"
        content = json.dumps({"reason": "as it seems", "verdict": verdict})
        if mark not in texts["user"]:
            content = "음..."
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        reply = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_words):
        pass


@pytest.fixture
def judged_project(tmp_path):
    """(project file with a judge on loopback, its handler)."""
    handler = type("Handler", (Judge,), {"asked": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    price = {"input_usd_per_million": 1.0, "output_usd_per_million": 2.0}
    teacher = {"type": "endpoint", "model": "judge-1", "base_url": url, "price": price}
    (tmp_path / "documents").mkdir()
    path = tmp_path / "project.yaml"
    documents = {"load": {"folder": "documents"}}
    keys = {"name": "judged", "teachers": {"gpt": teacher}, "documents": documents}
    path.write_text(yaml.safe_dump(keys), encoding="utf-8")
    yield path, handler
    server.shutdown()
    server.server_close()


def test_a_judge_is_asked_about_a_file_and_held_against_the_labels(tmp_path, call, judged_project):
    project, handler = judged_project
    rows = [*ROWS[:2] * 12, ROWS[2]]
    path = written(tmp_path, rows)
    code, out, _ = call(path, "--judge", "gpt", "-p", project)
    flat = " ".join(out.replace("\N{NO-BREAK SPACE}", " ").split())
    assert code == 0
    # Equal rows are asked about once, in two orders; the Korean row is sent back twice.
    assert handler.asked == 2 * 2 + 2 * 2
    assert "6 requests to send" in flat
    assert "$" in flat
    assert "undecided on 1 of 25" in flat
    assert "(2 of 50 replies)" in flat
    assert f"{path}:2: facts say wrong (says otherwise: 10 weeks), the judge says right" in flat
    assert "judge, where it is decided: 96.0 %" in flat
    assert "12 of 12 that you call wrong" in flat
    assert "On 25 labels of people, the judge is not shown to tell right from wrong" in flat
    code, out, _ = call(path, "--judge", "gpt", "-p", project, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert handler.asked == 2 * 2 + 2 * 2 * 2  # the usable replies are kept
    assert [line["judge"] for line in lines] == ["right"] * 24 + ["undecided"]
    assert [line["right"] for line in lines][:2] == [True, False]
    assert lines[0]["judge_reasons"] == ["as it seems", "as it seems"]


def test_with_few_labels_the_judge_is_called_not_calibrated(tmp_path, call, judged_project):
    _, out, _ = call(written(tmp_path, ROWS[:2]), "--judge", "gpt", "-p", judged_project[0])
    assert "The judge is not calibrated: people have labelled 2" in " ".join(out.split())


def test_a_judge_that_the_project_does_not_have_and_one_without_a_file_are_refused(
    tmp_path, call, judged_project
):
    path, project = written(tmp_path, ROWS), judged_project[0]
    code, _, err = call(path, "--judge", "claude", "-p", project)
    assert code == 2
    assert "'claude'" in err
    assert "gpt" in err
    code, _, err = call("--judge", "gpt", "-p", project)
    assert code == 2
    assert "second_opinion" in err


def test_a_korean_terminal_reads_korean(tmp_path, call, monkeypatch):
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    _, out, _ = call(written(tmp_path, ROWS))
    assert "답 3개: 사실로 보아 맞은 답 66.7%" in out
    assert "사람은 틀림, 채점은 맞음" in out
