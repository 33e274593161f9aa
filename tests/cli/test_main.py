"""What the command line prints and returns when something is wrong, and when it is stopped."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer.main

from jangin.cli.main import MEANT, app, main
from jangin.project.stages import STAGES
from jangin.report.terminal.console import choose_language
from tests.system.docs.guide_pages import Teacher
from tests.system.test_bad_endpoint import error, serve, url_of

__all__ = ("serve",)

TEXT = "# 규정\n\n## 제1조(연차휴가)\n\n직원은 해마다 15일의 연차휴가를 쓴다. 3일 전에 알린다.\n"
PROJECT = """\
name: small
documents:
  load: {folder: documents}
  chunk:
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "규정.md").write_text(TEXT, encoding="utf-8")
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def jangin(monkeypatch, capsys):
    """Run the command line in this process; returns (exit code, all that was printed)."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["jangin", *map(str, words)])
        try:
            main()
        except SystemExit as leave:
            code = leave.code
        printed = capsys.readouterr()
        return int(code or 0), printed.out + printed.err

    yield call
    choose_language("auto")


def test_run_then_show_then_run_again(project, jangin):
    code, printed = jangin("run", "-p", project)
    assert code == 0, printed
    assert "1 chunk " in printed
    code, printed = jangin("show", "chunks", "-p", project)
    assert code == 0
    assert "제1조(연차휴가)" in printed
    code, printed = jangin("run", "-p", project)
    assert printed.count("up to date") == 2


def test_tokens_need_a_split_and_show_what_is_trained(project, jangin):
    code, printed = jangin("show", "tokens", "-p", project)
    assert code != 0
    assert "catalog has not run" in printed
    examples = "\n".join(
        json.dumps({"question": f"휴가 {n}?", "answer": f"{n}일"}) for n in range(12)
    )
    (project / "rows.jsonl").write_text(examples, encoding="utf-8")
    (project / "project.yaml").write_text(
        "name: one\nexamples:\n  read: {path: rows.jsonl, format: {type: table, "
        "prompt: '{question}', completion: '{answer}'}}\n  split:\n"
        "models:\n  catalog: {base: {type: starter}}\n",
        encoding="utf-8",
    )
    code, printed = jangin("run", "-p", project)
    assert code == 0, printed
    code, printed = jangin("show", "tokens", "-p", project, "-n", "2")
    assert code == 0, printed
    rows = re.findall(r"row \d+ \(\w+\): (\d+) of (\d+) tokens are trained", printed)
    assert len(rows) == 2
    assert all(0 < int(trained) < int(tokens) for trained, tokens in rows)
    assert re.search(r"<\|user\|>휴가 (\d+)\?<\|end\|><\|assistant\|>⟦\1일<\|end\|>⟧", printed)


def test_a_plan_leaves_nothing_behind(project, jangin):
    before = sorted(project.rglob("*"))
    code, printed = jangin("plan", "-p", project)
    assert (code, "chunk" in printed) == (0, True)
    assert sorted(project.rglob("*")) == before


def test_an_empty_table_says_so(project, jangin):
    jangin("run", "-p", project)
    assert "no rows" in jangin("show", "unreadable", "-p", project)[1]


@pytest.mark.slow
def test_files_that_are_not_read_are_named_each_time_and_everywhere(project, jangin):
    folder = next(path.parent for path in project.rglob("*.md"))
    (folder / "단가표.xls").write_bytes(b"x")
    (folder / "깨짐.docx").write_bytes(b"PK no zip")
    assert "단가표.xls" in jangin("plan", "-p", project)[1]
    for _ in range(2):
        code, printed = jangin("run", "-p", project)
        assert code == 0, printed
        assert "not read: 2 files of the folder" in printed
        assert "단가표.xls: jangin has no reader for Excel 97 (.xls). Save it as XLSX." in printed
        assert printed.index("깨짐.docx: it is damaged") > printed.index("chunk ")
    shown = jangin("show", "unreadable", "-p", project)[1]
    assert "단가표.xls" in shown
    assert "깨짐.docx" in shown
    assert jangin("report", "-p", project)[0] == 0
    page = (project / "store/report.html").read_text(encoding="utf-8")
    assert "단가표.xls" in page
    assert "모든 파일을 읽었습니다" not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "cunk"], "there is no stage 'cunk'"),
        (["run", "-v", "nobody"], "no variant 'nobody'"),
        (["show", "elephants"], "no table 'elephants'"),
        (["ask", "며칠인가요?"], "variant 'main' produces a model"),
        (["export", "out.jsonl"], "split of variant 'main'"),
        (["export", "out.jsonl", "--split", "tset"], "'tset' is not one of"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(words, said, project, jangin):
    code, printed = jangin(*words, "-p", project)
    assert code == 2
    assert said in printed
    assert "Traceback" not in printed


def test_a_project_that_is_not_there_says_how_to_make_one(tmp_path, jangin):
    code, printed = jangin("plan", "-p", tmp_path / "nowhere.yaml")
    assert code == 2
    assert "jangin new" in printed


def test_a_report_into_a_folder_that_is_not_there_is_one_sentence(project, jangin):
    jangin("run", "-p", project)
    code, printed = jangin("report", "-p", project, "-o", project / "no" / "report.html")
    assert code == 2
    assert "cannot be written" in printed


def test_a_report_before_anything_is_made_says_what_to_run_and_writes_no_page(project, jangin):
    code, printed = jangin("report", "-p", project)
    assert code == 2
    assert "jangin run --project" in printed
    assert f"jangin run --project {project / 'project.yaml'}" in printed
    assert not list(project.rglob("*.html"))


def test_a_damaged_table_is_named_with_what_to_do(project, jangin):
    jangin("run", "-p", project)
    (table,) = project.glob("store/chunk/*/chunks.parquet")
    table.write_bytes(table.read_bytes()[:50])
    code, printed = jangin("show", "chunks", "-p", project)
    assert code == 2
    assert "Delete its folder and run again" in printed


def test_an_artifact_that_lacks_a_file_is_named(project, jangin):
    jangin("run", "-p", project)
    (table,) = project.glob("store/chunk/*/chunks.parquet")
    table.unlink()
    code, printed = jangin("run", "-p", project)
    assert code == 2
    assert "lacks chunks.parquet" in printed


def test_two_files_whose_names_differ_in_unicode_form_are_not_mistaken_for_one(project, jangin):
    (project / "documents" / "\u1100\u1172\u110c\u1165\u11bc.md").write_text("다른 글", "utf-8")
    code, printed = jangin("run", "-p", project)
    assert code == 2
    assert "decomposed Hangul" in printed


@pytest.mark.parametrize("name", ["2024", "yes", "my: project", "[x]", "규정 #1"])
def test_a_new_project_can_be_opened_whatever_its_name(name, tmp_path, jangin):
    assert jangin("new", tmp_path / name)[0] == 0
    (tmp_path / name / "documents" / "a.txt").write_text("글", encoding="utf-8")
    code, printed = jangin("plan", "-p", tmp_path / name)
    assert code == 0, printed


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "documents", "규정/2024"])
def test_new_makes_a_project_of_a_folder_that_holds_documents(place, tmp_path, jangin):
    path = tmp_path / "pumps" / place / "규정.md"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT, encoding="utf-8")
    code, printed = jangin("new", tmp_path / "pumps")
    assert (code, "1 document " in printed) == (0, True)
    assert path.read_text(encoding="utf-8") == TEXT
    assert jangin("run", "load", "-p", tmp_path / "pumps")[0] == 0
    (tmp_path / "pumps" / "store" / "report.html").write_text("<p>no document</p>")
    code, printed = jangin("show", "documents", "-p", tmp_path / "pumps")
    assert re.search(r"documents of load \(main\): 1 of 1", printed)
    assert "up to date" in jangin("run", "load", "-p", tmp_path / "pumps")[1]
    assert "no rows" in jangin("show", "unreadable", "-p", tmp_path / "pumps")[1]


def test_new_refuses_a_folder_of_other_files(tmp_path, jangin):
    (tmp_path / "a.exe").write_bytes(b"x")
    assert jangin("new", tmp_path)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.exe"]


def test_new_never_touches_what_is_there(project, jangin):
    assert jangin("new", project)[0] == 2
    assert jangin("new", project / "project.yaml")[0] == 2


@pytest.mark.slow
def test_ctrl_c_leaves_a_resumable_state_and_says_so(project, serve):
    server = serve(error(503, "busy"))
    (project / "project.yaml").write_text(
        PROJECT
        + f"teachers:\n  slow: {{type: endpoint, model: m, base_url: '{url_of(server)}'}}\n"
        + "examples:\n  synthesize: {teacher: slow}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "jangin.cli", "run", "-p", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    deadline = time.monotonic() + 100
    while not server.asked:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Stopped." in printed
    assert "Traceback" not in printed
    assert list(project.glob("store/synthesize/*.partial"))


class EditingTeacher(Teacher):
    """While it answers the first request, somebody edits the document."""

    edits = None

    def process_request(self, request, client_address):
        if self.edits is not None:
            self.edits.write_text("# 규정\n\n연차휴가는 20일이다.\n", encoding="utf-8")
            self.edits = None
        super().process_request(request, client_address)


def test_a_document_edited_during_a_run_is_taught_as_it_was_read_and_the_change_is_said(
    project, jangin, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    document = project / "documents" / "규정.md"
    document.write_text("# 규정\n\n연차휴가는 15일이다.\n", encoding="utf-8")
    with EditingTeacher() as server:
        (project / "project.yaml").write_text(
            PROJECT
            + f"teachers:\n  writer: {{type: endpoint, model: m, base_url: '{server.url}'}}\n"
            + "examples:\n  synthesize: {teacher: writer}\n",
            encoding="utf-8",
        )
        for edits, said, answer in ((document, True, "15일"), (None, False, "20일")):
            server.edits = edits
            code, printed = jangin("run", "-p", project)
            assert code == 0, printed
            assert ("changed while the run worked" in " ".join(printed.split())) == said
            tables = project.glob("store/synthesize/*/examples.parquet")
            newest = max(tables, key=os.path.getmtime)
            assert answer in str(pq.read_table(newest).to_pylist())
            if said:
                _, planned = jangin("plan", "-p", project)
                assert "규정.md changed" in planned
                _, missing = jangin("show", "examples", "-p", project)
                assert "has not run since something before it changed" in missing
        server.shutdown()


@pytest.mark.slow
def test_version_and_doctor_answer(jangin):
    assert jangin("--version")[1].startswith("jangin ")
    code, printed = jangin("doctor")
    assert code in (0, 2)
    assert "Python" in printed


def test_prompts_are_shown_whole_with_and_without_a_project(project, jangin, monkeypatch, tmp_path):
    wording = '{system: "", user: "$question $answer $count 우리 말로"}'
    own = f"{PROJECT}prompts:\n  paraphrase:\n    ko: {wording}\n"
    (project / "project.yaml").write_text(own, encoding="utf-8")
    code, printed = jangin("show", "prompts", "-p", project)
    assert code == 0
    assert "your own\nuser:\n  $question $answer $count 우리 말로\n" in printed
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    code, printed = jangin("show", "prompts")
    assert code == 0
    assert "  your own" not in printed
    assert "  본문:\n  $text\n\n  질문과 답을 최대 $count개 만드세요." in printed
    code, printed = jangin("show", "prompts", "-p", project, "-v", "none")
    assert (code, "has no variant 'none'" in printed) == (2, True)


def test_a_project_that_asks_nothing_of_a_teacher_runs_from_a_file_and_exports_by_pattern(
    tmp_path, jangin
):
    data = {
        "data": [
            {
                "paragraphs": [
                    {
                        "context": "등대는 1931년에 켰다.",
                        "qas": [{"question": "언제?", "answers": [{"text": "1931년"}]}],
                    }
                ]
            }
        ]
    }
    (tmp_path / "squad.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "project.yaml").write_text(
        "name: small\nexamples:\n  read: {path: squad.json, format: {type: squad}}\n"
    )
    code, printed = jangin("run", "-p", tmp_path)
    assert code == 0, printed
    out = tmp_path / "rows.jsonl"
    words = ("--split", "all", "-f", "template", "--pattern", "{question} -> {answer}")
    code, printed = jangin("export", out, *words, "-p", tmp_path)
    assert code == 0, printed
    assert out.read_text(encoding="utf-8") == '{"text": "언제? -> 1931년"}\n'


@pytest.mark.slow
def test_a_question_is_asked_in_the_pattern_of_its_project_or_the_pattern_is_named(
    tmp_path, jangin
):
    rows = "".join(f"{n}번,글 {n},{1 + n % 2}\n" for n in range(10))
    (tmp_path / "rows.csv").write_text(f"title,review,star\n{rows},,\n", encoding="utf-8")
    text = """\
name: stars
examples:
  read: {path: rows.csv, format: {type: table, prompt: "PATTERN", completion: "{star}"}}
  split: {test: 0.2, validation: 0, unseen_sections: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: starter, size: 0.5M, vocabulary_size: 300, context_length: 64}}
  sft: {length: {type: steps, steps: 1}}
"""
    project = tmp_path / "project.yaml"
    project.write_text(text.replace("PATTERN", "{review} " * 12), encoding="utf-8")
    code, printed = jangin("run", "-p", tmp_path)
    assert code == 0, printed
    assert "jangin show unread, with the same --project" in " ".join(printed.split())
    long = "말 " * 8
    code, printed = jangin("ask", long, "-p", tmp_path)
    assert (code, "can have 64," in printed) == (2, True), printed
    project.write_text(text.replace("PATTERN", "{title} {review}"), encoding="utf-8")
    assert jangin("run", "-p", tmp_path)[0] == 0
    code, printed = jangin("ask", long, "-p", tmp_path, "--max-new-tokens", 2)
    assert code == 0, printed
    assert "'{title} {review}'" in printed


def test_a_label_outside_the_set_is_refused_before_anything_is_trained(tmp_path, jangin):
    rows = "".join(f"글 {n},{1 + n % 3}\n" for n in range(12))
    (tmp_path / "rows.csv").write_text(f"review,star\n{rows}", encoding="utf-8")
    (tmp_path / "project.yaml").write_text(
        """\
name: stars
examples:
  read: {path: rows.csv, format: {type: table, prompt: "{review}", completion: "{star}"}}
  split: {test: 0.5, validation: 0, unseen_sections: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: starter, size: 0.5M, vocabulary_size: 300, context_length: 64}}
  sft: {length: {type: steps, steps: 1}}
  evaluate: {task: {type: labels, labels: ["1", "2"]}}
"""
    )
    code, printed = jangin("run", "-p", tmp_path)
    assert code == 2, printed
    assert "(1, 2): '3' (" in printed
    assert not (tmp_path / "store" / "sft").exists()


def test_what_a_command_takes_without_a_variant_is_what_its_help_says(jangin):
    for command, default in (
        *(("plan", "all of them"), ("run", "all of them")),
        *((command, "the last one") for command in ("show", "ask", "export", "merge")),
    ):
        code, printed = jangin(command, "--help")
        text = " ".join(printed.replace("│", " ").split())
        assert (code, f"default: {default}" in text) == (0, True), text


@pytest.mark.slow
def test_an_answer_names_its_variant_and_misses_no_page_where_rows_have_none(tmp_path, jangin):
    stars = "".join(f"{n}번 앱을 보고 쓴 글,{1 + n % 5}\n" for n in range(30))
    (tmp_path / "rows.csv").write_text(f"review,star\n{stars}", encoding="utf-8")
    (tmp_path / "project.yaml").write_text(
        """\
name: stars
examples:
  read: {path: rows.csv, format: {type: table, prompt: "{review}", completion: "{star}"}}
  split: {test: 0.2, validation: 0, unseen_sections: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: starter, size: 0.5M, vocabulary_size: 300, context_length: 64}}
  sft: {length: {type: steps, steps: 1}}
variants:
  one:
  two: {models: {sft: {learning_rate: 0.001}}}
"""
    )
    assert jangin("run", "-p", tmp_path)[0] == 0
    code, printed = jangin("ask", "앱이 어때요?", "-p", tmp_path, "--max-new-tokens", 2)
    assert code == 0, printed
    assert "variant two; for another, use --variant one" in printed
    assert "may be invented" not in printed
    assert "learned from" not in printed
    code, printed = jangin("ask", "앱이 어때요?", "-p", tmp_path, "-v", "one")
    assert (code, "answers" in printed) == (0, False)
    code, printed = jangin("ask", "  ", "-p", tmp_path)
    assert code == 2
    assert "the question is empty" in printed
    code, printed = jangin("ask", "긴 질문 " * 100, "-p", tmp_path)
    assert code == 2
    assert "tokens, and with the answer it can have 64," in printed


@pytest.mark.slow
def test_why_compares_with_the_last_run_of_the_same_project_file(project, jangin):
    first, second = project / "project.yaml", project / "other.yaml"
    text = first.read_text(encoding="utf-8")
    second.write_text(text.replace("chunk:", "chunk: {max_characters: 300}"), encoding="utf-8")
    assert jangin("run", "-p", first)[0] == 0
    assert "never ran" in jangin("run", "load", "-p", second)[1] + jangin("plan", "-p", second)[1]
    assert jangin("run", "-p", second)[0] == 0
    first.write_text(text.replace("chunk:", "chunk: {overlap_sentences: 1}"), encoding="utf-8")
    printed = " ".join(jangin("plan", "-p", first)[1].split())
    assert "overlap_sentences: 0 -> 1" in printed
    assert "300" not in printed


def test_words_of_other_tools_and_stages_are_answered_with_the_command(jangin):
    commands = set(typer.main.get_command(app).commands)
    for word, meant in MEANT.items():
        assert word not in commands
        assert meant.startswith("--") or meant.split()[0] in commands
    for stage in {stage.name for stage in STAGES} - commands:
        assert MEANT[stage] == f"run {stage}"
    for word, meant in (("init", "new"), ("train", "run sft"), ("EVAL", "run evaluate")):
        code, printed = jangin(word)
        assert code == 2
        assert f"Did you mean '{meant}'?" in printed
    assert "Did you mean 'report'" in jangin("repotr")[1]


@pytest.mark.parametrize(
    ("line", "named", "command"),
    [
        ("frobnicate", "frobnicate", "jangin"),
        ("eval", "run evaluate", "jangin"),
        ("plan --bogus", "--bogus", "jangin plan"),
        ("plan --langage", "--language", "jangin plan"),
        ("plan --project", "--project", "jangin"),
        ("keys add", "name", "jangin keys add"),
        ("serve --port x", "--port", "jangin serve"),
        ("plan a b", "a b", "jangin plan"),
        ("--language fr", "fr", "jangin"),
    ],
)
def test_a_wrong_call_is_one_message_in_the_language_of_the_terminal(
    jangin, monkeypatch, line, named, command
):
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    code, printed = jangin(*line.split())
    assert code == 2
    first, second = printed.strip().splitlines()
    assert first.startswith("오류:")
    assert named in first
    assert second == f"쓰는 법: {command} --help"
    said = first.removeprefix("오류:").replace(named, "")
    assert not set(re.findall(r"[A-Za-z]{3,}", said)) - set(line.replace("-", " ").split()) - {
        "language", "auto"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full while writing x. Free some space"),
        (errno.EROFS, "x cannot be written: Read-only file system"),
    ],
)
def test_a_disk_that_takes_no_more_is_a_sentence(jangin, monkeypatch, number, said):
    def fails(*_):
        raise OSError(number, os.strerror(number), "x")

    monkeypatch.setattr("jangin.project.setup.scaffold.make_project", fails)
    code, printed = jangin("new", "rules")
    assert code == 1
    assert printed.startswith(f"error: {said}")


@pytest.mark.parametrize("before", [True, False])
def test_the_terminal_speaks_the_language_that_is_asked_for(project, jangin, before):
    option = ("--language", "ko")
    words = (*option, "plan") if before else ("plan", *option)
    code, printed = jangin(*words, "-p", project)
    assert code == 0, printed
    assert "변형" in printed
    assert "`load` 다음" in printed
    assert "파일 1개" in printed
    code, printed = jangin("plan", "-p", project)
    assert "variant" in printed
    assert not re.search("[가-힣]", printed.replace(str(project), ""))


def test_a_mistake_in_the_project_file_is_said_in_the_language_of_the_terminal(project, jangin):
    path = project / "project.yaml"
    path.write_text(PROJECT.replace("  chunk:", "  chunkk:"), encoding="utf-8")
    code, printed = jangin("run", "-p", project, "--language", "ko")
    assert code == 2
    assert f"{path}:4: documents.chunkk" in printed
    assert "`chunk`입니까?" in printed
