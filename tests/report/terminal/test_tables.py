"""Tables of the terminal: what they say where a figure rests on little, or is not known."""

import io
import re

from rich.console import Console

from jangin.project.tables import KIND_COLUMNS
from jangin.report.terminal.tables import comparison_table, effort_table, result_table, rows_table


def shown(table, width=160):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def result(system, unparsable, measure="absolute_error", score=198.7):
    return {
        "evidence_set": "test", "variant": "main", "system": system, "n": 100, "right": 0.5,
        "right_low": 0.4, "right_high": 0.6, "measure": measure, "score": score,
        "unparsable": unparsable, "p_value": None,
    }  # fmt: skip


def line_of(text, word):
    return next(line for line in text.splitlines() if word in line)


def test_a_mean_error_over_few_answers_says_of_how_many_and_those_without_a_number_are_counted():
    text = shown(result_table([result("tuned", 40), result("forest", 10), result("random", 0)]))
    assert "no number" in text
    assert "198.70 (of 60 answers)" in line_of(text, "tuned")
    assert "│        40 │" in line_of(text, "tuned")
    assert "answers)" not in line_of(text, "forest")
    assert "│        10 │" in line_of(text, "forest")
    silent = shown(result_table([result("nobody", 100, score=None)]))
    assert re.search(r"│ +- │ +100 │", line_of(silent, "nobody"))


def test_labels_that_could_not_be_read_have_a_column_and_free_answers_have_none():
    assert "no label" in shown(result_table([result("tuned", 3, "closeness", 0.5)]))
    answers = shown(result_table([result("tuned", 0, "character_f1", 0.5)]))
    assert "no label" not in answers
    assert "no number" not in answers


def test_a_p_value_names_the_system_that_it_compares_with():
    alone = result("base", 0)
    tuned, forest = (result(name, 0) | {"p_value": 0.25} for name in ("tuned", "forest"))
    with_base = shown(result_table([alone, tuned | {"p_against": "base"}]))
    assert "p vs base" in with_base
    without = shown(result_table([result("tuned", 0), forest | {"p_against": "tuned"}]))
    assert "p vs tuned" in without
    both = shown(result_table([tuned | {"p_against": "base"}, forest | {"p_against": "tuned"}]))
    assert "0.2500 vs base" in line_of(both, "tuned")
    assert "0.2500 vs tuned" in line_of(both, "forest")


def test_compared_variants_get_the_same_warning():
    row = result("tuned", 40) | {"p_holm": 0.5, "p_value": 0.4}
    assert "198.70 (of 60 answers)" in shown(comparison_table([row]))


def test_what_a_variant_took_stands_once_however_many_evidence_sets_it_has():
    row = {
        "variant": "main", "seconds": 61.4, "cost": "price unknown (calls: 9)", "model_calls": 9,
        "steps": 120, "trained_tokens": 45_000, "train_loss": None, "valid_loss": 1.25,
    }  # fmt: skip
    text = shown(effort_table([row | {"evidence_set": name} for name in ("test", "seen")]))
    (line,) = [line for line in text.splitlines() if "main" in line]
    for figure in ("61", "9 calls", "price unknown (calls: 9)", "120", "45,000", "1.250"):
        assert figure in line


COMPARED = [
    {name: "held_out_paraphrases" if name == "evidence_set" else number for name in
     KIND_COLUMNS["comparisons"]}
    for number in range(3)
]  # fmt: skip


def test_no_head_of_a_table_is_ever_cut_however_narrow_the_terminal():
    for width in (60, 80, 100, 120, 160):
        text = shown(rows_table("comparisons", COMPARED, 9, width), width)
        words = text.replace("┃", " ").replace("│", " ").split()
        for name in KIND_COLUMNS["comparisons"]:
            assert words.count(name) in (1, 3), (name, width)
        assert "comparisons: 3 of 9" in text


def test_a_wide_terminal_shows_columns_and_a_narrow_one_a_list_with_every_value():
    assert "┃ evidence_set " in shown(rows_table("c", COMPARED, 3, 120), 120)
    title = "comparisons of evaluate (a_variant_with_a_name)"
    lines = shown(rows_table(title, COMPARED, 3, 80), 80).splitlines()
    assert lines[0].strip() == f"{title}: 3 of 3"
    assert [line.split() for line in lines if line.startswith("p_value")] == [
        ["p_value", "0"], ["p_value", "1"], ["p_value", "2"],
    ]  # fmt: skip
    assert "no rows" in shown(rows_table("c", [], 0, 80), 80)
