"""Clients against a server on loopback that answers in the shapes that the engines document."""

import json
import time

import pytest
from aiohttp import web

from jangin.core.errors import ChatError, ConfigError, RefusedError
from jangin.core.ledger import Ledger
from jangin.documents import web_search
from jangin.documents.web_search import Brave, Naver, SearchResult, Searxng, WebSearch, plain
from tests.web_app import serve

NAVER_ITEMS = {
    "lastBuildDate": "Sat, 21 Nov 2026 09:00:00 +0900",
    "total": 2,
    "start": 1,
    "display": 2,
    "items": [
        {
            "title": "<b>전세</b> 계약 &quot;꿀팁&quot;",
            "link": "https://blog.example.com/1",
            "description": "<b>전세</b> 계약은 2년이고 보증금은 3&lt;5 처럼 &amp; 늘 확인",
            "bloggername": "늘봄",
            "bloggerlink": "blog.example.com",
            "postdate": "20260102",
        },
        {
            "title": "두 번째",
            "link": "https://blog.example.com/2",
            "description": "확정일자를\n받으세요",
            "bloggername": "늘봄",
            "bloggerlink": "blog.example.com",
            "postdate": "20260103",
        },
    ],
}
SEARXNG_RESULTS = {
    "query": "전세",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://example.com/a",
            "title": "전세란",
            "content": "전세는 …",
            "engine": "bing",
            "score": 1.0,
            "category": "general",
        },
        {"url": "https://example.com/b", "title": "본문 없음", "content": "", "engine": "bing"},
    ],
    "answers": [],
    "infoboxes": [],
    "suggestions": [],
    "unresponsive_engines": [["google", "timeout"]],
}
BRAVE_RESULTS = {
    "type": "search",
    "query": {"original": "전세", "more_results_available": False},
    "mixed": {"type": "mixed", "main": [{"type": "web", "index": 0, "all": False}]},
    "web": {
        "type": "search",
        "results": [
            {
                "title": "전세 <strong>안내</strong>",
                "url": "https://example.com/c",
                "description": "전세 &#x27;보증금&#x27;",
                "type": "search_result",
            }
        ],
    },
}
BAD_KEY = {"errorMessage": "Authentication failed (인증에 실패했습니다.)", "errorCode": "024"}


class Server:
    """Answers from a list of (status, body, headers), the last one for ever."""

    def __init__(self):
        self.answers, self.requests = [], []
        self.url = ""

    async def answer(self, request):
        self.requests.append(request)
        answers = self.answers
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(body):
            body = body(request)
        if status == 0:
            request.transport.abort()
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        return web.Response(status=status or 200, text=text, headers=headers)

    def says(self, *answers):
        self.requests.clear()
        self.answers[:] = [(*answer, {})[:3] for answer in answers]


@pytest.fixture(scope="module")
def running():
    server = Server()
    with serve(web.get("/{path:.*}", server.answer)) as server.url:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setenv("NAVER_CLIENT_ID", "id-1")
    monkeypatch.setenv("NAVER_CLIENT_SECRET", "secret-1")
    monkeypatch.setenv("BRAVE_API_KEY", "token-1")
    monkeypatch.setattr(web_search, "FIRST_WAIT_SECONDS", 0.001)
    return running


@pytest.fixture
def ask(server, ledger):
    def ask(kind, questions, ledger=ledger, **fields):
        fields = {"requests_per_minute": 60_000, "base_url": server.url, **fields}
        engine = {"naver": Naver, "searxng": Searxng, "brave": Brave}[kind](type=kind, **fields)
        results = {}
        WebSearch(engine, ledger).search(
            questions, lambda question, row: results.update({question: row})
        )
        return results

    return ask


def test_naver_gets_the_request_of_its_documentation(ask, server):
    server.says((200, NAVER_ITEMS))
    results = ask("naver", ["전세 계약?"], target="kin", results=5)
    (request,) = server.requests
    assert request.path == "/v1/search/kin.json"
    assert dict(request.query) == {"query": "전세 계약?", "display": "5", "sort": "sim"}
    assert request.headers["X-Naver-Client-Id"] == "id-1"
    assert request.headers["X-Naver-Client-Secret"] == "secret-1"
    assert results["전세 계약?"] == [
        SearchResult(
            text="전세 계약은 2년이고 보증금은 3<5 처럼 & 늘 확인",
            title='전세 계약 "꿀팁"',
            url="https://blog.example.com/1",
        ),
        SearchResult(text="확정일자를 받으세요", title="두 번째", url="https://blog.example.com/2"),
    ]


def test_the_variables_of_naver_s_keys_can_have_other_names(ask, server, monkeypatch):
    monkeypatch.setenv("OTHER_ID", "id-2")
    monkeypatch.setenv("OTHER_SECRET", "secret-2")
    server.says((200, NAVER_ITEMS))
    ask("naver", ["전세"], id_variable="OTHER_ID", secret_variable="OTHER_SECRET")
    assert server.requests[0].headers["X-Naver-Client-Id"] == "id-2"
    assert server.requests[0].headers["X-Naver-Client-Secret"] == "secret-2"


def test_searxng_is_asked_for_json_and_results_without_text_are_dropped(ask, server):
    server.says((200, SEARXNG_RESULTS))
    results = ask("searxng", ["전세"], language="ko", categories=("general", "news"))
    query = server.requests[0].query
    assert server.requests[0].path == "/search"
    assert (query["q"], query["format"], query["language"]) == ("전세", "json", "ko")
    assert query["categories"] == "general,news"
    assert [row.url for row in results["전세"]] == ["https://example.com/a"]


def test_brave_gets_its_token_and_tags_and_entities_are_removed(ask, server):
    server.says((200, BRAVE_RESULTS), (200, {"type": "search", "query": {}}))
    results = ask("brave", ["전세", "없는 것"], concurrency=1, country="US")
    assert server.requests[0].path == "/res/v1/web/search"
    assert server.requests[0].headers["X-Subscription-Token"] == "token-1"
    assert server.requests[0].query["search_lang"] == "ko"
    assert server.requests[0].query["country"] == "US"
    assert results["전세"][0].text == "전세 '보증금'"
    assert results["전세"][0].title == "전세 안내"
    assert results["없는 것"] == []


def test_an_answered_question_is_never_asked_again_even_after_a_kill(ask, server, tmp_path):
    path = tmp_path / "kept.sqlite"
    server.says((200, NAVER_ITEMS), (500, "down"))
    first = Ledger(path)
    with pytest.raises(KeyboardInterrupt):
        WebSearch(Naver(type="naver", base_url=server.url, concurrency=1), first).search(
            ["a", "b"], lambda _question, _row: (_ for _ in ()).throw(KeyboardInterrupt)
        )
    first.close()
    server.says((200, {**NAVER_ITEMS, "items": []}))
    second = Ledger(path)
    results = ask("naver", ["a", "b", "a"], ledger=second)
    second.close()
    assert [request.query["query"] for request in server.requests] == ["b"]
    assert len(results["a"]) == 2
    assert results["b"] == []


def test_other_settings_ask_again_and_another_rate_limit_does_not(ask, server):
    server.says((200, NAVER_ITEMS))
    ask("naver", ["a"], results=2)
    ask("naver", ["a"], results=2, requests_per_minute=6000, retries=1, concurrency=5)
    assert len(server.requests) == 1
    ask("naver", ["a"], results=1)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "trouble",
    [(500, "oops"), (0, ""), (200, "<html>"), (200, {"items": 3}), (200, {"total": 0})],
    ids=["500", "cut off", "no json", "wrong type", "no items"],
)
def test_a_transient_error_is_retried(ask, server, trouble):
    server.says(trouble, trouble, (200, NAVER_ITEMS))
    assert len(ask("naver", ["a"])["a"]) == 2
    assert len(server.requests) == 3


def test_the_wait_that_the_engine_names_is_kept(ask, server):
    server.says((429, "slow", {"Retry-After": "0.3"}), (200, NAVER_ITEMS))
    began = time.monotonic()
    ask("naver", ["a"])
    assert time.monotonic() - began >= 0.3
    limits = {"X-RateLimit-Remaining": "0, 900", "X-RateLimit-Reset": "1, 1419704"}
    server.says((429, "slow", limits), (200, BRAVE_RESULTS))
    began = time.monotonic()
    ask("brave", ["a"])
    assert time.monotonic() - began >= 1


def test_the_rate_limit_holds(ask, server):
    server.says((200, NAVER_ITEMS))
    began = time.monotonic()
    ask("naver", ["a", "b", "c", "d"], requests_per_minute=1200, concurrency=4)
    # A second's worth, 20 requests, is in the bucket: none has to wait.
    assert len(server.requests) == 4
    ask("naver", ["e", "f", "g"], requests_per_minute=300, concurrency=4)
    ask("naver", [*"hijklmnop"], requests_per_minute=300, concurrency=9)
    assert time.monotonic() - began >= 0.7


def test_an_error_is_passed_on_and_is_not_cached(ask, server):
    def bad(request):
        return "oops" if request.query["query"] == "b" else NAVER_ITEMS

    server.says((200, bad))
    results = ask("naver", ["a", "b", "c"], retries=1)
    assert isinstance(results["b"], ChatError)
    assert "after 2 tries" in str(results["b"])
    assert len(results["a"]) == len(results["c"]) == 2
    server.says((200, NAVER_ITEMS))
    assert len(ask("naver", ["a", "b", "c"], retries=1)["b"]) == 2
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("kind", "status", "body", "reason"),
    [
        ("naver", 401, BAD_KEY, "the key is missing or wrong (HTTP 401: Authentication failed"),
        ("searxng", 403, "Forbidden", "gives no JSON"),
        ("brave", 422, {"error": {"code": "SUBSCRIPTION_TOKEN_INVALID", "detail": "bad"}}, "wrong"),
        ("naver", 404, "", "no search at this URL"),
    ],
)
def test_a_refusal_stops_at_once(ask, server, kind, status, body, reason):
    server.says((status, body))
    with pytest.raises(RefusedError) as caught:
        ask(kind, ["a", "b", "c"], concurrency=1)
    assert reason in str(caught.value)
    assert len(server.requests) == 1


def test_a_question_that_the_engine_rejects_fails_alone(ask, server):
    answer = {
        "errorMessage": "Incorrect query request (잘못된 쿼리요청입니다.)",
        "errorCode": "SE01",
    }
    server.says((400, answer), (200, NAVER_ITEMS))
    results = ask("naver", ["a", "b"], concurrency=1)
    assert "Incorrect query request" in str(results["a"])
    assert len(results["b"]) == 2


def test_an_engine_that_is_down_stops_the_search(ask, server):
    server.says((503, "down"))
    with pytest.raises(ChatError, match="503"):
        ask("naver", [str(n) for n in range(50)], retries=0, concurrency=1)
    assert len(server.requests) == web_search.MAX_FAILURES_IN_A_ROW


def test_searxng_without_any_responsive_engine_is_an_error(ask, server):
    silent = {**SEARXNG_RESULTS, "results": []}
    server.says((200, silent))
    assert "google did not answer" in str(ask("searxng", ["a"], retries=1)["a"])
    server.says((200, {**silent, "unresponsive_engines": []}))
    assert ask("searxng", ["a"])["a"] == []


def test_a_missing_key_and_a_bad_url_are_refused_before_any_request(ask, server, monkeypatch):
    server.says((200, NAVER_ITEMS))
    with pytest.raises(ConfigError, match=r"base_url 'openapi\.naver\.com'"):
        ask("naver", ["a"], base_url="openapi.naver.com")
    monkeypatch.setenv("NAVER_CLIENT_SECRET", " ")
    with pytest.raises(ConfigError, match=r"NAVER_CLIENT_SECRET is not set.*export"):
        ask("naver", ["a"])
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("<b>전세</b>&nbsp;계약", "전세 계약"),
        ("a &lt;b&gt; c", "a <b> c"),
        ("3 < 5 > 2", "3 < 5 > 2"),
        ("\u1112\u1161\u11ab글<br/>둘", "한글 둘".replace(" ", "")),
        ('<a href="x">링크</a>', "링크"),
    ],
)
def test_tags_and_entities_are_removed_and_other_signs_are_not(text, seen):
    assert plain(text) == seen
