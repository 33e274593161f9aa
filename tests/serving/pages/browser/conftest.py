"""Chromium, driven by Playwright; a page fails its test if its console shows an error."""

import os
import re
import shutil
import time
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
IS_SETTLED = """() => !document.querySelector(
  '.htmx-request, .htmx-swapping, .htmx-added, .htmx-settling'
)"""
"""False while htmx works on what it put into the page: before, a button there sends its form as
without scripts, and the page that follows has no keys until its scripts are loaded."""
PATIENCE_MS = 100_000
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
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu"],
            timeout=PATIENCE_MS,
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
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        if name:
            give_name(context, name)

        def note(message):
            if message.type == "error" and not any(word in message.text for word in allowed):
                problems.append(f"{page.url}: {message.text}")

        open_address = page.goto

        def goto(address, **given):
            response = open_address(address, **given)
            prepare(page)
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


def expect(locator):
    """Assertions of Playwright, which wait until they hold."""
    from playwright.sync_api import expect

    return expect(locator)


def arrive(page, address):
    """Wait for the page that a click leads to, and for its scripts: a click does not wait."""
    page.wait_for_url(address)
    prepare(page)


def settle(page):
    """Wait until htmx has finished with what a reply put into the page."""
    page.wait_for_function(IS_SETTLED)


def evaluate(page, function, *arguments):
    """What a function returns on a page; None where another page was loaded meanwhile."""
    from playwright.sync_api import Error

    try:
        return page.evaluate(function, *arguments)
    except Error as error:
        if "navigation" not in error.message:
            raise
        return None


def prepare(page):
    """Wait for a page whose content may still be prepared, and which then loads itself again.

    It is asked from here, because a browser without scripts has no timers to ask itself.
    """
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not evaluate(page, IS_PREPARED):
        assert time.monotonic() < deadline, page.url
        page.wait_for_timeout(20)


def check_accessibility(page):
    """Fails where axe-core sees a violation of WCAG 2.2 AA, or where the page is wider than it."""
    options = {"runOnly": {"type": "tag", "values": RULES}}
    look = f"""async (options) => {{
      {AXE.read_text("utf-8")}
      const {{ violations }} = await axe.run(document, options);
      return [violations, document.documentElement.scrollWidth - innerWidth];
    }}"""
    result = None
    while result is None:  # the page of a run loads itself again at its end
        prepare(page)
        result = evaluate(page, look, options)
    violations, excess = result
    seen = [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in violations
        for node in violation["nodes"]
    ]
    assert seen == [], page.url
    assert excess <= 0, page.url
