"""Files that people keep: seed words, one a line, and questions in the shapes they come in."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError
from jangin.documents.readers.plain import decode
from jangin.documents.readers.reader import UnreadableError
from jangin.text.normalize import clean_text, collapse_spaces, letters_and_digits, nfc

WORD_KEYS = ("seed_word", "word", "keyword")
LIST_KEYS = ("questions", "answer", "queries")
QUESTION_KEYS = ("question", "query", "text")
LONGEST_WORD = 200


@dataclass(frozen=True, slots=True)
class Line:
    """A word or a question, and the line or row it stands in, from 1."""

    text: str
    number: int
    seed_word: str = ""


def read_text(path: Path, say: Callable[[str], None]) -> str:
    """A file of people's making: UTF-8 with or without a mark, UTF-16, CP949; NFC.

    Raises `DataError` where it is missing, empty, or no text.
    """
    try:
        text = clean_text(decode(path.read_bytes(), lambda note: say(f"{path.name}: {note}")))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist. Put the file there, or correct its name in the project file."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Name a file you may read."
        ) from error
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty. Put something into it.")
    return text


def read_words(path: Path, say: Callable[[str], None]) -> tuple[list[Line], list[Line]]:
    """(words in order, repeats); blank lines and lines that begin with `#` say nothing.

    A word is the same where only spacing, case and punctuation differ. Raises `DataError`.
    """
    words: dict[str, Line] = {}
    repeats: list[Line] = []
    for number, line in enumerate(read_text(path, say).split("\n"), start=1):
        text = collapse_spaces(line)
        if not text or text.startswith("#"):
            continue
        key = letters_and_digits(text)
        if not key:
            raise DataError(f"{path}:{number}: {text!r} is no word. Correct or delete that line.")
        if len(text) > LONGEST_WORD:
            raise DataError(
                f"{path}:{number}: a line of {len(text)} characters, which is no seed word. "
                "Write one word or short phrase a line."
            )
        if key in words:
            repeats.append(Line(text, number))
        else:
            words[key] = Line(text, number)
    if not words:
        raise DataError(f"{path} holds no word, only comments. Write one word a line.")
    return list(words.values()), repeats


def read_questions(path: Path, say: Callable[[str], None]) -> list[Line]:
    """Questions of a file, in order, repeats included; raises `DataError` with line or row.

    `.jsonl`: a line `{"seed_word": ..., "questions": [...]}` or `{"question": ...}`. `.json`: a
    list of such rows or of questions, or `{seed word: [questions]}`. Else: one question a line.
    """
    text = read_text(path, say)
    questions: list[Line] = []
    for number, value in _rows(path, text):
        where = f"{path}:{number}"
        for question, word in _questions(where, value):
            clean_question = collapse_spaces(nfc(question))
            if not letters_and_digits(clean_question):
                raise DataError(f"{where}: {question!r} is no question. Correct or delete it.")
            questions.append(Line(clean_question, number, collapse_spaces(nfc(word))))
    if not questions:
        raise DataError(f"{path} holds no question. Put one in, or turn `queries` off.")
    return questions


def parse_json(where: str, text: str) -> Any:
    """JSON; raises `DataError` that says where it stands."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: no JSON: {error.msg} at character {error.pos + 1}. Correct or delete it."
        ) from error


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """(line or row, value) of a file, by its suffix."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix == ".jsonl":
        yield from ((number, parse_json(f"{path}:{number}", line)) for number, line in lines)
    elif path.suffix == ".json":
        data = parse_json(str(path), text)
        if isinstance(data, Mapping) and not any(key in data for key in WORD_KEYS):
            data = [{"seed_word": word, "questions": found} for word, found in data.items()]
        yield from enumerate(data if isinstance(data, list) else [data], start=1)
    else:
        yield from ((number, line) for number, line in lines if not line.startswith("#"))


def _questions(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """(question, seed word) of one row; raises `DataError` when there is none in it."""
    if isinstance(value, str):
        yield value, ""
        return
    row = value if isinstance(value, Mapping) else {}
    found = _first(row, LIST_KEYS) or _first(row, QUESTION_KEYS)
    word = _first(row, WORD_KEYS) or ""
    several = found if isinstance(found, list) else [found]
    if not found or not isinstance(word, str) or not all(isinstance(q, str) for q in several):
        raise DataError(
            f"{where}: no question here. A row looks like "
            '{"seed_word": "...", "questions": ["...", "..."]} or {"question": "..."}.'
        )
    for question in several:
        yield question, word


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if key in row), None)
