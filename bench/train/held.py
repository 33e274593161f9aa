"""What an optimizer holds, and how much memory the first step took: of any engine in this process.

torch's AdamW makes its moments in the first step, after the last backward pass: a run of one step
never has activations beside them, which every later step has.
"""

from typing import Any

import torch
from meter import peak_mb
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

SHORT = {"float32": "fp32", "bfloat16": "bf16", "uint8": "8 bits"}


def watch_first_step() -> dict[str, Any]:
    """Filled in the first step of an optimizer: `first_peak_mb` and `types`.

    `types` are those of trained weights, gradients and moments, such as `fp32 fp32 fp32`.
    """
    seen: dict[str, Any] = {}

    def before(optimizer: Any, *_: object) -> None:
        if "types" not in seen:
            weights = [each for group in optimizer.param_groups for each in group["params"]]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            seen["types"] = f"{_types(weights)} {_types(gradients)}"

    def after(optimizer: Any, *_: object) -> None:
        if "first_peak_mb" not in seen:
            states = [each for state in optimizer.state.values() for each in state.items()]
            moments = [x for name, x in states if torch.is_tensor(x) and name != "step"]
            seen["types"] += f" {_types(moments)}"
            seen["first_peak_mb"] = peak_mb()

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)
    return seen


def _types(tensors: list[torch.Tensor]) -> str:
    names = sorted({str(x.dtype).removeprefix("torch.") for x in tensors})
    return "/".join(SHORT.get(name, name) for name in names)
