import json

import pytest

from jangin.core.errors import ChatError, DataError, RefusedError, StageError
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Query, Snippet
from jangin.documents import search as search_module
from jangin.documents.search import STAGE, SearchConfig, SearchCounts, forecast, search
from jangin.documents.web_search import SearchResult
from jangin.llm.replies import Failed

TEXTS = (
    "확정일자는 주민센터에서 받고 수수료는 600원입니다.",
    "이사비는 영수증을 내면 최대 40만원까지 받습니다.",
    "이사비는 영수증을 내면 최대 40만원까지 받습니다.",
    "청약 교실은 둘째 토요일에 엽니다.",
)
QUERIES = [
    Query.make(text, "말") for text in ("이사비는 얼마인가요?", "확정일자 수수료는?", "zzz?")
]


def chunk(number, text):
    return Chunk(
        id=f"c{number}",
        document_id="d",
        source="안내.md",
        text=text,
        start=0,
        end=len(text),
        page=number,
        section=f"{number}장",
    )


CHUNKS = [chunk(number, text) for number, text in enumerate(TEXTS, start=1)]


@pytest.fixture
def context(table_context):
    def make(engine, queries=QUERIES):
        config = SearchConfig.model_validate({"engine": engine})
        return table_context(config, {"queries": (Query, queries), "chunks": (Chunk, CHUNKS)})

    return make


def run(context):
    search(context)
    names = (("snippets", Snippet), ("found", SearchCounts), ("failed", Failed))
    return [read_table(context.workspace / f"{name}.parquet", kind) for name, kind in names]


def test_the_projects_own_chunks_are_found_and_known_by_their_place(context):
    opened = context({"type": "local", "results": 3})
    snippets, found, failed = run(opened)
    first = [snippet for snippet in snippets if snippet.query_id == QUERIES[0].id]
    assert first[0].text == TEXTS[1]
    assert (first[0].chunk_id, first[0].source, first[0].page) == ("c2", "안내.md", 2)
    assert (first[0].section, first[0].engine, first[0].place) == ("2장", "local", 1)
    assert [row.text for row in first].count(TEXTS[1]) == 1
    assert found[0].copies == 1
    assert failed == []
    assert opened.summary["copies"] == 1


def test_a_question_without_results_is_a_row_and_is_named(context):
    opened = context({"type": "local"})
    _, found, _ = run(opened)
    assert [(row.question, row.found > 0) for row in found] == [
        (QUERIES[0].text, True),
        (QUERIES[1].text, True),
        ("zzz?", False),
    ]
    (line,) = opened.services.progress.messages
    assert " 1 of 3 " in line
    assert "zzz?" in line
    assert opened.summary["without_snippets"] == 1


def test_a_result_below_the_minimum_score_is_dropped(context):
    snippets, _, _ = run(context({"type": "local", "min_score": 0.3}))
    assert {snippet.chunk_id for snippet in snippets} == {"c1"}
    assert run(context({"type": "local", "min_score": 1.0}))[0] == []


def test_recorded_results_lose_their_copies_and_unknown_questions_are_named(context, tmp_path):
    rows = {
        QUERIES[0].text: ["이사비는 최대 40만원입니다.", "이사비는 최대 40만원 입니다!", "다른 것"]
    }
    rows[QUERIES[1].text] = []
    (tmp_path / "r.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    opened = context({"type": "file", "file": "r.json"})
    snippets, found, failed = run(opened)
    assert [(row.text, row.place) for row in snippets] == [
        ("이사비는 최대 40만원입니다.", 1),
        ("다른 것", 2),
    ]
    assert [(row.found, row.copies) for row in found] == [(2, 1), (0, 0)]
    (row,) = failed
    assert (row.subject, row.kind, row.reply) == (QUERIES[2].id, "rejected", "zzz?")
    assert list(STAGE.sources(opened.config, tmp_path)) == ["r.json"]


def test_a_file_of_other_questions_is_an_error(context, tmp_path):
    (tmp_path / "r.json").write_text('{"other?": ["a"]}')
    with pytest.raises(DataError, match=r"r\.json has 1 question,.* 3 "):
        run(context({"type": "file", "file": "r.json"}))
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        STAGE.sources(context({"type": "file", "file": "none.json"}).config, tmp_path)


class Engine:
    """A web engine that answers from a mapping; what is missing is an error."""

    def __init__(self, answers, stop=None):
        self.answers, self.stop = answers, stop

    def __call__(self, engine, ledger):
        assert engine.type == "naver"
        assert ledger is not None
        return self

    def cached(self, question):
        return self.answers.get(question)

    def search(self, questions, on_reply):
        for question in questions:
            on_reply(question, self.answers.get(question, ChatError("no answer. Try later.")))
        if self.stop:
            raise self.stop


def web(monkeypatch, answers, stop=None):
    monkeypatch.setattr(search_module, "WebSearch", Engine(answers, stop))


def test_a_search_that_failed_is_a_failed_row_and_not_an_empty_result(context, monkeypatch):
    results = [SearchResult(text="40만원까지 받습니다.", title="t", url="https://x")]
    web(monkeypatch, {QUERIES[0].text: results, "zzz?": []})
    snippets, found, failed = run(context({"type": "naver"}))
    assert [(s.text, s.title, s.url, s.engine) for s in snippets] == [
        ("40만원까지 받습니다.", "t", "https://x", "naver")
    ]
    assert [row.question for row in found] == [QUERIES[0].text, "zzz?"]
    assert [(row.subject, row.kind) for row in failed] == [(QUERIES[1].id, "unanswered")]


def test_no_answer_to_any_question_and_a_refusal_stop_the_stage(context, monkeypatch):
    web(monkeypatch, {})
    with pytest.raises(StageError, match=r"all 3 .*no answer"):
        run(context({"type": "naver"}))
    web(monkeypatch, {"zzz?": []}, RefusedError("wrong key. Correct it."))
    with pytest.raises(RefusedError, match="wrong key"):
        run(context({"type": "naver"}))


def test_the_plan_counts_the_requests_that_are_not_cached(context, monkeypatch):
    web(monkeypatch, {"zzz?": []})
    cost = forecast(context({"type": "naver", "requests_per_minute": 1}))
    assert cost.text == "2 requests to https://openapi.naver.com, about 2 minutes"
    assert "no network" in forecast(context({"type": "local"})).text


def test_only_the_local_index_needs_chunks_and_its_analysers_version():
    local, naver = SearchConfig(), SearchConfig.model_validate({"engine": {"type": "naver"}})
    assert (STAGE.wants(local), STAGE.wants(naver)) == (("chunks",), ())
    assert list(STAGE.machine(local)) == ["kiwipiepy"]
    assert STAGE.machine(naver) == {}


def test_no_questions_give_empty_tables(context):
    assert run(context({"type": "local"}, queries=[])) == [[], [], []]
