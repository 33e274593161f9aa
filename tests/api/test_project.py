"""Projects in Python: the same stages, tables, errors and files as the command line."""

import asyncio
import json
import sys
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

import jangin
from jangin.core.events import StepBegins, StepEnds, WorkAdvances, WorkBegins, WorkEnds
from jangin.core.execution.signals import run_async
from jangin.documents.load import LoadConfig
from jangin.project.file import Documents, ProjectFile
from tests.tiny_project import KEYS, ROWS, write_project

ROOT = Path(__file__).parents[2]


def test_a_run_tells_each_stage_once_and_gives_rows_and_results(tiny):
    project, lines, run = tiny
    stages = ["read", "catalog", "split", "sft", "evaluate"]
    assert [row["stage"] for row in run] == stages
    ended = [line for line in lines if line.split()[1:2] == ["made"]]
    assert [line.split()[0] for line in ended] == stages
    assert f"{'sft':<11} begins: never ran" in lines
    assert not any("[dim]" in line or "[bold]" in line for line in lines)
    assert {row["system"] for row in run.results} == {"base", "tuned"}
    assert (run.failed, run.warnings) == (0, [])
    assert project.plan().up_to_date
    again = project.run(progress=None)
    assert {row["state"] for row in again} == {"up to date"}


def test_a_plan_is_up_to_a_stage_and_leaves_nothing_behind(tmp_path):
    folder = write_project(tmp_path / "new")
    before = sorted(folder.rglob("*"))
    plan = jangin.open(folder / "project.yaml").plan(until="split")
    assert (plan[0]["stage"], plan[0]["state"]) == ("read", "run")
    assert plan[-1]["stage"] == "split"
    assert not plan.up_to_date
    assert sorted(folder.rglob("*")) == before


def test_chunks_of_characters_are_cut_and_shown_without_a_base_model(tmp_path):
    chunk = {"measure": "characters"}
    keys = KEYS | {"documents": {"load": {"folder": "documents"}, "chunk": chunk}}
    folder = write_project(tmp_path / "new", keys)
    (folder / "documents").mkdir()
    (folder / "documents" / "rules.md").write_text("# Rules\n\nThe office is open until six.\n")
    project = jangin.open(folder)
    assert [row["stage"] for row in project.run(until="chunk", progress=None)] == ["load", "chunk"]
    assert {path.name for path in (folder / "store").iterdir()} >= {"load", "chunk"}
    assert not (folder / "store" / "catalog").exists()
    assert len(project.table("chunks")) == 1
    open_stages = {row["stage"] for row in project.plan() if row["state"] in ("run", "waits")}
    assert open_stages == {"read", "catalog", "split", "sft", "evaluate"}


def test_tables_are_rows_that_other_programs_take(tiny):
    project, _, _ = tiny
    assert {"examples", "splits", "predictions"} <= {*project.tables()}
    examples = project.table("examples")
    assert len(examples) == len(ROWS)
    assert examples[0]["question"] == ROWS[0]["prompt"]
    assert examples[:2].rows == examples.rows[:2]
    assert examples.to_polars()["answer"].to_list() == [row["completion"] for row in ROWS]
    assert len(project.table("examples", "question contains 병가")) == 1
    assert "id" in project.table("examples", ids=True).columns
    with pytest.raises(jangin.DataError, match="no table 'elephants'"):
        project.table("elephants")


def test_a_machine_without_pandas_is_told_what_to_do(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(jangin.MachineError, match="pip install pandas"):
        tiny[0].table("examples").to_pandas()


def test_whatever_shows_in_a_notebook_is_escaped_html_and_in_a_terminal_text(tiny, tmp_path):
    project, _, run = tiny
    table = jangin.Table("<b>", [{"<i>": "<script>", "n": 1.23456789, "none": None}])
    html = table._repr_html_()
    assert "<script>" not in html
    assert all(part in html for part in ("&lt;b&gt;", "&lt;i&gt;", "&lt;script&gt;", "1.235"))
    assert "no rows" in repr(jangin.Table("empty", []))
    for shown in (project, run, run.results, project.plan(), project.table("examples")):
        assert len(repr(shown)) > 20
        assert "\x1b" not in repr(shown)
        assert "<table>" in shown._repr_html_()
        console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
        console.print(shown)
        console.file.close()
        assert len(console.export_text()) > 20
    many = jangin.Table("many", [{"n": n} for n in range(50)])
    assert "30 more rows" in many._repr_html_()


def test_a_project_can_be_given_as_a_dict_or_as_config_objects(tiny, tmp_path):
    project, _, _ = tiny
    same = jangin.open(KEYS, folder=project.folder)
    assert same.plan().up_to_date
    config = ProjectFile(name="own", documents=Documents(load=LoadConfig(folder=Path("documents"))))
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# 글\n\n내용입니다.", encoding="utf-8")
    for keys in (
        config,
        {"name": "own", "documents": {"load": LoadConfig(folder=Path("documents"))}},
    ):
        opened = jangin.open(keys, folder=tmp_path)
        assert (opened.name, opened.variants) == ("own", ["main"])
        assert [row["stage"] for row in opened.plan()] == ["load"]
    with pytest.raises(jangin.ConfigError, match=r"given project: models\.sft\.mthod"):
        jangin.open(KEYS | {"models": {"sft": {"mthod": 1}}})


def test_the_file_is_read_again_by_every_method(tmp_path):
    project = jangin.open(write_project(tmp_path / "edited"))
    assert project.variants == ["main"]
    write_project(tmp_path / "edited", KEYS | {"variants": {"a": {}, "b": {}}})
    assert project.variants == ["a", "b"]


def test_errors_are_those_of_the_command_line(tiny, tmp_path):
    project, _, _ = tiny
    calls = {
        "no stage 'cunk'": lambda: project.run("cunk"),
        "no variant 'x'": lambda: project.plan(variant="x"),
        "no split 'tset'": lambda: project.export(tmp_path / "a.jsonl", split="tset"),
        "jangin new": lambda: jangin.open(tmp_path / "nowhere"),
        "jangin run": lambda: jangin.open(write_project(tmp_path / "fresh")).model(),
        "nothing to report": lambda: jangin.open(tmp_path / "fresh").report(),
    }
    for said, call in calls.items():
        with pytest.raises(jangin.JanginError, match=said) as caught:
            call()
        assert caught.value.exit_code == 2
    assert issubclass(jangin.TooLongError, jangin.ChatError)
    with pytest.raises(AttributeError, match="no attribute 'opn'"):
        _ = jangin.opn
    with pytest.raises(TypeError, match="'loud'"):
        project.run(progress="loud")


def test_exports_and_reports_are_files(tiny, tmp_path):
    project, _, _ = tiny
    assert project.export(tmp_path / "train.jsonl") == len(ROWS)
    first = json.loads((tmp_path / "train.jsonl").read_text("utf-8").splitlines()[0])
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert project.export(tmp_path / "all.jsonl", "prompt_completion", split="all") == len(ROWS)
    path = project.report(tmp_path / "page.html", language="en")
    assert "tiny" in path.read_text("utf-8")


def test_progress_can_be_a_stream_of_ones_own(tmp_path):
    heard = []
    jangin.open(write_project(tmp_path / "own")).run(
        "catalog", progress=jangin.Progress(heard.append)
    )
    begun = [event for event in heard if isinstance(event, WorkBegins)]
    assert begun
    assert all(event.total is None or event.total > 0 for event in begun)
    steps, open_work = 0, set()
    for event in heard:
        match event:
            case WorkBegins():
                open_work.add(event.work)
            case WorkAdvances():
                assert event.work in open_work, event.note
                steps += event.steps
            case WorkEnds():
                open_work.remove(event.work)
    assert (steps > 0, open_work) == (True, set())
    kinds = [type(event) for event in heard if isinstance(event, StepBegins | StepEnds)]
    assert kinds.count(StepBegins) == kinds.count(StepEnds) > 0


def test_asynchronous_work_also_runs_inside_the_event_loop_of_a_notebook():
    async def inner():
        await asyncio.sleep(0)
        return asyncio.current_task().get_name()

    async def cell():
        task = asyncio.current_task()
        assert run_async(inner()) != task.get_name()
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        with pytest.raises(ZeroDivisionError):
            run_async(broken())
        return "still here"

    async def broken():
        return 1 / 0

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        assert runner.run(cell()) == "still here"
    assert run_async(inner())


def test_users_code_is_type_checked_with_the_package():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    assert "tests/api/user_code.py" in config["files"]
    assert config["strict"]
    assert (Path(jangin.__file__).parent / "py.typed").exists()
