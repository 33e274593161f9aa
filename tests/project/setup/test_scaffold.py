"""The project file for a few choices."""

import errno
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jangin.core.errors import ConfigError
from jangin.llm.prices import Price
from jangin.llm.providers import BY_NAME
from jangin.project.file import open_project, parse_project
from jangin.project.setup.scaffold import (
    RECIPES,
    Choices,
    Endpoint,
    Known,
    PretrainedBase,
    Recorded,
    StarterBase,
    make_project,
    project_text,
    scalar,
    usual_teacher,
)

PRICE = Price(input_usd_per_million=1, output_usd_per_million=2.5)
TEACHERS = (
    usual_teacher(),
    Known(BY_NAME["openrouter"], "a/b: c", None, PRICE),
    Endpoint("qwen: 3", "http://127.0.0.1:1/v1", ""),
    Recorded("m", "한글.jsonl"),
)
BASES = (
    StarterBase("0.5M"),
    PretrainedBase("hub", "Qwen/Qwen3-0.6B"),
    PretrainedBase("gguf", "a b.gguf"),
)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("base", BASES, ids=lambda base: type(base).__name__)
@pytest.mark.parametrize("teacher", TEACHERS, ids=lambda teacher: teacher.model)
def test_every_choice_is_a_right_project_file(tmp_path, recipe, base, teacher):
    text = project_text(Choices('한 "줄"', "문서 모음", teacher, base, recipe, 5))
    project = parse_project(text, tmp_path / "project.yaml")
    assert project.name == '한 "줄"'
    for variant in project.variants.values():
        assert str(variant.documents.load.folder) == "문서 모음"
        assert variant.teachers["writer"].model == teacher.model
        assert variant.budget.usd == 5
        assert variant.models.sft.method.type == (
            "full" if isinstance(base, StarterBase) else "lora"
        )
        assert (variant.models.dpo is not None) == (recipe == "preferences")
    assert len(project.variants) == (2 if recipe == "compare" else 1)


@given(
    st.text(
        alphabet=st.characters(
            blacklist_categories=("Cc", "Cs", "Zl", "Zp"), blacklist_characters="\x85\ufeff"
        ),
        min_size=1,
    )
)
def test_a_text_is_the_same_after_yaml(text):
    assert yaml.safe_load(f"key: {scalar(text)}   # a note") == {"key": text}


def test_a_new_project_is_what_the_defaults_say(tmp_path):
    created, documents = make_project(tmp_path / "rules")
    assert [path.name for path in created] == ["project.yaml", "documents"]
    assert documents == 0
    assert created[0].read_text("utf-8") == project_text(Choices("rules"))
    assert open_project(tmp_path / "rules").name == "rules"


def test_a_project_that_a_full_disk_cuts_off_is_not_left_there(tmp_path, monkeypatch):
    def full(path, *_, **__):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(ConfigError, match=r"project\.yaml cannot be written: No space left"):
            make_project(tmp_path / "rules")
    assert make_project(tmp_path / "rules")[0][0].stat().st_size > 100
