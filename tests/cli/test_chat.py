"""`jangin chat`: lines of a pipe are questions and commands; the next run uses what is saved."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

import jangin
from jangin.cli.chat import CONTROLS, Conversation
from jangin.cli.main import main
from jangin.cli.model import print_source
from jangin.core.errors import DataError
from jangin.core.records import Message
from jangin.examples.formats.additions import add_row
from jangin.inference.ask import Trace
from jangin.inference.dialogue import Dialogue
from jangin.project.file import open_project
from jangin.project.session import open_session
from tests.tiny_project import KEYS, ROWS, write_project

QUESTION = ROWS[0]["prompt"]


@pytest.fixture
def own(tiny, tmp_path):
    """A copy of the tiny project with its store, which a test may change."""
    return Path(shutil.copytree(tiny[0].folder, tmp_path / "own"))


@pytest.fixture
def chat(monkeypatch, capsys):
    def talk(folder, *lines):
        monkeypatch.setattr(sys, "argv", ["jangin", "chat", "-p", str(folder),
                                          "--max-new-tokens", "8"])  # fmt: skip
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0), capsys.readouterr()

    return talk


def test_each_line_of_a_pipe_is_answered_as_in_python(tiny, chat):
    code, printed = chat(tiny[0].folder, QUESTION, "", "/quit", "never asked")
    model = tiny[0].model()
    assert (code, printed.err) == (0, "")
    assert printed.out.split() == model.chat(QUESTION, max_new_tokens=8).translate(CONTROLS).split()


def test_turns_are_remembered_until_a_new_conversation(tiny, chat, monkeypatch):
    given = []
    stream = Dialogue.stream

    def heard(self, messages, *rest, **named):
        given.append((len(messages), named["base"]))
        return stream(self, messages, *rest, **named)

    monkeypatch.setattr(Dialogue, "stream", heard)
    code, printed = chat(tiny[0].folder, "/base", "a?", "b?", "/base", "/new", "c?", "/what")
    assert code == 0
    assert given == [(1, False), (3, False), (3, True), (1, False)]
    assert "there is no question yet" in printed.out
    assert "/save example" in printed.out


def test_a_model_of_single_questions_is_sent_no_earlier_turns_and_the_chat_says_so_once(tiny, chat):
    alone = tiny[0].model().chat("b?", max_new_tokens=8).translate(CONTROLS).strip()
    code, printed = chat(tiny[0].folder, "a?", "b?", "c?", "/history all", "b?", "/history odd")
    assert code == 0
    assert printed.out.count("the earlier turns are not sent") == 1
    assert printed.out.count("history: all") == 2
    said = printed.out.partition("sends them\n")[2]
    assert said.startswith(alone or "(no answer)")


def test_an_error_is_one_sentence_and_the_conversation_goes_on(tiny, chat):
    code, printed = chat(tiny[0].folder, "/variant nobody", "가" * 3000, QUESTION)
    assert code == 2
    assert "no variant 'nobody'" in printed.err
    assert "the question has" in printed.err
    assert "Traceback" not in printed.err
    assert printed.out.strip()


def test_ctrl_c_stops_the_answer_and_not_the_program(tiny, chat, monkeypatch):
    stream = Dialogue.stream

    def interrupted(self, messages, *rest, **named):
        for piece in stream(self, messages, *rest, **named):
            yield piece
            if messages[-1].content == "stop":
                raise KeyboardInterrupt

    monkeypatch.setattr(Dialogue, "stream", interrupted)
    code, printed = chat(tiny[0].folder, "stop", QUESTION)
    assert code == 0
    before, after = printed.out.split("Stopped.")
    assert before.strip()
    answer = tiny[0].ask(QUESTION, max_new_tokens=8).text
    assert after.split() == answer.translate(CONTROLS).split()


def test_control_characters_of_a_model_do_not_reach_the_terminal(tiny, monkeypatch, capsys):
    monkeypatch.setattr(Dialogue, "stream", lambda *_, **__: iter(("\x1b[2Jhi\x07\n", "\x9b1m!")))
    with open_session(tiny[0].path) as session:
        Conversation(session, "main", 8).take("?")
    assert capsys.readouterr().out == "[2Jhi\n1m!\n"


@pytest.mark.slow
def test_what_is_saved_is_trained_on_and_asked_by_the_next_run(own, chat):
    code, printed = chat(
        own, "/save example", "새 노트북은 누가 주나요?", "/save example 총무팀이 줍니다.",
        "/new", "출장 갈 때 기차를 타나요?", "/save question 네, 탑니다.",
        "/new", QUESTION, "/save question 0일입니다.",
    )  # fmt: skip
    assert code == 0
    assert "after an answer" in printed.out
    saved = [json.loads(line) for line in (own / "test_questions.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in saved] == ["question", "question"]
    assert saved[0]["messages"][-1] == {"role": "assistant", "content": "네, 탑니다."}
    lines = []
    run = jangin.open(own).run("split", progress=lines.append)
    assert [row["state"] for row in run if row["stage"] == "read"] == ["made"]
    splits = jangin.open(own).table("splits")
    split_of = {row["question"]: (row["split"], row["answer"]) for row in splits}
    assert split_of["새 노트북은 누가 주나요?"] == ("train", "총무팀이 줍니다.")
    assert split_of["출장 갈 때 기차를 타나요?"] == ("test", "네, 탑니다.")
    assert split_of[QUESTION][0] == "train"
    assert any("1 of the test questions nearly copy another" in line for line in lines)


def test_the_last_question_alone_is_saved_once_and_shown_unless_all_turns_are_wanted(own, chat):
    code, printed = chat(
        own, "첫 질문?", "둘째 질문?", "/save question 네.", "/save question 아니요.",
        "/save question --all 글쎄요.", "/save example  둘 다. ", "/quit",
    )  # fmt: skip
    assert (code, printed.err) == (0, "")
    (row,) = _saved(own, "test_questions.jsonl")
    assert [turn["role"] for turn in row] == ["user", "assistant", "user", "assistant"]
    assert (row[0]["content"], row[-1]["content"]) == ("첫 질문?", "글쎄요.")
    (row,) = _saved(own, "additions.jsonl")
    assert [turn["content"] for turn in row] == ["둘째 질문?", "둘 다."]
    assert "question: 둘째 질문?" in printed.out
    assert "answer: 아니요." in printed.out
    assert "replaces the answer saved before: 네." in printed.out
    assert "replaces the answer saved before: 아니요.; it was a saved question" in printed.out


def _saved(folder, name):
    return [json.loads(line)["messages"] for line in (folder / name).read_text().splitlines()]


def test_a_row_that_cannot_be_saved_leaves_the_others_as_they_are(tmp_path):
    turns = [Message(role="user", content="왜? "), Message(role="assistant", content="1")]
    file = tmp_path / "additions.jsonl"
    file.write_bytes(b'{"broken\n\xff\n[1]\n')
    add_row(tmp_path, "example", turns, "main")
    assert file.read_bytes().startswith(b'{"broken\n\xff\n[1]\n{"kind": "example"')
    add_row(tmp_path, "question", [Message(role="user", content="왜?"), turns[1]], "main")
    assert file.read_bytes() == b'{"broken\n\xff\n[1]\n'
    file.write_text("")
    add_row(tmp_path, "example", turns, "main")
    assert not (tmp_path / "test_questions.jsonl").exists()
    with pytest.raises(DataError, match="cannot be written"):
        add_row(tmp_path / "nowhere", "example", turns, "main")


def test_the_next_chat_says_that_the_model_is_outdated_and_answers(own, chat):
    _, before = chat(own, QUESTION, "/save question 15일")
    code, printed = chat(own, QUESTION)
    assert (code, printed.out) == (0, before.out.split("saved in")[0])
    assert "This model was trained " in printed.err  # how long ago depends on the machine
    assert ", before a change of read: test_questions.jsonl is new" in printed.err


def test_additions_join_a_project_whatever_it_reads(tmp_path):
    teacher = {"w": {"type": "endpoint", "model": "m", "base_url": "http://127.0.0.1:9/v1"}}
    written = {
        "name": "t", "teachers": teacher, "documents": {"load": {"folder": "d"}, "chunk": {}},
        "examples": {"synthesize": {"teacher": "w"}, "split": {"test_sources": ["mine.csv"]}},
    }  # fmt: skip
    folder = write_project(tmp_path / "p", written)
    assert open_project(folder).variants["main"].examples.read is None
    for name in ("additions.jsonl", "test_questions.jsonl"):
        (folder / name).write_text("", encoding="utf-8")
    examples = open_project(folder).variants["main"].examples
    assert [str(file.path) for file in examples.read.files] == [
        "additions.jsonl",
        "test_questions.jsonl",
    ]
    assert examples.split.test_sources == ("mine.csv", "test_questions.jsonl")
    write_project(folder, KEYS)
    examples = open_project(folder).variants["main"].examples
    assert str(examples.read.path) == "rows.jsonl"
    assert len(examples.read.files) == 3
    write_project(folder, KEYS | {"examples": KEYS["examples"] | {"read": {
        "path": "additions.jsonl", "format": {"type": "chat"}}}})  # fmt: skip
    assert len(open_project(folder).variants["main"].examples.read.files) == 2


def test_a_taught_row_of_a_table_is_not_called_invented(make_example, capsys):
    row = make_example("연차?", "15일", source="faq.csv")
    print_source(Trace("taught", row, 1.0), "")
    print_source(Trace("taught", make_example("연차?", "15일"), 1.0), "")
    print_source(Trace("differs", row, 1.0), "")
    assert capsys.readouterr().out.splitlines() == [
        "learned from: faq.csv",
        "taught in training; its source is not recorded",
        "taught for this question: 15일 (faq.csv). The answer above is another one.",
        "taught question: 연차?",
    ]
