"""The hand-written pages of docs/ say what is so: stores, rooms, keys, links and paths."""

import ast
import re
import sqlite3
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from jangin.core.ledger import Ledger
from jangin.core.store import Manifest
from jangin.project.file import SECTIONS, Project, ProjectFile, open_project
from jangin.project.problems import config_classes
from jangin.project.runner import run
from jangin.project.session import open_session
from jangin.project.stages import STAGES
from jangin.training.loop.config import TrainingConfig, TrainingKeys

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "jangin"
WRITERS = ("context.write", "context.writer", "ResultTable")
FOLDER_KINDS = {"base", "index", "model", "sft_model", "evaluation", "reviews"}
"""Kinds that are a folder or a log, not a table."""
TINY = """\
name: tiny
documents:
  load: {folder: documents}
  chunk: {min_characters: 0}
examples:
  read: {path: rows.jsonl, format: {type: prompt_completion}}
  curate:
  split: {unseen_sections: 0, validation: 0, held_out_paraphrases: 0}
models:
  catalog: {base: {type: starter, size: 0.5M, vocabulary_size: 300}}
  sft: {method: {type: full}, length: {type: steps, steps: 2}, examples_per_step: 2}
"""


def section(page: str, heading: str) -> str:
    """Text of a page between a heading and the next one of the same or a higher level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    marks = heading.split()[0]
    match = re.search(
        rf"^{re.escape(heading)}\n([\s\S]*?)(?=^#{{1,{len(marks)}}} |\Z)", text, flags=re.M
    )
    assert match, f"{page} has no heading {heading!r}"
    return match[1]


def table(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its two head lines."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"{page}: no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# docs/store.md


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of a small project after a run."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "documents").mkdir()
    (folder / "documents" / "rules.md").write_text("# Leave\n\nStaff have 15 days of leave.\n")
    rows = [f'{{"prompt": "What is {n} and {n}?", "completion": "{2 * n}"}}' for n in range(20)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "project.yaml").write_text(TINY)
    with open_session(folder / "project.yaml", folder / "store") as session:
        run(session.project, session.store, session.services, session.choose(None))
    return folder / "store"


def store_patterns() -> list[str]:
    rows = table("store.md", "## The store")
    paths = [path for row in rows for path in codes(row[0])]
    return [re.sub(r"<\w+>", "*", path) for path in paths]


@pytest.mark.slow
def test_every_file_of_a_store_is_on_the_page(store: Path) -> None:
    patterns = store_patterns()
    files = [p.relative_to(store).as_posix() for p in store.rglob("*") if p.is_file()]
    assert len(files) > 15
    unnamed = [f for f in files if not any(fnmatch(f, pattern) for pattern in patterns)]
    assert unnamed == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "<stage>/<key16>/manifest.json",
        "<stage>/<key16>/<kind>.parquet",
        "<stage>/<key16>/metrics.jsonl",
        "<stage>/<key16>/model/*",
        "<stage>/<key16>/runtime/*",
        "<stage>/<key16>.lock",
        "ledger.sqlite",
        "ledger.lock",
    ],
)
def test_paths_of_the_page_are_in_a_store(store: Path, path: str) -> None:
    pattern = re.sub(r"<\w+>", "*", path)
    assert pattern in store_patterns()
    assert list(store.glob(pattern))


@pytest.mark.slow
def test_a_finished_store_has_no_journals_and_nothing_partial(store: Path) -> None:
    assert not [p for p in store.rglob("*") if p.name == "journal" or p.suffix == ".partial"]


def test_the_page_names_every_field_of_a_manifest() -> None:
    fields = [codes(row[0])[0] for row in table("store.md", "## Manifest")]
    assert fields == list(Manifest.model_fields)


def test_the_page_names_every_kind_of_input() -> None:
    named = {
        codes(r[0])[0].split(":")[0]
        for r in table("store.md", "## Keys: what invalidates an artifact")
        if codes(r[0])
    }
    source = ast.parse((PACKAGE / "project" / "plan.py").read_text(encoding="utf-8"))
    prefixes = {
        str(part.values[0].value).rstrip(":")
        for part in ast.walk(source)
        if isinstance(part, ast.JoinedStr)
        and isinstance(part.values[0], ast.Constant)
        and re.fullmatch(r"\w+:", str(part.values[0].value))
    }
    assert named == prefixes


def written_tables() -> set[str]:
    """Names of the tables that stages write by the context or as a `ResultTable`."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and call.args and ast.unparse(call.func) in WRITERS:
                name = call.args[0]
                name = constants.get(name.id, name) if isinstance(name, ast.Name) else name
                if isinstance(name, ast.Constant):
                    names.add(str(name.value))
    return names


def test_the_page_names_every_stage_with_what_it_makes() -> None:
    rows = {codes(row[0])[0]: codes(row[1]) for row in table("store.md", "## Tables")}
    assert rows == {stage.name: list(stage.makes) for stage in STAGES}


@pytest.mark.slow
def test_the_page_names_every_table_and_no_other() -> None:
    named = {
        name
        for row in table("store.md", "## Tables")
        for cell in row[1:]
        for name in codes(cell)
        if name.isidentifier()  # no settings
    }
    assert named - FOLDER_KINDS == written_tables()


def test_the_page_names_every_table_of_the_ledger(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite").close()
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    tables = {row[0] for row in database.execute(query)}
    database.close()
    assert {codes(row[0])[0] for row in table("store.md", "## The ledger")} == tables


# docs/architecture.md


def rooms() -> list[str]:
    return sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists())


def test_the_picture_shows_every_room() -> None:
    picture = section("architecture.md", "# The rooms, and the way of one document through them")
    block = re.search(r"```text\n([\s\S]*?)```", picture)
    assert block
    assert set(rooms()) <= set(re.findall(r"\b[a-z]+\b", block[1]))


def test_the_way_names_every_stage_in_order_with_its_file_and_kinds() -> None:
    rows = table("architecture.md", "## The way of one document")
    assert [codes(row[0])[0] for row in rows] == [stage.name for stage in STAGES]
    for row, stage in zip(rows, STAGES, strict=True):
        assert len(row[1]) >= 5, f"{stage.name}: what does it do?"
        assert set(stage.reads) <= set(codes(row[2])), stage.name
        assert codes(row[3]) == list(stage.makes), stage.name
        assert Path(codes(row[4])[0]).stem == stage.name
        assert stage.run.__module__ == codes(row[4])[0][4:-3].replace("/", ".")


PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "README.md",
    ROOT / "README.ko.md",
    DOCS / "architecture.md",
    DOCS / "measurements.md",
    DOCS / "store.md",
    DOCS / "keys.md",
    DOCS / "reference" / "config.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_path_and_link_of_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|tests|docs|bench|projects)/[\w./-]+)`", text)
    missing = [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, fragment = target.partition("#")
        linked = page.parent / file if file else page
        if not linked.exists() or (fragment and fragment not in anchors(linked)):
            missing.append(target)
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Fragments of the headings of a page as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


# docs/keys.md and docs/reference/config.md


def key_rows() -> list[tuple[str, str]]:
    text = (DOCS / "keys.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| .{20,} \|$", text, flags=re.M)


def test_there_are_twenty_keys() -> None:
    assert len(key_rows()) == len({key for key, _ in key_rows()}) == 20


@pytest.mark.parametrize(("key", "example"), key_rows(), ids=[key for key, _ in key_rows()])
def test_the_example_of_a_key_is_right(key: str, example: str) -> None:
    data: Any = yaml.safe_load(example)
    assert data is not None
    for part in reversed(key.split(".")):
        data = {part: data}
    try:
        ProjectFile.model_validate(data)
    except ValidationError as error:
        # The other keys of these settings are left out, so `type` and required keys are missing.
        known = {"missing", "union_tag_not_found"}
        problems = [p for p in error.errors() if p["type"] not in known]
        assert problems == []


@pytest.mark.parametrize("key", [key for key, _ in key_rows()])
def test_a_key_exists(key: str) -> None:
    models = [ProjectFile]
    for part in key.split("."):
        if part == "NAME":
            continue
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        assert fields, f"{key}: {part} is no key"
        models = [inner for field in fields for inner in config_classes(field.annotation)]


def test_the_project_file_of_the_page_is_right(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n([\s\S]*?)```", (DOCS / "keys.md").read_text(encoding="utf-8"))
    assert block
    (tmp_path / "project.yaml").write_text(block[1], encoding="utf-8")
    assert set(open_project(tmp_path / "project.yaml").variants) == {"plain", "paraphrased"}


def test_the_reference_has_a_right_example_of_every_stage() -> None:
    text = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n([\s\S]*?)```", text)]
    for example in shown:
        ProjectFile.model_validate({"name": "example"} | example)
    stages = {key for section in SECTIONS for e in shown for key in e.get(section, {})}
    assert stages == {stage.name for stage in STAGES}


def test_the_reference_lists_every_key_once() -> None:
    """A settings class has one table; training stages list only what others lack."""
    text = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, flags=re.M)
    assert len(headings) == len(set(headings))
    rows = re.findall(r"^\| `(\w+)` \|", text, flags=re.M)
    classes: set[type[BaseModel]] = set()
    classes_of_rows: list[type[BaseModel]] = [TrainingConfig, TrainingKeys]
    waiting = [*classes_of_rows]
    top = [name for name in Project.model_fields if name not in SECTIONS]
    for name in (*top, *SECTIONS):
        models = config_classes(Project.model_fields[name].annotation)
        if name in SECTIONS:
            infos = [info for model in models for info in model.model_fields.values()]
            models = [inner for info in infos for inner in config_classes(info.annotation)]
        waiting += models
    while waiting:
        model = waiting.pop()
        if model not in classes:
            classes.add(model)
            for info in model.model_fields.values():
                waiting += config_classes(info.annotation)
    keys = list(top)
    for model in classes:
        inherits = model is not TrainingKeys and issubclass(model, TrainingKeys)
        above = takewhile(lambda part: part not in classes_of_rows, model.__mro__[1:])
        declared = {
            name for part in (model, *above) for name in vars(part).get("__annotations__", ())
        }
        own = declared if inherits else model.model_fields
        keys += [name for name in own if name != "type" and name in model.model_fields]
    assert sorted(rows) == sorted(keys)
