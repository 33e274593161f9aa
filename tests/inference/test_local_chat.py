import asyncio
import threading
import weakref
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from jangin.core.errors import ChatError, MachineError, TooLongError
from jangin.core.events import Progress
from jangin.core.model_protocols import ChatRequest
from jangin.core.records import Message
from jangin.inference import local_chat
from jangin.inference.generate import generate
from jangin.inference.local_chat import LocalChat, folder_identity
from jangin.llm.ask import ask_all, budget_of, layers_of
from jangin.llm.budget import SpendingLimit
from jangin.llm.prices import FREE
from jangin.llm.replies import schema_text
from jangin.models.starter import make_starter
from jangin.project.session import open_session
from jangin.project.teachers import Teacher, TeacherRegistry, open_teacher
from tests.tiny_project import KEYS, write_project

TEXTS = [
    "연차휴가는 언제 신청하나요? 3일 전에 신청합니다.",
    "병가는 누가 승인하나요? 팀장입니다.",
] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "small"
    make_starter(path, TEXTS, size="0.5M", vocabulary_size=320, context_length=128, seed=3)
    return path


@pytest.fixture
def chat(folder):
    return LocalChat("small", "local", str(folder), rows=3)


def ask(text, **fields):
    message = Message(role="user", content=text)
    return ChatRequest(**{"model": "small", "messages": (message,), "max_tokens": 12, **fields})


def run(chat, requests, concurrency=4):
    replies = {}
    ask_all(chat, requests, concurrency, replies.__setitem__)
    return [replies[n] for n in range(len(requests))]


@pytest.mark.slow
def test_it_answers_as_the_generator_does_whatever_joins_meanwhile(chat, folder):
    requests = [ask(f"휴가 {n}", max_tokens=4 + n) for n in range(8)]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    replies = run(chat, requests)
    for request, reply in zip(requests, replies, strict=True):
        (expected,) = generate(model, tokenizer, [request.messages], request.max_tokens)
        assert reply.content == expected.text
        assert reply.completion_tokens == len(expected.token_ids)
        assert reply.finish_reason == ("stop" if expected.finished else "length")
        assert reply.prompt_tokens > 4


def test_a_sampled_reply_depends_on_the_request_alone(chat):
    alone = run(chat, [ask("휴가", temperature=1.0)])
    among = run(
        chat, [ask(f"{n}", temperature=1.0) for n in range(5)] + [ask("휴가", temperature=1)]
    )
    other = run(chat, [ask("휴가", temperature=1.0, sample=1)])
    assert among[-1] == alone[0]
    assert other[0].content != alone[0].content


def test_a_reply_fits_its_schema_has_an_item_and_is_written_in_the_order_of_its_type(chat):
    class Row(BaseModel):
        model_config = ConfigDict(extra="forbid")
        word: Literal["휴가"]
        day: Literal["3일"]

    class Rows(BaseModel):
        model_config = ConfigDict(extra="forbid")
        rows: list[Row] = Field(max_length=2)

    request = ask("휴가", max_tokens=100, json_schema=schema_text(Rows))
    again = (*request.messages, Message(role="assistant", content="{}"), *request.messages)
    first, second = run(chat, [request, request.model_copy(update={"messages": again})])
    assert "".join(first.content.split()).startswith('{"rows":[{"word":"휴가","day":"3일"')
    assert "".join(second.content.split()).startswith('{"rows":[')
    assert first.content != second.content  # the second has the choice of an empty list


def test_a_prompt_over_the_context_is_refused_and_the_others_go_on(chat):
    long, short = run(chat, [ask("휴가 " * 100), ask("휴가")])
    assert isinstance(long, TooLongError)
    assert "more than the 128 tokens of model 'small'" in str(long)
    assert short.completion_tokens > 0


def test_it_may_be_asked_again_after_closing_and_after_its_memory_was_freed(chat):
    before = run(chat, [ask("휴가")])
    assert run(chat, [ask("휴가")]) == before
    model = weakref.ref(chat._loaded[0])
    chat.unload()
    assert model() is None
    assert run(chat, [ask("휴가")]) == before


def test_a_session_frees_the_teachers_that_a_stage_does_not_ask(folder, tmp_path):
    teachers = {
        name: {"type": "model", "base": {"type": "local", "path": str(folder)}}
        for name in ("writer", "judge")
    }
    project = write_project(tmp_path / "project", {**KEYS, "teachers": teachers})
    with open_session(project / "project.yaml") as session:
        services = session.services("main")
        loaded = []
        for name in teachers:
            chat = services.chat(name)
            run(chat, [ask(name)])  # each its own, which no reply of the other answers
            loaded.append(weakref.ref(list(layers_of(chat))[-1]._loaded[0]))
        del chat
        services.unload(("judge",))
        writer, judge = loaded
        assert writer() is None
        assert judge() is not None


def test_a_folder_that_cannot_be_loaded_is_told_to_everyone_who_asked(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    broken = LocalChat("small", "local", str(tmp_path))
    with pytest.raises(MachineError, match="cannot be loaded"):
        run(broken, [ask("a"), ask("b")])


def test_closing_half_way_leaves_nobody_waiting(chat, monkeypatch):
    load, closing = local_chat._load, threading.Event()

    def loads(*arguments):
        closing.wait(100)  # else everything could be answered by then
        return load(*arguments)

    monkeypatch.setattr(local_chat, "_load", loads)

    async def work():
        tasks = [asyncio.create_task(chat.complete(ask(f"{n}", max_tokens=100))) for n in range(6)]
        await asyncio.sleep(0)
        closed = asyncio.create_task(chat.close())
        await asyncio.sleep(0)
        closing.set()
        await closed
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(work())
    assert len(outcomes) == 6
    assert any(isinstance(outcome, ChatError) for outcome in outcomes)


def test_its_identity_is_its_bytes_and_not_its_place(folder, tmp_path, ledger):
    import shutil

    source = folder_identity(folder, ledger)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert folder_identity(tmp_path / "elsewhere", ledger) == source
    with (tmp_path / "elsewhere" / "config.json").open("a") as stream:
        stream.write(" ")
    assert folder_identity(tmp_path / "elsewhere", ledger) != source


def test_a_teacher_of_type_model_is_free_and_goes_through_the_ledger(folder, ledger):
    given = {"type": "model", "base": {"type": "local", "path": folder.name}, "rows": 2}
    teacher = TypeAdapter(Teacher).validate_python(given)
    registry = TeacherRegistry(folder.parent, ledger, Progress(), SpendingLimit(1.0))
    chat = open_teacher("w", teacher, registry)
    assert (chat.model, budget_of(chat).price) == ("small", FREE)
    first = run(chat, [ask("휴가")])
    assert ledger.count_calls().answered == 1
    assert run(open_teacher("w", teacher, registry), [ask("휴가")]) == first
    assert ledger.spent_usd() == 0
