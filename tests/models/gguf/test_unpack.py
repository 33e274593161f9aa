"""GGUF files as base models: written from a tiny Llama, unpacked, refused where damaged."""

import json
import struct

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoTokenizer

from jangin.core.errors import ConfigError, MachineError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatRequest
from jangin.core.records import Message
from jangin.core.stage import Services, StageContext
from jangin.llm.ask import ask_all
from jangin.llm.budget import SpendingLimit
from jangin.models.catalog import STAGE, CatalogConfig
from jangin.models.gguf.header import read_header
from jangin.models.gguf.word_splitting import SPLITTING, splitting_json, splitting_name
from jangin.models.loading import load_model, load_tokenizer, locate
from jangin.models.starter import make_starter
from jangin.project.teachers import Teacher, TeacherRegistry, open_teacher
from jangin.training.export.gguf_file import write_gguf

TEXTS = ["연차휴가는 언제 신청하나요? 2026년", "10일 안에 인사팀에 냅니다."] * 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a starter."""
    folder = tmp_path_factory.mktemp("starter")
    make_starter(folder, TEXTS, size="0.5M", vocabulary_size=320, context_length=64, seed=0)
    return folder


@pytest.fixture(scope="module")
def file(model):
    """The starter as GGUF, in eight bits."""
    write_gguf(model, model / "mine.gguf", "q8_0", "mine")
    return model / "mine.gguf"


@pytest.fixture
def run_catalog(tmp_path):
    """Run the stage on a GGUF file; gives its workspace, below a store, and its summary."""
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def run(path, name="key.partial", **settings):
        workspace = tmp_path / "store" / "catalog" / name
        workspace.mkdir(parents=True)
        base = {"type": "gguf", "path": str(path), **settings}
        config = CatalogConfig.model_validate({"base": base})
        services = Services(tmp_path, None, ledger, Progress())
        context = StageContext(config, {}, workspace, services)
        STAGE.run(context)
        return workspace, context.summary

    yield run
    ledger.close()


def test_an_unpacked_file_computes_what_was_packed(run_catalog, model, file, capsys):
    workspace, summary = run_catalog(file)
    assert capsys.readouterr() == ("", "")  # no progress bar in a log
    assert (summary["type"], summary["quantization"], summary["lossy"]) == ("gguf", "Q8_0", True)
    assert summary["dtype"] == "bfloat16"
    packed, unpacked = load_model_folder(model), load_model(workspace, torch.float32)
    ids = torch.tensor([[1, 4, 100, 200, 300]])
    difference = (packed(input_ids=ids).logits - unpacked(input_ids=ids).logits).abs().max()
    assert 0 < difference < 0.05


def load_model_folder(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_the_unpacked_tokenizer_splits_words_as_the_file_says(run_catalog, model, file):
    workspace, _ = run_catalog(file)
    before, after = AutoTokenizer.from_pretrained(model), load_tokenizer(workspace)
    for text in ("2026년 11월 22일", "It's  12345\n\n x", "<|user|>연차?<|end|>"):
        assert before(text).input_ids == after(text).input_ids
    assert after.chat_template


@pytest.mark.slow
def test_unpacked_weights_are_made_again_where_they_were_deleted(run_catalog, file, tmp_path):
    workspace, _ = run_catalog(file)
    weights = tmp_path / "store" / "unpacked"
    (folder,) = weights.iterdir()
    assert locate(workspace) == (str(folder), None)
    # safetensors writes files that only their owner may read.
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    folder.rename(tmp_path / "gone")
    assert locate(workspace) == (str(folder), None)
    assert (folder / "model.safetensors").exists()
    (workspace / "runtime" / "location.json").write_text(
        json.dumps({"path": str(weights / "nowhere"), "gguf": str(tmp_path / "moved.gguf")})
    )
    with pytest.raises(MachineError, match=r"no longer at .*moved\.gguf"):
        locate(workspace)


def test_the_bytes_of_a_file_are_identity_and_its_place_is_not(file, tmp_path):
    configs = [
        CatalogConfig.model_validate({"base": {"type": "gguf", "path": str(path)}})
        for path in (file, tmp_path / "elsewhere.gguf")
    ]
    assert configs[0].identity() == configs[1].identity()
    assert STAGE.sources(configs[0], tmp_path) == {"model.gguf": file}
    with pytest.raises(ConfigError, match=r"no GGUF file .*elsewhere.*catalog: base: path"):
        STAGE.sources(configs[1], tmp_path)


def test_a_file_that_is_no_gguf_or_not_whole_is_refused(file, tmp_path):
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ConfigError, match="not a GGUF file"):
        read_header(copy, "models: catalog: base")
    content = file.read_bytes()
    for size in (6, 200, 5_000, len(content) - 1):
        copy.write_bytes(content[:size])
        with pytest.raises(ConfigError, match=r"copy\.gguf is incomplete"):
            read_header(copy, "models: catalog: base")
    assert read_header(file, "models: catalog: base").architecture == "llama"


def test_an_unknown_architecture_and_a_part_of_a_file_are_refused(file, tmp_path):
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(
        file.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0xlstm")
    )
    with pytest.raises(ConfigError, match=r"'xlstm'.*type: hub"):
        read_header(copy, "models: catalog: base")
    key = b"split.count"
    fields = struct.pack("<Q", len(key)) + key + struct.pack("<IH", 2, 3)
    copy.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + fields + b"\0" * 64)
    with pytest.raises(ConfigError, match="one of 3 parts"):
        read_header(copy, "models: catalog: base")


@pytest.mark.parametrize("name", SPLITTING)
def test_the_names_of_word_splitting_lead_there_and_back(name):
    model = {"ignore_merges": name in ("llama-bpe", "tekken")}
    assert splitting_name({"pre_tokenizer": splitting_json(name), "model": model}) == name


def test_a_file_as_teacher_is_unpacked_with_the_first_request(file, ledger):
    given = {"type": "model", "base": {"type": "gguf", "path": file.name}, "rows": 1}
    teacher = TypeAdapter(Teacher).validate_python(given)
    registry = TeacherRegistry(file.parent, ledger, Progress(), SpendingLimit(1.0))
    chat = open_teacher("w", teacher, registry)
    assert (chat.model, chat.source.startswith("gguf ")) == ("mine", True)
    unpacked = ledger.path.parent / "unpacked"
    assert not unpacked.exists()
    request = ChatRequest(
        model="mine", messages=(Message(role="user", content="휴가"),), max_tokens=4
    )
    # The file is read as a model; a starter's template is not part of a GGUF file.
    with pytest.raises(ConfigError, match="no chat template"):
        ask_all(chat, [request], 1, lambda _number, _reply: None)
    (weights,) = unpacked.iterdir()
    assert (weights / "model.safetensors").exists()


def test_a_teacher_without_its_file_is_told_which_key_to_correct(tmp_path, ledger):
    given = {"type": "model", "base": {"type": "gguf", "path": "gone.gguf"}}
    registry = TeacherRegistry(tmp_path, ledger, Progress(), SpendingLimit(1.0))
    with pytest.raises(ConfigError, match=r"gone.gguf.*teachers: w: base: path"):
        open_teacher("w", TypeAdapter(Teacher).validate_python(given), registry)
