"""Two evaluated variants of a small project."""

import pytest

from jangin.serving.pages.compare.answers import AnswerTable
from tests.report.workshop import Workshop, predictions


@pytest.fixture
def made(tmp_path):
    """{variant: artifacts}: `plain` answers 3 of 12 paraphrases right, `paraphrased` 9."""
    return Workshop(tmp_path).made(plain=predictions(3), paraphrased=predictions(9, 1))


@pytest.fixture
def table(made):
    return AnswerTable({name: stages["evaluate"] for name, stages in made.items()})
