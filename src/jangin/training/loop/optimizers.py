"""AdamW: plain, with moments in 8 bits, with bf16 weights as well, or with its state in CPU memory.

All begin with their state at zero, so that memory runs out before the first step or never.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch.optim.adamw import adamw

from jangin.core.errors import MachineError, TrainingError
from jangin.training.loop.config import AdamW8bit, AdamWBf16, AdamWOffload, TrainingConfig

Groups = list[dict[str, Any]]


def make_optimizer(
    config: TrainingConfig, parameters: Sequence[torch.nn.Parameter], dtype: torch.dtype
) -> torch.optim.Optimizer:
    """The optimizer of these parameters, its state at zero; matrices decay, vectors do not.

    `dtype` is that of matrix products.

    Raises `TrainingError` where memory is too small for the state, or products are not in bf16 as
    the weights are to be; `MachineError` where a library is missing.
    """
    if isinstance(config.optimizer, AdamWBf16) and dtype != torch.bfloat16:
        raise TrainingError(
            "`optimizer: {type: adamw_bf16}` needs bf16 products, which this device is too slow "
            "for. Set `precision: bf16`, or `optimizer: {type: adamw_8bit}`."
        )
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    options: dict[str, Any] = {"lr": config.rate, "betas": (0.9, config.beta2)}
    present = [group for group in groups if group["params"]]
    try:
        if isinstance(config.optimizer, AdamWOffload):
            return OffloadedAdamW(present, dtype=dtype, **options)
        if isinstance(config.optimizer, AdamW8bit | AdamWBf16):
            rounded = isinstance(config.optimizer, AdamWBf16)
            return _in_8_bits(present, options, rounded=rounded)
        optimizer = torch.optim.AdamW(present, fused=True, **options)
        for parameter in parameters:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter.detach()),
                "exp_avg_sq": torch.zeros_like(parameter.detach()),
            }
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "out of memory: the device has no room for the optimizer's state beside the weights. "
            "Set `optimizer: {type: adamw_offload}`, or `sharding: fsdp` with more `devices`, or "
            "train an adapter with `method: {type: lora}`."
        ) from error
    return optimizer


def _in_8_bits(
    groups: Groups, options: Mapping[str, Any], *, rounded: bool
) -> torch.optim.Optimizer:
    """AdamW of bitsandbytes (Dettmers et al. 2022, arXiv:2110.02861), moments in blocks of 256.

    `rounded`: the weights become bf16, see `round_stochastically`.
    """
    if find_spec("bitsandbytes") is None:
        raise MachineError(
            "`optimizer: {type: adamw_8bit}` and `adamw_bf16` need bitsandbytes, which is not "
            "installed. Install it with: pip install 'jangin[quantized]'"
        )
    from bitsandbytes import optim  # seconds to import, so only here

    library: Any = optim
    adamw_8bit = _with_bf16_weights(library.AdamW8bit) if rounded else library.AdamW8bit
    optimizer = adamw_8bit(groups, **options)
    optimizer.check_overrides()
    optimizer.to_gpu()  # its state, to the device of the weights; nothing without one
    optimizer.initialized = True
    for group_index, group in enumerate(optimizer.param_groups):
        for index, parameter in enumerate(group["params"]):
            optimizer.init_state(group, parameter, group_index, index)
            if rounded:
                parameter.data = parameter.data.to(torch.bfloat16)
                parameter.grad_dtype = torch.float32
    in_8_bits: torch.optim.Optimizer = optimizer
    return in_8_bits


def _with_bf16_weights(library: Any) -> Any:
    """The class of bitsandbytes, each of whose updates is made in fp32, a tensor at a time."""

    class Bf16AdamW(library):  # type: ignore[misc]  # untyped
        @torch.no_grad()
        def update_step(self, group: Any, p: Any, gindex: int, pindex: int) -> None:
            narrow, p.data = p.data, p.data.float()
            super().update_step(group, p, gindex, pindex)
            wide, p.data = p.data, narrow
            # Not the process's own generator: processes that train together, and a run that
            # resumes, must round alike.
            generator = torch.Generator(p.device)
            generator.manual_seed((self.state[p]["step"] << 32) + (gindex << 24) + pindex)
            round_stochastically(wide, narrow, generator)

    return Bf16AdamW


_SLICE = 2**24
"""Numbers that are rounded at once: 64 MiB of random bits."""


def round_stochastically(
    wide: torch.Tensor, into: torch.Tensor, generator: torch.Generator
) -> None:
    """Write fp32 numbers to a contiguous bf16 tensor: up or down by chance, right on average.

    An update of less than half the distance between two bf16 numbers, as most are at usual rates,
    would be lost by rounding to the nearest (Gupta et al. 2015, arXiv:1502.02551). `wide` is
    overwritten.
    """
    slices = (torch.split(tensor.view(-1), _SLICE) for tensor in (wide, into))
    for source, target in zip(*slices, strict=True):
        # bf16 is the upper half of fp32: a random lower half carries into it as often as it should.
        bits = source.view(torch.int32)
        bits += torch.randint(
            2**16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator
        )
        bits &= -(2**16)
        target.copy_(source)


class OffloadedAdamW(torch.optim.Optimizer):
    """AdamW whose fp32 weights and moments are in CPU memory, where it computes.

    The device keeps the weights in `dtype`, in which products are computed anyway, and gradients,
    which autograd sums in fp32. With fp32 products each step is that of `torch.optim.AdamW`.
    """

    def __init__(
        self, groups: Groups, *, lr: float, betas: tuple[float, float], dtype: torch.dtype
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})
        for parameter in self._parameters():
            weight = _on_cpu(parameter.detach().float())
            self.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": _on_cpu(torch.zeros_like(weight)),
                "exp_avg_sq": _on_cpu(torch.zeros_like(weight)),
                "weight": weight,
            }
            parameter.data = parameter.data.to(dtype)
            parameter.grad_dtype = torch.float32

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002  no closures here
        """Update the weights on the CPU, one tensor after another, and copy them back."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                adamw(
                    [state["weight"]],
                    [parameter.grad.to("cpu", torch.float32)],
                    [state["exp_avg"]],
                    [state["exp_avg_sq"]],
                    [],
                    [state["step"]],
                    fused=True,
                    amsgrad=False,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=1e-8,
                    maximize=False,
                )
                # Pinned memory: the copy runs while the CPU computes the next tensor.
                parameter.copy_(state["weight"], non_blocking=True)

    def restore(self) -> None:
        """Put the fp32 weights back into the model, whose gradients are freed."""
        for parameter in self._parameters():
            parameter.grad = None
            parameter.grad_dtype = None
            weight = self.state[parameter].pop("weight")
            parameter.data = weight.to(parameter.device)
            parameter.grad_dtype = torch.float32


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in CPU memory, pinned where there is a GPU."""
    pinned = torch.cuda.is_available()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
    return copy.copy_(tensor)
