"""`jangin new`: create a project folder."""

import json
from pathlib import Path

from jangin.core.errors import ConfigError

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
    folder: documents        # PDF, DOCX, HTML, Markdown and text; scans are read by OCR
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


def make_project(folder: Path) -> list[Path]:
    """Create `folder` with a project file and an empty documents folder; returns their paths.

    Raises: ConfigError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} already exists and is not empty. Choose another name.")
    documents = folder / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    path = folder / "project.yaml"
    path.write_text(
        PROJECT.format(name=json.dumps(folder.name, ensure_ascii=False)), encoding="utf-8"
    )
    return [path, documents]
