"""Replay recorded search results, so that a project runs offline."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError
from jangin.core.jsonl import parse_json, parse_json_lines
from jangin.documents.retrieval.query_files import JSON_REMEDY, QUESTION_KEYS, read_text
from jangin.documents.retrieval.web_search import SearchResult, plain
from jangin.text.normalize import letters_and_digits

SNIPPET_KEYS = ("snippets", "document", "documents", "results")
TEXT_KEYS = ("text", "description", "content", "snippet")
URL_KEYS = ("url", "link")


class RecordedSearch:
    """Recorded results by question; spacing, case and punctuation of a question do not matter."""

    def __init__(self, path: Path, notify: Callable[[str], None] = lambda _note: None) -> None:
        """Read a `.jsonl` or `.json` file.

        Raises: DataError: no such file, or a row has another shape; names the line or row.

        A row is `{"question": ..., "snippets": [...]}`, where a snippet is a text or has `text`,
        `title` and `url`; a `.json` may also be `{question: [snippets]}`.
        """
        self.path = path
        self._results: dict[str, list[SearchResult]] = {}
        text = read_text(path, notify)
        if path.suffix == ".jsonl":
            for line, row in parse_json_lines(text, path, JSON_REMEDY):
                self._add(f"{path}:{line}", row)
            return
        data = parse_json(text, str(path), JSON_REMEDY)
        if isinstance(data, Mapping):
            data = [{"question": question, "snippets": rows} for question, rows in data.items()]
        for index, row in enumerate(data if isinstance(data, list) else [data], start=1):
            self._add(f"{path}: row {index}", row)

    def __len__(self) -> int:
        """Number of questions in the file."""
        return len(self._results)

    def find(self, question: str) -> list[SearchResult] | None:
        """The recorded results, possibly an empty list; None if the question was not recorded."""
        return self._results.get(letters_and_digits(question))

    def _add(self, where: str, row: Any) -> None:
        """Add a row; the results of a question in two rows are joined."""
        question = _first(row, QUESTION_KEYS)
        snippets = _first(row, SNIPPET_KEYS)
        if not isinstance(question, str) or not isinstance(snippets, list):
            raise DataError(
                f'{where}: no search result. A row looks like {{"question": "...", "snippets": '
                '["...", {"text": "...", "url": "..."}]}.'
            )
        results = self._results.setdefault(letters_and_digits(question), [])
        for number, snippet in enumerate(snippets, start=1):
            text = snippet if isinstance(snippet, str) else _first(snippet, TEXT_KEYS)
            if not isinstance(text, str):
                raise DataError(f"{where}: snippet {number} has no text. Correct or delete it.")
            if plain(text):
                title, url = _first(snippet, ("title",)), _first(snippet, URL_KEYS)
                results.append(
                    SearchResult(text=plain(text), title=plain(title or ""), url=str(url or ""))
                )


def _first(row: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(row, Mapping):
        return None
    return next((row[key] for key in keys if key in row), None)
