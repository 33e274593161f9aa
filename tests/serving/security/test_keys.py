"""Keys: created and removed by `jangin keys`, stored as a digest, needed where others can reach."""

import sys

import httpx2
import openai
import pytest

from jangin.cli.main import main
from jangin.core.errors import ConfigError, DataError
from jangin.serving.run import serve
from jangin.serving.security.keys import DEFAULT_SCOPES, USED_EVERY, add_key, digest_of, remove_key
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.tables import Key
from tests.serving.running import run_server


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server that needs keys."""
    folder = tmp_path_factory.mktemp("closed") / "data"
    with run_server(folder, require_keys=True) as running:
        yield running


@pytest.fixture
def keys(closed, monkeypatch, capsys):
    def call(*words):
        folder = str(closed.server.settings.folder)
        monkeypatch.setattr(sys, "argv", ["jangin", "keys", *words, "--folder", folder])
        with pytest.raises(SystemExit) as leave:
            main()
        printed = capsys.readouterr()
        code = int(leave.value.code or 0)
        return code, printed.err if code else printed.out

    return call


def row_of(closed, text):
    with closed.server.database.read() as session:
        return session.query(Key).filter_by(hash=digest_of(text)).one()


def test_a_key_works_until_it_is_removed(closed, keys):
    code, text = keys("add", "민지", "--project", "team")
    assert code == 0
    text = text.strip()
    row = row_of(closed, text)
    assert (row.name, row.project, row.scopes) == ("민지", "team", sorted(DEFAULT_SCOPES))
    client = closed.client(text)
    assert client.files.list().data == []
    assert text not in (closed.server.settings.folder / "server.sqlite").read_bytes().decode(
        "latin"
    )
    _, listed = keys("list")
    assert row.id in listed
    assert "민지" in listed
    assert text not in listed
    assert keys("remove", row.id)[0] == 0
    with pytest.raises(openai.AuthenticationError):
        client.files.list()


@pytest.mark.slow
def test_text_that_looks_like_a_key_and_is_none_is_refused_on_loopback_too(running):
    server = running.server
    with server.database.write() as session:
        options = {"project": "p", "scopes": DEFAULT_SCOPES, "now": server.now()}
        row, text = add_key(session, name="a", **options)
    assert running.client(text).files.list().data == []
    with server.database.write() as session:
        remove_key(session, row.id, server.now(), server.settings.folder)
    for key in (text, text[:-1], "sk-jangin-x"):
        with pytest.raises(openai.AuthenticationError):
            running.client(key).files.list()
    assert running.client("sk-jangi").files.list().data == []


def test_only_add_creates_a_folder_and_it_says_which(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "typo"

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["jangin", "keys", *words, "--folder", str(folder)])
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0), capsys.readouterr()

    for words in (("list",), ("remove", "key_x"), ("audit",)):
        code, printed = call(*words)
        assert code == 2
        assert f"{folder} has no database" in printed.err
        assert not folder.exists()
    _, printed = call("add", "a")
    assert f"a new server in {folder}" in printed.err
    assert printed.out.startswith("sk-jangin-")
    assert len(printed.out.split()) == 1
    _, printed = call("add", "b")
    assert f"the server of {folder}" in printed.err
    code, printed = call("remove", "key_x")
    assert code == 2
    assert f"jangin keys list --folder {folder}" in printed.err


@pytest.mark.parametrize("key", ["sk-any", "sk-jangin-" + "x" * 40, "한글"])
def test_any_other_key_is_refused_without_being_shown(closed, key):
    headers = {"authorization": f"Bearer {key}".encode()}
    reply = httpx2.get(f"{closed.url}/files", headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (401, "invalid_api_key")
    assert error["message"].startswith("Incorrect API key provided")
    assert "x" * 10 not in error["message"]


@pytest.mark.parametrize("value", [None, "", "Bearer", "Basic abc", "sk-any"])
def test_a_missing_key_is_refused_on_loopback_too(running, closed, value):
    headers = {} if value is None else {"authorization": value}
    for server in (running, closed):
        reply = httpx2.get(f"{server.url}/files", headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


def test_the_last_use_is_noted_once_an_hour(closed):
    server = closed.server
    with server.database.write() as session:
        _, text = add_key(session, name="a", project="p", scopes=["files"], now=server.now())
    closed.client(text).files.list()
    first = row_of(closed, text).last_used_at
    assert first is not None
    with server.database.write() as session:
        session.query(Key).filter_by(hash=digest_of(text)).one().last_used_at = first - USED_EVERY
    closed.client(text).files.list()
    assert row_of(closed, text).last_used_at >= first


def test_unknown_scopes_and_keys_are_refused(closed, keys):
    with closed.server.database.write() as session:
        with pytest.raises(DataError, match="'everything'"):
            add_key(session, name="a", project="p", scopes=["everything"], now=1)
        with pytest.raises(DataError, match="key_none"):
            remove_key(session, "key_none", 1, closed.server.settings.folder)
    code, printed = keys("add", "a", "--scope", "everything")
    assert code == 2
    assert "everything" in printed


def test_the_audit_log_says_who_did_what(closed, keys):
    text = keys("add", "b", "--project", "audited")[1].strip()
    client = closed.client(text)
    file = client.files.create(file=("a.bin", b"1"), purpose="user_data")
    client.files.delete(file.id)
    lines = [line.split() for line in keys("audit", "--last", "2")[1].splitlines()[1:]]
    key_id = row_of(closed, text).id
    assert [line[2:] for line in lines] == [
        ["audited", key_id, "file.delete", file.id],
        ["audited", key_id, "file.create", file.id],
    ]
    for _ in range(2):
        keys("remove", key_id)
    lines = [line.split()[2:] for line in keys("audit")[1].splitlines()[1:]]
    changes = [line for line in lines if line[-1] == key_id]
    assert changes == [
        ["audited", "command-line", "key.delete", key_id],
        ["audited", "command-line", "key.create", key_id],
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"host": "0.0.0.0"}, "others can reach 0.0.0.0"),
        ({"require_keys": True}, "`require_keys` is true"),
        ({"hosts": ("ai.example",)}, "`hosts` is set"),
        ({"origins": ("https://ai.example",)}, "`origins` is set"),
    ],
)
def test_a_server_that_needs_keys_does_not_start_without_one(tmp_path, options, reason):
    settings = ServerSettings(folder=tmp_path, port=0, **options)
    with pytest.raises(ConfigError, match=f"because {reason}.*jangin keys add"):
        serve(settings, say=lambda _url: pytest.fail("it listens"))
