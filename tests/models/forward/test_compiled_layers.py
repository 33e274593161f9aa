"""torch.compile on decoder layers, turned on and off."""

from contextlib import nullcontext

import pytest
import torch

from jangin.models.forward import compiled_layers as layers
from tests.toy_layers import Layer, Model


@pytest.mark.long
@pytest.mark.slow
# torch's own, about torch's own code.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_inductor_computes_what_eager_layers_compute_and_drops_the_same_values():
    torch.manual_seed(0)
    model = Model([Layer(), Layer()])
    compiled = layers.CompiledLayers(layers.decoder_layers(model))
    rows, gradients = torch.randn(7, 4), []
    for is_compiled in (False, True, True):
        torch.manual_seed(3)
        with compiled.running() if is_compiled else nullcontext():
            model(rows).square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
        model.zero_grad()
    assert 0 < compiled.graphs <= 3  # not one for each layer and pass
    for eager, first, second in zip(*gradients, strict=True):
        assert torch.allclose(eager, first, rtol=1e-5)
        assert torch.equal(first, second)
    compiled.drop()


def test_layers_are_what_the_family_calls_layers():
    model = Model([Layer(), Layer()])
    assert layers.decoder_layers(model) == list(model.layers)
    model._no_split_modules = None
    assert layers.decoder_layers(model) == []
