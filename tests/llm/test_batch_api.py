import asyncio
import json

import pytest
from aiohttp import web

from jangin.core.errors import ChatError, RefusedError
from jangin.core.model_protocols import ChatRequest
from jangin.core.records import Message
from jangin.llm.ask import CachedChat, ask_all
from jangin.llm.batch_api import NAMESPACE, BatchChat
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.prices import Price
from tests.web_app import serve, wait_until

PRICE = Price(input_usd_per_million=0, output_usd_per_million=1_000_000)


class BatchServer:
    """OpenAI's /files and /batches on loopback; a batch is done after `polls` looks at it."""

    def __init__(self):
        self.files, self.batches, self.lines = {}, {}, {}
        self.polls, self.paid, self.looks = 1, [], 0
        self.status = "completed"
        self.lose_the_answer = False
        self.refused = ""
        """A field that a line must not have."""

    async def upload(self, request):
        form = await request.post()
        assert form["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        return web.json_response({"id": name})

    async def create(self, request):
        order = await request.json()
        assert order["endpoint"] == "/v1/chat/completions"
        assert order["completion_window"] == "24h"
        name = f"batch_{len(self.batches)}"
        lines = [json.loads(line) for line in self.files[order["input_file_id"]].splitlines()]
        self.batches[name] = {"id": name, "left": self.polls, "metadata": order["metadata"]}
        self.lines[name] = lines
        self.paid += [line["body"]["messages"][-1]["content"] for line in lines]
        if self.lose_the_answer:
            self.lose_the_answer = False
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        return web.json_response({"id": name, "status": "validating"})

    async def look(self, request):
        self.looks += 1
        batch = self.batches[request.match_info["name"]]
        batch["left"] -= 1
        if batch["left"] >= 0:
            return web.json_response({**batch, "status": "in_progress"})
        name = batch["id"]
        found = {**batch, "status": self.status}
        if self.status == "failed":
            return web.json_response(found | {"errors": {"data": [{"message": "no model m"}]}})
        found |= {"output_file_id": f"out-{name}", "error_file_id": f"err-{name}"}
        return web.json_response(found)

    async def index(self, _request):
        return web.json_response({"data": list(self.batches.values())})

    async def content(self, request):
        kind, name = request.match_info["name"].split("-")
        done = [line for line in self.lines[name] if self.outcome(line) == kind]
        return web.Response(text="\n".join(json.dumps(self.result(line)) for line in done))

    def outcome(self, line):
        if self.refused in line["body"]:
            return "err"
        text = line["body"]["messages"][-1]["content"]
        return "err" if "bad" in text else "none" if "late" in text else "out"

    def result(self, line):
        text = line["body"]["messages"][-1]["content"]
        if self.outcome(line) == "err":
            response = {"status_code": 500, "body": {"error": {"message": "it broke"}}}
            if self.refused:
                said = f"Unsupported parameter: '{self.refused}'"
                response = {"status_code": 400, "body": {"error": {"message": said}}}
        else:
            choice = {"message": {"content": f"답 {text}"}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 2}
            response = {"status_code": 200, "body": {"choices": [choice], "usage": usage}}
        return {"custom_id": line["custom_id"], "response": response, "error": None}


@pytest.fixture
def server():
    return BatchServer()


@pytest.fixture
def url(server):
    with serve(
        web.post("/v1/files", server.upload),
        web.post("/v1/batches", server.create),
        web.get("/v1/batches", server.index),
        web.get("/v1/batches/{name}", server.look),
        web.get("/v1/files/{name}/content", server.content),
    ) as address:
        yield f"{address}/v1"


@pytest.fixture
def opened(url, ledger):
    """A teacher over the batches, as a new process would open it."""

    def make(limit=None):
        endpoint = EndpointChat("m", url, retries=1, first_wait_seconds=0.001)
        batch = BatchChat(endpoint, ledger, poll_seconds=0.001, gather_seconds=0.01)
        budget = Budget("t", PRICE, SpendingLimit(limit, ledger.spent_usd()))
        chat = CachedChat(batch, ledger, budget)
        batch.on_resumed, endpoint.on_lost = chat.uncount_resumed, chat.charge_lost
        return chat

    return make


def ask(text):
    return ChatRequest(model="m", messages=(Message(role="user", content=text),), max_tokens=10)


def run(chat, texts, concurrency=2):
    replies = {}
    ask_all(chat, [ask(text) for text in texts], concurrency, replies.__setitem__)
    return [getattr(replies.get(n), "content", replies.get(n)) for n in range(len(texts))]


def test_all_requests_go_into_one_batch_whatever_the_concurrency(server, opened):
    texts = [f"질문 {n}" for n in range(40)]
    assert run(opened(), texts) == [f"답 {text}" for text in texts]
    assert len(server.batches) == 1
    assert server.paid == texts


def test_replies_are_in_the_ledger_and_nothing_is_left_under_way(server, opened, ledger):
    run(opened(), ["a", "b"])
    assert run(opened(), ["b", "a"]) == ["답 b", "답 a"]
    assert len(server.paid) == 2
    assert ledger.get_all(NAMESPACE) == {}
    assert ledger.spent_usd() == 4


def test_one_that_fails_is_told_and_the_others_are_kept(opened):
    one, two, bad = run(opened(), ["a", "b", "bad"])
    assert (one, two) == ("답 a", "답 b")
    assert isinstance(bad, ChatError)
    assert "it broke" in str(bad)


def test_an_expired_batch_keeps_what_was_finished(server, opened, ledger):
    server.status = "expired"
    one, late = run(opened(), ["a", "late"])
    assert one == "답 a"
    assert isinstance(late, ChatError)
    assert "batch_0 is expired and has no reply" in str(late)
    assert ledger.spent_usd() == 2
    server.paid.clear()
    run(opened(), ["a", "late"])
    assert server.paid == ["late"]


def test_a_batch_that_the_endpoint_refuses_says_why(server, opened):
    server.status = "failed"
    with pytest.raises(RefusedError, match=r"batch_0: no model m\."):
        run(opened(), ["a", "b"])


def killed_while_polling(server, opened, texts):
    """Ask, and vanish while the batch is under way: nothing is closed, nothing cleaned up."""

    async def work():
        chat = opened()
        tasks = [asyncio.create_task(chat.complete(ask(text))) for text in texts]
        await wait_until(lambda: server.looks)
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        assert unfinished > set(tasks)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await chat.inner.endpoint.close()

    asyncio.run(work())


def test_a_run_that_was_killed_goes_on_with_its_batch_and_pays_once(server, opened, ledger):
    server.polls = 10**9
    killed_while_polling(server, opened, ["a", "b"])
    assert len(ledger.get_all(NAMESPACE)) == 1
    assert ledger.spent_usd() == 20  # the worst case, as the cost is not known yet
    server.batches["batch_0"]["left"] = server.polls = 1
    assert run(opened(), ["b", "a", "c"]) == ["답 b", "답 a", "답 c"]
    assert server.paid == ["a", "b", "c"]
    assert ledger.spent_usd() == 6
    assert ledger.count_calls().asked_again == 0


def test_a_batch_made_in_the_moment_of_the_kill_is_found_by_its_mark(server, opened, ledger):
    server.lose_the_answer = True
    with pytest.raises(RefusedError):
        run(opened(), ["a", "b"])
    (note,) = ledger.get_all(NAMESPACE).values()
    assert json.loads(note)["batch"] == ""
    assert run(opened(), ["a", "b"]) == ["답 a", "답 b"]
    assert server.paid == ["a", "b"]


def test_a_note_of_a_batch_that_was_never_made_is_dropped(opened, ledger):
    run(opened(), ["x"])
    digest = ask("a").digest
    note = {"base_url": "", "model": "m", "source": "", "digests": [digest]}
    chat = opened()
    note["base_url"] = chat.inner.endpoint.base_url
    ledger.put(NAMESPACE, "gone", json.dumps(note))
    assert run(chat, ["a"]) == ["답 a"]
    assert ledger.get_all(NAMESPACE) == {}


def test_a_budget_lets_a_batch_be_as_large_as_it_can_pay(server, opened, ledger):
    assert run(opened(limit=50), [f"{n}" for n in range(20)]) == [f"답 {n}" for n in range(20)]
    assert ledger.spent_usd() == 40
    assert len(server.batches) > 1


def test_a_batch_whose_lines_are_refused_is_sent_once_more_in_another_form(server, opened):
    server.refused = "max_tokens"
    chat = opened()
    assert run(chat, ["하나", "둘"]) == ["답 하나", "답 둘"]
    sent = [[sorted(line["body"]) for line in lines] for lines in server.lines.values()]
    assert [len(lines) for lines in sent] == [2, 2]
    assert sent[0][0] == ["max_tokens", "messages", "model", "temperature"]
    assert sent[1][0] == ["max_completion_tokens", "messages", "model", "temperature"]
    assert chat.inner.endpoint.learned.refused == ("max_tokens",)
