"""The laws of the code, as tests; every check is also shown a sample that breaks it."""

import ast
import dataclasses
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jangin.core.config import StageConfig
from jangin.core.stage import Stage
from jangin.pipeline.project import SECTIONS, ProjectFile
from jangin.pipeline.stages import STAGES

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
PACKAGE = "jangin"
FLOORS = ("core", "documents", "examples", "grading", "models", "pipeline", "serving")
HOMES = {
    "torch": "models",
    "transformers": "models",
    "peft": "models",
    "fastapi": "serving",
    "starlette": "serving",
    "uvicorn": "serving",
}
HEAVY = {
    *("torch", "transformers", "peft", "safetensors", "tokenizers", "numba", "numpy", "scipy"),
    *("polars", "pyarrow", "kiwipiepy", "pypdfium2", "PIL", "docx", "lxml", "jinja2", "aiohttp"),
    *("rapidfuzz", "json_repair", "fastapi", "starlette", "uvicorn"),
}
NEEDED_BY_A_PROJECT_FILE = {"numpy", "pyarrow"}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
TOP_MODULES = {name for name in FILES if name.count(".") == 1} - {f"{PACKAGE}.{f}" for f in FLOORS}


# The checks: each takes a module's name and text, and says what is wrong.


def imported(source):
    """Every dotted name that a text imports, wherever it stands, `import_module` included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or '.'}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            text = node.args[0] if node.args else None
            if name in ("import_module", "__import__") and isinstance(text, ast.Constant):
                yield str(text.value)


def floor(name):
    """Height of a module: -1 for the package itself, the CLI above every floor."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1] in FLOORS:
        return FLOORS.index(parts[1])
    return len(FLOORS) if ".".join(parts[:2]) in TOP_MODULES else -1


def downward_imports(name, source):
    return [
        f"{name} imports {target}, which stands on an upper floor"
        for target in imported(source)
        if target.split(".")[0] == PACKAGE and floor(target) > floor(name)
    ]


def relative_imports(name, source):
    return [
        f"{name}:{node.lineno} imports relatively"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def strangers(name, source):
    return [
        f"{name} imports {target}, which only {HOMES[target.split('.')[0]]} may"
        for target in imported(source)
        if target.split(".")[0] in HOMES
        and not name.startswith(f"{PACKAGE}.{HOMES[target.split('.')[0]]}.")
    ]


def long_files(name, source):
    lines = len(source.splitlines())
    return [f"{name} has {lines} lines"] if lines > MAX_FILE_LINES else []


def long_functions(name, source):
    return [
        f"{name}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]


def missing_docstrings(name, source):
    return [] if ast.get_docstring(ast.parse(source)) else [f"{name} does not say what it is for"]


def prints(name, source):
    return [
        f"{name}:{node.lineno} prints"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]


def import_cycles(sources):
    """Modules of {name: text} that import each other, directly or through others."""
    graph = {
        name: {
            target
            for dotted in imported(text)
            for target in (dotted, dotted.rpartition(".")[0])
            if target in sources and target != name
        }
        for name, text in sources.items()
    }
    while True:
        wanted = set().union(*graph.values())
        ends = {name for name, targets in graph.items() if not targets or name not in wanted}
        if not ends:
            return sorted(graph)
        graph = {name: targets - ends for name, targets in graph.items() if name not in ends}


def naming_faults(stages, sections, tests):
    """Where module, stage, project-file key, config class and test file have other names."""
    faults = []
    homes = {key: section for section, keys in sections.items() for key in keys}
    names = [stage.name for stage in stages]
    faults += [f"key {key} is no stage" for key in homes if key not in names]
    for stage in stages:
        section = homes.get(stage.name)
        if section is None:
            faults.append(f"stage {stage.name} has no key in the project file")
            continue
        module = importlib.import_module(f"{PACKAGE}.{section}.{stage.name}")
        if module.STAGE is not stage:
            faults.append(f"{module.__name__} does not hold the stage {stage.name}")
        class_name = f"{stage.name.title().replace('_', '')}Config"
        if not issubclass(getattr(module, class_name, object), StageConfig):
            faults.append(f"{module.__name__} has no {class_name}")
        if not (tests / section / f"test_{stage.name}.py").exists():
            faults.append(f"stage {stage.name} has no tests/{section}/test_{stage.name}.py")
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
    downward_imports,
    relative_imports,
    strangers,
    long_files,
    long_functions,
    missing_docstrings,
    prints,
)
KEYS = {section: ProjectFile.model_fields[section].annotation.model_fields for section in SECTIONS}


# The laws hold.


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_module_breaks(check):
    faults = [fault for name, path in FILES.items() for fault in check(name, path.read_text())]
    assert not faults, "\n".join(faults)


def test_the_folders_in_alphabetical_order_are_the_floors():
    folders = sorted(path.parent.name for path in (SOURCE / PACKAGE).glob("*/__init__.py"))
    assert folders == list(FLOORS)


def test_no_modules_import_each_other_in_a_circle():
    assert import_cycles({name: path.read_text() for name, path in FILES.items()}) == []


def test_every_stage_has_one_name_everywhere():
    assert naming_faults(STAGES, KEYS, TESTS) == []


def test_every_section_of_the_project_file_is_a_floor():
    assert set(SECTIONS) < set(FLOORS)
    assert list(SECTIONS) == sorted(SECTIONS)


def test_every_stage_reads_what_was_made_before_it():
    assert order_faults(STAGES) == []


def loaded_by(module):
    script = f"import sys, {module}; print(' '.join({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return HEAVY & set(done.stdout.split())


def test_importing_the_command_line_loads_nothing_heavy():
    assert loaded_by(f"{PACKAGE}.cli") == set()


def test_reading_a_project_file_loads_no_model_and_no_reader():
    assert loaded_by(f"{PACKAGE}.pipeline.project") <= NEEDED_BY_A_PROJECT_FILE


def test_what_is_heavy_would_be_seen():
    assert loaded_by(f"{PACKAGE}.core.table") == NEEDED_BY_A_PROJECT_FILE


# Every check sees a breach.

BREACHES = (
    (downward_imports, "jangin.core.a", "from jangin.examples import read"),
    (downward_imports, "jangin.core.a", "from jangin.examples.read import x"),
    (downward_imports, "jangin.grading.a", "def f():\n    import jangin.models.sft"),
    (downward_imports, "jangin.models.a", "from importlib import import_module as i\n"
     "import importlib\nx = importlib.import_module('jangin.serving.app')"),
    (downward_imports, "jangin.pipeline.a", "from jangin import cli"),
    (downward_imports, "jangin.core", "from jangin.documents.load import STAGE"),
    (downward_imports, "jangin", "from jangin.core import errors"),
    (relative_imports, "jangin.core.a", "from . import b"),
    (relative_imports, "jangin.core.a", "from .b import c"),
    (strangers, "jangin.examples.a", "import torch"),
    (strangers, "jangin.pipeline.a", "def f():\n    from torch.nn import Linear"),
    (strangers, "jangin.grading.a", "import transformers.utils as u"),
    (strangers, "jangin.cli", "from peft import LoraConfig"),
    (strangers, "jangin.models.a", "import fastapi"),
    (strangers, "jangin.pipeline.a", "from starlette.routing import Route"),
    (strangers, "jangin.core.a", "import uvicorn"),
    (long_files, "jangin.core.a", "x = 1\n" * (MAX_FILE_LINES + 1)),
    (long_functions, "jangin.core.a", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    (long_functions, "jangin.core.a", "class A:\n  async def f():\n" + "    x\n" * 60),
    (missing_docstrings, "jangin.core.a", "x = 1\n'not a docstring'"),
    (prints, "jangin.core.a", "def f():\n    print('hello')"),
)  # fmt: skip
KEPT = (
    (downward_imports, "jangin.models.a", "from jangin.core.types import Message\nimport json"),
    (downward_imports, "jangin.pipeline.a", "from jangin import __version__"),
    (downward_imports, "jangin.cli", "from jangin.serving.app import app"),
    (strangers, "jangin.models.a", "import torch, peft"),
    (strangers, "jangin.serving.a", "import fastapi"),
    (long_files, "jangin.core.a", "x = 1\n" * MAX_FILE_LINES),
    (long_functions, "jangin.core.a", "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)),
    (missing_docstrings, "jangin.core.a", '"""What."""'),
    (prints, "jangin.core.a", "console.print('hello')"),
)


@pytest.mark.parametrize(("check", "name", "source"), BREACHES)
def test_a_breach_is_seen(check, name, source):
    assert len(check(name, source)) == 1


@pytest.mark.parametrize(("check", "name", "source"), KEPT)
def test_what_keeps_the_law_is_let_be(check, name, source):
    assert check(name, source) == []


def test_a_circle_is_seen_even_through_a_third_module_and_lazily():
    sources = {
        "jangin.core.a": "from jangin.core.b import x",
        "jangin.core.b": "from jangin.core import c",
        "jangin.core.c": "def f():\n    import jangin.core.a",
        "jangin.core.d": "from jangin.core.a import y",
    }
    assert import_cycles(sources) == ["jangin.core.a", "jangin.core.b", "jangin.core.c"]
    sources["jangin.core.c"] = ""
    assert import_cycles(sources) == []


def new_faults(first):
    """What another first stage breaks that was right before."""
    known = naming_faults(STAGES, KEYS, TESTS)
    found = naming_faults((first, *STAGES[1:]), KEYS, TESTS)
    return [fault for fault in found if fault not in known]


def test_another_name_of_a_stage_is_seen():
    lode = dataclasses.replace(STAGES[0], name="lode")
    assert new_faults(lode) == [
        "key load is no stage",
        "stage lode has no key in the project file",
    ]


def test_a_stage_that_its_module_does_not_hold_is_seen():
    copy = dataclasses.replace(STAGES[0])
    assert new_faults(copy) == ["jangin.documents.load does not hold the stage load"]


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
    sections = {"core": {"toy": None}}
    assert naming_faults((toy,), sections, tmp_path) == ["jangin.core.toy has no ToyConfig"]
    module.ToyConfig = StageConfig
    assert naming_faults((toy,), sections, tmp_path) == []


def test_a_stage_before_its_inputs_is_seen():
    assert order_faults(tuple(reversed(STAGES)))
