"""Where `compile: auto` measures, and what `jangin plan` says of it."""

import pytest

from jangin.training.loop.config import TrainingConfig

QLORA = {"method": {"type": "qlora"}}
FSDP = {"devices": 2, "sharding": "fsdp"}


@pytest.mark.parametrize(
    ("changes", "device", "reason"),
    [
        ({}, "cuda", ""),
        ({}, "cpu", "GPU"),
        ({"compile": "measure"}, "cpu", ""),
        ({"compile": "off"}, "cuda", "compile: off"),
        (QLORA, "cuda", "QLoRA"),
        (QLORA | {"compile": "layers"}, "cuda", ""),
        ({"devices": 2}, "cuda", "devices"),
        ({"devices": 2, "compile": "layers"}, "cuda", ""),
        (FSDP, "cuda", "fsdp"),
        (FSDP | {"compile": "measure"}, "cpu", "fsdp"),
    ],
)
def test_a_run_that_does_not_measure_says_why(changes, device, reason):
    config = TrainingConfig.model_validate(changes)
    why = config.eager_reason(device)
    assert reason in why
    assert bool(why) == bool(reason)
    measures = not reason and config.compile in ("auto", "measure")
    assert bool(config.compile_note(device)) == measures
