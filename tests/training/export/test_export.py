import gc
import json
import re
import shutil
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Olmo2Config,
    Olmo2ForCausalLM,
)

from jangin.core.errors import ExportError, MachineError
from jangin.core.events import Progress
from jangin.core.prompts import Prompts
from jangin.documents.passages import PassagePrompt
from jangin.models.catalog import Local
from jangin.models.loading import (
    known_warnings_ignored,
    load_model,
    load_tokenizer,
    load_trained,
    without_progress_bars,
)
from jangin.models.model_card import license_of
from jangin.models.references import write_local_reference
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows
from jangin.project.release.publish import prepare_upload
from jangin.training.export import export
from jangin.training.export.export import export_model, verify_export
from jangin.training.loop.config import Lora, Steps, TrainingConfig
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import attach, make_trainable, save_epoch, save_trained
from jangin.training.objectives.sft import SftObjective

RECORD = {
    "name": "handbook-specialist",
    "base": "our-starter",
    "data": {"originals": 16},
    "training": {"method": "lora", "steps": 40, "train_loss": 0.125, "valid_loss": None},
    "evaluation": [
        {
            "evidence_set": "seen_questions",
            "system": "tuned",
            "n": 16,
            "right": 0.75,
            "right_low": 0.5,
            "right_high": 0.9,
            "measure": "character_f1",
            "score": 0.8,
            "score_low": 0.7,
            "score_high": 0.9,
        }
    ],
    "limits": ["Korean only."],
}


@pytest.fixture(scope="module")
def canaries(conversations):
    return [conversation[:1] for conversation in conversations[:4]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, conversations):
    """(base artifact, its LoRA artifact): a starter that knows its answers, and a small change."""
    root = tmp_path_factory.mktemp("artifacts")
    texts = [message.content for turns in conversations for message in turns]
    base, tuned = root / "base", root / "tuned"
    shape = {"size": "0.5M", "vocabulary_size": 400, "context_length": 128, "seed": 0}
    make_starter(base / "model", texts, **shape)
    tokenizer = AutoTokenizer.from_pretrained(base / "model")
    names = [str(number) for number in range(len(conversations))]
    data = render_rows(tokenizer, conversations, names)
    config = TrainingConfig(
        length=Steps(type="steps", steps=40), learning_rate=1e-2, precision="fp32", threads=1
    )
    model = load_model(base)
    train(SftObjective.of(model, data, None, config), config, root, Progress())
    save_trained(model, tokenizer, base, data.stop_ids, torch.float32, base)
    lora = TrainingConfig(method=Lora(type="lora", r=8, alpha=16))
    adapted = attach(load_model(base), lora)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02)
    save_trained(adapted, tokenizer, tuned, data.stop_ids, torch.float32, base)
    return base, tuned


@pytest.fixture(scope="module")
def merged(folders, canaries, tmp_path_factory):
    """(folder, report) of one good export."""
    out = tmp_path_factory.mktemp("export") / "merged"
    return out, export_model(*folders, out, "merged", RECORD, canaries)


@pytest.fixture
def copy(merged, tmp_path):
    """A copy of the good export, to be damaged."""
    return shutil.copytree(merged[0], tmp_path / "copy")


def edit_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.slow
def test_a_merged_export_answers_as_the_adapter_on_its_base_does(merged):
    out, report = merged
    assert report.form == "merged"
    assert report.dtype == "float32"
    assert report.parity.canaries == 4
    assert report.parity.answer_tokens >= 8
    assert report.parity.largest_divergence < 1e-5
    assert report.bytes == sum(path.stat().st_size for path in out.iterdir())


def test_a_merged_export_is_whole_without_its_base(merged):
    names = {path.name for path in merged[0].iterdir()}
    assert names == {
        *("config.json", "generation_config.json", "model.safetensors", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    assert AutoModelForCausalLM.from_pretrained(merged[0]).dtype == torch.float32


def test_merging_changes_the_weights_of_the_base(folders, merged):
    before = load_file(folders[0] / "model" / "model.safetensors")
    after = load_file(merged[0] / "model.safetensors")
    assert before.keys() == after.keys()
    key = "model.layers.0.mlp.down_proj.weight"
    assert (before[key] - after[key]).abs().max() > 1e-3


@pytest.mark.slow
def test_an_adapter_export_loads_on_its_base(folders, canaries, tmp_path):
    report = export_model(*folders, tmp_path / "adapter", "adapter", RECORD, canaries)
    assert report.parity.largest_divergence == 0
    names = {path.name for path in report.folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"} <= names
    assert 'library_name: "peft"' in (report.folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("form", ["adapter", "gguf"])
def test_an_export_says_with_how_many_passages_and_how_the_model_is_asked(
    folders, canaries, tmp_path, form
):
    model = shutil.copytree(folders[1], tmp_path / "model")
    reads = PassagePrompt(count=2, template=Prompts().find("retrieval", "en"))
    reads.write(model)
    out = export_model(folders[0], model, tmp_path / "out", form, RECORD, canaries).folder
    assert PassagePrompt.read(out) == reads
    assert "trained with 2 passages" in (out / "README.md").read_text()
    upload = prepare_upload("org/name", out, "mit", "", online=False)
    assert "passages.json" in [path for path, _ in upload.files]


def test_an_adapter_export_names_the_path_of_a_base_on_this_machine(folders, canaries, tmp_path):
    from peft import AutoPeftModelForCausalLM

    out = export_model(*folders, tmp_path / "adapter", "adapter", RECORD, canaries).folder
    with known_warnings_ignored(), without_progress_bars():
        loaded = AutoPeftModelForCausalLM.from_pretrained(out)
    ids = torch.tensor([[1, 2, 3]])
    trained = load_trained(folders[1], folders[0])
    assert loaded(input_ids=ids).logits.equal(trained(input_ids=ids).logits)
    assert str(folders[0]) in (out / "README.md").read_text()


def test_exported_files_have_the_permissions_that_the_umask_gives(merged, tmp_path):
    (tmp_path / "mine").touch()
    expected = (tmp_path / "mine").stat().st_mode
    assert {path.stat().st_mode for path in merged[0].iterdir()} == {expected}


def test_a_fully_tuned_model_is_exported_as_it_is_and_has_no_adapter(folders, canaries, tmp_path):
    base, _ = folders
    report = export_model(base, base, tmp_path / "full", "merged", RECORD, canaries)
    assert report.parity.largest_divergence == 0
    with pytest.raises(ExportError, match=r"method: full.*no adapter.*`merged`"):
        export_model(base, base, tmp_path / "adapter", "adapter", RECORD, canaries)
    assert not (tmp_path / "adapter").exists()


@pytest.mark.slow
def test_a_bf16_base_is_merged_in_fp32_and_written_in_bf16(folders, canaries, tmp_path):
    base, tuned = folders
    half = tmp_path / "half"
    shutil.copytree(base, half)
    load_model(half, torch.bfloat16).save_pretrained(half / "model")
    report = export_model(half, tuned, tmp_path / "out", "merged", RECORD, canaries)
    assert report.dtype == "bfloat16"
    assert 0 < report.parity.largest_divergence < report.parity.bound == 2e-2


@pytest.mark.slow
def test_a_merged_model_that_bf16_would_change_is_written_in_fp32(folders, canaries, tmp_path):
    base, tuned = folders
    half = shutil.copytree(base, tmp_path / "half")
    load_model(half, torch.bfloat16).save_pretrained(half / "model")
    report = export_model(half, tuned, tmp_path / "out", "merged", RECORD, canaries, 1e-6)
    assert report.dtype == "float32"
    assert report.parity.largest_divergence < 1e-6


@pytest.mark.slow
def test_a_gguf_of_a_bf16_base_is_merged_without_rounding_to_bf16(folders, canaries, tmp_path):
    base, tuned = folders
    half = shutil.copytree(base, tmp_path / "half")
    load_model(half, torch.bfloat16).save_pretrained(half / "model")
    report = export_model(half, tuned, tmp_path / "mine", "gguf", RECORD, canaries, quantize="f16")
    assert report.parity.largest_divergence < report.parity.bound == 1e-3
    default = export_model(half, tuned, tmp_path / "default", "gguf", RECORD, canaries)
    assert "Stored as bf16" in (default.folder / "README.md").read_text()


@pytest.mark.slow
class Bars(Progress):
    """Notes what its bars say: (label, total, done)."""

    def __init__(self):
        super().__init__()
        self.bars = []

    def start(self, label, total):
        self.bars.append([label, total, 0])
        return len(self.bars) - 1

    def advance(self, bar, steps=1, note=""):
        self.bars[bar][2] += steps


def test_the_two_models_that_are_compared_are_loaded_one_after_the_other_and_told(
    folders, canaries, tmp_path, monkeypatch
):
    models, alive = [], []

    def kept_weakly(name):
        load = getattr(export, name)

        def loads(*arguments, **options):
            gc.collect()
            alive.append(sum(model() is not None for model in models))
            model = load(*arguments, **options)
            models.append(weakref.ref(model))
            return model

        monkeypatch.setattr(export, name, loads)

    for name in ("load_trained", "_load_folder"):
        kept_weakly(name)
    bars = Bars()
    export_model(*folders, tmp_path / "out", "merged", RECORD, canaries, progress=bars)
    assert alive == [0, 0]
    assert [label for label, *_ in bars.bars] == [
        "export: write the merged model",
        "export: answers of the trained model",
        "export: answers of the exported model",
    ]
    assert [(total, done) for _, total, done in bars.bars] == [(1, 1), (8, 8), (8, 8)]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_that_sees_is_exported_in_its_own_class(folders, canaries, tmp_path, method):
    tokenizer = load_tokenizer(folders[0])
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    text = {"model_type": "mistral", "vocab_size": len(tokenizer), **sizes, **heads}
    eyes = {"num_attention_heads": 2, "head_dim": 8, "image_size": 28, "patch_size": 14}
    vision = {"model_type": "pixtral", **sizes, **eyes, "hidden_size": 16}
    torch.manual_seed(0)
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=3)
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    Mistral3ForConditionalGeneration(config).save_pretrained(base / "model")
    tokenizer.save_pretrained(base / "model")
    settings = TrainingConfig.model_validate({"method": {"type": method}})
    model = make_trainable(load_model(base), settings)
    save_trained(model, tokenizer, tuned, (tokenizer.eos_token_id,), torch.float32, base)
    report = export_model(base, tuned, tmp_path / "out", "merged", RECORD, canaries)
    assert report.parity.canaries == 4
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["architectures"] == ["Mistral3ForConditionalGeneration"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert 'model = Mistral3ForConditionalGeneration.from_pretrained("out")' in card


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_with_code_of_its_own_is_exported_with_it_and_nothing_is_asked(
    folders, canaries, tmp_path, monkeypatch, method
):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was asked"))
    weights, base, tuned = (tmp_path / name for name in ("weights", "base", "tuned"))
    shutil.copytree(folders[0] / "model", weights)
    (weights / "own.py").write_text(CODE)
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    changes = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": code}
    edit_json(weights / "config.json", lambda config: config.update(changes))
    (base / "runtime").mkdir(parents=True)
    settings = Local(type="local", path=weights, trust_remote_code=True)
    location = base / "runtime" / "location.json"
    write_local_reference(base / "model", weights, location, settings, tmp_path)
    tokenizer = load_tokenizer(base)
    config = TrainingConfig.model_validate({"method": {"type": method}})
    model = attach(load_model(base), config)
    stops = (tokenizer.eos_token_id,)
    save_trained(model, tokenizer, tuned, stops, torch.float32, base)
    if method == "full":
        epoch = tuned / "epochs" / "step-1"
        epoch.mkdir(parents=True)
        save_epoch(model, tokenizer, epoch, stops, torch.bfloat16, base)
        assert type(load_model(epoch)).__name__ == "OwnModel"
    report = export_model(base, tuned, tmp_path / "out", "merged", RECORD, canaries)
    assert report.dtype == "float32"
    assert (tmp_path / "out" / "own.py").read_text() == CODE
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert 'from_pretrained("out", trust_remote_code=True)' in card
    assert "vllm serve out --trust-remote-code" in card


def test_one_wrong_weight_is_refused(folders, copy, canaries):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"][3, 5] += 5
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ExportError, match=r"canary 1 .* nats \(KL\).*1e-03"):
        verify_export(*folders, copy, canaries)
    with pytest.raises(ExportError, match=r"answers canary \d"):
        verify_export(*folders, copy, canaries, max_divergence=1e9)


@pytest.mark.slow
def test_a_weight_that_is_not_a_number_is_refused(folders, copy, canaries):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ExportError, match="nan nats"):
        verify_export(*folders, copy, canaries)


def test_one_wrong_token_of_the_tokenizer_is_refused(folders, copy, canaries):
    tokenizer = AutoTokenizer.from_pretrained(copy)
    ids = tokenizer(canaries[0][0].content)["input_ids"]
    one, other = (tokenizer.convert_ids_to_tokens(i) for i in (ids[0], len(tokenizer) - 1))

    def swap(value):
        vocabulary = value["model"]["vocab"]
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]

    edit_json(copy / "tokenizer.json", swap)
    with pytest.raises(ExportError, match=rf"tokenizer.*canary 1 .*token \d+.*\[.*{ids[0]}"):
        verify_export(*folders, copy, canaries)


def test_another_chat_template_is_refused(folders, copy, canaries):
    path = copy / "chat_template.jinja"
    path.write_text(path.read_text().replace("{{ bos_token }}", "{{ bos_token }} "))
    with pytest.raises(ExportError, match=r"chat template.*canary 1 "):
        verify_export(*folders, copy, canaries)


@pytest.mark.slow
def test_another_stop_token_is_refused(folders, copy, canaries):
    edit_json(copy / "generation_config.json", lambda value: value.update(eos_token_id=[2, 7]))
    with pytest.raises(ExportError, match=r"\[2, 7\].*\[2\]"):
        verify_export(*folders, copy, canaries)


def test_an_export_that_cannot_be_read_back_is_refused(folders, copy, canaries):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="safetensors"):
        verify_export(*folders, copy, canaries)


@pytest.mark.slow
def test_a_refused_export_leaves_nothing_behind(folders, canaries, tmp_path):
    with pytest.raises(ExportError, match=r"canary 1 .*0e\+00"):
        export_model(*folders, tmp_path / "out", "merged", RECORD, canaries, max_divergence=0)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_and_a_missing_canary_are_refused(folders, canaries, tmp_path):
    with pytest.raises(ExportError, match=re.escape(str(tmp_path))):
        export_model(*folders, tmp_path, "merged", RECORD, canaries)
    with pytest.raises(ExportError, match=r"canary.* 1 question"):
        export_model(*folders, tmp_path / "out", "merged", RECORD, [])


def test_a_quantized_base_is_never_merged_into(folders, canaries, tmp_path):
    base = shutil.copytree(folders[0], tmp_path / "base")
    edit_json(
        base / "model" / "config.json",
        lambda value: value.update(quantization_config={"load_in_4bit": True}),
    )
    with pytest.raises(ExportError, match=r"quantized.*`models: catalog: base`.*qlora"):
        export_model(base, folders[1], tmp_path / "out", "merged", RECORD, canaries)


@pytest.fixture
def olmo(folders, tmp_path):
    """Artifact of a tiny fully tuned model of an architecture that only llama.cpp writes."""
    base = tmp_path / "olmo"
    tokenizer = load_tokenizer(folders[0])
    config = Olmo2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Olmo2ForCausalLM(config)
    save_trained(model, tokenizer, base, (tokenizer.eos_token_id,), torch.float32, base)
    return base


def test_an_architecture_that_only_llama_cpp_writes_needs_its_converter(
    olmo, canaries, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    with pytest.raises(MachineError, match=r"olmo2.*convert_hf_to_gguf\.py.*LLAMA_CPP.*PATH"):
        export_model(olmo, olmo, tmp_path / "out", "gguf", RECORD, canaries)


CONVERTER = """
import pathlib, sys
def main():
    folder, *flags = sys.argv[1:]
    assert flags[::2] == ["--outfile", "--outtype"] and flags[3] == "f32"
    assert (pathlib.Path(folder) / "model.safetensors").exists()
    pathlib.Path(flags[1]).write_bytes({content!r})
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def converter(tmp_path, monkeypatch):
    """A stand-in for llama.cpp that takes its arguments and writes this content."""

    def make(content):
        folder = tmp_path / "llama.cpp"
        folder.mkdir()
        (folder / "convert_hf_to_gguf.py").write_text(CONVERTER.format(content=content))
        monkeypatch.setenv("LLAMA_CPP", str(folder))

    return make


@pytest.mark.slow
def test_the_converters_file_is_exported_with_a_modelfile(olmo, canaries, tmp_path, converter):
    converter(b"GGUF\x03")
    report = export_model(olmo, olmo, tmp_path / "out", "gguf", RECORD, canaries)
    names = {path.name for path in report.folder.iterdir()}
    assert names == {"out.gguf", "Modelfile", "README.md"}
    assert "converted from" in (report.folder / "README.md").read_text()


@pytest.mark.slow
def test_a_converter_that_writes_something_else_is_refused(olmo, canaries, tmp_path, converter):
    converter(b"nonsense")
    with pytest.raises(ExportError, match=r"convert_hf_to_gguf\.py.* GGUF.*`merged`"):
        export_model(olmo, olmo, tmp_path / "out", "gguf", RECORD, canaries)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_failing_converter_is_quoted(olmo, canaries, tmp_path, monkeypatch):
    script = tmp_path / "convert.py"
    script.write_text("import that_is_nowhere")
    monkeypatch.setenv("LLAMA_CPP", str(script))
    with pytest.raises(MachineError, match=r"convert\.py.*pip install that_is_nowhere.*`merged`"):
        export_model(olmo, olmo, tmp_path / "out", "gguf", RECORD, canaries)


@pytest.mark.slow
def test_a_starter_is_exported_as_gguf_without_llama_cpps_repository(folders, canaries, tmp_path):
    report = export_model(*folders, tmp_path / "mine", "gguf", RECORD, canaries, quantize="q8_0")
    card = (report.folder / "README.md").read_text()
    assert "Stored as q8_0" in card
    assert "ollama create mine -f Modelfile" in card
    assert "FROM ./mine.gguf" in (report.folder / "Modelfile").read_text()


def test_a_gguf_that_llama_cpp_crashes_on_is_kept(folders, canaries, tmp_path, monkeypatch):
    crash = "import os\nos.abort()\n"
    (tmp_path / "llama_cpp.py").write_text(crash)
    monkeypatch.syspath_prepend(tmp_path)
    report = export_model(*folders, tmp_path / "mine", "gguf", RECORD, canaries, quantize="f16")
    assert (report.folder / "mine.gguf").read_bytes().startswith(b"GGUF")
    assert "crashed (SIGABRT) when it loaded mine.gguf" in report.crash
    assert report.crash in (report.folder / "README.md").read_text()
    with pytest.raises(MachineError, match="SIGABRT"):
        export_model(*folders, tmp_path / "q4", "gguf", RECORD, canaries, quantize="q4_k_m")
    assert not (tmp_path / "q4").exists()


QUANTIZER = """
import os, shutil, types
LLAMA_FTYPE_MOSTLY_Q4_K_M = 15
llama_cpp = types.SimpleNamespace(llama_model_default_params=types.SimpleNamespace)
def llama_log_callback(function): return function
def llama_log_set(callback, data): pass
def llama_model_quantize_default_params():
    import ctypes
    return type("Params", (ctypes.Structure,), dict(_fields_=[("ftype", ctypes.c_int)]))()
def llama_model_quantize(source, target, settings):
    import gguf
    shutil.copy(source, target)
    file = gguf.GGUFReader(os.fsdecode(target), "r+")
    next(x for x in file.tensors if x.name == "blk.0.ffn_up.weight").data[:] *= {factor}
    return 0
"""


@pytest.mark.slow
def test_the_card_of_a_quantized_file_speaks_of_that_file(folders, canaries, tmp_path, monkeypatch):
    """llama.cpp is replaced by a quantizer that scales one tensor and cannot load files."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "llama_cpp.py"
    crash = "def Llama(**settings): os.abort()\n"
    package.write_text(QUANTIZER.format(factor=0.9) + crash)
    report = export_model(*folders, tmp_path / "q4", "gguf", RECORD, canaries, quantize="q4_k_m")
    card = (report.folder / "README.md").read_text()
    assert "Stored as q4_k_m." in card
    assert "differ by at most 1.0e-01 of a tensor's largest weight" in card
    assert sorted(path.suffix for path in report.folder.glob("*.gguf")) == [".gguf"]
    package.write_text(QUANTIZER.format(factor=-1) + crash)
    with pytest.raises(ExportError, match="off by 2 of its tensor's largest"):
        export_model(*folders, tmp_path / "other", "gguf", RECORD, canaries, quantize="q4_k_m")
    assert not (tmp_path / "other").exists()


def test_the_model_card_shows_the_run_record_and_what_is_unknown(merged):
    card = (merged[0] / "README.md").read_text()
    assert "# handbook-specialist" in card
    assert "| originals | 16 |" in card
    assert "| Optimizer steps | 40 |" in card
    assert (
        "| seen_questions | tuned | 16 | 75.0% (50.0% to 90.0%) | 80.0% (70.0% to 90.0%) |" in card
    )
    assert "validation loss" not in card
    assert "- Korean only." in card
    assert "licence is not known here" in card
    assert "4 canary prompts" in card


def test_the_licence_of_a_base_is_read_from_its_card(tmp_path):
    assert license_of(tmp_path) == ""
    (tmp_path / "README.md").write_text("---\nlanguage: ko\nlicense: apache-2.0\n---\n# Base\n")
    assert license_of(tmp_path) == "apache-2.0"
