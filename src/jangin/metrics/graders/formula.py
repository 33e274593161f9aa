"""Formulas of multi graders: arithmetic over rewards, evaluated without `eval`."""

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from jangin.core.errors import counted

MOST_CHARACTERS = 2000
FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
OF_MANY = ("min", "max")
"""Functions that take any number of values; the others take one."""
BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class FormulaError(Exception):
    """A formula is not arithmetic over known names, or has no finite value."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula: numbers, names of graders, `+ - * / ^` and a few functions."""

    tree: ast.expr

    @classmethod
    def parse(cls, text: str, names: Collection[str]) -> "Formula":
        """Parse a formula over these names.

        Raises:
            FormulaError: It has anything else in it.

        """
        if len(text) > MOST_CHARACTERS:
            raise FormulaError(f"the formula is longer than {MOST_CHARACTERS} characters.")
        try:
            tree = ast.parse(text.replace("^", "**").strip(), mode="eval").body
            _check(tree, names)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise FormulaError(f"'{text[:80]}' is not a formula.") from None
        return cls(tree)

    def value(self, rewards: Mapping[str, float]) -> float:
        """The formula's value, in floating point throughout, so that no power grows large.

        Raises:
            FormulaError: It has none, as 1 / 0.

        """
        try:
            result = float(_evaluate(self.tree, rewards))
        except (ArithmeticError, ValueError) as error:
            raise FormulaError(f"the formula has no value: {error}.") from None
        if not math.isfinite(result):
            raise FormulaError("the formula has no finite value.")
        return result


def _check(node: ast.expr, names: Collection[str]) -> None:
    match node:
        case ast.Constant(value=bool() as value):
            raise FormulaError(f"'{value}' is not a number.")
        case ast.Constant(value=int() | float()):
            return
        case ast.Name(id=name):
            if name not in names:
                known = ", ".join(sorted(names))
                raise FormulaError(f"'{name}' is not a grader. Its graders are: {known}.")
        case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
            _check(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            _check(left, names)
            _check(right, names)
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
            if function not in FUNCTIONS:
                raise FormulaError(
                    f"'{function}' cannot be called. Known are: {', '.join(FUNCTIONS)}."
                )
            if not arguments or (len(arguments) > 1 and function not in OF_MANY):
                raise FormulaError(
                    f"'{function}' does not take {counted(len(arguments), 'value')}."
                )
            for argument in arguments:
                _check(argument, names)
        case _:
            text = ast.unparse(node)[:80]
            raise FormulaError(f"'{text}' is not allowed: only numbers, names, + - * / ^ are.")


def _evaluate(node: ast.expr, rewards: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return rewards[name]
        case ast.UnaryOp(op=op, operand=operand):
            return UNARY[type(op)](_evaluate(operand, rewards))
        case ast.BinOp(left=left, op=op, right=right):
            return BINARY[type(op)](_evaluate(left, rewards), _evaluate(right, rewards))
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return float(FUNCTIONS[function](*(_evaluate(value, rewards) for value in arguments)))
    raise ValueError("unreachable: the formula was checked")
