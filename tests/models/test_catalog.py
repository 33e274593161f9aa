import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer

from jangin.core.digest import digest_file
from jangin.core.errors import ConfigError, MachineError, StageError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.records import Document, Page
from jangin.core.stage import Services, StageContext
from jangin.models.catalog import STAGE, CatalogConfig
from jangin.models.loading import load_model, load_tokenizer, locate
from tests.conftest import make_artifact

TEXT = "제1조 연차휴가는 해마다 15일이다. 제2조 병가는 인사팀에 낸다. " * 20


def no_chat(name):
    raise AssertionError(f"catalog asked for the model {name}")


@pytest.fixture
def run_catalog(tmp_path):
    """Run the stage on one document; gives its workspace and summary."""
    documents = tmp_path / "documents"
    documents.mkdir()
    page = Page(number=1, start=0, end=len(TEXT), method="text")
    document = Document(id="d", source="a.txt", text=TEXT, pages=(page,), language="ko")
    source = StageContext(CatalogConfig(), {}, documents, None)
    source.write("documents", Document, [document])
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def run(name, base, *, with_documents=True, progress=None):
        workspace = tmp_path / name
        workspace.mkdir()
        context = StageContext(
            CatalogConfig.model_validate({"base": base}),
            {"documents": make_artifact(documents)} if with_documents else {},
            workspace,
            Services(tmp_path, no_chat, ledger, progress or Progress()),
        )
        STAGE.run(context)
        return workspace, context.summary

    return run


def digests(folder):
    return {
        p.relative_to(folder).as_posix(): digest_file(p) for p in folder.rglob("*") if p.is_file()
    }


def test_a_starter_is_a_complete_model_with_our_own_tokens_and_template(run_catalog):
    workspace, summary = run_catalog("one", {"type": "starter", "size": "0.5M"})
    assert {p.name for p in (workspace / "model").iterdir()} >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    tokenizer, model = load_tokenizer(workspace), load_model(workspace)
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}) == 3
    assert model.config.vocab_size == len(tokenizer) == summary["vocabulary"]
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    plain = Tokenizer.from_file(str(workspace / "model" / "tokenizer.json"))
    assert plain.decode(plain.encode("연차 2026년").ids) == "연차 2026년"
    messages = [{"role": "user", "content": "연차?"}, {"role": "assistant", "content": "15일"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|bos|><|user|>연차?<|end|><|assistant|>15일<|end|>"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights(run_catalog):
    one, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    two, _ = run_catalog("two", {"type": "starter", "size": "0.5M"})
    other, _ = run_catalog("other", {"type": "starter", "size": "0.5M", "seed": 1})
    assert digests(one) == digests(two)
    changed = {name for name, d in digests(other).items() if digests(one)[name] != d}
    assert changed == {"model/model.safetensors"}


@pytest.mark.long
def test_another_process_gives_the_same_bytes(run_catalog, tmp_path):
    one, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    code = (
        "import sys; from pathlib import Path; from jangin.models.starter import make_starter; "
        "make_starter(Path(sys.argv[1]), [sys.argv[2]], size='0.5M', vocabulary_size=2048, "
        "context_length=512, seed=0)"
    )
    target = tmp_path / "elsewhere"
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code, target, TEXT], check=True, env=environment)
    assert digests(target) == digests(one / "model")


@pytest.mark.parametrize("size", ["0.5M", "3M", "8M", "12M"])
def test_sizes_are_named_by_their_parameters_at_a_vocabulary_of_4096(size):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from jangin.models.shape import STARTER_SHAPES

    hidden, layers, feed_forward, heads = STARTER_SHAPES[size]
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=4096,
                hidden_size=hidden,
                num_hidden_layers=layers,
                intermediate_size=feed_forward,
                num_attention_heads=heads,
                tie_word_embeddings=True,
            )
        )
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    assert parameters == pytest.approx(float(size[:-1]), rel=0.1)


def test_a_starter_without_text_says_where_text_comes_from(run_catalog):
    with pytest.raises(StageError, match="documents: load"):
        run_catalog("one", {"type": "starter"}, with_documents=False)


def test_a_local_model_is_referred_to_without_its_path_in_the_content(run_catalog, tmp_path):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    folder = tmp_path / "somewhere"
    (starter / "model").rename(folder)
    workspace, summary = run_catalog("two", {"type": "local", "path": str(folder)})
    reference = json.loads((workspace / "model" / "reference.json").read_text())
    assert reference == summary
    assert not (workspace / "model" / "model.safetensors").exists()
    for path in (workspace / "model").iterdir():
        assert str(tmp_path) not in path.read_text()
    assert locate(workspace) == (str(folder), None)
    assert len(load_tokenizer(workspace)) == load_model(workspace).config.vocab_size
    folder.rename(tmp_path / "moved")
    with pytest.raises(MachineError, match="no longer at"):
        load_model(workspace)


def test_the_bytes_of_a_local_model_are_identity_and_its_place_is_not(run_catalog, tmp_path):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    config = CatalogConfig.model_validate({"base": {"type": "local", "path": "one/model"}})
    elsewhere = CatalogConfig.model_validate({"base": {"type": "local", "path": "two"}})
    assert config.identity() == elsewhere.identity()
    sources = STAGE.sources(config, tmp_path)
    assert sources["model.safetensors"] == starter / "model" / "model.safetensors"
    with pytest.raises(ConfigError, match=r"not a folder.*catalog: base: path"):
        STAGE.sources(elsewhere, tmp_path)


def test_a_local_model_without_a_chat_template_gets_one_of_plain_text(run_catalog):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    (starter / "model" / "chat_template.jinja").unlink()
    progress = Progress()
    base = {"type": "local", "path": str(starter / "model")}
    workspace, summary = run_catalog("two", base, progress=progress)
    assert summary["chat_template"] == "plain"
    assert any("has no chat template" in line and "plain" in line for line in progress.messages)
    messages = [{"role": "user", "content": "연차?"}, {"role": "assistant", "content": "15일"}]
    tokenizer = load_tokenizer(workspace)
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|bos|>Question: 연차?\n\nAnswer: 15일<|end|>\n\n"


def test_a_template_that_writes_the_date_of_today_is_named_with_the_date_it_gets(run_catalog):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    template = starter / "model" / "chat_template.jinja"
    source = "Today: {{ strftime_now('%d %b %Y') }}\n" + template.read_text(encoding="utf-8")
    base = {"type": "local", "path": str(starter / "model"), "date": "2025-05-01"}
    progress = Progress()
    run_catalog("plain", base, progress=progress)
    assert progress.messages == []
    template.write_text(source, encoding="utf-8")
    workspace, summary = run_catalog("dated", base, progress=progress)
    assert summary["date"] == "2025-05-01"
    other = {**base, "date": "2025-05-02"}
    keys = [CatalogConfig.model_validate({"base": each}).identity() for each in (base, other)]
    assert keys[0] != keys[1]
    assert any("date of today; 2025-05-01" in line for line in progress.messages)
    question = [{"role": "user", "content": "연차?"}]
    text = load_tokenizer(workspace).apply_chat_template(question, tokenize=False)
    assert "Today: 01 May 2025" in text


def test_a_local_model_with_python_code_of_its_own_is_refused_without_a_question(
    run_catalog, monkeypatch
):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was asked"))
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    config = json.loads((starter / "model" / "config.json").read_text())
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config |= {"model_type": "own", "auto_map": code}
    (starter / "model" / "config.json").write_text(json.dumps(config))
    (starter / "model" / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ConfigError, match=r"needs Python code.*`trust_remote_code: true`"):
        run_catalog("two", {"type": "local", "path": str(starter / "model")})


def test_a_folder_that_lacks_a_shard_or_all_weights_is_refused(run_catalog, tmp_path):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    folder = starter / "model"
    config = CatalogConfig.model_validate({"base": {"type": "local", "path": str(folder)}})
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    (folder / "model.safetensors").rename(folder / shards[0])
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    lacks = r"lacks model-00002-of-00002\.safetensors.*2 files.*\(1 is missing\)"
    with pytest.raises(ConfigError, match=lacks):
        STAGE.sources(config, tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    (folder / shards[0]).unlink()
    with pytest.raises(ConfigError, match=r"no weights.*catalog: base: path"):
        STAGE.sources(config, tmp_path)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("siglip_vision_model", "SiglipVisionModel"),
        ("bert", "BertForMaskedLM"),
        ("t5", "T5ForConditionalGeneration"),
        ("qwen3", "Qwen3ForSequenceClassification"),
    ],
)
def test_a_model_that_writes_no_text_is_refused_before_its_weights_are_read(
    run_catalog, kind, architecture
):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    config = {"model_type": kind, "architectures": [architecture]}
    (starter / "model" / "config.json").write_text(json.dumps(config))
    (starter / "model" / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(ConfigError, match=rf"{architecture}, which does not write text"):
        run_catalog("two", {"type": "local", "path": str(starter / "model")})


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "ViTForImageClassification"])
def test_a_plan_knows_that_a_local_model_writes_no_text(run_catalog, tmp_path, architecture):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    folder = starter / "model"
    config = CatalogConfig.model_validate({"base": {"type": "local", "path": str(folder)}})
    assert STAGE.sources(config, tmp_path)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    refused = rf"catalog\.base.*{architecture}.*not write text.*catalog: base"
    with pytest.raises(ConfigError, match=refused):
        STAGE.sources(config, tmp_path)


def test_a_token_of_the_template_without_an_embedding_is_known_before_any_row(run_catalog):
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    folder = starter / "model"
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"].append({**last, "id": size, "content": "<|extra|>"})
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    base = {"type": "local", "path": str(folder)}
    run_catalog("unused", base)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "<|extra|>", encoding="utf-8")
    writes = rf"^catalog\.base: .* writes '<\|extra\|>', token {size},.* {size:,} rows"
    with pytest.raises(ConfigError, match=writes):
        run_catalog("used", base)


class GatedHub(BaseHTTPRequestHandler):
    """The answer of the Hugging Face hub to a user who has not accepted a model's terms."""

    def do_HEAD(self):
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to model org/model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *words):
        """Write nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Settings of the hub's library, which reads them when it is used; an empty cache."""
    import huggingface_hub.constants as settings

    monkeypatch.setattr(settings, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def change(**values):
        for name, value in values.items():
            monkeypatch.setattr(settings, name, value)

    return change


def test_a_gated_model_says_how_to_get_access(run_catalog, hub):
    with ThreadingHTTPServer(("127.0.0.1", 0), GatedHub) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        hub(
            HF_HUB_OFFLINE=False,
            ENDPOINT=url,
            HUGGINGFACE_CO_URL_TEMPLATE=url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        with pytest.raises(MachineError, match=r"org/model is gated.*HF_TOKEN"):
            run_catalog("one", {"type": "hub", "id": "org/model"})
        server.shutdown()


def test_a_hub_model_that_cannot_be_reached_says_what_to_do(run_catalog, hub):
    hub(HF_HUB_OFFLINE=True)
    with pytest.raises(MachineError, match=r"(?s)nobody/nothing.*offline, set a local folder"):
        run_catalog("one", {"type": "hub", "id": "nobody/nothing"})


def test_weights_that_an_offline_machine_lacks_are_missed_before_training(
    run_catalog, hub, tmp_path
):
    hub(HF_HUB_OFFLINE=True)
    starter, _ = run_catalog("one", {"type": "starter", "size": "0.5M"})
    repository, commit = tmp_path / "cache" / "models--org--model", "0" * 40
    shutil.copytree(starter / "model", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    _, summary = run_catalog("two", {"type": "hub", "id": "org/model"})
    assert summary["revision"] == commit
    (repository / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(MachineError, match=r"org/model.*HF_HUB_OFFLINE.*hf download org/model"):
        run_catalog("three", {"type": "hub", "id": "org/model"})


def test_code_of_a_hub_model_runs_only_at_the_commit_that_was_read():
    base = {"type": "hub", "id": "org/model", "trust_remote_code": True}
    with pytest.raises(ValidationError, match=r"`revision` must be the commit.*'main' can change"):
        CatalogConfig.model_validate({"base": base})
    CatalogConfig.model_validate({"base": base | {"revision": "0" * 40}})


def test_the_hub_library_does_not_tell_of_its_tries_to_reach_the_hub(monkeypatch):
    import huggingface_hub.constants
    from huggingface_hub.utils import http_backoff

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    told = []

    class Listener(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())

    listener = Listener()
    library = logging.getLogger("huggingface_hub")
    library.addHandler(listener)
    try:
        with pytest.raises(Exception, match="refused"):
            http_backoff("HEAD", "http://127.0.0.1:9", max_retries=1, base_wait_time=0)
    finally:
        library.removeHandler(listener)
    assert told == []


@pytest.mark.slow
def test_the_configuration_imports_no_heavy_package():
    code = (
        "import sys, jangin.models.catalog, jangin.training.sft; "
        "sys.exit(bool({'torch', 'transformers', 'tokenizers', 'peft'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
