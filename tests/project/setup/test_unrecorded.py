"""Recorded replies that do not fit are said before a run, not by its failure."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.project.plan import Unrecorded, unrecorded_calls
from jangin.project.session import open_session
from jangin.project.setup.forecast import forecast

HANDBOOK = Path(__file__).parents[3] / "projects" / "handbook"

pytestmark = pytest.mark.slow  # they plan a whole project


@pytest.fixture
def project(tmp_path):
    """One document of the demo with the replies of all four."""
    (tmp_path / "documents").mkdir()
    shutil.copy(HANDBOOK / "documents" / "복리후생안내.md", tmp_path / "documents" / "a.md")
    keys = yaml.safe_load((HANDBOOK / "project.yaml").read_text("utf-8"))
    del keys["variants"]
    keys["teachers"]["writer"]["similar"] = 1.0
    keys["teachers"]["writer"]["replies"] = str(HANDBOOK / "replies.jsonl")
    keys["documents"]["chunk"] = {"measure": "characters"}
    return tmp_path, keys


def gaps(folder, keys):
    (folder / "project.yaml").write_text(yaml.safe_dump(keys, allow_unicode=True), "utf-8")
    with open_session(folder, creates_store=False) as session:
        return unrecorded_calls(forecast(session, ["main"]).steps)


def rename(folder):
    """The name of a document is part of what the teacher reads."""
    (folder / "documents" / "a.md").rename(folder / "documents" / "복리후생안내.md")


def test_replies_that_fit_are_passed_over_in_silence(project):
    folder, keys = project
    rename(folder)
    assert gaps(folder, keys) == []


def test_a_changed_document_and_changed_settings_are_counted(project):
    folder, keys = project
    rename(folder)
    path = folder / "documents" / "복리후생안내.md"
    path.write_text(path.read_text("utf-8") + "\n## 새 제도\n\n휴게실은 2층에 있습니다.\n", "utf-8")
    (gap,) = gaps(folder, keys)
    assert (gap.stage, gap.missing) == ("synthesize", 1)
    assert gap.calls > 1
    keys["examples"]["synthesize"]["max_tokens"] = 999
    keys["examples"]["paraphrase"]["source"]["temperature"] = 0.123
    changed = gaps(folder, keys)
    assert [gap.stage for gap in changed] == ["synthesize", "paraphrase"]
    assert all(gap.missing == gap.calls > 0 for gap in changed)


def test_the_terminal_says_it_with_what_to_do(project):
    folder, keys = project
    keys["examples"]["synthesize"]["max_tokens"] = 999
    gaps(folder, keys)
    shown = CliRunner().invoke(app, ["plan", "-p", str(folder)])
    assert shown.exit_code == 0
    assert "synthesize would stop: the recorded replies cover 0 of its" in shown.output
    assert "jangin run --record" in str(Unrecorded("all", "judge", 2, 1))
