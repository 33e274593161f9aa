import json

import pytest

from jangin.core.errors import DataError
from jangin.documents.retrieval.recorded_search import RecordedSearch
from jangin.documents.retrieval.web_search import Found


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
def test_results_are_read_in_the_shapes_in_which_they_were_kept(write, name, content):
    recorded = RecordedSearch(write(name, content))
    assert len(recorded) == 1
    assert [row.text for row in recorded.find(" 전세란 ? ")] == ["하나", "둘"]


def test_nothing_found_and_never_asked_are_two_things(write):
    recorded = RecordedSearch(write("r.json", {"없음?": []}))
    assert recorded.find("없음?") == []
    assert recorded.find("다른 것?") is None


def test_titles_and_urls_are_kept(write):
    row = {"text": "a", "title": "<b>t</b>", "link": "https://x"}
    recorded = RecordedSearch(write("r.json", {"q": [row]}))
    assert recorded.find("q") == [Found(text="a", title="t", url="https://x")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("r.json", [{"question": "q"}], "r.json: row 1: no search result"),
        ("r.json", [{"question": "q", "document": []}, 3], "r.json: row 2: no search result"),
        ("r.json", {"q": [{"title": "t"}]}, "row 1: snippet 1 has no text"),
        ("r.jsonl", '{"question": "q", "snippets": []}\n{', "r.jsonl:2: no JSON"),
        ("r.json", "", "is empty"),
    ],
)
def test_a_bad_file_is_one_sentence(write, name, content, told):
    with pytest.raises(DataError) as caught:
        RecordedSearch(write(name, content))
    assert told in str(caught.value)
