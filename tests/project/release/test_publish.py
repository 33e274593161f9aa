"""Publishing, against a server on this machine that speaks the Hub's protocol."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.core.errors import DataError, ExportError, MachineError
from jangin.project.release.publish import prepare_upload, publish

# The Hub's own client gives bytes to httpx in a way that httpx no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CARD = """\
---
base_model: "google/gemma-3-270m hub"
license: "unknown"
library_name: "peft"
---

# pumps

## Licence

Not known here.

## Export

Checked.
"""
WEIGHTS = bytes(range(256)) * 64


class Hub(ThreadingHTTPServer):
    """Repositories in memory."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories = {}
        self.blobs = {}
        self.sent = []
        self.fail_commits = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        """Write nothing."""

    def reply(self, content, status=200, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def refused(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token == "good":
            return False
        self.reply({"error": "no"}, 403 if token == "reads" else 401)
        return True

    def do_GET(self):
        hub, path = self.server, self.path.split("?")[0]
        name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if name == "google/gemma-3-270m":
            return self.reply({"id": name, "cardData": {"license": "gemma"}, "siblings": []})
        if name not in hub.repositories:
            return self.reply({"error": "no"}, 404, **{"X-Error-Code": "RepoNotFound"})
        repository = hub.repositories[name]
        files = [{"rfilename": file} for file in repository["files"]]
        return self.reply({"id": name, "private": repository["private"], "siblings": files})

    def do_PUT(self):
        data = self.body()
        self.server.blobs[hashlib.sha256(data).hexdigest()] = data
        self.server.sent.append(len(data))
        self.reply({})

    def do_POST(self):
        hub, data = self.server, self.body()
        if self.refused():
            return None
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            given = json.loads(data)
            name = f"{given['organization']}/{given['name']}"
            if name in hub.repositories:
                return self.reply({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
            private = given.get("private", given.get("visibility") == "private")
            hub.repositories[name] = {"private": private, "files": {".gitattributes": b""}}
            return self.reply({"url": f"{hub.url}/{name}"})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {"oid": o["oid"], "size": o["size"]}
                | (
                    {}
                    if o["oid"] in hub.blobs
                    else {"actions": {"upload": {"href": f"{hub.url}/blob/{o['oid']}"}}}
                )
                for o in json.loads(data)["objects"]
            ]
            return self.reply({"transfer": "basic", "objects": objects})
        name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if "/preupload/" in path:
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if "safetensors" in f["path"] else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for f in json.loads(data)["files"]
            ]
            return self.reply({"files": files})
        if "/commit/" in path:
            if hub.fail_commits:
                hub.fail_commits -= 1
                return self.reply({"error": "try later"}, 500)
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    content = base64.b64decode(value["content"])
                    hub.repositories[name]["files"][value["path"]] = content
                elif line["key"] == "lfsFile":
                    hub.repositories[name]["files"][value["path"]] = hub.blobs[value["oid"]]
            url = f"{hub.url}/{name}/commit/1234"
            return self.reply({"commitUrl": url, "commitOid": "1234", "hookOutput": ""})
        return self.reply({"type": "model"})  # validate-yaml


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "good")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the older of its two protocols
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "pumps"
    folder.mkdir()
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    return folder


def jangin(*words):
    return CliRunner().invoke(app, ["publish", *map(str, words)])


def send(export, name="org/pumps", *, public=False, update=False):
    upload = prepare_upload(name, export, "", "CC-BY-4.0", online=True)
    return publish(upload, public=public, update=update)


def test_a_model_is_published_private_with_its_files_and_licences(hub, export):
    done = jangin("org/pumps", export, "--data-license", "our own")
    assert done.exit_code == 0, done.output
    assert f"{hub.url}/org/pumps" in done.output
    repository = hub.repositories["org/pumps"]
    assert repository["private"] is True
    assert repository["files"]["adapter_model.safetensors"] == WEIGHTS
    card = repository["files"]["README.md"].decode()
    assert "license: gemma" in card
    assert "* Base model google/gemma-3-270m: gemma" in card
    assert "* Documents and data: our own" in card
    assert "## Export\n\nChecked." in card


def test_public_is_public(hub, export):
    send(export, public=True)
    assert not hub.repositories["org/pumps"]["private"]


def test_a_dry_run_lists_files_and_card_and_sends_nothing(hub, export):
    done = jangin("org/pumps", export, "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"{len(WEIGHTS):,}  adapter_model.safetensors" in done.output
    assert "# pumps" in done.output
    assert "--base-license" in done.output
    assert "--data-license" in done.output
    assert hub.repositories == {}
    assert (export / "README.md").read_text() == CARD


def test_an_interrupted_upload_goes_on_without_the_files_that_arrived(hub, export):
    hub.fail_commits = 1
    with pytest.raises(ExportError, match="500"):
        send(export)
    assert hub.sent == [len(WEIGHTS)]
    hub.fail_commits = 0
    send(export)
    assert hub.sent == [len(WEIGHTS)]
    assert "adapter_config.json" in hub.repositories["org/pumps"]["files"]


def test_a_name_that_is_taken_is_refused_unless_it_is_an_update(hub, export):
    send(export)
    with pytest.raises(ExportError, match="--update"):
        send(export)
    (export / "adapter_config.json").write_text('{"r": 8}')
    send(export, update=True)
    assert hub.repositories["org/pumps"]["files"]["adapter_config.json"] == b'{"r": 8}'


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("token", "status"), [("bad", "401"), ("reads", "403")])
def test_a_refused_token_is_one_sentence(export, monkeypatch, token, status):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ExportError, match=status):
        send(export)


@pytest.mark.usefixtures("hub")
def test_without_a_token_the_sentence_says_where_to_get_one(export, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(MachineError, match="hf auth login"):
        send(export)


@pytest.mark.usefixtures("hub")
def test_no_network_is_one_sentence(export, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match=r"http://127\.0\.0\.1:9"):
        send(export)


@pytest.mark.parametrize("name", ["pumps", "org/pumps/more", "org/", "org/our pumps"])
def test_a_name_without_an_organisation_is_refused(export, name):
    with pytest.raises(DataError, match="ORG/NAME"):
        prepare_upload(name, export, "", "", online=False)


def test_a_folder_that_holds_no_export_is_refused(tmp_path):
    with pytest.raises(DataError, match="jangin merge"):
        prepare_upload("org/pumps", tmp_path, "", "", online=False)
