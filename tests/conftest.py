"""Shared by all tests: no network but loopback, and live services around a temporary folder."""

import functools
import gc
import ipaddress
import os
import signal
import socket
import threading
from collections import Counter
from datetime import UTC, datetime
from importlib.util import find_spec

import pytest
from hypothesis import settings

from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import TableWriter, part_path, read_table, write_table
from jangin.core.records import Chunk, Document, Example, Message, Page
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact, Manifest
from jangin.llm.providers import PROVIDERS
from tests.forked import fork, start_server, stop_server
from tests.tiny_project import tiny

__all__ = ("fork", "tiny")

# Neither a provider nor a model server of this machine answers, until a test says where.
for row in PROVIDERS:
    os.environ[f"JANGIN_{row.name.upper()}_URL"] = "http://127.0.0.1:1/v1"
os.environ["JANGIN_KEYS"] = "/nonexistent/keys"

# Imports leave hardly any garbage, and looking for it takes a third of the time of collection.
gc.disable()

# A shell that runs us in the background has us ignore Ctrl-C, and so would all that tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine an example takes longer than the 200 ms that hypothesis allows.
settings.register_profile("jangin", deadline=None)
settings.load_profile("jangin")


class NetworkUsedError(RuntimeError):
    """A test wanted to leave this machine. No OSError, so that no retry swallows it."""


def is_loopback(host):
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def guarded(real):
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            raise NetworkUsedError(f"a test tried to connect to {address[0]}:{address[1]}")
        return real(self, address)

    return connect


def guarded_lookup(real):
    def getaddrinfo(host, *arguments, **named):
        if not is_loopback(host):
            raise NetworkUsedError(f"a test tried to look up {host!r}")
        return real(host, *arguments, **named)

    return getaddrinfo


SLOW_FIXTURES = {"finished", "postgresql"}
"""They run a whole project, and a database: tests with them are slow."""


def pytest_collection_modifyitems(config, items):
    """Files with slow tests come first, so that no process waits for one of them at the end."""
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames) or "postgresql" in item.name:
            item.add_marker(pytest.mark.slow)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    for name in ("long", "families"):
        if name in config.option.markexpr:
            continue
        for item in items:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(f"`make test-{name}` runs this"))


def pytest_collection_finish(session):
    """A million objects of torch and of the tests stay: no garbage collection looks at them."""
    gc.freeze()
    gc.enable()
    if not session.config.option.collectonly:
        start_server()


def pytest_unconfigure():
    stop_server()


def share_certificates(patch):
    """Each client would read the certificates of this machine, for 20 ms, and none needs them."""
    import httpcore2

    context = functools.cache(httpcore2.default_ssl_context)
    patch.setattr(httpcore2, "default_ssl_context", context)


def wait_for_replies(patch):
    """On a busy machine a reply takes longer than the five seconds that httpx2 allows."""
    from httpx2._config import DEFAULT_TIMEOUT_CONFIG

    for name in ("connect", "read", "write", "pool"):
        patch.setattr(DEFAULT_TIMEOUT_CONFIG, name, 100.0)


@pytest.fixture(scope="session", autouse=True)
def loopback_only():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", guarded_lookup(socket.getaddrinfo))
        if find_spec("httpcore2"):  # the oldest OpenAI client that we allow has another library
            share_certificates(patch)
            wait_for_replies(patch)
        yield


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def make_context(tmp_path, ledger):
    """A stage's context: `make_context(config, {kind: (record type, rows)}, chat)`."""

    def make(config, tables, chat=None):
        folder = tmp_path / f"stage{len(list(tmp_path.glob('stage*')))}"
        inputs = {}
        for kind, (record_type, rows) in tables.items():
            source = folder / kind
            source.mkdir(parents=True)
            write_table(source / f"{kind}.parquet", record_type, rows)
            inputs[kind] = make_artifact(source, stage=kind)
        workspace = folder / "workspace"
        workspace.mkdir(parents=True)
        chat = chat or FakeChat(lambda request: pytest.fail(f"asked {request}"))
        services = Services(tmp_path, lambda _name: chat, ledger, Progress())
        return StageContext(config, inputs, workspace, services)

    return make


def cut_into_parts(table, record_type, size):
    """Make a folder of parts with `size` rows each of a table that is one file."""
    rows = read_table(table, record_type)
    table.unlink()
    for number, start in enumerate(range(0, len(rows), size)):
        with TableWriter(part_path(table, number), record_type, part=True) as writer:
            writer.add(rows[start : start + size])


def make_manifest(**fields):
    return Manifest.model_validate(
        {
            "format": 1,
            "stage": "some",
            "version": 1,
            "key": "",
            "config": {},
            "inputs": {},
            "files": {},
            "content": "",
            "summary": {},
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            **fields,
        }
    )


def make_artifact(folder, **fields):
    """A folder as the artifact of some stage."""
    return Artifact(folder, make_manifest(**fields))


@pytest.fixture
def make_example():
    def make(question="연차휴가는 며칠인가요?", answer="15일입니다.", **fields):
        return Example.make(
            (Message(role="user", content=question),),
            Message(role="assistant", content=answer),
            **{"kind": "original", "document_id": "d", **fields},
        )

    return make


@pytest.fixture
def make_chunk():
    def make(number, text):
        return Chunk(
            id=f"c{number}",
            document_id="d",
            source="handbook.md",
            text=text,
            start=0,
            end=len(text),
            page=number,
            section=f"제{number}조",
        )

    return make


@pytest.fixture
def make_document():
    def make(text, language="ko"):
        page = Page(number=1, start=0, end=len(text), method="text")
        return Document(id="d", source="handbook.md", text=text, pages=(page,), language=language)

    return make
