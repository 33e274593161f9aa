"""Read seed words and questions from text, JSON and JSON Lines files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError
from jangin.core.jsonl import parse_json, parse_json_lines
from jangin.documents.readers.plain import decode
from jangin.documents.readers.reader import UnreadableError
from jangin.text.normalize import clean_text, collapse_spaces, letters_and_digits, nfc

WORD_KEYS = ("seed_word", "word", "keyword")
LIST_KEYS = ("questions", "answer", "queries")
QUESTION_KEYS = ("question", "query", "text")
TITLE_KEYS = ("titles", "title", "document", "documents", "subject", *LIST_KEYS, *QUESTION_KEYS)
LONGEST_WORD = 200
JSON_REMEDY = "Correct that."


@dataclass(frozen=True, slots=True)
class Entry:
    """A word or a question, and its line or row in the file, from 1."""

    text: str
    line: int
    seed_word: str = ""


def read_text(path: Path, notify: Callable[[str], None]) -> str:
    """Text of a file in any encoding that `plain.decode` accepts, NFC; `notify` reports CP949.

    Raises: DataError: the file is missing, empty, or no text.
    """
    try:
        text = clean_text(decode(path.read_bytes(), lambda note: notify(f"{path.name}: {note}")))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist. Create it, or correct its name in the project file."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Name a file that you can read."
        ) from error
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty. Write one entry per line.")
    return text


def read_words(path: Path, notify: Callable[[str], None]) -> tuple[list[Entry], list[Entry]]:
    """(words in order, repeats); empty lines and lines that begin with `#` are skipped.

    Two words are the same if only spacing, case and punctuation differ.

    Raises: DataError: as `read_text`; or a line is no word, or is too long; names the line.
    """
    words: dict[str, Entry] = {}
    repeats: list[Entry] = []
    for line, content in enumerate(read_text(path, notify).split("\n"), start=1):
        text = collapse_spaces(content)
        if not text or text.startswith("#"):
            continue
        key = letters_and_digits(text)
        if not key:
            raise DataError(
                f"{path}:{line}: {text!r} has no letter or digit. Correct or delete that line."
            )
        if len(text) > LONGEST_WORD:
            raise DataError(
                f"{path}:{line}: {len(text)} characters, but the maximum is {LONGEST_WORD}. "
                "Write one word or short phrase per line."
            )
        if key in words:
            repeats.append(Entry(text, line))
        else:
            words[key] = Entry(text, line)
    if not words:
        raise DataError(f"{path} contains only comments. Write one word per line.")
    return list(words.values()), repeats


def read_questions(path: Path, notify: Callable[[str], None]) -> list[Entry]:
    """Questions of a file, in order, repeats included.

    `.jsonl`: a line `{"seed_word": ..., "questions": [...]}` or `{"question": ...}`. `.json`: a
    list of such rows or of questions, or `{seed word: [questions]}`. Else: one question per line.

    Raises: DataError: as `read_text`; or a row has no question; names the line or row.
    """
    text = read_text(path, notify)
    questions: list[Entry] = []
    for index, value in _rows(path, text):
        where = f"{path}:{index}"
        for question, word in _questions(where, value):
            clean_question = collapse_spaces(nfc(question))
            if not letters_and_digits(clean_question):
                raise DataError(
                    f"{where}: {question!r} has no letter or digit. Correct or delete it."
                )
            questions.append(Entry(clean_question, index, collapse_spaces(nfc(word))))
    if not questions:
        raise DataError(
            f"{path} contains no question. Write one per line, or remove `documents: queries`."
        )
    return questions


def read_titles(path: Path, notify: Callable[[str], None]) -> list[Entry]:
    """Titles of posts in a file, in order, repeats included; those without a letter are left out.

    `.jsonl` and `.json`: titles, lists of titles, or rows with `title`, `titles` or `document`.
    Else: one title per line.

    Raises: DataError: as `read_text`; or a row has no title; names the line or row.
    """
    titles: list[Entry] = []
    for index, value in _rows(path, read_text(path, notify)):
        row = value if isinstance(value, Mapping) else {}
        texts = _first(row, TITLE_KEYS) if row else value
        word = _first(row, WORD_KEYS) or ""
        several = texts if isinstance(texts, list) else [texts]
        if not several or not all(isinstance(text, str) for text in (*several, word)):
            raise DataError(
                f"{path}:{index}: no title in this row. A row looks like "
                '{"title": "..."} or {"document": ["...", "..."]}.'
            )
        for text in several:
            clean = collapse_spaces(nfc(text))
            if letters_and_digits(clean):
                titles.append(Entry(clean, index, collapse_spaces(nfc(word))))
    if not titles:
        raise DataError(f"{path} contains no title. Write one per line.")
    return titles


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """(line or row, value) of a file, by its suffix."""
    lines = [(index, line) for index, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix == ".jsonl":
        yield from parse_json_lines(text, path, JSON_REMEDY)
    elif path.suffix == ".json":
        data = parse_json(text, str(path), JSON_REMEDY)
        if isinstance(data, Mapping) and not any(key in data for key in WORD_KEYS):
            data = [{"seed_word": word, "questions": questions} for word, questions in data.items()]
        yield from enumerate(data if isinstance(data, list) else [data], start=1)
    else:
        yield from ((index, line) for index, line in lines if not line.startswith("#"))


def _questions(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """(question, seed word) of one row; raises `DataError` if it has no question."""
    if isinstance(value, str):
        yield value, ""
        return
    row = value if isinstance(value, Mapping) else {}
    questions = _first(row, LIST_KEYS) or _first(row, QUESTION_KEYS)
    word = _first(row, WORD_KEYS) or ""
    several = questions if isinstance(questions, list) else [questions]
    if not questions or not isinstance(word, str) or not all(isinstance(q, str) for q in several):
        raise DataError(
            f"{where}: no question in this row. A row looks like "
            '{"seed_word": "...", "questions": ["...", "..."]} or {"question": "..."}.'
        )
    for question in several:
        yield question, word


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if key in row), None)
