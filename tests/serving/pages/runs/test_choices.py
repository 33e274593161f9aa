"""What there is to choose from, and what a form may choose."""

import os

import pytest

from jangin.core.errors import ConfigError
from jangin.llm.endpoint import find_key, keep_key, key_file
from jangin.llm.providers import PROVIDERS
from jangin.project.setup.scaffold import Endpoint, PretrainedBase, Recorded, StarterBase
from jangin.serving.pages.runs.choices import choices_of, local_models, options_of
from jangin.serving.pages.visit import PageError
from tests.llm.provider_stubs import Providers
from tests.serving.pages.project import HANDBOOK

RECORDED = {"teacher": "recorded", "replies": "기록.jsonl", "base": "starter", "size": "0.5M"}


@pytest.fixture
def folder(tmp_path):
    lines = (HANDBOOK / "replies.jsonl").read_bytes().splitlines(keepends=True)[:3]
    (tmp_path / "기록.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    return tmp_path


def test_no_teacher_is_preselected_that_could_not_answer(folder, monkeypatch):
    for row in PROVIDERS:
        monkeypatch.delenv(row.key_variable, raising=False)
    options = options_of(folder)
    assert options.replies == {"기록.jsonl": 3}
    assert options.teacher == "recorded"
    (folder / "기록.jsonl").unlink()
    assert options_of(folder).teacher == ""
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    options = options_of(folder)
    assert options.teacher == "provider"
    assert [row.name for row, _ in options.providers][:2] == ["gemini", "openai"]


def test_a_key_is_tried_and_kept_in_memory_or_in_a_file_of_the_user(folder, monkeypatch, tmp_path):
    providers = Providers()
    monkeypatch.setenv("JANGIN_KEYS", str(tmp_path / "own" / "keys"))
    monkeypatch.setenv("UPSTAGE_API_KEY", "")
    form = {**RECORDED, "teacher": "provider", "provider": "upstage"}
    with providers.serve() as address:
        monkeypatch.setenv("JANGIN_UPSTAGE_URL", f"{address}/upstage/v1")
        with pytest.raises(PageError) as refused:
            choices_of(form, folder, "docs")
        assert refused.value.key == "start_no_key"
        with pytest.raises(PageError) as refused:
            choices_of({**form, "key": "sk-wrong"}, folder, "docs")
        assert refused.value.key == "start_key_refused"
        assert "sk-wrong" not in str(refused.value.values)
        assert os.environ["UPSTAGE_API_KEY"] == ""
        made = choices_of({**form, "key": " sk-right\n"}, folder, "docs").teacher
        assert (made.provider.name, made.model) == ("upstage", "solar-pro4")
        assert os.environ["UPSTAGE_API_KEY"] == "sk-right"
        assert not key_file().exists()
        other = {**form, "provider_model": "solar-mini", "key": "sk-right", "keep_key": "1"}
        assert choices_of(other, folder, "docs").teacher.model == "solar-mini"
    assert key_file().stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("UPSTAGE_API_KEY")
    assert find_key("UPSTAGE_API_KEY") == "sk-right"
    keep_key("OTHER", "x")
    assert (find_key("UPSTAGE_API_KEY"), find_key("OTHER")) == ("sk-right", "x")
    key_file().chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        find_key("UPSTAGE_API_KEY")


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
        ({"teacher": "provider"}, "start_choose"),
        ({"teacher": "provider", "provider": "vllm"}, "start_no_model"),
        ({"teacher": "endpoint"}, "start_no_model"),
        (
            {
                "teacher": "endpoint",
                "model": "m",
                "base_url": "http://x/v1",
                "key_variable": "sk-x",
            },
            "start_key_is_no_name",
        ),
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
