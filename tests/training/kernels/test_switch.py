import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jangin.core.errors import ConfigError
from jangin.models.device import are_kernels_enabled, uses_bf16_tiles
from jangin.models.tokens.chat_template import render_rows
from jangin.training.kernels import tune_malloc
from jangin.training.kernels.elementwise import supports
from jangin.training.kernels.matmul import is_tiled
from jangin.training.loop import scorer
from jangin.training.loop.scorer import choose_loss_model


@pytest.fixture
def switched(monkeypatch):
    """Set JANGIN_KERNELS."""
    return lambda value: monkeypatch.setenv("JANGIN_KERNELS", value)


def test_no_kernel_takes_any_rows_when_they_are_off(switched):
    rows = torch.zeros(512, 64, dtype=torch.bfloat16)
    switched("on")
    assert are_kernels_enabled()
    assert supports(torch.bfloat16)
    switched("off")
    assert not are_kernels_enabled()
    assert not supports(torch.bfloat16)
    assert not is_tiled(rows, 64)
    assert not uses_bf16_tiles()
    assert not tune_malloc()


def test_losses_and_gradients_agree_with_the_reference_path(
    switched, tokenizer, conversations, monkeypatch
):
    ran = []
    compiled = scorer.llama_hidden

    def watched(*arguments):
        hidden = compiled(*arguments)
        ran.append(hidden is not None)
        return hidden

    monkeypatch.setattr(scorer, "llama_hidden", watched)
    data = render_rows(tokenizer, conversations, [f"row {i}" for i in range(len(conversations))])

    def loss_and_gradients(value):
        switched(value)
        ran.clear()
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96,
                num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            )
        )  # fmt: skip
        loss_model = choose_loss_model(model, data, torch.float32, torch.device("cpu"))
        assert loss_model.packed
        ran.clear()
        batch = loss_model.batcher(data, range(len(data)), torch.device("cpu"))
        loss, _ = loss_model.forward(batch)
        loss.backward()
        return loss, [p.grad for p in model.parameters()], list(ran)

    loss, gradients, used = loss_and_gradients("on")
    assert used == [True]
    reference, expected, used = loss_and_gradients("off")
    assert used == [False]
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-5)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4)


def test_any_other_value_is_refused(switched):
    switched("0")
    with pytest.raises(ConfigError, match="JANGIN_KERNELS=0: must be on or off"):
        are_kernels_enabled()
