"""Read existing paraphrases from a JSON file: `{question: [paraphrases]}`.

A paraphrase is a text, or `{"text": ..., "style": ...}`.
"""

import json
from pathlib import Path

from jangin.core.errors import DataError
from jangin.text.normalize import nfc


def read_paraphrases(path: Path) -> dict[str, list[tuple[str, str]]]:
    """{question: paraphrases, each (text, style or "")}, NFC, in the order of the file.

    A byte order mark is ignored. The paraphrases of a repeated question are joined.
    Raises `DataError` where the file is missing, is not UTF-8, or has another form.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Name a JSON file under paraphrase.source.path.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from error
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}. Correct the file.") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(
            f"{path} must contain one object: {{question: [paraphrases]}}. Correct the file."
        )
    paraphrases_of: dict[str, list[tuple[str, str]]] = {}
    for question, paraphrases in pairs:
        if not isinstance(paraphrases, list):
            raise DataError(
                f"{path}: the value of {question!r} is not a list of texts. Correct it."
            )
        wordings = paraphrases_of.setdefault(nfc(question.strip()), [])
        wordings += [_wording(path, question, each) for each in paraphrases]
    return paraphrases_of


def _wording(path: Path, question: str, given: object) -> tuple[str, str]:
    """(text, style) of one paraphrase; an object is a list of pairs here."""
    if isinstance(given, str):
        return given, ""
    values = dict(given) if isinstance(given, list) and all(map(_is_pair, given)) else {}
    text, style = values.get("text"), values.get("style") or ""
    if not isinstance(text, str) or not isinstance(style, str) or {*values} - {"text", "style"}:
        raise DataError(
            f"{path}: the value of {question!r} is not a list of texts: one of them is neither a "
            'text nor {"text": ..., "style": ...}. Correct it.'
        )
    return text, style.strip()


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple)
