import pytest

from tests.serving.pages.browser.conftest import PHONE, check_accessibility

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, PHONE], ids=["wide", "phone"])
def test_preferences_are_accessible_and_remembered(new_page, scheme, viewport):
    page = new_page(color_scheme=scheme, **({"viewport": viewport} if viewport else {}))
    page.goto("/preferences")
    check_accessibility(page)
    page.get_by_label("English").check()
    page.get_by_role("button", name="저장").click()
    page.get_by_role("heading", name="Preferences").wait_for()
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_missing_page_is_accessible(new_page):
    page = new_page(allowed=("404",))
    page.goto("/nothing")
    check_accessibility(page)
