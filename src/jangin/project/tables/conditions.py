"""Conditions of `jangin show --where`, such as `page > 3` or `question contains 휴가`."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from jangin.core.errors import DataError

EXAMPLES = "such as --where 'page >= 3' or --where 'question contains 휴가'"
_CONDITION = re.compile(r"\s*(\w+)\s*(==|!=|>=|<=|=|>|<|\bcontains\b|\blacks\b)\s*(.*?)\s*", re.S)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a column with a value."""

    column: str
    operator: str
    """One of = != < <= > >= contains lacks."""
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """The condition in a text; raises `DataError` if it is none."""
        parts = _CONDITION.fullmatch(text)
        if parts is None:
            raise DataError(
                f"{text!r} is no condition. Write a column, one of = != < <= > >= contains lacks, "
                f"and a value, {EXAMPLES}."
            )
        column, operator, value = parts.groups()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        return cls(column, "=" if operator == "==" else operator, value)

    def check(self, columns: Collection[str]) -> None:
        """Raise `DataError` if the table has no such column."""
        if self.column not in columns:
            known = ", ".join(columns)
            raise DataError(f"there is no column {self.column!r}. Known columns: {known}.")

    def holds(self, row: Mapping[str, Any]) -> bool:
        """True if the row fits; texts are compared without case, numbers by value."""
        given = row.get(self.column)
        text, wanted = _text(given), self.value.lower()
        if self.operator in ("contains", "lacks"):
            return (wanted in text) == (self.operator == "contains")
        left, right = _number(text), _number(wanted)
        if left is None or right is None:
            return _compare(self.operator, text, wanted)
        return _compare(self.operator, left, right)


def _compare(operator: str, left: Any, right: Any) -> bool:
    return bool(
        {
            "=": left == right,
            "!=": left != right,
            "<": left < right,
            "<=": left <= right,
            ">": left > right,
            ">=": left >= right,
        }[operator]
    )


def _text(value: object) -> str:
    return "" if value is None else str(value).lower()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
