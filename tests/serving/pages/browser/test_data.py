"""The room of data in Chromium."""

import polars as pl
import pytest

from tests.serving.pages.browser.conftest import PHONE, arrive, check_accessibility, expect


@pytest.fixture
def rules(project):
    """Id of the document with pages."""
    (table,) = project.glob("store/load/*/documents.parquet")
    rows = pl.read_parquet(table, columns=["source", "id"]).rows()
    return dict(rows)["취업규칙.pdf"]


@pytest.mark.slow
def test_an_expert_goes_from_a_table_to_the_page_of_an_example(page, rules):
    page.goto("/data")
    check_accessibility(page)
    page.select_option("#variant", "paraphrased")
    arrive(page, "**variant=paraphrased*")
    page.click("text=학습과 평가로 나눈 예제")
    arrive(page, "**/tables/split/splits*")
    page.fill("#search", "수습")
    page.wait_for_url("**search=*")
    check_accessibility(page)
    page.click("#rows thead a:has-text('쪽')")
    page.wait_for_selector("th[aria-sort=ascending]")
    page.click("tbody tr:first-child td:first-child a")
    page.click("text=이 예제가 지나온 길")
    page.wait_for_selector(".page-picture img")
    page.locator(".evidence-box").first.wait_for(state="attached")
    page.wait_for_function("() => document.querySelector('.page-picture img').naturalWidth > 500")
    check_accessibility(page)
    page.click("text=원문 쪽에서 보기")
    arrive(page, f"**/documents/{rules}/*")
    box = page.locator(".boxes [data-mark] rect").first
    box.hover()
    expect(page.locator(".chunks .lit")).to_have_count(1)
    check_accessibility(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/documents/{rules}/3**")


@pytest.mark.slow
def test_every_page_of_the_room_on_a_phone_in_the_dark(new_page, rules):
    page = new_page(viewport=PHONE, color_scheme="dark", locale="en-US")
    for path in ("", "/tables/chunk/chunks", "/tables/chunk/chunks/1", "/dropped",
                 "/distributions", "/documents", f"/documents/{rules}/2", "/doubtful"):  # fmt: skip
        page.goto(f"/data{path}")
        check_accessibility(page)


@pytest.mark.slow
def test_without_scripts_everything_can_be_read(new_page, rules):
    page = new_page(java_script_enabled=False)
    page.goto("/data/tables/split/splits")
    page.fill("#search", "수습")
    page.click("text=적용")
    arrive(page, "**search=*")
    page.locator("tbody tr").first.wait_for()
    page.goto(f"/data/documents/{rules}/2")
    assert page.locator(".chunk-box").count() >= 3
    page.fill("#page", "3")
    page.press("#page", "Enter")
    page.wait_for_url(f"**/documents/{rules}/3**")
