"""How a batch gets onto a device."""

import torch

from jangin.models.tokens.segments import on_device


class Watched:
    """A tensor as far as it is copied."""

    def __init__(self):
        self.calls = []

    def pin_memory(self):
        self.calls.append("pinned")
        return self

    def to(self, device, non_blocking):
        self.calls.append((device.type, non_blocking))
        return self


def test_a_gpu_copies_from_pinned_memory_without_waiting_and_a_cpu_pins_nothing():
    assert on_device(Watched(), torch.device("cuda")).calls == ["pinned", ("cuda", True)]
    assert on_device(Watched(), torch.device("cpu")).calls == [("cpu", True)]
