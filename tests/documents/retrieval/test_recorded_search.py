import json

import pytest

from jangin.core.errors import DataError
from jangin.documents.search import RecordedSearch
from jangin.documents.web_search import SearchResult


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", [{"question": "전세란?", "document": ["<b>하나</b>", "둘"]}]),
        ("r.json", {"전세란?": ["하나", {"description": "둘"}]}),
        ("r.jsonl", '{"query": "전세란?", "snippets": [{"text": "하나"}, "둘", " "]}\n\n'),
        (
            "r.jsonl",
            '{"query": "전세란?", "results": ["하나"]}\n{"query": "전세란", "results": ["둘"]}',
        ),
    ],
)
def test_results_are_read_from_every_json_shape(write, name, content):
    recorded = RecordedSearch(write(name, content))
    assert len(recorded) == 1
    assert [row.text for row in recorded.find(" 전세란 ? ")] == ["하나", "둘"]


def test_a_question_without_results_differs_from_one_that_was_not_recorded(write):
    recorded = RecordedSearch(write("r.json", {"없음?": []}))
    assert recorded.find("없음?") == []
    assert recorded.find("다른 것?") is None


def test_titles_and_urls_are_kept(write):
    row = {"text": "a", "title": "<b>t</b>", "link": "https://x"}
    recorded = RecordedSearch(write("r.json", {"q": [row]}))
    assert recorded.find("q") == [SearchResult(text="a", title="t", url="https://x")]


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("r.json", [{"question": "q"}], "r.json: row 1: "),
        ("r.json", [{"question": "q", "document": []}, 3], "r.json: row 2: "),
        ("r.json", {"q": [{"title": "t"}]}, "r.json: row 1: snippet 1 "),
        ("r.jsonl", '{"question": "q", "snippets": []}\n{', "r.jsonl:2: invalid JSON"),
        ("r.json", "", "r.json is empty"),
    ],
)
def test_a_bad_file_is_refused_with_its_row(write, name, content, facts):
    with pytest.raises(DataError) as caught:
        RecordedSearch(write(name, content))
    assert facts in str(caught.value)
