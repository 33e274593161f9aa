"""What runs on CUDA alone, as far as meta tensors tell: signature, shapes, types, gradients."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from jangin.models.forward.varlen_attention import _has_varlen, _varlen
from jangin.models.tokens.segments import Segments

META = torch.device("meta")
TOKENS, HEADS, KEY_HEADS, SIZE = 12, 4, 2, 16


def on_meta(segments):
    """The same segments, their tensors without values."""
    branches = segments.branches
    if branches is not None:
        names = ("bounds", "key_indices", "key_bounds")
        branches = replace(branches, **{name: getattr(branches, name).to(META) for name in names})
    return replace(segments, bounds=segments.bounds.to(META), branches=branches)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("value_size", [SIZE, 8, 24])  # MLA's values have a size of their own
def test_the_call_of_torchs_kernel_for_packed_rows_on_cuda_is_well_formed(
    window, forked, value_size
):
    cpu = torch.device("cpu")
    plain = Segments.of((7, 5), cpu)
    segments = Segments.forked((5, 3), (2, 1), (3, 1), cpu) if forked else plain
    assert segments.bounds.dtype == torch.int32
    rows = [
        torch.empty(1, heads, TOKENS, size, device=META, dtype=dtype, requires_grad=True)
        # Rotary embeddings under autocast leave queries and keys in fp32.
        for heads, size, dtype in (
            (HEADS, SIZE, torch.float32),
            (KEY_HEADS, SIZE, torch.float32),
            (KEY_HEADS, value_size, torch.bfloat16),
        )
    ]
    out = _varlen(*rows, on_meta(segments), 0.25, window)
    assert out.shape == (1, TOKENS, HEADS, value_size)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert [row.grad.shape for row in rows] == [row.shape for row in rows]


def test_torch_2_11_whose_kernel_takes_grouped_heads_unasked_is_not_asked(monkeypatch):
    called = []

    def varlen_attn(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k,
        *, return_aux=None, scale=None, window_size=(-1, -1),
    ):  # fmt: skip
        called.append((query, key, value, window_size))
        return query

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    rows = [torch.randn(1, heads, 12, 16).bfloat16() for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    out = _varlen(*rows, Segments.of((7, 5), torch.device("cpu")), 0.25, 4)
    ((query, key, value, window),) = called
    assert window == (3, 0)
    assert torch.equal(out[0], rows[0][0].transpose(0, 1))
    # Nothing was copied: there was nothing to pad.
    assert [x.data_ptr() for x in (query, key, value)] == [x.data_ptr() for x in rows]


@pytest.mark.parametrize(
    ("device", "dtype", "sizes", "capability", "expected"),
    [
        ("cuda", torch.bfloat16, (128, 128), (8, 0), True),
        ("cuda", torch.float16, (256, 256), (9, 0), True),
        ("cuda", torch.bfloat16, (192, 128), (9, 0), True),  # MLA
        ("cuda", torch.bfloat16, (512, 512), (9, 0), False),  # global layers of Gemma 4
        ("cuda", torch.bfloat16, (128, 512), (9, 0), False),
        ("cuda", torch.bfloat16, (60, 60), (9, 0), False),
        ("cuda", torch.float32, (128, 128), (9, 0), False),
        ("cuda", torch.bfloat16, (128, 128), (7, 5), False),
        ("cpu", torch.bfloat16, (128, 128), (9, 0), False),
    ],
)
def test_torchs_kernel_for_packed_rows_is_used_where_it_exists(
    monkeypatch, device, dtype, sizes, capability, expected
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with FakeTensorMode():
        query, value = (torch.empty(1, 2, 4, size, dtype=dtype, device=device) for size in sizes)
        assert _has_varlen(query, value) is expected
