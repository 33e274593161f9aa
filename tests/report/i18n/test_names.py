"""Every setting of a project file and every figure of a run has a name in both languages."""

import json
from pathlib import Path

import pytest

from jangin.report.i18n.translate import Words

SCHEMA = Path(__file__).parents[3] / "project.schema.json"


def project_keys():
    """Every key that a project file may have."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    parts = (schema, *schema["$defs"].values())
    return {key for part in parts for key in part.get("properties", {})}


@pytest.mark.parametrize("language", ["ko", "en"])
def test_every_key_of_a_project_file_has_a_name(language):
    words = Words(language)
    keys = project_keys()
    assert len(keys) > 200
    assert sorted(key for key in keys if words.setting(f"models.{key}") == f"models.{key}") == []


def test_a_setting_is_named_with_its_path():
    assert Words("ko").setting("models.sft.dropout") == "드롭아웃 (models.sft.dropout)"
    assert Words("en").setting("models.sft.no_such_key") == "models.sft.no_such_key"


@pytest.mark.parametrize("key", ["tokens.p95", "malformed_replies", "reward_margin", "copies"])
def test_figures_have_korean_names(key):
    assert Words("ko").figure(key) != key
