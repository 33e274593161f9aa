"""JSON Lines, read one by one: UTF-8, one object per line."""

import json
from collections.abc import Iterator
from typing import BinaryIO

BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 64 << 20
"""Bytes of a line that is still read; a longer one is no row of text."""


def first_problem(stream: BinaryIO) -> str | None:
    """What is wrong with a JSON Lines file, with the number of the line; None if nothing is."""
    count = 0
    for number, line in _lines(stream):
        if not line.strip():
            continue
        if len(line) > LONGEST_LINE:
            return f"Line {number} is longer than {LONGEST_LINE >> 20} MB."
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            return f"Line {number} is not UTF-8 (byte {error.start} of the line)."
        except (ValueError, RecursionError) as error:
            return f"Line {number} is not valid JSON: {error}."
        if not isinstance(row, dict):
            return f"Line {number} is no JSON object."
        count += 1
    return None if count else "The file has no rows."


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, line) from 1; no more than a bit over `LONGEST_LINE` is held."""
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        yield number, line.removeprefix(BOM) if number == 1 else line
        if len(line) > LONGEST_LINE:
            return
