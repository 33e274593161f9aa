"""A small project whose model is trained with passages of its documents."""

import csv

import yaml

from tests.model_fixtures import PAIRS

PROJECT = {
    "name": "reading",
    "documents": {"load": {"folder": "documents"}, "chunk": None, "index": None},
    "examples": {
        "read": {
            "path": "rows.csv",
            "format": {"type": "table", "prompt": "{question}", "completion": "{answer}"},
        },
        "split": {"unseen_sections": 0, "validation": 0.1, "test": 0.2},
    },
    "models": {
        "catalog": {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 320}},
        "sft": {
            "method": {"type": "full"},
            "length": {"type": "steps", "steps": 2},
            "learning_rate": 1e-3,
            "threads": 1,
            "passages": {"count": 1},
        },
        "evaluate": {
            "max_new_tokens": 4,
            "seen_limit": 2,
        },
    },
}


def write_settings(folder, **models):
    """The project file alone, with other settings of `models`."""
    settings = PROJECT | {"models": PROJECT["models"] | models}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    return folder


def write_project(folder, **keys):
    """The project with its document and its rows; `keys` are further ones of the project file."""
    (folder / "documents").mkdir()
    (folder / "documents" / "rules.md").write_text(
        "# Rules\n\n## Leave\n\nLeave is fifteen days a year.\n\n## Travel\n\nTravel is paid.\n"
    )
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("question", "answer"), *PAIRS])
    (folder / "project.yaml").write_text(yaml.safe_dump(PROJECT | keys), "utf-8")
    return folder
