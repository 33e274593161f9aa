"""Pages of doubtful order are flagged, and what people say about columns reaches the reader."""

import re

import pytest

from jangin.core.errors import DataError
from jangin.core.parquet import read_table
from jangin.core.records import Document
from jangin.documents.flagged import FlaggedPassages, flagged_lines, flagged_pages
from jangin.documents.load import STAGE, WAYS, LoadConfig
from jangin.documents.page_columns import (
    LOG,
    columns_by_digest,
    decide_columns,
    read_decisions,
)
from jangin.documents.reading import FolderReader

DIGEST = "a" * 64
FALLING = [(72.0, 780.0 - 60 * n, f"제{number}조(사항)") for n, number in enumerate((3, 12, 4))]
RISING = [(72.0, 780.0 - 60 * n, f"제{number}조(사항)") for n, number in enumerate((3, 4, 12))]


@pytest.fixture
def folder(tmp_path, draw_pages, korean_font):
    """Two documents of which the second page of one is out of order."""
    (tmp_path / "docs").mkdir()
    draw_pages(tmp_path / "docs/rules.pdf", [RISING, FALLING], korean_font)
    draw_pages(tmp_path / "docs/sound.pdf", [RISING], korean_font)
    return tmp_path


def load(make_context, **settings):
    config = LoadConfig(folder="docs", **settings)
    context = make_context(config)
    STAGE.run(context)
    return context, context.workspace / "documents.parquet"


def test_a_page_whose_article_numbers_fall_is_flagged_with_these_numbers(make_context, folder):
    context, table = load(make_context)
    (page,) = flagged_pages(table)
    assert (page.source, page.number) == ("rules.pdf", 2)
    assert [(doubt.reason, doubt.values) for doubt in page.doubts] == [("articles_fall", (12, 4))]
    assert context.summary["flagged_pages"] == 1
    assert flagged_lines([page])[1:] == ["  rules.pdf: page 2"]


def test_a_passage_is_flagged_if_some_of_it_is_on_such_a_page(make_context, folder):
    _, table = load(make_context)
    passages = FlaggedPassages.of(table)
    document = next(row for row in read_table(table, Document) if row.source == "rules.pdf")
    first, second = document.pages
    assert passages.pages(document.id, first.start, first.end) == []
    assert [page.number for page in passages.pages(document.id, 0, second.start + 1)] == [2]
    assert FlaggedPassages.of(folder / "none.parquet").pages(document.id, 0, 9) == []


def test_a_page_stays_flagged_where_numbers_fall_in_the_columns_that_a_person_gave(
    make_context, folder
):
    _, table = load(make_context, columns={"rules.pdf#2": 1})
    assert [page.number for page in flagged_pages(table)] == [2]


def test_a_name_that_is_no_file_is_refused_with_the_key(make_context, folder):
    with pytest.raises(DataError, match=re.escape("rule.pdf#2")) as error:
        load(make_context, columns={"rule.pdf#2": 1})
    assert "load.columns" in str(error.value)


def test_the_browser_takes_precedence_a_page_over_its_file_and_a_name_may_have_a_hash(tmp_path):
    log = tmp_path / LOG
    decide_columns(log, DIGEST, "a.pdf", 3, 2, "김검토")
    decide_columns(log, DIGEST, "a.pdf", 4, 2, "김검토")
    decide_columns(log, DIGEST, "a.pdf", 4, None, "김검토")
    decisions = read_decisions(log)
    assert decisions.keys() == {(DIGEST, 3)}
    digests = {"a.pdf": DIGEST, "b#1": "b" * 64}
    given = {"a.pdf": 1, "a.pdf#3": 1, "b#1": 3}
    assert columns_by_digest(given, digests, decisions.values(), "load.columns") == {
        DIGEST: {0: 1, 3: 2},
        "b" * 64: {0: 3},
    }


def test_only_the_file_of_a_decision_is_read_again(make_context, folder, tmp_path, monkeypatch):
    context, table = load(make_context)
    before = {row.source: row for row in read_table(table, Document)}
    done = context.workspace.parent / "done"
    context.workspace.rename(done)
    assert (done / "runtime" / WAYS).is_file()
    decide_columns(
        tmp_path / LOG, context.services.files.digest(folder / "docs/rules.pdf"), "rules.pdf",
        2, 2, "김검토",
    )  # fmt: skip
    read = []
    monkeypatch.setattr(FolderReader, "read", _noting(read))
    _, table = load(make_context)
    assert read == ["rules.pdf"]
    assert {row.source for row in read_table(table, Document)} == before.keys()


def _noting(names):
    whole = FolderReader.read

    def read(reader, files):
        names.extend(file.name for file in files)
        return whole(reader, files)

    return read
