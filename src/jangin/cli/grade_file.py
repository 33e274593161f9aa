"""`jangin grade FILE`: answers graded by their facts, beside the verdicts of people."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from jangin.cli.terminal import console
from jangin.core.errors import DataError, counted

if TYPE_CHECKING:
    from jangin.metrics.facts import FactGrade
    from jangin.metrics.statistics import Interval

_REMEDY = (
    'Write one object a line: {"question": "...", "gold": "...", "answer": "...", '
    '"evidence": "...", "right": true}; evidence and right may be left out.'
)
_RIGHT = frozenset(("1", "true", "yes", "y", "x", "o", "right", "예", "맞음", "참"))
_WRONG = frozenset(("0", "false", "no", "n", "wrong", "아니요", "틀림", "거짓"))


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """An answer to grade, and where it stands."""

    line: int
    question: str
    gold: str
    answer: str
    evidence: tuple[str, ...]
    right: bool | None
    """The verdict of a person; None where there is none."""


def grade_file(file: Path, as_json: bool) -> None:
    """Grade the answers of a file and print shares, reasons and, beside `right`, the agreement.

    Raises: DataError: the file cannot be read, or a row is not what it should be.
    """
    from jangin.metrics.facts import grade_facts

    rows = list(read_answers(file))
    grades = [grade_facts(row.answer, row.gold, row.question, row.evidence) for row in rows]
    if not as_json:
        _show_shares(rows, grades)
        if any(row.right is not None for row in rows):
            _show_agreement(file, rows, grades)
        return
    for row, result in zip(rows, grades, strict=True):
        fields: dict[str, Any] = {"line": row.line, "right": result.right}
        fields |= {"reason": result.reason, "detail": result.detail}
        if row.right is not None:
            fields["label"] = row.right
        typer.echo(json.dumps(fields, ensure_ascii=False))


def read_answers(path: Path) -> Iterator[AnswerRow]:
    """The rows of a file of answers.

    Raises: DataError: it cannot be read, or a row lacks a column or has another kind of value.
    """
    lines = _csv_rows(path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(path)
    count = 0
    for line, fields in lines:
        count += 1
        texts = {}
        for name in ("question", "gold", "answer"):
            value = fields.get(name)
            if not isinstance(value, str):
                problem = "is missing" if value is None else f"is {value!r}, not a text"
                raise DataError(f"{path}:{line}: `{name}` {problem}. {_REMEDY}")
            texts[name] = value
        if not texts["gold"].strip():
            raise DataError(f"{path}:{line}: `gold` is empty. Write the reference answer there.")
        evidence = _evidence(path, line, fields.get("evidence"))
        right = _verdict(path, line, fields.get("right"))
        yield AnswerRow(line, **texts, evidence=evidence, right=right)
    if not count:
        raise DataError(f"{path}: has no rows. {_REMEDY}")


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from jangin.core.jsonl import read_json_lines

    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {_REMEDY}")
    for line, fields in read_json_lines(path, _REMEDY):
        if not isinstance(fields, dict):
            raise DataError(f"{path}:{line}: is no object. {_REMEDY}")
        yield line, fields


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            for fields in reader:
                named = {str(name).strip().lower(): value for name, value in fields.items()}
                yield reader.line_num, named
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Save it as CSV in UTF-8, with a header."
        ) from error


def _evidence(path: Path, line: int, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{path}:{line}: `evidence` is {value!r}. Write a text or a list of texts, or leave "
            "it out."
        )
    return tuple(text for text in texts if text.strip())


def _verdict(path: Path, line: int, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if not word:
        return None
    if word not in _RIGHT | _WRONG:
        raise DataError(
            f"{path}:{line}: `right` is {value!r}. Write true or false, or leave it empty."
        )
    return word in _RIGHT


def _show_shares(rows: list[AnswerRow], grades: "list[FactGrade]") -> None:
    from jangin.metrics.statistics import wilson_interval

    share = wilson_interval(sum(result.right for result in grades), len(grades))
    _say(f"{counted(len(rows), 'answer')}: {_percent(share)} right by their facts")
    reasons = Counter(result.reason for result in grades)
    for reason, count in reasons.most_common():
        _say(f"  {reason:<12} {count:>6,}")
    if not all(row.evidence for row in rows):
        bare = sum(not row.evidence for row in rows)
        _say(
            f"{counted(bare, 'row has', 'rows have')} no evidence: there only question and gold "
            "support what else an answer says"
        )


def _show_agreement(file: Path, rows: list[AnswerRow], grades: "list[FactGrade]") -> None:
    from jangin.metrics.agreement import Agreement

    pairs = [(row, result) for row, result in zip(rows, grades, strict=True)]
    labelled = [(row, result) for row, result in pairs if row.right is not None]
    agreement = Agreement.of(
        [result.right for _, result in labelled], [bool(row.right) for row, _ in labelled]
    )
    _say(f"\nBeside your verdicts on {counted(len(labelled), 'answer')}:")
    _say(f"  agreement    {_percent(agreement.agreement)}")
    _say(
        f"  false rights {_percent(agreement.false_right)}, "
        f"{agreement.false_rights} of {counted(agreement.wrong, 'wrong answer')}"
    )
    _say(
        f"  false wrongs {_percent(agreement.false_wrong)}, "
        f"{agreement.false_wrongs} of {counted(agreement.right, 'right answer')}"
    )
    for row, result in labelled:
        if result.right == row.right:
            continue
        said = "right" if result.right else f"wrong ({result.reason}: {result.detail})"
        _say(f"\n{file}:{row.line}: you say {'right' if row.right else 'wrong'}, facts say {said}")
        _say(f"  question {row.question}\n  gold     {row.gold}\n  answer   {row.answer}")


def _percent(interval: "Interval") -> str:
    """`62.0 % [50.1, 73.4]`."""
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.estimate:.1f} % [{low:.1f}, {high:.1f}]"


def _say(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)
