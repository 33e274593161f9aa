"""`jangin grade FILE`: any table of answers is graded and held against a person's verdicts."""

import json
import sys

import pytest

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
    assert "3 answers: 66.7 %" in out
    assert "1 of 2 wrong answers" in out
    assert "0 of 1 right answer" in out
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
    assert "refused" in out
    assert "1 row has no evidence" in out
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
