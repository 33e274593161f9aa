"""Requests from the nodes of a cluster: each is paid once, and the budget holds."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from jangin.core.errors import BudgetError
from jangin.core.executor import ONE_CPU, LostActorError
from jangin.core.ledger import CallCount
from jangin.core.model_protocols import ChatReply
from jangin.llm.ask import CachedChat, ask_all
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.node_servers import NodeSender, SentRequest, from_nodes, read_replies
from jangin.llm.prices import Price
from tests.elsewhere import Elsewhere
from tests.llm.engines.test_served_chat import requests_of
from tests.llm.test_endpoint import running, server

__all__ = ("running", "server")
"""Fixtures of other files."""

QUESTIONS = [f"{number}번 규정은?" for number in range(60)]
REAL_USD = 3 * 100e-6 + 1 * 1e-3
"""3 tokens of a prompt and one of a reply, as the server reports them."""


@dataclass(frozen=True)
class Losing(Elsewhere):
    """Nodes of which the first dies at its third exchange, after it has sent it and some more."""

    meanwhile: Callable[[set[str]], None] = lambda _digests: None
    """Gets the digests of what the node was given."""

    @contextmanager
    def actors(self, work, resources=ONE_CPU, *, per_node=False):
        with super().actors(work, resources, per_node=per_node) as actors:
            yield [Mortal(actors[0], self.meanwhile), *actors[1:]]


class Mortal:
    def __init__(self, actor, meanwhile):
        self.actor, self.meanwhile, self.calls, self.digests = actor, meanwhile, 0, set()

    def call(self, item):
        self.calls += 1
        self.digests |= {sent.request.digest for sent in item}
        if self.calls < 3:
            return self.actor.call(item)
        self.actor.call(item).result()
        self.meanwhile(self.digests)
        lost = Future()
        lost.set_exception(LostActorError("was lost with its node"))
        return lost


@pytest.fixture
def opened(running, ledger, tmp_path):
    """A priced endpoint behind the ledger: `opened(executor, limit)`."""

    def make(executor=Elsewhere, usd=None):
        endpoint = EndpointChat("m", running[1], first_wait_seconds=0.001, retries=3)
        from_nodes(endpoint, executor, tmp_path / "calls")
        price = Price(input_usd_per_million=100.0, output_usd_per_million=1000.0)
        limit = SpendingLimit(usd, ledger.spent_usd())
        chat = CachedChat(endpoint, ledger, Budget("teacher", price, limit))
        endpoint.on_lost = chat.charge_lost
        return chat

    return make


def asked(server):
    return [body["messages"][-1]["content"] for body in server.bodies]


def ask(chat, questions=QUESTIONS, concurrency=16):
    replies = {}
    ask_all(chat, requests_of(chat, questions), concurrency, replies.__setitem__)
    return replies


def test_each_question_is_sent_once_from_both_nodes_and_the_books_are_exact(
    server,
    opened,
    ledger,
    tmp_path,
):
    before = set(threading.enumerate())
    chat = opened()
    replies = ask(chat)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    assert sorted(asked(server)) == sorted(QUESTIONS)
    assert ledger.spent_usd() == pytest.approx(60 * REAL_USD)
    assert chat.budget.limit.spent_usd == pytest.approx(60 * REAL_USD)
    assert ledger.count_calls() == CallCount(60, 60, 0)
    assert ask(opened()) == replies
    assert len(server.bodies) == 60
    assert not (tmp_path / "calls").exists()
    assert set(threading.enumerate()) <= before


def test_the_budget_holds_however_many_nodes_send(server, opened, ledger):
    with pytest.raises(BudgetError, match=r"of 60 requests were not sent"):
        ask(opened(usd=0.02))
    assert 8 <= len(server.bodies) <= 15
    assert ledger.spent_usd() == pytest.approx(len(server.bodies) * REAL_USD)
    assert ledger.spent_usd() <= 0.02


def test_a_reply_that_a_node_received_before_it_was_lost_is_not_paid_again(
    server,
    opened,
    ledger,
    tmp_path,
):
    server.seconds = 0.02

    def all_replies_arrive(digests):
        while not digests <= {digest for digest, _ in read_replies(tmp_path / "calls")}:
            time.sleep(0.01)

    replies = ask(opened(partial(Losing, meanwhile=all_replies_arrive)))
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    assert sorted(asked(server)) == sorted(QUESTIONS)
    assert ledger.spent_usd() == pytest.approx(60 * REAL_USD)


def test_what_was_in_flight_on_a_lost_node_counts_at_its_highest_cost(
    server,
    opened,
    ledger,
):
    server.least = 9  # the node does not live to get a reply
    chat = opened(Losing)
    ask(chat, QUESTIONS[:8])
    twice = len(server.bodies) - 8
    assert 1 <= twice <= 4
    assert ledger.spent_usd() > len(server.bodies) * REAL_USD
    assert ledger.spent_usd() == pytest.approx(chat.budget.limit.spent_usd)


def test_a_reply_that_a_killed_run_received_is_recorded_and_not_asked_again(
    server,
    opened,
    ledger,
    tmp_path,
):
    killed = opened()
    request, _ = requests_of(killed, QUESTIONS[:2])
    worst = 0.01
    ledger.record_request(request.digest, killed.source, "m", "teacher", worst)
    node = NodeSender({"model": "m", "base_url": killed.inner.base_url}, tmp_path / "calls")
    sent = [SentRequest(1, request)]
    while not node(sent):
        sent = []  # it may take longer to answer than the node waits
    node.close()
    with next((tmp_path / "calls").iterdir()).open("ab") as journal:
        journal.write(b'{"request": "half a li')
    chat = opened()
    replies = ask(chat, QUESTIONS[:2])
    assert asked(server) == QUESTIONS[:2]
    assert [reply.content for reply in replies.values()] == ["네", "네"]
    highest = chat.budget.usd(10, 4)  # what the request may cost is estimated, not 0.01
    assert ledger.spent_usd() == pytest.approx(chat.budget.limit.spent_usd)
    assert worst - highest < ledger.spent_usd() < worst + 2 * REAL_USD
    assert not (tmp_path / "calls").exists()
