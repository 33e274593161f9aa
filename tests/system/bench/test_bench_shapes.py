"""The bench of row forms at its smallest size: no row and no byte of an answer is lost."""

import importlib.util
from pathlib import Path

import pytest

MAIN = Path(__file__).resolve().parents[3] / "bench" / "shapes" / "__main__.py"
SPEC = importlib.util.spec_from_file_location("shapes_bench", MAIN)
assert SPEC is not None
assert SPEC.loader is not None
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)

pytestmark = pytest.mark.slow  # a bench


@pytest.mark.parametrize("form", bench.FORMS.values(), ids=list(bench.FORMS))
def test_rows_in_are_rows_out_and_rows_named_with_every_answer_as_it_was(form, tmp_path):
    result = bench.measure(form, 50, tmp_path)
    assert result["faults"] == []
    assert result["lines"] > 0
    assert result["aside"] > 0


def test_a_form_that_loses_an_answer_fails(tmp_path):
    loses = bench.Form(lambda e: {"prompt": e.turns[-1], "completion": e.good}, bench.instruction)
    assert bench.measure(loses, 50, tmp_path)["faults"]


def test_one_text_a_line_is_refused(tmp_path):
    assert "one text a row" in bench.refusal(tmp_path)
