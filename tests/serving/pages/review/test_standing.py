"""The page of the pipeline says what becomes of the review."""

import time

import pytest

from jangin.serving.pages.review.queue import ReviewStanding
from tests.serving.pages.review.conftest import row_of, token_of


@pytest.mark.parametrize(
    ("accepted", "rejected", "use", "applied", "expected"),
    [
        (0, 0, "respected", False, "start"),
        (0, 0, "required", False, "needed"),
        (0, 3, "required", False, "needed"),
        (2, 0, "respected", False, "run"),
        (2, 0, "required", False, "run"),
        (0, 3, "respected", True, "finished"),
        (2, 1, "ignored", True, "ignored"),
    ],
)
def test_what_to_do_next_follows_from_the_decisions_and_the_setting(
    accepted, rejected, use, applied, expected
):
    standing = ReviewStanding(accepted, rejected, 5, use, applied, ())
    assert standing.next_step == expected


def planned(browser):
    """The plan once it has been computed."""
    until = time.monotonic() + 100
    while "load delay:1s" in (page := browser.get("/runs/plan").text):
        assert time.monotonic() < until
        time.sleep(0.1)
    return page


def test_the_pipeline_says_what_a_run_does_with_the_decisions(browser):
    browser.get("/review")  # waits for the queue, which the pipeline does not
    assert "0개 판단" in planned(browser)
    page = browser.get("/review/next")
    browser.submit(f"/review/items/{row_of(page)}", decision="accept", token=token_of(page))
    page = planned(browser)
    assert "1개 판단" in page
    assert "아직 정하지 않은 예제는 그대로 씁니다" in page
    assert "판단을 반영하려면 실행을 누르십시오" in page
    assert "사람의 검토" in page
