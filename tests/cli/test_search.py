"""`jangin search`: an index that is made without training, and what is found in it."""

import json

from tests.cli.test_main import TEXT, jangin, project

__all__ = ("jangin", "project")

TRAVEL = "\n## 제2조(출장비)\n\n출장비는 돌아온 날부터 이레 안에 청구한다.\n"


def test_search_shows_what_is_found_and_why_and_follows_the_documents(project, jangin):
    code, printed = jangin("search", "출장비 청구", "-p", project)
    assert (code, "Turn one on in" in printed) == (2, True)

    (project / "project.yaml").write_text(
        (project / "project.yaml").read_text("utf-8") + "  index:\n", encoding="utf-8"
    )
    code, printed = jangin("run", "index", "-p", project)
    assert code == 0
    assert "1 passage" in printed
    code, printed = jangin("search", "qqq", "-p", project, "--language", "ko")
    assert (code, "낱말이 있는 조각이 없습니다" in printed) == (0, True)

    (project / "documents" / "규정.md").write_text(TEXT + TRAVEL, encoding="utf-8")
    jangin("run", "index", "-p", project)
    code, printed = jangin("search", "출장비는 언제 청구하나요?", "-p", project, "--json")
    (first, *_) = map(json.loads, printed.splitlines())
    assert code == 0
    assert (first["rank"], first["source"], first["section"]) == (
        1, "규정.md", "규정 > 제2조(출장비)",
    )  # fmt: skip
    assert "이레 안에" in first["text"]
    assert "청구" in first["words"]
    assert 0 < first["score"] <= 1

    code, printed = jangin("search", "청구역", "-p", project)
    assert "only alike in parts of words" in printed
    assert "규정.md" in printed

    code, printed = jangin("search", "출장비는 언제 청구하나요?", "-p", project, "-n", "1")
    assert code == 0
    assert "1. 규정.md, page 1, 규정 > 제2조(출장비)" in printed
    assert "matched: " in printed
    assert "2. " not in printed


def test_an_empty_question_is_refused(project, jangin):
    code, printed = jangin("search", " ", "-p", project)
    assert code == 2
    assert "the question is empty" in printed
