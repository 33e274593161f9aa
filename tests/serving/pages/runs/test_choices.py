"""What there is to choose from, and what a form may choose."""

import pytest

from jangin.project.setup.scaffold import Endpoint, PretrainedBase, Recorded, StarterBase
from jangin.serving.pages.runs.choices import choices_of, local_models, options_of
from jangin.serving.pages.visit import PageError
from tests.serving.pages.project import HANDBOOK

RECORDED = {"teacher": "recorded", "replies": "기록.jsonl", "base": "starter", "size": "0.5M"}


@pytest.fixture
def folder(tmp_path):
    lines = (HANDBOOK / "replies.jsonl").read_bytes().splitlines(keepends=True)[:3]
    (tmp_path / "기록.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    return tmp_path


def test_no_teacher_is_preselected_that_could_not_answer(folder, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    options = options_of(folder)
    assert options.replies == {"기록.jsonl": 3}
    assert options.teacher == "recorded"
    (folder / "기록.jsonl").unlink()
    assert options_of(folder).teacher == ""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert options_of(folder).teacher == "openai"


def test_models_beside_the_project_file_are_offered(folder):
    (folder / "models" / "gemma").mkdir(parents=True)
    (folder / "models" / "gemma" / "config.json").touch()
    (folder / "models" / "small.gguf").touch()
    (folder / ".cache.gguf").touch()
    assert local_models(folder) == [("local", "models/gemma"), ("gguf", "models/small.gguf")]


def test_a_form_becomes_choices(folder):
    made = choices_of({**RECORDED, "name": " 휴가\n규정 ", "budget": "0.5"}, folder, "docs")
    assert (made.name, made.documents, made.budget_usd) == ("휴가 규정", "docs", 0.5)
    assert made.teacher == Recorded("handbook-teacher", "기록.jsonl")
    assert made.base == StarterBase("0.5M")
    form = {"teacher": "endpoint", "model": "qwen3", "base_url": "http://127.0.0.1:8000/v1"}
    made = choices_of({**form, "base": "local", "path": "small.gguf"}, folder, "docs")
    assert made.teacher == Endpoint("qwen3", "http://127.0.0.1:8000/v1", "")
    assert made.base == PretrainedBase("gguf", "small.gguf")
    assert made.name == folder.name


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"recipe": "soup"}, "start_choose"),
        ({"teacher": ""}, "start_choose"),
        ({"replies": "rows.jsonl"}, "start_no_replies"),
        ({"replies": "../기록.jsonl"}, "start_no_replies"),
        ({"teacher": "openai"}, "start_no_model"),
        ({"teacher": "openai", "openai_model": "m", "openai_key": "sk-x"}, "start_key_is_no_name"),
        ({"teacher": "endpoint", "model": "m", "base_url": "file:///x"}, "start_wrong_address"),
        ({"base": "hub", "hub": "no slash"}, "start_wrong_hub_name"),
        ({"base": "local"}, "start_no_path"),
        ({"base": "starter", "size": "9T"}, "start_choose"),
        ({"budget": "-1"}, "start_wrong_budget"),
        ({"budget": "much"}, "start_wrong_budget"),
    ],
)
def test_what_cannot_be_chosen_is_refused_by_name(folder, change, key):
    with pytest.raises(PageError) as refused:
        choices_of({**RECORDED, **change}, folder, "documents")
    assert refused.value.key == key
