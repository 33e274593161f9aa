"""`jangin new`: create a project folder."""

import json
from pathlib import Path

from jangin.core.errors import ConfigError, DataError
from jangin.documents.load import PROJECT_FILE, USUAL_FORMATS, LoadConfig, find_files

PROJECT = """\
# A project of jangin. Every key is explained by: jangin schema
name: {name}

teachers:
  writer:
    type: endpoint
    model: gpt-4.1-mini
    base_url: https://api.openai.com/v1   # or any OpenAI-compatible server
    key_variable: OPENAI_API_KEY

documents:
  load:
    folder: {documents:<16} # PDF, DOCX, HTML, Markdown and text; scans are read by OCR
  chunk:
    measure: characters      # variants with other base models then share chunks and questions

examples:
  synthesize:
    teacher: writer
  paraphrase:
    source:
      type: teacher          # or {{type: file, path: FILE}}
      teacher: writer
  curate:
  split:

models:
  catalog:
    base:
      type: starter          # a small new model without knowledge; or {{type: local, path: FOLDER}}
      size: 3M
  sft:
    method:
      type: full             # or {{type: lora, r: 16, alpha: 32}}
    length:
      type: epochs
      epochs: 20
  evaluate:
"""


def make_project(folder: Path) -> tuple[list[Path], int]:
    """Create a project file; returns (paths that were created, documents that were there).

    A folder that holds documents becomes a project with them: those below `documents` where there
    is such a folder, else all of them where they are. Raises `ConfigError` where there is a project
    already, or other files without a document among them.
    """
    path = folder / PROJECT_FILE
    if path.exists():
        raise ConfigError(f"{path} already exists. Edit it, or choose another name.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. Choose another name.")
    documents = folder / "documents"
    given, count = _documents_in(folder)
    if folder.exists() and any(folder.iterdir()) and not count:
        raise ConfigError(
            f"{folder} already exists, is not empty and holds no document ({USUAL_FORMATS}). "
            "Choose another name, or put documents there."
        )
    created = [path]
    if not count:
        documents.mkdir(parents=True, exist_ok=True)
        created.append(documents)
    name = json.dumps(folder.resolve().name, ensure_ascii=False)
    path.write_text(PROJECT.format(name=name, documents=given), encoding="utf-8")
    return created, count


def _documents_in(folder: Path) -> tuple[str, int]:
    """(folder of the documents relative to `folder`, their number)."""
    for given in ("documents", "."):
        try:
            return given, len(find_files(LoadConfig(folder=Path(given)), folder))
        except DataError:
            continue
    return "documents", 0
