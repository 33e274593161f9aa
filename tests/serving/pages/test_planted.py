"""Text of documents, rows, file names and people stays text, on every page that links reach."""

import html
import json
import re
from collections import deque
from urllib.parse import urljoin, urlsplit

import pytest
import yaml

import jangin
from tests.serving.pages.conftest import Browser
from tests.serving.pages.project import MODELS
from tests.serving.running import run_workbench

PLANTED = "<script>planted()</script>"
ATTRIBUTE = '" onmouseover="planted()" x="'
IMAGE = "<img src=x onerror=planted()>"
MARKDOWN = "[press](javascript:planted()) **bold**"
TEMPLATE = "{{ planted() }}{% planted %}"
TEXTS = (PLANTED, ATTRIBUTE, IMAGE, MARKDOWN, TEMPLATE, "</textarea></title>" + PLANTED)
DANGEROUS = re.compile(
    # An attribute of a tag; inside the quotes of another one it is text.
    r"<script>|<img src=x|<[a-z][\w-]*(?:\s+[^\s<>\"=]+(?:=\"[^\"]*\")?)*\s+onmouseover="
    r"|href=[\"']?javascript:",
    re.IGNORECASE,
)
MOST_PAGES = 250


def write_planted(folder):
    (folder / "documents").mkdir(parents=True)
    name = f"규정 {IMAGE.replace('/', '')}.md"
    text = "\n\n".join(
        f"# {n}. {planted}\n\n{planted} 기한은 {n}일입니다." for n, planted in enumerate(TEXTS)
    )
    (folder / "documents" / name).write_text(text, "utf-8")
    rows = [
        {"prompt": f"{planted} {number}번 기한은?", "completion": f"{number}일 {planted}"}
        for number in range(4)
        for planted in TEXTS
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    keys = {
        "name": f"planted {PLANTED}",
        "documents": {"load": {"folder": "documents"}, "chunk": None},
        "examples": {
            "read": {"path": "rows.jsonl", "format": {"type": "prompt_completion"}},
            "curate": None,
            "split": {"unseen_sections": 0, "validation": 0, "held_out_paraphrases": 0},
        },
        "models": MODELS,
        "variants": {ATTRIBUTE: {}, "b": {"examples": {"split": {"seed": 2}}}},
    }
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(keys, allow_unicode=True), "utf-8")
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A server whose project, documents and rows are full of scripts."""
    path = write_planted(tmp_path_factory.mktemp("planted") / "project")
    jangin.open(path.parent).run(progress=lambda _line: None)
    with run_workbench(path.parent / "server", project=path) as running:
        yield running


def crawl(browser):
    """(address, text) of every page that links reach from the first one."""
    seen, queue = {"/"}, deque(["/"])
    while queue and len(seen) < MOST_PAGES:
        address = queue.popleft()
        response = browser.get(address)
        if "text/html" not in response.headers.get("content-type", ""):
            continue
        yield address, response
        for link in re.findall(r'(?:href|hx-get|action)="([^"#]+)', response.text):
            target = urlsplit(urljoin(address, html.unescape(link)))
            local = f"{target.path}?{target.query}" if target.query else target.path
            if not target.netloc and target.path.startswith("/") and local not in seen:
                seen.add(local)
                queue.append(local)


@pytest.mark.slow
def test_no_page_runs_what_a_document_a_row_or_a_name_says(planted):
    pages = 0
    with Browser(planted.root) as browser:
        browser.get("/preferences")
        browser.submit("/preferences", name=f"검토자 {IMAGE}")
        for address, response in crawl(browser):
            pages += 1
            assert response.status_code < 500, address
            assert not DANGEROUS.search(response.text), address
            assert "script-src 'self'" in response.headers["content-security-policy"]
    assert pages > 1
