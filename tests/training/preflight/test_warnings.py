import json
import os

import pytest

from jangin.core.events import Progress
from jangin.core.records import SplitExample
from jangin.models.starter import make_starter
from jangin.report.i18n.translate import Words
from jangin.training.preflight import warnings
from jangin.training.preflight.warnings import warn_devices, warn_rank, warn_sharding
from jangin.training.sft import STAGE, SftConfig

LLAMA = {
    "model_type": "llama", "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "intermediate_size": 688, "vocab_size": 512, "torch_dtype": "float32",
}  # fmt: skip


def warnings_of(tmp_path, method, **config):
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "config.json").write_text(json.dumps(LLAMA | config))
    progress = Progress()
    warn_rank(SftConfig.model_validate({"method": method}), tmp_path, progress)
    return progress.messages


@pytest.mark.parametrize(
    ("method", "family", "width", "layer"),
    [
        ({"r": 4096}, "llama", 64, "k_proj"),
        ({"r": 128}, "llama", 64, "k_proj"),
        ({"r": 300, "targets": ["q_proj", "down_proj"]}, "llama", 256, "q_proj"),
        ({"r": 300}, "phi3", 256, "qkv_proj"),
    ],
)
def test_a_rank_above_the_narrowest_layer_causes_a_warning_with_rank_layer_and_width(
    method, family, width, layer, tmp_path
):
    (line,) = warnings_of(tmp_path, {"type": "lora", **method}, model_type=family)
    assert f"rank {method['r']} " in line
    assert f"width {width} of {layer}, " in line
    assert f"`r` to at most {width}" in line


def test_a_rank_equal_to_the_width_causes_none_and_one_that_vllm_lacks_does(tmp_path):
    assert warnings_of(tmp_path, {"type": "lora", "r": 64}) == []
    assert warnings_of(tmp_path, {"type": "lora", "r": 128, "targets": ["q_proj"]}) == []
    (line,) = warnings_of(tmp_path, {"type": "qlora", "r": 12})
    assert "rank 12 " in line
    assert "8, 16, 32, 64, 128" in line
    assert warnings_of(tmp_path, {"type": "full"}) == []


def test_layers_of_an_unknown_family_cause_no_warning(tmp_path):
    assert warnings_of(tmp_path, {"type": "lora", "r": 128}, model_type="somebodys") == []


def test_sharding_on_one_device_causes_a_warning():
    messages = []
    for devices, sharding in ((1, "fsdp"), (2, "fsdp"), (1, "none")):
        progress = Progress()
        config = SftConfig.model_validate({"devices": devices, "sharding": sharding})
        warn_sharding(config, progress)
        messages.append(progress.messages)
    ((line,), *others) = messages
    assert "`sharding: fsdp`" in line
    assert "`devices: 1`" in line
    assert others == [[], []]


def test_more_processes_than_cores_of_a_cpu_cause_a_warning():
    cores = len(os.sched_getaffinity(0))
    messages = []
    for devices in (cores, cores + 1):
        progress = Progress()
        rows = 4 * devices
        config = SftConfig.model_validate({"devices": devices, "examples_per_step": rows})
        warn_devices(config, progress)
        messages.append(progress.messages)
    few, (line,) = messages
    assert few == []
    assert f"`devices: {cores + 1}` on {cores} cores" in line
    assert Words("ko").reason(line) != line


def test_few_rows_for_each_of_several_devices_cause_a_warning(monkeypatch):
    monkeypatch.setattr(warnings, "has_cuda", lambda: True)
    messages = []
    for devices, rows in ((8, 16), (8, 32), (1, 2)):
        progress = Progress()
        config = SftConfig.model_validate({"devices": devices, "examples_per_step": rows})
        warn_devices(config, progress)
        messages.append(progress.messages)
    ((line,), *others) = messages
    assert "`examples_per_step: 16` on 8 devices is 2 rows for each" in line
    assert Words("ko").reason(line) != line
    assert others == [[], []]


@pytest.mark.slow
def test_both_warnings_come_once_and_before_training(make_context, make_example):
    texts = [f"{n}번 규정은 {n}일이다." for n in range(40)]
    config = SftConfig.model_validate(
        {
            "method": {"type": "lora", "r": 512},
            "length": {"type": "steps", "steps": 1},
            "sharding": "fsdp",
        }
    )
    rows = [
        SplitExample(example=make_example(f"{n}번?", text), split="train")
        for n, text in enumerate(texts[:4])
    ]
    context = make_context(config, {"splits": (SplitExample, rows), "base": (SplitExample, [])})
    shape = {"size": "0.5M", "vocabulary_size": 300, "context_length": 128, "seed": 0}
    make_starter(context.folder("base") / "model", texts, **shape)
    events = []

    class Events(type(context.services.progress)):
        def message(self, text):
            events.append(text)

        def start(self, label, total):
            events.append("training")
            return super().start(label, total)

    object.__setattr__(context.services, "progress", Events())
    STAGE.run(context)
    assert [event.split(" ")[0] for event in events] == [
        "`sharding:",
        "rank",
        "training",
        "training",
    ]
