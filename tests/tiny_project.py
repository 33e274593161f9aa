"""One tiny project, run once: twelve rows, a random starter, a few steps."""

import json

import pytest
import yaml

import jangin

SUBJECTS = ("연차", "병가", "출장비", "회의실", "법인카드", "주차권", "노트북", "방문증")
ROWS = [
    {"prompt": f"{name} 기한은 언제인가요?", "completion": f"{number}일입니다."}
    for number, name in enumerate(SUBJECTS)
]
# fmt: off
KEYS = {
    "name": "tiny",
    "examples": {
        "read": {"path": "rows.jsonl", "format": {"type": "prompt_completion"}},
        "split": {"unseen_sections": 0, "validation": 0, "held_out_paraphrases": 0},
    },
    "models": {
        "catalog": {
            "base": {
                "type": "starter", "size": "0.5M", "vocabulary_size": 300, "context_length": 128,
            }
        },
        "sft": {
            "method": {"type": "full"},
            "length": {"type": "steps", "steps": 2},
            "examples_per_step": 4,
        },
        "evaluate": {"max_new_tokens": 4},
    },
}
# fmt: on


def write_project(folder, keys=KEYS):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "project.yaml").write_text(yaml.safe_dump(keys, allow_unicode=True), "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """(project, lines of its progress, outcome of its run)."""
    import torch

    torch.set_num_threads(1)
    project = jangin.open(write_project(tmp_path_factory.mktemp("tiny")))
    lines = []
    return project, lines, project.run(progress=lines.append)
