"""Settings keep the identity by which the stores of users find their artifacts."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from jangin.core.digest import digest_value
from jangin.project.file import SECTIONS, Project

CASES = yaml.safe_load(Path(__file__).with_name("identities.yaml").read_text(encoding="utf-8"))


def config_class(section, stage):
    sections = Project.model_fields[section].annotation
    field = sections.model_fields[stage]
    kinds = get_args(field.annotation) or (field.annotation,)
    return next(kind for kind in kinds if hasattr(kind, "identity"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["stage"])
def test_the_identity_of_settings_is_that_of_stores_made_before(case):
    config = config_class(*case["stage"].split(".")).model_validate(case["settings"])
    assert digest_value(config.identity())[:16] == case["identity"]


def test_every_stage_that_was_released_has_a_case():
    assert {case["stage"].split(".")[0] for case in CASES} == set(SECTIONS)
    assert len({case["stage"] for case in CASES}) == 21
