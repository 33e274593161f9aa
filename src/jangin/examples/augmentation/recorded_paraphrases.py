"""A file of paraphrases that are there already: JSON, `{question: [paraphrases]}`."""

import json
from pathlib import Path

from jangin.core.errors import DataError
from jangin.text.normalize import nfc


def read_paraphrases(path: Path) -> dict[str, list[str]]:
    """The paraphrases by question, NFC, in the order of the file; raises `DataError`.

    A byte order mark is taken away. A question that stands twice has all its paraphrases.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Name a JSON file under paraphrase.source.path")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start:,}). Save it again as UTF-8"
        ) from error
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}. Mend it there") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(f"{path} must hold one object: {{question: [paraphrases]}}. Mend the file")
    found: dict[str, list[str]] = {}
    for question, paraphrases in pairs:
        if not isinstance(paraphrases, list) or not all(isinstance(p, str) for p in paraphrases):
            raise DataError(
                f"{path}: what stands under {question!r} is no list of texts. Mend that question"
            )
        found.setdefault(nfc(question.strip()), []).extend(paraphrases)
    return found
