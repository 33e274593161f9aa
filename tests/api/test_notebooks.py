"""The notebooks run from top to bottom, in order, and are kept without outputs."""

import ast
import shutil
from pathlib import Path

import nbformat
import pytest

HANDBOOK = Path(__file__).parents[2] / "projects" / "handbook"
NOTEBOOKS = sorted((HANDBOOK / "notebooks").glob("*.ipynb"))


SHORT = 'keys["models"]["evaluate"] = {"max_new_tokens": 8}'
"""Long answers of a model that has learned nothing prove nothing."""


def code_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_notebooks_are_valid_and_have_no_outputs():
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        nbformat.validate(nbformat.read(path, as_version=4))
        assert all(not cell.outputs and cell.execution_count is None for cell in code_of(path))
        assert path.stat().st_size < 10_000


def run_cell(source, names):
    """Run a cell; returns the value of its last line, as a notebook shows it."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.mark.long
@pytest.mark.slow
def test_every_cell_runs_in_the_order_of_the_notebooks(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "handbook"
    shutil.copytree(HANDBOOK, folder, ignore=shutil.ignore_patterns("store", "*.pdf", "*.docx"))
    monkeypatch.chdir(folder / "notebooks")
    shown = []
    for path in NOTEBOOKS:
        names = {}
        for cell in code_of(path):
            value = run_cell(cell.source.replace("= STEPS", f"= 2\n{SHORT}"), names)
            if value is not None and hasattr(value, "_repr_html_"):
                shown.append(value._repr_html_())
    assert any("held_out_paraphrases" in html for html in shown)
    assert any("7층입니다." in html for html in shown)
    assert "paraphrased |" in capsys.readouterr().out
