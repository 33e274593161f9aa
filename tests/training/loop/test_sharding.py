"""What FSDP2 is asked for; what it trains on two processes is in tests/training/distributed."""

import pytest
import torch

from jangin.training.loop import process_group, sharding
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.scorer import LossModel
from tests.toy_layers import Layer, Model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_travel_in_the_dtype_of_products_and_gradients_are_summed_in_fp32(
    monkeypatch, dtype
):
    asked = []
    monkeypatch.setattr(sharding, "fully_shard", lambda part, **how: asked.append((part, how)))
    monkeypatch.setattr(sharding, "register_fsdp_forward_method", lambda *_: None)
    model = Model([Layer(), Layer()])
    sharding.shard(model, dtype)
    assert [part for part, _ in asked] == [*model.layers, model]  # each layer by itself
    for _, how in asked:
        if dtype == torch.float32:
            assert how == {}
        else:
            assert how["mp_policy"].param_dtype == torch.bfloat16
            assert how["mp_policy"].reduce_dtype == torch.float32


@pytest.mark.parametrize(("trained", "synced"), [(40, [True, True]), (2, [False, True])])
def test_small_gradients_are_reduced_once_a_step_and_whole_ones_with_each_batch(
    monkeypatch, trained, synced
):
    monkeypatch.setattr(process_group, "is_sharded", lambda _: True)
    asked = []
    model = Model([Layer(), Layer()])  # 40 weights
    for weight in model.parameters():
        weight.requires_grad = trained == 40
    if trained < 40:
        model.adapter = torch.nn.Parameter(torch.zeros(trained))
    model.set_requires_gradient_sync = asked.append
    for last in (False, True):
        with ProcessGroup(0, 2).gradient_sync(LossModel(model, packed=True), last=last):
            pass
    assert asked == synced
