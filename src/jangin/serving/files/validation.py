"""Validation of a training file, line by line, in constant memory.

The file may hold any bytes. Everything that is wrong with it becomes an error (it cannot be trained
on) or a warning, with the number of the example from 1; blank lines are no examples.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, BinaryIO

from jangin.core.errors import counted, counted_of
from jangin.serving.files.distribution import Spread, suggested_epochs
from jangin.serving.files.row_checks import (
    UNEXPECTED,
    Format,
    Problem,
    RowCheck,
    check_row,
)
from jangin.text.normalize import text_key

MIN_EXAMPLES = 10
MOST_EMPTY = 0.05
"""Share of rows with nothing to train on beyond which a job fails."""
MAX_ROW_BYTES = 32 << 20
_LISTED_ERRORS = 100
_LISTED_EXAMPLES = 10
_HASHED_ROWS = 2_000_000
"""Rows among which copies are searched: 16 MB of hashes."""
_COMPARED_ROWS, _COMPARED_CHARACTERS = 10_000, 1_000
"""Rows, and characters of each, among which near-duplicates are searched."""
_SIMILAR = 0.95
"""Least share of equal characters (Levenshtein) of two rows that are nearly the same."""
_NUMBERS = re.compile(r"\d+")
_SYSTEM_ROWS, _SYSTEM_SHARE, _SYSTEM_TOKENS = 0.5, 0.5, 200
"""A system message is over-long if it is in this share of the rows, makes this share of all tokens,
and has this many itself."""
_LABELS = 100
_RARE_LABEL = 10
"""A label is rare when another one has this many times its rows."""
_FEW = 50
_READ_BYTES = 1 << 20
_TICK_ROWS = 1_000

FORMAT_NAMES: dict[Format, str] = {
    "chat": "fine-tune-chat",
    "completion": "fine-tune-completion",
    "preference": "fine-tune-preference",
}
METHOD_OF: dict[Format, str] = {
    "chat": "supervised",
    "completion": "supervised",
    "preference": "dpo",
}


@dataclass(slots=True)
class FileCheck:
    """What a training file holds, and what is wrong with it."""

    format: Format | None = None
    """Of the first row that has one."""
    examples: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """The first ones: `example`, `rule`, `message`."""
    error_count: int = 0
    warnings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{rule: `count`, `examples`, `message`}."""
    messages: Spread = field(default_factory=Spread)
    tokens: Spread = field(default_factory=Spread)
    """Estimated, of all texts of a row."""
    answer_tokens: Spread = field(default_factory=Spread)
    """Estimated, of what is trained on."""
    rows: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of each of the first rows."""
    prompts: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of each of their prompts."""
    texts: list[str] = field(default_factory=list)
    """Beginning of each of the first rows."""
    system: "Counter[str]" = field(default_factory=Counter)
    """Rows with each of the first system messages."""
    labels: "Counter[str]" = field(default_factory=Counter)
    empty: list[int] = field(default_factory=list)
    """Numbers of the first rows whose answers are empty; they are left out of training."""
    empty_count: int = 0

    @property
    def trained_examples(self) -> int:
        """Rows that have an answer to train on."""
        return self.examples - self.empty_count

    @property
    def valid(self) -> bool:
        """Whether it can be trained on."""
        return not self.error_count

    def fail(self, example: int, rule: str, message: str) -> None:
        """Add an error; only the first ones are kept in words."""
        self.error_count += 1
        if len(self.errors) < _LISTED_ERRORS:
            self.errors.append({"example": example, "rule": rule, "message": message})

    def warn(self, rule: str, message: str, example: int = 0, count: int = 1) -> None:
        """Count a warning; the message of its first example is kept."""
        warning = self.warnings.setdefault(rule, {"count": 0, "examples": [], "message": message})
        warning["count"] += count
        if example and len(warning["examples"]) < _LISTED_EXAMPLES:
            warning["examples"].append(example)

    def report(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "object": "file.report",
            "valid": self.valid,
            "format": self.format,
            "examples": self.examples,
            "error_count": self.error_count,
            "errors": self.errors,
            "warnings": [{"rule": rule, **w} for rule, w in sorted(self.warnings.items())],
            "distribution": {
                "messages_per_example": self.messages.summary(),
                "estimated_tokens_per_example": self.tokens.summary(),
                "estimated_answer_tokens_per_example": self.answer_tokens.summary(),
            },
            "suggested_n_epochs": suggested_epochs(self.examples),
        }


def check_file(
    stream: BinaryIO,
    min_examples: int = MIN_EXAMPLES,
    context_tokens: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> FileCheck:
    """The check of a file; never raises for what is in it.

    `context_tokens`: most tokens that the model reads; 0 where it is not known. `tick` is called
    every some rows; what it raises ends the check.
    """
    check = FileCheck()
    for line in _lines(stream):
        check.examples += 1
        if check.examples % _TICK_ROWS == 0:
            tick()
        if isinstance(line, Problem):
            check.fail(check.examples, line.rule, line.sentence(check.examples))
        else:
            _add_row(check, check_row(line))
    _check_whole(check, min_examples, context_tokens)
    return check


def _lines(stream: BinaryIO) -> Iterator[Any]:
    """The JSON value of each line that is not blank, or the problem with that line."""
    offset = 0
    while line := stream.readline(MAX_ROW_BYTES + 1):
        start, offset = offset, offset + len(line)
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_READ_BYTES)
                offset += len(line)
            yield Problem("too_long", f"has more than {MAX_ROW_BYTES >> 20} MB in one line")
            continue
        body = line.removeprefix(b"\xef\xbb\xbf") if start == 0 else line
        if body.strip():
            yield _parsed(body, start + len(line) - len(body))


def _parsed(line: bytes, offset: int) -> Any:
    """The JSON value of a line that begins at a byte of the file, or the problem with it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Problem(
            "not_utf8", f"is not UTF-8 (byte {offset + error.start} of the file){_guess(line)}"
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at")
        return Problem("not_json", f"is not valid JSON: {reason} at character {error.pos + 1}")
    except (ValueError, RecursionError):
        return Problem("not_json", "is not valid JSON: it is nested too deep or has a huge number")


def _guess(line: bytes) -> str:
    """What other encoding a line may have."""
    if line[:1] in (b"\xff", b"\xfe") or b"\x00" in line[:64]:
        return ". It looks like UTF-16; save the file as UTF-8"
    try:
        text = line.decode("cp949")
    except UnicodeDecodeError:
        return ". Save the file as UTF-8"
    foreign = [character for character in text if character > "\x7f"]
    hangul = sum("\uac00" <= character <= "\ud7a3" for character in foreign)
    if hangul < 0.6 * len(foreign):
        return ". Save the file as UTF-8"
    return ". It looks like CP949 (EUC-KR); convert it: iconv -f cp949 -t utf-8"


def _add_row(check: FileCheck, row: RowCheck) -> None:
    number = check.examples
    for problem in row.errors:
        whole = problem.rule == "unexpected_format"
        text = UNEXPECTED if whole else problem.sentence(number)
        check.fail(number, problem.rule, text)
    for problem in row.warnings:
        check.warn(problem.rule, problem.sentence(number), number)
    if row.format is not None:
        check.format = check.format or row.format
        if row.format != check.format:
            check.fail(
                number,
                "mixed_formats",
                f"Example {number} is in the {row.format} format, but the examples before are in "
                f"the {check.format} format",
            )
    if row.errors:
        return
    if row.trains_nothing:
        check.empty_count += 1
        if len(check.empty) < _LISTED_EXAMPLES:
            check.empty.append(number)
    check.messages.add(row.messages)
    answers = sum(estimated_tokens(text) for text in row.answers)
    check.answer_tokens.add(answers)
    check.tokens.add(answers + sum(estimated_tokens(text) for text in row.prompt))
    if len(check.rows) < _HASHED_ROWS:
        prompt_hash, row_hash = _hashes(row)
        check.prompts.append(prompt_hash)
        check.rows.append(row_hash)
    if len(check.texts) < _COMPARED_ROWS:
        check.texts.append("\n".join((*row.prompt, *row.answers))[:_COMPARED_CHARACTERS])
    if row.system and (row.system in check.system or len(check.system) < _LABELS):
        check.system[row.system] += 1
    if len(check.labels) <= _LABELS:
        check.labels[row.label[:200]] += 1


def _hashes(row: RowCheck) -> tuple[int, int]:
    """64 bits of the prompt and of the row; equal where only case, spaces and NFC differ."""
    digest = blake2b(digest_size=8)
    for text in row.prompt:
        digest.update(text_key(text).encode(errors="replace") + b"\x1f")
    prompt = digest.digest()
    for text in row.answers:
        digest.update(text_key(text).encode(errors="replace") + b"\x1e")
    return int.from_bytes(prompt, "little"), int.from_bytes(digest.digest(), "little")


def estimated_tokens(text: str) -> int:
    """Tokens that a vocabulary with Korean spends on a text, roughly.

    A quarter of a token for each ASCII character, as in English prose, and one for any other.
    """
    others = 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
    return others + -(-(len(text) - others) // 4)


def _check_whole(check: FileCheck, min_examples: int, context_tokens: int) -> None:
    """What only the whole file shows."""
    if check.trained_examples < min_examples:
        answered = " with an answer to train on" if check.empty_count else ""
        check.fail(
            0,
            "n_examples",
            f"has {check.trained_examples} example(s){answered}, but must have at least "
            f"{min_examples} examples",
        )
    elif check.examples < _FEW:
        check.warn(
            "few_examples",
            f"{counted(check.examples, 'example is', 'examples are')} few; {_FEW} to {2 * _FEW} "
            "good ones are recommended",
        )
    _check_empty(check)
    repeated = _repeated(check.rows)
    if repeated:
        check.warn(
            "duplicates",
            f"{counted(repeated, 'example repeats', 'examples repeat')} another one; each is "
            "trained on once per epoch",
            count=repeated,
        )
    _check_near_duplicates(check)
    _check_system(check)
    asked_again = _repeated(check.prompts) - repeated
    if asked_again > 0 and check.format != "preference":
        check.warn(
            "conflicts",
            f"{counted(asked_again, 'example has', 'examples have')} the prompt of another one "
            "with another answer",
            count=asked_again,
        )
    over = check.tokens.over(context_tokens) if context_tokens else 0
    if over:
        check.warn(
            "too_long",
            f"{counted(over, 'example')} may be longer than {context_tokens} tokens; they are "
            "truncated at "
            "the end",
            count=over,
        )
    _check_labels(check)


def _check_empty(check: FileCheck) -> None:
    """Say which rows are left out for want of an answer; too many of them are an error."""
    if not check.empty_count:
        return
    more = ", ..." if check.empty_count > len(check.empty) else ""
    listed = ", ".join(map(str, check.empty)) + more
    rows = (
        f"{counted_of(check.empty_count, check.examples, 'example', 'has', 'have')} an empty answer"
    )
    if check.empty_count > MOST_EMPTY * check.examples:
        check.fail(
            0,
            "no_trainable_tokens",
            f"{rows}, so they have no tokens to train on: {listed}. Write the answers, or remove "
            "these examples",
        )
    check.warn("no_trainable_tokens", f"{rows} and are left out of training: {listed}")
    check.warnings["no_trainable_tokens"]["examples"] = list(check.empty)


def _check_near_duplicates(check: FileCheck) -> None:
    """Warn about rows that are nearly the same; rows that differ in a number are not."""
    from jangin.text.dedup.near_duplicates import Rules, find_matches

    texts, check.texts = check.texts, []
    numbers = [_NUMBERS.findall(text) for text in texts]
    pairs = find_matches(texts, Rules(threshold=_SIMILAR)).pairs.tolist()
    near = {later for first, later in pairs if numbers[first] == numbers[later]}
    if near:
        first_rows = f" of the first {len(texts)}" if len(texts) == _COMPARED_ROWS else ""
        check.warn(
            "near_duplicates",
            counted(len(near), f"example{first_rows} is", f"examples{first_rows} are")
            + " nearly the same as an earlier one",
            count=len(near),
        )


def _check_system(check: FileCheck) -> None:
    """Warn about a system message that most rows repeat and that is most of what is read."""
    if not check.system:
        return
    (text, rows), tokens = check.system.most_common(1)[0], check.tokens.total
    length = estimated_tokens(text)
    share = length * rows / max(1, tokens)
    if (
        length >= _SYSTEM_TOKENS
        and rows >= _SYSTEM_ROWS * check.examples
        and share >= _SYSTEM_SHARE
    ):
        check.warn(
            "long_system",
            f"the same system message of about {length} tokens is in {counted(rows, 'example')} "
            "and makes "
            f"{share:.0%} of all tokens; a tuned model needs a short one only",
            count=rows,
        )


def _check_labels(check: FileCheck) -> None:
    """Warn about rare labels where answers are labels: few different ones, each repeated."""
    rows = sum(check.labels.values())
    if not 2 <= len(check.labels) <= min(_LABELS, rows // 3):
        return
    (most, many), (least, few) = check.labels.most_common(1)[0], check.labels.most_common()[-1]
    if many >= _RARE_LABEL * few:
        check.warn(
            "label_imbalance",
            f"the answer {most[:40]!r} has {counted(many, 'example')}, {least[:40]!r} has {few}",
        )


def _repeated(hashes: "array[int]") -> int:
    import numpy as np

    return len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64))) if len(hashes) else 0


def overlap(training: FileCheck, validation: FileCheck) -> int:
    """Rows of the validation file whose prompt is also one of the training file."""
    import numpy as np

    if not len(training.prompts) or not len(validation.prompts):
        return 0
    trained = np.frombuffer(training.prompts, np.uint64)
    return int(np.isin(np.frombuffer(validation.prompts, np.uint64), trained).sum())


@dataclass(frozen=True, slots=True)
class JobFault:
    """Why a file fails a job: its `error`."""

    code: str
    param: str
    message: str


def job_fault(
    check: FileCheck, method: str, file_id: str, *, validation: bool = False
) -> JobFault | None:
    """The error of a job with this file and method; None for a file that fits."""
    which = "validation" if validation else "training"
    param, code = f"{which}_file", f"invalid_{which}_file"
    few, empty = (_of_file(check, rule) for rule in ("n_examples", "no_trainable_tokens"))
    others = [e for e in check.errors if e not in (few, empty)]
    start = f"The job failed due to an invalid {which} file."
    if few is not None and not others:
        return JobFault("invalid_n_examples", param, f"{which.capitalize()} file {few['message']}")
    if empty is not None and not others:
        return JobFault("no_trainable_tokens", param, f"{start} {empty['message']}.")
    if others:
        more = check.error_count - (few is not None) - (empty is not None) - 1
        rest = f" ({more} more problems are in the report of the file.)" if more else ""
        return JobFault(code, param, f"{start} {_first_problem(check, others[0])}{rest}")
    if check.format is not None and METHOD_OF[check.format] != method:
        return JobFault(
            code,
            param,
            f"{start} Invalid file format. Input file {file_id} is in the "
            f"{FORMAT_NAMES[check.format]} format, but the specified fine-tuning job is not using "
            f"'{METHOD_OF[check.format]}' as the training method (provided method={method}). ",
        )
    return None


def _of_file(check: FileCheck, rule: str) -> dict[str, Any] | None:
    """The error of a rule about the file as a whole; None where the file keeps it."""
    return next((e for e in check.errors if not e["example"] and e["rule"] == rule), None)


def _first_problem(check: FileCheck, error: Mapping[str, Any]) -> str:
    """An error of a row in OpenAI's words; its number where other rows have a known format."""
    message = str(error["message"])
    if error["rule"] != "unexpected_format":
        return f"Invalid file format. {message}"
    return message if check.format is None else f"Example {error['example']}: {message}"
