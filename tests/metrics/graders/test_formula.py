import pytest

from jangin.metrics.graders.types import Formula, FormulaError

REWARDS = {"a": 0.5, "b": 0.25}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5 * a + 0.5 * b", 0.375),
        ("a ^ 2 - -b", 0.5),
        ("min(a, b, 1) / max(a, b)", 0.5),
        ("floor(1.9) + ceil(a) + abs(-b) + sqrt(b) + exp(0) + log(1)", 3.75),
    ],
)
def test_a_formula_has_its_value(text, value):
    assert Formula.parse(text, REWARDS).value(REWARDS) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.__class__",
        "c + 1",
        "a if b else 1",
        "[a][0]",
        "lambda: a",
        "(x := a)",
        "'a' * 9",
        "True",
        "min()",
        "sqrt(a, b)",
        "min(*a)",
        "a and b",
        "a +",
        "",
        "(" * 900 + "a" + ")" * 900,
        "a" * 3000,
    ],
)
def test_anything_but_arithmetic_over_graders_is_refused(text):
    with pytest.raises(FormulaError):
        Formula.parse(text, REWARDS)


@pytest.mark.parametrize(
    "text", ["a / (b - b)", "9 ^ 9 ^ 9 ^ 9", "sqrt(0 - a)", "log(0)", "1e308 * 10"]
)
def test_a_formula_without_finite_value_says_so_at_once(text):
    with pytest.raises(FormulaError):
        Formula.parse(text, REWARDS).value(REWARDS)
