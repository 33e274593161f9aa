"""docs/api.md lists the endpoints and extensions that the server has, and no others."""

import re
from pathlib import Path

from jangin.metrics.scores.similarity import SIMILARITIES
from jangin.serving.app import ROUTERS, SERVICES
from jangin.serving.batches import IN_FLIGHT, MOST_BYTES, MOST_LINES, BatchRunner
from jangin.serving.jobs.routes import EXTENSIONS
from jangin.serving.webhooks.sender import FIRST_DELAY, GIVE_UP, LONGEST_DELAY, SECONDS, delay

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def rows(heading):
    """First cells of the table below a heading."""
    table = PAGE.partition(heading)[2].partition("\n\n")[2]
    cells = re.findall(r"^\| (`[^|]+) \|", table.split("\n## ")[0], flags=re.M)
    return re.findall(r"`([^`]+)`", " ".join(cells))


def test_the_endpoints_of_the_page_are_those_of_the_server():
    shown = {re.sub(r"\{\w+\}", "{}", path) for path in rows("## What is supported")}
    served = {
        re.sub(r"\{[^}]+\}", "{}", f"/v1{route.path}")
        for routes in ROUTERS
        for route in routes.router.routes
    }
    missing = {path for path in served if not any(path.startswith(known) for known in shown)}
    assert missing == set()
    assert {path for path in shown if not any(other.startswith(path) for other in served)} == set()


def test_the_extensions_of_the_page_are_those_of_jobs():
    assert set(rows("Requests for jobs may have these")) == set(EXTENSIONS)


def test_the_metrics_of_the_page_are_those_of_graders():
    shown = " ".join(rows("## Graders"))
    for name in SIMILARITIES:
        order = re.fullmatch(r"rouge_([1-5])", name)
        assert name in shown or order, name


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert BatchRunner in SERVICES
    assert f"At most {MOST_LINES:,} lines and {MOST_BYTES // 10**6} MB" in PAGE
    assert f"answered {IN_FLIGHT} at a time" in PAGE
    assert f"within {SECONDS:g} seconds" in PAGE
    assert (GIVE_UP, LONGEST_DELAY) == (3 * 24 * 3600, 6 * 3600)
    assert 3.5 < delay(3) / delay(2) < 4.5
    assert FIRST_DELAY < 60
