"""Pages of doubtful order are listed, and one click says how many columns a page has."""

import re

import pytest

from jangin.core.digest import digest_file
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Document, OrderDoubt
from jangin.documents.page_columns import LOG, read_decisions
from tests.serving.running import run_workbench


@pytest.fixture(scope="module")
def flagged(project):
    """The document whose second page is flagged."""
    folder = next((project / "store" / "load").glob("*/documents.parquet")).parent
    documents = read_table(folder / "documents.parquet", Document)
    document = next(each for each in documents if each.source.endswith(".pdf"))
    first, second, *rest = document.pages
    doubt = OrderDoubt(reason="articles_fall", values=(12, 4))
    pages = (first, second.model_copy(update={"doubts": (doubt,)}), *rest)
    changed = document.model_copy(update={"pages": pages})
    rows = [changed if each.id == document.id else each for each in documents]
    write_table(folder / "documents.parquet", Document, rows)
    return changed


@pytest.fixture(scope="module")
def workbench(project, flagged):
    with run_workbench(project / "server", project=project / "project.yaml") as running:
        yield running


def test_the_list_names_the_page_and_why_and_filters_what_it_shows(browser, flagged):
    page = browser.get("/data/doubtful").text
    assert "제12조 다음에 제4조가 나옵니다." in page
    assert f"/data/documents/{flagged.id}/2" in page
    assert f"/data/documents/{flagged.id}/2" in browser.get("/data/doubtful?show=pages").text
    assert f"/data/documents/{flagged.id}/2" not in browser.get("/data/doubtful?show=lines").text


def test_one_click_says_how_many_columns_a_page_has_and_another_takes_it_back(
    browser, project, flagged
):
    browser.submit("/preferences", name="김검토")
    address = f"/data/documents/{flagged.id}/2"
    page = browser.get(address).text
    assert "이 쪽은 읽은 순서가 의심스럽습니다." in page
    page = browser.submit(f"{address}/columns", choice="2").text
    assert re.search(r"이 쪽은 2단으로 정했습니다.*김검토", page)
    (decision,) = read_decisions(project / LOG).values()
    digest = digest_file(project / "documents" / flagged.source)
    assert (decision.document, decision.page, decision.columns) == (digest, 2, 2)
    browser.submit(f"{address}/columns", choice="1", whole="true")
    assert (
        "이 파일의 쪽은 1단으로 정했습니다" in browser.get(f"/data/documents/{flagged.id}/1").text
    )
    browser.submit(f"{address}/columns", choice="undo")
    page = browser.submit(f"/data/documents/{flagged.id}/1/columns", choice="undo").text
    assert "으로 정했습니다" not in page
    assert read_decisions(project / LOG) == {}


def test_a_number_that_no_button_has_is_refused_and_nothing_is_noted(browser, project, flagged):
    answer = browser.submit(f"/data/documents/{flagged.id}/2/columns", choice="9")
    assert answer.status_code == 400
    assert read_decisions(project / LOG) == {}
