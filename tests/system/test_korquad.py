"""The project `korquad`, whole but short: from a file of questions to three sets of evidence."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.evaluation.results import Result
from jangin.examples.formats.export import ALPACA, export_examples
from jangin.project.runner import run
from jangin.project.session import open_session

PROJECT = Path(__file__).parents[2] / "projects" / "korquad"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{variant: artifacts} of a run with a smaller model and fewer steps than the project has."""
    folder = tmp_path_factory.mktemp("korquad")
    for name in ("questions.json", "paraphrases.json"):
        shutil.copy(PROJECT / name, folder)
    project = yaml.safe_load((PROJECT / "project.yaml").read_text(encoding="utf-8"))
    project["models"]["catalog"]["base"]["size"] = "0.5M"
    project["models"]["sft"]["length"]["steps"] = 8
    (folder / "project.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
    with open_session(folder / "project.yaml", folder / "store") as session:
        names = session.choose(None)
        run(session.project, session.store, session.services, names)
        return {name: session.artifacts(name) for name in names}


@pytest.mark.slow
def test_the_rows_are_the_questions_each_followed_by_its_wordings_in_the_order_of_the_files(
    made, tmp_path
):
    paraphrases = json.loads((PROJECT / "paraphrases.json").read_text(encoding="utf-8"))
    path = made["paraphrased"]["paraphrase"].path / "examples.parquet"
    examples = read_table(path, Example)
    expected = [text for question, texts in paraphrases.items() for text in (question, *texts)]
    assert [example.question for example in examples] == expected
    answers = {e.question: e.answer for e in examples if e.kind == "original"}
    count = export_examples(examples, tmp_path / "rows.jsonl", "template", ALPACA)
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert count == len(lines) == 154
    question = next(iter(paraphrases))
    assert lines[1] == json.dumps(
        {
            "text": "Below is an instruction that describes a task. Write a response that "
            "appropriately completes the request. ### Instruction: "
            f"{paraphrases[question][0]} ### Response: {answers[question]}"
        },
        ensure_ascii=False,
    )


@pytest.mark.slow
def test_the_question_with_two_answers_keeps_both(made):
    examples = read_table(made["plain"]["read"].path / "examples.parquet", Example)
    (several,) = [example for example in examples if example.answers]
    assert several.answer == "두부 가르기"
    assert several.answers == ("길이 100미터의 두부를 다 함께 자르는 두부 가르기",)


@pytest.mark.slow
def test_both_variants_are_asked_three_sets_of_the_same_questions(made):
    asked = []
    for artifacts in made.values():
        results = read_table(artifacts["evaluate"].path / "results.parquet", Result)
        tuned = {row.evidence_set: row.n for row in results if row.system == "tuned"}
        assert set(tuned) == {"seen_questions", "held_out_paraphrases", "unseen_sections"}
        assert all(row.right_low <= row.right <= row.right_high for row in results)
        asked.append(tuned)
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_the_shipped_files_are_what_their_source_makes():
    source = PROJECT / "source" / "paragraphs.yaml"
    articles = yaml.safe_load(source.read_text(encoding="utf-8"))
    data = json.loads((PROJECT / "questions.json").read_text(encoding="utf-8"))["data"]
    for article, row in zip(articles, data, strict=True):
        assert row["title"] == article["title"]
        for paragraph, made_row in zip(article["paragraphs"], row["paragraphs"], strict=True):
            assert made_row["context"] == paragraph["context"]
            for entry, qa in zip(paragraph["questions"], made_row["qas"], strict=True):
                answer = qa["answers"][0]
                start = answer["answer_start"]
                assert (qa["question"], answer["text"]) == (entry["question"], entry["answer"])
                assert made_row["context"][start : start + len(answer["text"])] == answer["text"]
