"""The pages of three projects are what they were, or `python -m tests.views.golden` wrote them."""

import pytest

from tests.views.golden import FILES, pages_of, text_of
from tests.views.projects import PROJECTS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", PROJECTS)
def test_pages_and_terminal_show_what_they_showed(name, tmp_path):
    for kind, pages in pages_of(name, tmp_path).items():
        file = FILES / f"{name}.{kind}.txt"
        assert text_of(pages).splitlines() == file.read_text("utf-8").splitlines(), file.name
