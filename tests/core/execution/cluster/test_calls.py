"""Requests to models on and from two nodes."""

import threading
import time

import pytest

from jangin.core.model_protocols import ChatReply
from jangin.llm.ask import CachedChat
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.node_servers import from_nodes
from jangin.llm.prices import Price
from jangin.llm.served_chat import LOGS
from tests.core.execution.cluster.machines import wait_for_nodes
from tests.core.execution.cluster.test_stages import on_cpus
from tests.forked import wait_until_ended
from tests.llm.engines.test_node_calls import QUESTIONS, REAL_USD, ask, asked
from tests.llm.engines.test_node_servers import opened as served
from tests.llm.test_endpoint import running, server

__all__ = ("running", "server")
"""Fixtures of other files."""


@pytest.fixture
def chat(running, ledger, tmp_path, executor):
    """A priced endpoint whose requests go out from both nodes."""
    endpoint = EndpointChat("m", running[1], first_wait_seconds=0.001, retries=3)
    from_nodes(endpoint, lambda: executor, tmp_path / "calls")
    price = Price(input_usd_per_million=100.0, output_usd_per_million=1000.0)
    chat = CachedChat(endpoint, ledger, Budget("teacher", price, SpendingLimit(9.0)))
    endpoint.on_lost = chat.charge_lost
    return chat


def test_a_server_on_each_node_answers_its_share_and_ends(executor, ledger, tmp_path):
    pids = tmp_path / "pids"
    chat, _ = served(
        tmp_path,
        ledger,
        *("--stand-in-child", str(pids)),
        executor=lambda: on_cpus(executor, "evaluate"),
    )
    replies = ask(chat, QUESTIONS[:12], concurrency=4)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    logs = {path.name: path.read_text() for path in (ledger.path.parent / LOGS).iterdir()}
    assert sorted(name.split("-")[2] for name in logs) == ["127.0.0.2", "127.0.0.3"]
    assert sum(log.count("asked") for log in logs.values()) == 12
    assert all("asked" in log for log in logs.values())
    wait_until_ended(pids.read_text().split())


def test_requests_from_both_nodes_are_paid_once(server, chat, ledger, tmp_path):
    replies = ask(chat)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    assert sorted(asked(server)) == sorted(QUESTIONS)
    assert ledger.spent_usd() == pytest.approx(60 * REAL_USD)
    assert not (tmp_path / "calls").exists()


def test_a_node_that_dies_loses_no_reply_and_what_was_in_flight_counts_at_its_highest_cost(
    server,
    chat,
    ledger,
    cluster,
):
    server.seconds = 0.4

    def die():
        while len(server.bodies) < 24:
            time.sleep(0.01)
        cluster.machines[1].kill()

    killer = threading.Thread(target=die)
    killer.start()
    try:
        replies = ask(chat, concurrency=8)
    finally:
        killer.join()
        cluster.replace()
        wait_for_nodes(2)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    twice = len(server.bodies) - len(QUESTIONS)
    assert 0 <= twice <= 8
    assert len(server.bodies) * REAL_USD <= ledger.spent_usd() + 1e-9
    assert ledger.spent_usd() == pytest.approx(chat.budget.limit.spent_usd)
