"""The rules of the code, as tests; every check is also shown a sample that breaks it."""

import ast
import dataclasses
import functools
import importlib
import os
import re
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import pytest

from jangin.core.config import StageConfig
from jangin.core.stage import Stage
from jangin.project.file import SECTIONS, ProjectFile
from jangin.project.stages import STAGES

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SOURCE = ROOT / "src"
PACKAGE = "jangin"
ROOMS = (
    *("core", "text", "llm", "documents", "prepare", "examples", "metrics", "models"),
    *("inference", "evaluation", "training", "project", "views", "report", "serving", "api"),
    "cli",
)
"""Folders of the package from the bottom up: imports run down this list only."""
STRANGERS_TO_EACH_OTHER = {("evaluation", "training"), ("training", "evaluation")}
"""The exam never depends on the engine, nor the engine on the exam."""
MODEL_ROOMS = ("models", "inference", "evaluation", "training")
HOMES = {
    **dict.fromkeys(("torch", "transformers", "peft"), MODEL_ROOMS),
    **dict.fromkeys(("numba", "llvmlite"), ("text", "metrics", "training")),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn"), ("serving",)),
    "ray": ("core", "training"),
    **dict.fromkeys(("sqlalchemy", "alembic", "prometheus_client"), ("serving",)),
    "typer": ("cli",),
}
"""{library: the rooms that may import it}."""
DOORS = {
    f"{PACKAGE}.training.kernels": {
        *("CastCache", "load_kernels", "tune_malloc", "llama_hidden", "release_freed_memory"),
        *("Arena", "DirectGradients", "HeapGrowth", "zeros_like"),
        *("add_grad_weight", "cast", "grad_input", "matmul_wide", "store"),
        *("is_fused", "log_probs", "log_probs_backward"),
    },
}
"""{folder: the names that code outside it may import, all from its `__init__`}."""
HEAVY = {
    *("torch", "transformers", "peft", "safetensors", "tokenizers", "numba", "numpy", "scipy"),
    *("polars", "pyarrow", "kiwipiepy", "pypdfium2", "PIL", "docx", "lxml", "jinja2", "aiohttp"),
    *("rapidfuzz", "json_repair", "fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic"),
    *("prometheus_client", "psycopg", "fsspec", "ray"),
}
NEEDED_BY_A_PROJECT_FILE = {"numpy", "pyarrow"}
NEEDED_BY_MODELS = {"torch", "transformers", "peft", "safetensors", "tokenizers", "numba", "scipy"}
NEEDED_BY_READERS = {"kiwipiepy", "pypdfium2", "PIL", "docx", "lxml"}
MAX_FUNCTION_LINES, MAX_DEPTH = 60, 2
PAGE_ROOMS = ("review", "data", "runs", "compare", "playground", "jobs")
DEEP_FOLDERS = {
    f"{PACKAGE}.training.kernels.numba",
    f"{PACKAGE}.serving.state.migrations",
    *(f"{PACKAGE}.serving.pages.{room}" for room in PAGE_ROOMS),
}
VAGUE = {"found", "made", "place", "asked"}
SAME_NAMES = {
    **dict.fromkeys(("Plan", "Project", "Results"), "a user of Python gets the one of `api`"),
    **dict.fromkeys(("Answer", "Comparison", "Problem", "Query", "Spending"), "what a page shows"),
    "Local": "a word of project files, and the executor that Ray's stands beside",
    "Verdict": "replies of three judges, whose names are in the schemas that teachers get",
}
"""{public class name that stands for several things: why}; it may only shrink."""
STORED_FIELDS = {
    ("jangin.core.records", "place"),
    ("jangin.documents.search", "found"),
    ("jangin.examples.read", "place"),
}
"""Fields of records: columns of artifacts, which keep their names."""
SUPPRESSION = re.compile(
    r"#\s(?:noqa(?::\s[A-Z]+\d+(?:,\s[A-Z]+\d+)*)?|type:\signore(?:\[[a-z, -]+\])?)"
    r"(?:\s*#\snoqa:\s[A-Z0-9, ]+\d)?(.*)$"
)
"""A suppression, or one of mypy and one of ruff, and what follows."""
NOT_COUNTED = {"__pycache__", ".venvs", "out"}
"""Entries of a folder that programs write; the last two are of benches."""

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
FOLDERS = sorted(
    path for path in (SOURCE / PACKAGE).rglob("*") if path.is_dir() and path.name != "__pycache__"
)


# The checks: each takes a module's name and text, and says what is wrong.


@functools.cache
def nodes_of(source):
    """Every node of a text's syntax tree, the root first; they are shared and not to be changed."""
    return tuple(ast.walk(ast.parse(source)))


@pytest.fixture(scope="module", autouse=True)
def _forget_the_trees():
    """Each garbage collection of the tests after these would look at a million nodes."""
    yield
    nodes_of.cache_clear()


def imported(source):
    """Every dotted name that a text imports, wherever it is, `import_module` included."""
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or '.'}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            text = node.args[0] if node.args else None
            if name in ("import_module", "__import__") and isinstance(text, ast.Constant):
                yield str(text.value)


def room(name):
    """The room of a module; "" for the package itself and what is not ours."""
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] in ROOMS else ""


def at_run_time(source):
    """A text without what only type checkers read, the names of the package's front door."""
    tree = ast.parse(source)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
    ]
    return ast.unparse(tree)


def upward_imports(name, source):
    height = ROOMS.index(room(name)) if room(name) else -1
    source = at_run_time(source) if name == PACKAGE else source
    return [
        f"{name} imports {target}, which is in a room above"
        for target in imported(source)
        if room(target) and ROOMS.index(room(target)) > height
    ]


def forbidden_neighbours(name, source):
    return [
        f"{name} imports {target}: {room(name)} and {room(target)} are independent"
        for target in imported(source)
        if (room(name), room(target)) in STRANGERS_TO_EACH_OTHER
    ]


def broken_doors(name, source):
    return [
        f"{name} imports {target}, which is behind the door of {door}"
        for target in imported(source)
        for door, names in DOORS.items()
        if target.startswith(f"{door}.")
        and not name.startswith(door)
        and target.removeprefix(f"{door}.") not in names
    ]


def relative_imports(name, source):
    return [
        f"{name}:{node.lineno} imports relatively"
        for node in nodes_of(source)
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def strangers(name, source):
    return [
        f"{name} imports {target}, which only {', '.join(HOMES[target.split('.')[0]])} may"
        for target in imported(source)
        if target.split(".")[0] in HOMES and room(name) not in HOMES[target.split(".")[0]]
    ]


def long_functions(name, source):
    return [
        f"{name}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in nodes_of(source)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]


def missing_docstrings(name, source):
    return [] if ast.get_docstring(nodes_of(source)[0]) else [f"{name} does not say what it is for"]


def prints(name, source):
    return [
        f"{name}:{node.lineno} prints"
        for node in nodes_of(source)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]


def bound_names(source):
    """(name, line) of everything that a text gives a name to."""
    for node in nodes_of(source):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def vague_names(name, source):
    return [
        f"{name}:{line} calls something `{word}`: say what it is (matches, row, index, path, ...)"
        for word, line in bound_names(source)
        if word in VAGUE and (name, word) not in STORED_FIELDS
    ]


def graph_of(sources):
    """{module: modules that it imports} of {name: text}."""

    def module(target):
        return target if target in sources else target.rpartition(".")[0]

    return {
        name: {module(target) for target in imported(text)} & set(sources) - {name}
        for name, text in (
            (name, at_run_time(text) if name == PACKAGE else text) for name, text in sources.items()
        )
    }


def cycles(graph):
    """Nodes of {node: targets} that reach themselves, directly or through others."""
    while True:
        wanted = set().union(*graph.values())
        ends = {name for name, targets in graph.items() if not targets or name not in wanted}
        if not ends:
            return sorted(graph)
        graph = {name: targets - ends for name, targets in graph.items() if name not in ends}


def folder_graph(sources, folders):
    """{folder: folders whose modules its own modules import}; a file counts for its folder only."""

    def home(name):
        return name if name in folders else name.rpartition(".")[0]

    graph = {folder: set() for folder in folders}
    for name, targets in graph_of(sources).items():
        if home(name) in graph:
            graph[home(name)] |= {home(target) for target in targets} & folders - {home(name)}
    return graph


def unexplained(text):
    """Numbers of the lines that suppress a check of ruff or mypy without a reason after it."""
    lines = ((number, SUPPRESSION.search(line)) for number, line in enumerate(text.split("\n"), 1))
    return [number for number, match in lines if match and not re.search(r"\w", match[1])]


def repeated_names(sources):
    """Names of public classes that {module: text} defines more than once."""
    names = Counter(
        node.name
        for source in sources.values()
        for node in nodes_of(source)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return {name for name, count in names.items() if count > 1}


def too_deep(folders):
    return [
        f"{folder} is {folder.count('.')} deep"
        for folder in folders
        if folder.count(".") > MAX_DEPTH and folder not in DEEP_FOLDERS
    ]


def stage_modules():
    """{stage: module that holds it}, from the imports of the table of stages."""
    table = ast.parse((SOURCE / PACKAGE / "project" / "stages.py").read_text(encoding="utf-8"))
    modules = [
        f"{node.module}.{alias.name}"
        for node in table.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in FILES
    ]
    return {id(importlib.import_module(name).STAGE): name for name in modules}


def naming_faults(stages, sections, tests, modules=None):
    """Where module, stage, project-file key, config class and test file have other names.

    A stage is a file named by its key, at the top of its room.
    """
    faults = []
    modules = stage_modules() if modules is None else modules
    keys = {key for names in sections.values() for key in names}
    faults += [f"key {key} is no stage" for key in keys if key not in {s.name for s in stages}]
    for stage in stages:
        if stage.name not in keys:
            faults.append(f"stage {stage.name} has no key in the project file")
        name = modules.get(id(stage))
        if name is None or name.split(".")[2:] != [stage.name]:
            faults.append(f"stage {stage.name} is no file of this name at the top of a room")
            continue
        class_name = f"{stage.name.title().replace('_', '')}Config"
        if not issubclass(getattr(sys.modules[name], class_name, object), StageConfig):
            faults.append(f"{name} has no {class_name}")
        if not (tests / room(name) / f"test_{stage.name}.py").exists():
            faults.append(f"stage {stage.name} has no tests/{room(name)}/test_{stage.name}.py")
    return faults


def order_faults(stages):
    """Stages that read what no stage before them makes."""
    made = set()
    faults = []
    for stage in stages:
        faults += [f"{stage.name} reads {kind} too early" for kind in set(stage.reads) - made]
        made.update(stage.makes)
    return faults


CHECKS = (
    upward_imports,
    forbidden_neighbours,
    broken_doors,
    relative_imports,
    strangers,
    long_functions,
    missing_docstrings,
    prints,
    vague_names,
)
KEYS = {section: ProjectFile.model_fields[section].annotation.model_fields for section in SECTIONS}


def dotted(path):
    return ".".join(path.relative_to(SOURCE).parts)


# The rules hold.


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_module_breaks(check):
    faults = [fault for name, path in FILES.items() for fault in check(name, path.read_text())]
    assert not faults, "\n".join(faults)


def test_every_folder_of_the_package_is_a_room_of_the_list():
    folders = {path.name for path in FOLDERS if path.parent.name == PACKAGE}
    assert folders == set(ROOMS)


def test_the_list_of_rooms_is_that_of_the_package_docstring():
    text = ast.get_docstring(ast.parse(FILES[PACKAGE].read_text()))
    shown = " ".join(text.split(":", maxsplit=2)[2].split()) if text.count(":") > 1 else ""
    assert [word.strip(" .") for word in shown.split(",")] == list(ROOMS)


def test_no_modules_import_each_other_in_a_circle():
    assert cycles(graph_of({name: path.read_text() for name, path in FILES.items()})) == []


def test_no_folders_import_each_other_in_a_circle():
    sources = {name: path.read_text() for name, path in FILES.items()}
    assert cycles(folder_graph(sources, {dotted(path) for path in FOLDERS})) == []


def folders_of_code():
    """Every folder of the package, of its tests and of the benches."""
    for top in ("src", "tests", "bench"):
        for folder, names, _ in os.walk(ROOT / top):
            names[:] = [name for name in names if name not in NOT_COUNTED]
            yield Path(folder)


def test_every_suppression_has_a_reason():
    paths = [path for folder in folders_of_code() for path in sorted(folder.glob("*.py"))]
    faults = [
        f"{path.relative_to(ROOT)}:{number} suppresses a check without a reason after it"
        for path in paths
        for number in unexplained(path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_no_folder_is_too_deep():
    assert too_deep([dotted(path) for path in FOLDERS if any(path.glob("*.py"))]) == []


def test_a_public_class_name_stands_for_one_thing():
    texts = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    assert repeated_names(texts) <= SAME_NAMES.keys()


def walks():
    """Modules of each column of the architecture page's table of walks, first to last."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("## Three walks", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    for column in zip(*rows, strict=True):
        paths = [re.search(r"`([\w/]+)\.py`", cell) for cell in column]
        yield [f"{PACKAGE}.{path[1].replace('/', '.')}" for path in paths if path]


def strays(modules, graph):
    """Modules of a walk that no module before them imports; stages follow one another."""
    stages = {*stage_modules().values()}
    return [
        module
        for index, module in enumerate(modules[1:], 1)
        if module not in stages
        and not any({module, *doors_of(module)} & graph[name] for name in modules[:index])
    ]


def doors_of(module):
    return {module.rpartition(".")[0]} & set(DOORS)


def test_the_walks_of_the_architecture_page_are_ways_of_the_code():
    graph = graph_of({name: path.read_text() for name, path in FILES.items()})
    document, row, request = walks()
    assert [strays(walk, graph) for walk in (document, row, request)] == [[], [], []]
    assert min(map(len, (document, row, request))) >= 8
    assert strays([*request, "jangin.text.pii"], graph) == ["jangin.text.pii"]


def test_every_stage_has_one_name_everywhere():
    assert naming_faults(STAGES, KEYS, TESTS) == []


def test_every_stage_reads_what_was_made_before_it():
    assert order_faults(STAGES) == []


def test_the_tests_have_the_same_rooms():
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders - {"system"} == set(ROOMS)


def loaded_by(module):
    script = f"import sys, {module}; print(' '.join({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return HEAVY & set(done.stdout.split())


def test_importing_the_package_loads_nothing_but_the_package():
    script = "import sys; before = {*sys.modules}; import jangin; print({*sys.modules} - before)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'jangin'}"


def test_importing_the_command_line_loads_nothing_heavy():
    assert loaded_by(f"{PACKAGE}.cli.main") == set()


@pytest.mark.slow
def test_reading_a_project_file_loads_no_model_and_no_reader():
    assert loaded_by(f"{PACKAGE}.project.file") <= NEEDED_BY_A_PROJECT_FILE


@pytest.mark.slow
def test_the_server_starts_without_models_readers_and_tables():
    """Torch alone is 2 CPU-seconds, and only a model that is loaded needs it."""
    needed_later = NEEDED_BY_MODELS | NEEDED_BY_READERS | {"polars", "aiohttp"}
    assert loaded_by(f"{PACKAGE}.serving.app") & needed_later == set()


@pytest.mark.slow
def test_what_is_heavy_would_be_seen():
    assert loaded_by(f"{PACKAGE}.core.parquet") == NEEDED_BY_A_PROJECT_FILE


# Every check sees a breach.

BREACHES = (
    (upward_imports, "jangin.core.a", "from jangin.examples import read"),
    (upward_imports, "jangin.core.a", "from jangin.examples.read import x"),
    (upward_imports, "jangin.metrics.a", "def f():\n    import jangin.models.catalog"),
    (upward_imports, "jangin.models.a", "from importlib import import_module as i\n"
     "import importlib\nx = importlib.import_module('jangin.serving.app')"),
    (upward_imports, "jangin.project.a", "from jangin.cli import main"),
    (upward_imports, "jangin.core", "from jangin.documents.load import STAGE"),
    (upward_imports, "jangin", "from jangin.core import errors"),
    (upward_imports, "jangin.text.a", "from jangin.llm import ask"),
    (upward_imports, "jangin.prepare.engine.a", "from jangin.project.file import Project"),
    (upward_imports, "jangin.evaluation.a", "from jangin.training.sft import STAGE"),
    (forbidden_neighbours, "jangin.training.a", "from jangin.evaluation.tasks.table import TASKS"),
    (forbidden_neighbours, "jangin.evaluation.a", "def f():\n    import jangin.training.sft"),
    (broken_doors, "jangin.training.loop.a", "from jangin.training.kernels.llama import CastCache"),
    (broken_doors, "jangin.training.loop.a", "from jangin.training.kernels import matmul"),
    (broken_doors, "jangin.training.a", "def f():\n    import jangin.training.kernels.numba.tile"),
    (relative_imports, "jangin.core.a", "from . import b"),
    (relative_imports, "jangin.core.a", "from .b import c"),
    (strangers, "jangin.examples.a", "import torch"),
    (strangers, "jangin.project.a", "def f():\n    from torch.nn import Linear"),
    (strangers, "jangin.metrics.a", "import transformers.utils as u"),
    (strangers, "jangin.cli.main", "from peft import LoraConfig"),
    (strangers, "jangin.models.a", "import fastapi"),
    (strangers, "jangin.project.a", "from starlette.routing import Route"),
    (strangers, "jangin.core.a", "import uvicorn"),
    (strangers, "jangin.report.a", "from sqlalchemy.orm import Session"),
    (strangers, "jangin.examples.a", "from numba import njit"),
    (strangers, "jangin.report.a", "import typer"),
    (long_functions, "jangin.core.a", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    (long_functions, "jangin.core.a", "class A:\n  async def f():\n" + "    x\n" * 60),
    (missing_docstrings, "jangin.core.a", "x = 1\n'not a docstring'"),
    (prints, "jangin.core.a", "def f():\n    print('hello')"),
    (vague_names, "jangin.core.a", "found = 1"),
    (vague_names, "jangin.core.a", "def f(asked): ..."),
    (vague_names, "jangin.core.a", "class A:\n    place: int"),
    (vague_names, "jangin.core.a", "for made, row in rows: ..."),
    (vague_names, "jangin.core.a", "def place(): ..."),
    (vague_names, "jangin.core.a", "self.found = 1"),
)  # fmt: skip
KEPT = (
    (upward_imports, "jangin.models.a", "from jangin.core.records import Message\nimport json"),
    (upward_imports, "jangin.project.a", "from jangin import __version__"),
    (upward_imports, "jangin", "if TYPE_CHECKING:\n    from jangin.api.project import open"),
    (upward_imports, "jangin.cli.main", "from jangin.serving.app import app"),
    (upward_imports, "jangin.documents.readers.a", "from jangin.text.normalize import nfc"),
    (forbidden_neighbours, "jangin.training.a", "from jangin.inference.generate import generate"),
    (broken_doors, "jangin.training.loop.a", "from jangin.training.kernels import CastCache"),
    (broken_doors, "jangin.training.kernels.a", "from jangin.training.kernels.lora import down"),
    (strangers, "jangin.models.a", "import torch, peft"),
    (strangers, "jangin.serving.a", "import fastapi"),
    (strangers, "jangin.text.dedup.a", "from numba import njit"),
    (long_functions, "jangin.core.a", "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)),
    (missing_docstrings, "jangin.core.a", '"""What."""'),
    (prints, "jangin.core.a", "console.print('hello')"),
    (vague_names, "jangin.core.a", "matches = record.found"),
    (vague_names, "jangin.core.records", "class Unread:\n    place: int"),
)


@pytest.mark.parametrize(("check", "name", "source"), BREACHES)
def test_a_breach_is_seen(check, name, source):
    assert len(check(name, source)) == 1


@pytest.mark.parametrize(("check", "name", "source"), KEPT)
def test_what_keeps_the_rule_passes(check, name, source):
    assert check(name, source) == []


def test_a_circle_is_seen_even_through_a_third_module_and_lazily():
    sources = {
        "jangin.core.a": "from jangin.core.b import x",
        "jangin.core.b": "from jangin.core import c",
        "jangin.core.c": "def f():\n    import jangin.core.a",
        "jangin.core.d": "from jangin.core.a import y",
    }
    assert cycles(graph_of(sources)) == ["jangin.core.a", "jangin.core.b", "jangin.core.c"]
    sources["jangin.core.c"] = ""
    assert cycles(graph_of(sources)) == []


def test_a_circle_of_folders_is_seen_where_no_module_is_in_a_circle():
    folders = {"jangin.text", "jangin.text.dedup"}
    sources = {
        "jangin.text.a": "from jangin.text.dedup.b import x",
        "jangin.text.dedup.b": "",
        "jangin.text.dedup.c": "from jangin.text.d import y",
        "jangin.text.d": "",
    }
    assert cycles(graph_of(sources)) == []
    assert cycles(folder_graph(sources, folders)) == ["jangin.text", "jangin.text.dedup"]
    del sources["jangin.text.dedup.c"]
    assert cycles(folder_graph(sources, folders)) == []


@pytest.mark.parametrize(
    ("line", "is_fault"),
    [
        ("import torch  # noqa: F401", True),
        ("x = f()  # type: ignore[arg-type]", True),
        ("x = f()  # type: ignore[arg-type]  # noqa: S101, E501", True),
        ("x = f()  # noqa", True),
        ("import torch  # noqa: F401  a fixture", False),
        ("x = f()  # type: ignore[arg-type]  # untyped there", False),
        ("x = f()  # type: ignore[override]  # noqa: ARG002  no closures", False),
        ("x = 1  # plain", False),
    ],
)
def test_a_suppression_without_a_reason_is_seen(line, is_fault):
    assert unexplained(f"y = 2\n{line}\n") == ([2] if is_fault else [])


def test_a_deep_folder_is_seen():
    assert too_deep(["jangin.training.kernels", "jangin.training.kernels.numba"]) == []
    assert too_deep(["jangin.training.loop.parts"]) == ["jangin.training.loop.parts is 3 deep"]


def test_a_class_name_of_two_things_is_seen():
    both = {
        "a": "class Row:\n    pass\nclass _Cell:\n    pass",
        "b": "class Row:\n    class _Cell: ...",
    }
    assert repeated_names(both) == {"Row"}
    assert repeated_names({"a": both["a"]}) == set()


def new_faults(first, modules):
    """What another first stage breaks that was right before."""
    known = naming_faults(STAGES, KEYS, TESTS)
    faults = naming_faults((first, *STAGES[1:]), KEYS, TESTS, stage_modules() | modules)
    return [fault for fault in faults if fault not in known]


def test_another_name_of_a_stage_is_seen():
    lode = dataclasses.replace(STAGES[0], name="lode")
    assert new_faults(lode, {id(lode): "jangin.documents.load"}) == [
        "key load is no stage",
        "stage lode has no key in the project file",
        "stage lode is no file of this name at the top of a room",
    ]


def test_a_stage_in_a_sub_room_is_seen():
    fault = "stage load is no file of this name at the top of a room"
    copy = dataclasses.replace(STAGES[0])
    assert new_faults(copy, {id(copy): "jangin.documents.readers.load"}) == [fault]
    assert new_faults(copy, {}) == [fault]


def test_a_stage_without_a_test_file_is_seen(tmp_path):
    faults = naming_faults(STAGES, KEYS, tmp_path)
    assert len(faults) == len(STAGES)
    assert "stage curate has no tests/examples/test_curate.py" in faults


def test_a_config_class_of_another_name_is_seen(monkeypatch, tmp_path):
    toy = Stage(name="toy", version=1, reads=(), makes=(), run=lambda _context: None)
    module = types.ModuleType("jangin.core.toy")
    module.STAGE, module.ToysConfig = toy, StageConfig
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "test_toy.py").touch()
    given = ((toy,), {"core": {"toy": None}}, tmp_path, {id(toy): module.__name__})
    assert naming_faults(*given) == ["jangin.core.toy has no ToyConfig"]
    module.ToyConfig = StageConfig
    assert naming_faults(*given) == []


def test_a_stage_before_its_inputs_is_seen():
    assert order_faults(tuple(reversed(STAGES)))
