"""The project of the tests of pages: two documents of the demo, run once with its teacher."""

import shutil
from pathlib import Path

import yaml

import jangin

HANDBOOK = Path(__file__).parents[3] / "projects" / "handbook"
DOCUMENTS = ("취업규칙.pdf", "복리후생안내.md")
MODELS = {
    "catalog": {
        "base": {
            "type": "starter", "size": "0.5M", "vocabulary_size": 300, "context_length": 256,
        }
    },
    "sft": {
        "method": {"type": "full"},
        "length": {"type": "steps", "steps": 3},
        "examples_per_step": 4,
        "learning_rate": 0.001,
    },
    "evaluate": {"max_new_tokens": 6, "few_shot": 0},
}  # fmt: skip
"""Models that learn nothing, in no time."""


def write_project(folder):
    """The project file, its documents and the recorded replies, in a new folder."""
    (folder / "documents").mkdir(parents=True)
    for name in DOCUMENTS:
        shutil.copy(HANDBOOK / "documents" / name, folder / "documents" / name)
    shutil.copy(HANDBOOK / "replies.jsonl", folder)
    keys = yaml.safe_load((HANDBOOK / "project.yaml").read_text("utf-8"))
    text = yaml.safe_dump(keys | {"models": MODELS}, allow_unicode=True, sort_keys=False)
    (folder / "project.yaml").write_text(text, "utf-8")
    return folder


def finish_project(folder):
    """Write the project into a folder and run it."""
    jangin.open(write_project(folder)).run(progress=lambda _line: None)
