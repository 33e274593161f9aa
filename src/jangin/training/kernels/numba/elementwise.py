"""Compiled passes over bf16 activations; importing this file compiles them once.

bf16 numbers come as uint16: the upper halves of fp32 ones, rounded to the nearest, ties to even.
Everything is computed in fp32; NaN and infinity come through.

Arrays: T tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from jangin.text.compiled import Kernel
from jangin.text.compiled import compiled as compile_now

Halves = NDArray[np.uint16]
Words = NDArray[np.int32]
"""Two bf16 numbers each."""
Floats = NDArray[np.float32]
Places = NDArray[np.int64]

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""May change the order of sums; must not assume that every number is finite."""
_OPTIONS: Any = {"nogil": True, "fastmath": _FAST, "error_model": "numpy"}
"""With Python's error model, every division is a branch and no loop around it a vector."""
_LOG2_E = np.float32(1.4426950408889634)
_LN_2 = np.float32(0.6931471805599453)
_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)
_C2, _C3, _C4 = np.float32(0.5), np.float32(1 / 6), np.float32(1 / 24)
_C5, _C6 = np.float32(1 / 120), np.float32(1 / 720)
_ONE, _HALF, _ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)


def compiled(signature: str) -> Callable[[Kernel], Kernel]:
    """`jangin.text.compiled.compiled` with the options of these kernels."""
    return compile_now(signature, **_OPTIONS)


part: Callable[[Kernel], Kernel] = njit(inline="always", **_OPTIONS)
"""Of a loop's body."""
step: Callable[[Kernel], Kernel] = njit(**_OPTIONS)
"""Of a kernel, compiled once however often it is called."""


@part
def wide(half: np.uint16) -> np.float32:
    """bf16 as fp32."""
    value: np.float32 = np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)
    return value


@part
def narrow(value: np.float32) -> np.uint16:
    """fp32 as bf16."""
    bits = np.float32(value).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@part
def _rank(half: np.uint16) -> np.int32:
    """An integer that orders as the bf16 number does: maxima of integers become vectors."""
    bits = np.int32(np.int16(half))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFF)))


@part
def _of_rank(rank: np.int32) -> np.float32:
    """The number with this rank, as fp32."""
    return np.float32(wide(np.uint16(rank ^ ((rank >> np.int32(31)) & np.int32(0x7FFF)))))


@part
def exp(x: np.float32) -> np.float32:
    """The exponential to 1e-6 for |x| < 10; comparisons are such that NaN stays NaN."""
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    power = np.floor(x * _LOG2_E + _HALF)
    r = x - power * _LN_2
    made = _C4 + r * (_C5 + r * _C6)
    made = _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * made)))
    made *= np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(made)


@compiled(
    "void(float32[:, ::1], uint16[:, ::1], float32[::1], float32, float32[:, ::1], "
    "uint16[:, ::1], float32[::1])"
)
def add_norm(
    residual: Floats,
    x: Halves,
    weight: Floats,
    epsilon: float,
    total: Floats,
    normed: Halves,
    scales: Floats,
) -> None:
    """RMSNorm of residual + x (T, D); writes the sum, its norm and each row's scale."""
    size = residual.shape[1]
    for row in range(residual.shape[0]):
        square = _ZERO
        for place in range(size):
            value = residual[row, place] + wide(x[row, place])
            total[row, place] = value
            square += value * value
        scale = _ONE / np.sqrt(square / np.float32(size) + epsilon)
        scales[row] = scale
        for place in range(size):
            normed[row, place] = narrow(total[row, place] * scale * weight[place])


@compiled(
    "void(float32[:, ::1], float32[::1], float32[::1], uint16[:, ::1], float32[:, ::1], "
    "boolean, float32[:, ::1], uint16[:, ::1], float32[::1])"
)
def add_norm_back(
    total: Floats,
    weight: Floats,
    scales: Floats,
    grad: Halves,
    grad_total: Floats,
    joined: bool,
    grad_residual: Floats,
    grad_x: Halves,
    grad_weight: Floats,
) -> None:
    """Gradients of `add_norm`; `grad_total` counts if `joined`; adds to `grad_weight` (D)."""
    size = total.shape[1]
    for row in range(total.shape[0]):
        scale, inner = scales[row], _ZERO
        for place in range(size):
            product = total[row, place] * scale * wide(grad[row, place])
            grad_weight[place] += product
            inner += product * weight[place]
        inner /= np.float32(size)
        for place in range(size):
            value = wide(grad[row, place]) * weight[place]
            value = (value - total[row, place] * scale * inner) * scale
            if joined:
                value += grad_total[row, place]
            grad_residual[row, place] = value
            grad_x[row, place] = narrow(value)


@compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def swiglu(gate: Halves, up: Halves, made: Halves) -> None:
    """silu(gate) * up."""
    for row in range(gate.shape[0]):
        for place in range(gate.shape[1]):
            value = wide(gate[row, place])
            value = value / (_ONE + exp(-value))
            made[row, place] = narrow(value * wide(up[row, place]))


@compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def swiglu_back(gate: Halves, up: Halves, grad: Halves, grad_gate: Halves, grad_up: Halves) -> None:
    """Gradients of `swiglu`."""
    for row in range(gate.shape[0]):
        for place in range(gate.shape[1]):
            value, slope = wide(gate[row, place]), wide(grad[row, place])
            share = _ONE / (_ONE + exp(-value))
            grad_up[row, place] = narrow(slope * value * share)
            slope *= wide(up[row, place]) * share * (_ONE + value * (_ONE - share))
            grad_gate[row, place] = narrow(slope)


@compiled("void(uint16[:, ::1], int64[::1], float32[::1], float32[::1], boolean[::1])")
def log_probabilities(
    logits: Halves, targets: Places, logp: Floats, totals: Floats, first: NDArray[np.bool_]
) -> None:
    """Of each row's target; the log of the sum of exponentials; whether no logit is larger."""
    for row in range(logits.shape[0]):
        rank = _rank(logits[row, 0])
        for place in range(logits.shape[1]):
            rank = max(rank, _rank(logits[row, place]))
        peak = _of_rank(rank)
        mass = _ZERO
        for place in range(logits.shape[1]):
            mass += exp(wide(logits[row, place]) - peak)
        target = wide(logits[row, targets[row]])
        totals[row] = peak + np.log(mass)
        logp[row] = target - totals[row]
        first[row] = target >= peak


@compiled("void(uint16[:, ::1], int64[::1], float32[::1], float32[::1])")
def log_probabilities_back(logits: Halves, targets: Places, totals: Floats, grads: Floats) -> None:
    """Put the logits' gradients in their place, from those of the log-probabilities."""
    for row in range(logits.shape[0]):
        total, grad = totals[row], grads[row]
        target = targets[row]
        own = grad * (_ONE - exp(wide(logits[row, target]) - total))
        values = logits[row]
        for place in range(values.size):
            values[place] = narrow(-grad * exp(wide(values[place]) - total))
        values[target] = narrow(own)
