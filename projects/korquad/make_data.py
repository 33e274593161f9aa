"""Turn `source/paragraphs.yaml` into questions.json, in SQuAD's format, and paraphrases.json.

    python projects/korquad/make_data.py

It checks that every answer is in its paragraph and that no wording is used twice.
"""

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


def question_row(context: str, entry: dict[str, Any], name: str) -> dict[str, Any]:
    """One entry of `qas`."""
    start = context.find(entry["answer"])
    if start < 0:
        raise SystemExit(f"{entry['answer']!r} is not in the paragraph of {name}")
    answers = [{"text": entry["answer"], "answer_start": start}]
    return {"id": name, "question": entry["question"], "answers": answers}


def main() -> None:
    """Write both files."""
    articles = yaml.safe_load((HERE / "source" / "paragraphs.yaml").read_text(encoding="utf-8"))
    data, paraphrases = [], {}
    for a, article in enumerate(articles):
        paragraphs = []
        for p, paragraph in enumerate(article["paragraphs"]):
            qas = [
                question_row(paragraph["context"], entry, f"{a}-{p}-{q}")
                for q, entry in enumerate(paragraph["questions"])
            ]
            paragraphs.append({"context": paragraph["context"], "qas": qas})
            for entry in paragraph["questions"]:
                paraphrases.setdefault(entry["question"], entry["paraphrases"])
        data.append({"title": article["title"], "paragraphs": paragraphs})
    wordings = [text for question, texts in paraphrases.items() for text in (question, *texts)]
    if len(set(wordings)) < len(wordings):
        twice = sorted({text for text in wordings if wordings.count(text) > 1})
        raise SystemExit(f"used twice: {twice}")
    for name, content in (
        ("questions.json", {"version": "jangin korquad demo", "data": data}),
        ("paraphrases.json", paraphrases),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (HERE / name).write_text(text, encoding="utf-8")
    print(f"{len(paraphrases)} questions, {len(wordings) - len(paraphrases)} paraphrases")


if __name__ == "__main__":
    main()
