"""Rows of common data sets: which columns they use, and that no column vanishes in silence."""

import json

import pytest

from jangin.prepare.command import output_files, propose, write_files
from jangin.prepare.options import PrepareOptions


@pytest.fixture
def prepared(tmp_path):
    """Prepare rows with every suggestion accepted: (training lines, printed lines)."""

    def call(rows, name="rows.jsonl", **options):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        said = []
        options = PrepareOptions(validation=0, test=0, **options)
        plan, records = propose(path, options, lambda _: True, said.append)
        write_files(path, plan, records, tmp_path, overwrite=True)
        lines = output_files(path, tmp_path)["train"].read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines], said

    return call


FRUIT = [
    {"instruction": "Categorize the fruit.", "input": "Banana", "output": "Non-citrus.", "n": "1"},
    {"instruction": "[1, 2]", "input": "  ", "output": "Citrus."},
    {"instruction": "과일을 하나 고르시오.", "output": "사과"},
]


def texts(line):
    return [(message["role"], message["content"]) for message in line["messages"]]


def test_an_instruction_and_its_input_are_one_question(prepared):
    lines, said = prepared(FRUIT)
    assert [texts(line) for line in lines] == [
        [("user", "Categorize the fruit.\n\nBanana"), ("assistant", "Non-citrus.")],
        [("user", "[1, 2]"), ("assistant", "Citrus.")],
        [("user", "과일을 하나 고르시오."), ("assistant", "사과")],
    ]
    assert [line for line in said if line.startswith("left out: n.")]


def test_columns_that_the_user_does_not_name_are_named(prepared):
    lines, said = prepared(FRUIT, prompt="instruction", completion="output")
    assert texts(lines[0])[0] == ("user", "Categorize the fruit.")
    assert [line for line in said if line.startswith("left out: input, n.")]


def test_nothing_is_named_where_every_column_is_used(prepared):
    _, said = prepared([{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}])
    assert not [line for line in said if line.startswith("left out")]


def test_a_system_column_becomes_the_system_message(prepared):
    rows = [
        {"system_prompt": "Be brief.", "question": "a", "answer": "b"},
        {"system_prompt": "", "question": "c", "answer": "d"},
    ]
    lines, said = prepared(rows)
    assert [texts(line)[0] for line in lines] == [("system", "Be brief."), ("user", "c")]
    assert not [line for line in said if line.startswith("left out")]
    assert texts(prepared(rows, system="Answer.")[0][0])[0] == ("system", "Answer.")


def test_show_data_describes_the_same_questions_and_names_the_other_columns(tmp_path, jangin):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in FRUIT))
    code, printed = jangin("show", "data", path, "--language", "en", "-o", tmp_path / "page.html")
    assert code == 0
    assert "Columns that are left out: n" in printed
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Columns that are left out: n" in page
    assert "Banana" in page
