"""A web application on a port of this machine, in a thread of the test."""

import asyncio
import threading
from contextlib import contextmanager

from aiohttp import web


async def wait_until(holds):
    """Polls: what it waits for may happen in another thread."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.01)


@contextmanager
def serve(*routes):
    """The address of an application with these routes of aiohttp, until the block ends."""
    loop, ready, addresses = asyncio.new_event_loop(), threading.Event(), []
    stop = asyncio.Event()

    async def run():
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        addresses.extend(runner.addresses)
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(100)
    yield f"http://127.0.0.1:{addresses[0][1]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
