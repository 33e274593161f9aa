"""Chromium, driven by Playwright; a page fails its test if its console shows an error."""

import os
import re
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).with_name("axe.min.js")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
IS_PREPARED = (
    "() => document.readyState == 'complete' && !document.querySelector('[data-preparing]')"
)
"""False on the page that says that something is still being prepared. A function: the pages forbid
to evaluate text."""
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def pytest_collection_modifyitems(items):
    """`make test` has no browser; `make test-browser` never skips."""
    if os.environ.get("JANGIN_BROWSER"):
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.skip("`make test-browser` opens a browser"))


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window."""
    assert CHROMIUM, "Chromium is not installed: sudo apt-get install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def give_name(context, name):
    """What a person is asked for before the first decision."""
    page = context.request.get("/name").text()
    token = re.search(r'X-CSRF-Token": "(\w+)"', page)[1]
    headers = {"origin": context.request.get("/name").url.removesuffix("/name")}
    context.request.post("/name", form={"csrf": token, "name": name}, headers=headers)


@pytest.fixture
def new_page(chromium, workbench):
    """Opens a page in a browser of its own, with options of Playwright: `viewport=PHONE`."""
    contexts, problems = [], []

    def open_page(root=workbench.root, allowed=(), name="tester", **options):
        context = chromium.new_context(
            base_url=root, **{"locale": "ko-KR", "viewport": WIDE, **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        if name:
            give_name(context, name)

        def note(message):
            if message.type == "error" and not any(word in message.text for word in allowed):
                problems.append(f"{page.url}: {message.text}")

        open_address = page.goto

        def goto(address, **given):
            response = open_address(address, **given)
            page.wait_for_function(IS_PREPARED)
            return response

        page.goto = goto
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page):
    """A page of 1280 x 900, in Korean."""
    return new_page()


def check_accessibility(page):
    """Fails where axe-core sees a violation of WCAG 2.2 AA, or where the page is wider than it."""
    page.wait_for_function(IS_PREPARED)
    page.evaluate(AXE.read_text("utf-8"))
    options = {"runOnly": {"type": "tag", "values": RULES}}
    result = page.evaluate("options => axe.run(document, options)", options)
    seen = [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]
    assert seen == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page.url
