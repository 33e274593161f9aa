"""Several servers of one model share its requests."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from jangin.core.model_protocols import ChatRequest
from jangin.core.records import Message
from jangin.llm.endpoint import EndpointChat
from tests.llm.test_endpoint import completion
from tests.shared import silent_port


@asynccontextmanager
async def server(seconds):
    """(URL, list that grows with each request) of a server that answers after `seconds`."""
    requests = []

    async def answer(request):
        requests.append(await request.json())
        await asyncio.sleep(seconds)
        return web.Response(text=completion("네")[1])

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", requests
    await runner.cleanup()


async def ask(chat, count):
    lost = []
    chat.on_lost = lost.append
    messages = [(Message(role="user", content=f"{number}?"),) for number in range(count)]
    requests = [ChatRequest(model="m", messages=message) for message in messages]
    replies = await asyncio.gather(*map(chat.complete, requests))
    await chat.close()
    assert [reply.content for reply in replies] == ["네"] * count
    assert not lost


def test_the_faster_server_gets_more_and_each_request_goes_out_once():
    async def work():
        async with server(0.002) as (fast, of_fast), server(0.1) as (slow, of_slow):
            chat = EndpointChat("m", slow, further_urls=(fast,), max_concurrency=8)
            await ask(chat, 60)
            assert len(of_fast) + len(of_slow) == 60
            assert len(of_slow) >= 4
            assert len(of_fast) > len(of_slow)

    asyncio.run(work())


def test_a_server_that_is_gone_costs_no_request():
    async def work():
        async with server(0.001) as (url, requests):
            chat = EndpointChat(
                "m",
                f"http://127.0.0.1:{gone}/v1",
                further_urls=(url,),
                max_concurrency=4,
                first_wait_seconds=0.001,
            )
            await ask(chat, 20)
            assert len(requests) == 20

    with silent_port() as gone:
        asyncio.run(work())


def test_the_addresses_are_no_part_of_what_a_reply_is_kept_under():
    alone, among = EndpointChat("m", "http://a/v1"), EndpointChat("m", "http://a/v1")
    among.further_urls = ("http://b/v1",)
    assert alone.source == among.source == ""


@pytest.mark.parametrize("mode", ["batch", "chat"])
def test_a_batch_has_one_address(mode):
    from jangin.project.teachers import EndpointTeacher

    fields = {"type": "endpoint", "model": "m", "base_url": "http://a/v1", "mode": mode}
    more = {"further_urls": ("http://b/v1",)}
    if mode == "chat":
        assert EndpointTeacher(**fields, **more).further_urls == more["further_urls"]
        return
    with pytest.raises(ValueError, match="`mode: batch` has one address"):
        EndpointTeacher(**fields, **more)
