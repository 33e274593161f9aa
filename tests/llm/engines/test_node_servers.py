"""vLLM servers on several nodes: each is started there, guarded, asked, and ended."""

from functools import partial

import pytest

from jangin.core.errors import ChatError
from jangin.core.model_protocols import ChatReply
from jangin.llm.node_servers import resources_of
from jangin.llm.served_chat import LOGS, EngineModel, open_engine
from jangin.llm.server import ModelToServe, VllmEngine
from tests.elsewhere import Elsewhere
from tests.forked import wait_until_ended
from tests.llm.engines.stand_in import make_python
from tests.llm.engines.test_served_chat import ask

QUESTIONS = tuple(f"{number}번 규정은 무엇인가요?" for number in range(12))


def opened(folder, ledger, *arguments, executor=Elsewhere):
    """A model behind the stand-in on the nodes of an executor, and its notes."""
    (folder / "venv").mkdir()
    engine = VllmEngine(
        type="vllm",
        python=make_python(folder / "venv"),
        arguments=(*arguments, "--stand-in-says", "열다섯 날"),
        start_seconds=100,
    )
    model = EngineModel("tuned", "0" * 64, lambda: ModelToServe("weights", "weights"))
    notes = []
    return open_engine(engine, model, folder, ledger, None, notes.append, executor), notes


@pytest.mark.slow
def test_servers_on_nodes_share_the_questions_and_end_with_the_last_one(tmp_path, ledger):
    pids = tmp_path / "pids"
    chat, notes = opened(tmp_path, ledger, "--stand-in-child", str(pids))
    replies = ask(chat, QUESTIONS, concurrency=4)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    logs = [path.read_text() for path in (ledger.path.parent / LOGS).iterdir()]
    asked = [log.count("asked") for log in logs]
    assert len(asked) == 2
    assert sum(asked) == len(QUESTIONS)
    # The one with the fewest requests in flight is asked: each gets two of the first four, and one
    # that this machine does not let answer gets no more.
    assert min(asked) >= 2
    assert notes[-1] == f"2 vLLM servers answer as {chat.model}"
    wait_until_ended(pids.read_text().split())
    assert ledger.count_calls().answered == len(QUESTIONS)


@pytest.mark.slow
def test_a_server_that_ends_leaves_its_questions_to_the_others(tmp_path, ledger):
    chat, _ = opened(tmp_path, ledger, "--stand-in-dies-after", "3")
    replies = ask(chat, QUESTIONS[:5], concurrency=1)
    assert all(isinstance(reply, ChatReply) for reply in replies.values()), replies
    chat, _ = opened(tmp_path / "venv", ledger, "--stand-in-fails")
    replies = ask(chat, QUESTIONS[:1])
    assert isinstance(replies[0], ChatError)
    assert "no available memory for the cache blocks" in str(replies[0])


def test_a_server_gets_the_gpus_that_its_arguments_spread_the_model_over():
    engine = partial(VllmEngine, type="vllm", python="python")
    assert resources_of(engine()).gpus == 1
    assert resources_of(engine(arguments=("-tp", "4"))).gpus == 4
    spread = ("--tensor-parallel-size=4", "--pipeline-parallel-size", "2", "--port", "5")
    assert resources_of(engine(arguments=spread)).gpus == 8
