"""RMSNorm, SwiGLU, GeGLU and softmax loops over bf16 rows; importing this file compiles them.

bf16 values are uint16: the upper halves of fp32 numbers, rounded to nearest, ties to even.
Everything is computed in fp32; NaN and infinity propagate. All arrays are C-contiguous; the caller
allocates the outputs.

Shapes: T tokens, D hidden size, C rows of logits, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from jangin.text.compiled import Kernel
from jangin.text.compiled import compiled as compile_now

Bf16 = NDArray[np.uint16]
"""Bits of bf16 values."""
Words = NDArray[np.int32]
"""int32 of two neighbouring bf16 values, the first in the low half."""
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""LLVM may reorder sums, but not assume that numbers are finite."""
_OPTIONS: Any = {"nogil": True, "fastmath": _FAST, "error_model": "numpy"}
"""numpy's error model: Python's adds a branch to every division, which prevents vectorisation."""
_LOG2_E = np.float32(1.4426950408889634)
_LN_2 = np.float32(0.6931471805599453)
_LOWEST = np.float32(-87.0)
_HIGHEST = np.float32(88.0)
_C2, _C3, _C4 = np.float32(0.5), np.float32(1 / 6), np.float32(1 / 24)
_C5, _C6 = np.float32(1 / 120), np.float32(1 / 720)
_ONE, _HALF, _ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)
_GELU_SCALE, _GELU_CUBIC = np.float32(1.5957691216057308), np.float32(0.044715)
"""2 * sqrt(2 / pi) and the factor of the cube in GELU's tanh form: x * sigmoid(a * (x + b x^3))."""
_THREE = np.float32(3.0)


def compiled(signature: str) -> Callable[[Kernel], Kernel]:
    """`jangin.text.compiled.compiled` with the options of these kernels."""
    return compile_now(signature, **_OPTIONS)


inlined: Callable[[Kernel], Kernel] = njit(inline="always", **_OPTIONS)
"""Compile a helper that numba inlines into a kernel's loop."""
helper: Callable[[Kernel], Kernel] = njit(forceinline=True, **_OPTIONS)
"""Compile a helper for numba once; LLVM inlines it into each kernel.

As a function of its own it would be compiled into every kernel that calls it, with sums in another
order in each. Which of these runs depends on what was linked before: a process that compiles the
kernels and one that loads them from the cache would differ in the last bits.
"""


@inlined
def to_fp32(half: np.uint16) -> np.float32:
    """bf16 bits as fp32; exact."""
    value: np.float32 = np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)
    return value


@inlined
def to_bf16(value: np.float32) -> np.uint16:
    """fp32 as bf16 bits, rounded to nearest, ties to even."""
    bits = np.float32(value).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@inlined
def _rank(half: np.uint16) -> np.int32:
    """An int32 that orders like the bf16 number: integer maxima are vectorised."""
    bits = np.int32(np.int16(half))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFF)))


@inlined
def _from_rank(rank: np.int32) -> np.float32:
    """The fp32 value of the bf16 number with this `_rank`."""
    return np.float32(to_fp32(np.uint16(rank ^ ((rank >> np.int32(31)) & np.int32(0x7FFF)))))


@inlined
def exp(x: np.float32) -> np.float32:
    """The exponential with a relative error of 1e-6 for |x| < 10, x clipped to [-87, 88].

    The comparisons are such that NaN stays NaN.
    """
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    power = np.floor(x * _LOG2_E + _HALF)
    r = x - power * _LN_2
    result = _C4 + r * (_C5 + r * _C6)
    result = _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * result)))
    result *= np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(result)


@compiled(
    "void(float32[:, ::1], uint16[:, ::1], float32[::1], float32, float32[:, ::1], "
    "uint16[:, ::1], float32[::1])"
)
def add_norm(
    residual: Floats,
    x: Bf16,
    weight: Floats,
    epsilon: float,
    total: Floats,
    normed: Bf16,
    scales: Floats,
) -> None:
    """RMSNorm of residual + x.

    residual (T, D) fp32, x (T, D) bf16, weight (D). Writes total = residual + x (T, D) fp32, normed
    (T, D) bf16 and scales (T) = 1 / RMS of each row.
    """
    size = residual.shape[1]
    for row in range(residual.shape[0]):
        square = _ZERO
        for column in range(size):
            value = residual[row, column] + to_fp32(x[row, column])
            total[row, column] = value
            square += value * value
        scale = _ONE / np.sqrt(square / np.float32(size) + epsilon)
        scales[row] = scale
        for column in range(size):
            normed[row, column] = to_bf16(total[row, column] * scale * weight[column])


@compiled("void(float32[:, ::1], float32[::1], float32[::1], uint16[:, ::1])")
def scaled(total: Floats, scales: Floats, weight: Floats, normed: Bf16) -> None:
    """Write the norm (T, D) of `add_norm` again, whose `total` and `scales` it takes."""
    for row in range(total.shape[0]):
        scale = scales[row]
        for column in range(total.shape[1]):
            normed[row, column] = to_bf16(total[row, column] * scale * weight[column])


@compiled(
    "void(float32[:, ::1], float32[::1], float32[::1], uint16[:, ::1], float32[:, ::1], "
    "boolean, float32[:, ::1], uint16[:, ::1], float32[::1])"
)
def add_norm_backward(
    total: Floats,
    weight: Floats,
    scales: Floats,
    grad: Bf16,
    grad_total: Floats,
    has_grad_total: bool,
    grad_residual: Floats,
    grad_x: Bf16,
    grad_weight: Floats,
) -> None:
    """Gradients of `add_norm`, whose `total` and `scales` it takes.

    grad (T, D) bf16 is the gradient of the norm; grad_total (T, D) that of the sum, ignored unless
    `has_grad_total`. Writes grad_residual (T, D) fp32 and grad_x, the same in bf16; adds to
    grad_weight (D).
    """
    size = total.shape[1]
    for row in range(total.shape[0]):
        scale, mean = scales[row], _ZERO
        for column in range(size):
            product = total[row, column] * scale * to_fp32(grad[row, column])
            grad_weight[column] += product
            mean += product * weight[column]
        mean /= np.float32(size)
        for column in range(size):
            value = to_fp32(grad[row, column]) * weight[column]
            value = (value - total[row, column] * scale * mean) * scale
            if has_grad_total:
                value += grad_total[row, column]
            grad_residual[row, column] = value
            grad_x[row, column] = to_bf16(value)


@compiled("void(uint16[:, ::1], float32[::1], float32, uint16[:, ::1], float32[::1])")
def norm(x: Bf16, weight: Floats, epsilon: float, normed: Bf16, scales: Floats) -> None:
    """RMSNorm of bf16 rows x (T, D), weight (D).

    Writes normed (T, D) bf16 and scales (T) = 1 / RMS of each row.
    """
    size = x.shape[1]
    for row in range(x.shape[0]):
        square = _ZERO
        for column in range(size):
            value = to_fp32(x[row, column])
            square += value * value
        scale = _ONE / np.sqrt(square / np.float32(size) + epsilon)
        scales[row] = scale
        for column in range(size):
            normed[row, column] = to_bf16(to_fp32(x[row, column]) * scale * weight[column])


@compiled(
    "void(uint16[:, ::1], float32[::1], float32[::1], uint16[:, ::1], uint16[:, ::1], float32[::1])"
)
def norm_backward(
    x: Bf16, weight: Floats, scales: Floats, grad: Bf16, grad_x: Bf16, grad_weight: Floats
) -> None:
    """Gradients of `norm`, whose input and `scales` it takes.

    grad (T, D) bf16 is the gradient of the norm. Writes grad_x (T, D) bf16; adds to grad_weight
    (D).
    """
    size = x.shape[1]
    for row in range(x.shape[0]):
        scale, mean = scales[row], _ZERO
        for column in range(size):
            product = to_fp32(x[row, column]) * scale * to_fp32(grad[row, column])
            grad_weight[column] += product
            mean += product * weight[column]
        mean /= np.float32(size)
        for column in range(size):
            value = to_fp32(grad[row, column]) * weight[column]
            value = (value - to_fp32(x[row, column]) * scale * mean) * scale
            grad_x[row, column] = to_bf16(value)


@compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def swiglu(gate: Bf16, up: Bf16, out: Bf16) -> None:
    """Write silu(gate) * up to `out`; all bf16 (T, columns)."""
    for row in range(gate.shape[0]):
        for column in range(gate.shape[1]):
            value = to_fp32(gate[row, column])
            value = value / (_ONE + exp(-value))
            out[row, column] = to_bf16(value * to_fp32(up[row, column]))


@compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def swiglu_backward(gate: Bf16, up: Bf16, grad: Bf16, grad_gate: Bf16, grad_up: Bf16) -> None:
    """Write the gradients of `swiglu` to grad_gate and grad_up; all bf16 (T, columns)."""
    for row in range(gate.shape[0]):
        for column in range(gate.shape[1]):
            value, grad_value = to_fp32(gate[row, column]), to_fp32(grad[row, column])
            sigmoid = _ONE / (_ONE + exp(-value))
            grad_up[row, column] = to_bf16(grad_value * value * sigmoid)
            grad_value *= to_fp32(up[row, column]) * sigmoid * (_ONE + value * (_ONE - sigmoid))
            grad_gate[row, column] = to_bf16(grad_value)


@compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def geglu(gate: Bf16, up: Bf16, out: Bf16) -> None:
    """Write gelu(gate) * up to `out`, GELU in its tanh form; all bf16 (T, columns)."""
    for row in range(gate.shape[0]):
        for column in range(gate.shape[1]):
            value = to_fp32(gate[row, column])
            inner = _GELU_SCALE * value * (_ONE + _GELU_CUBIC * value * value)
            value = value / (_ONE + exp(-inner))
            out[row, column] = to_bf16(value * to_fp32(up[row, column]))


@compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def geglu_backward(gate: Bf16, up: Bf16, grad: Bf16, grad_gate: Bf16, grad_up: Bf16) -> None:
    """Write the gradients of `geglu` to grad_gate and grad_up; all bf16 (T, columns)."""
    for row in range(gate.shape[0]):
        for column in range(gate.shape[1]):
            value, grad_value = to_fp32(gate[row, column]), to_fp32(grad[row, column])
            square = _GELU_CUBIC * value * value
            sigmoid = _ONE / (_ONE + exp(-_GELU_SCALE * value * (_ONE + square)))
            grad_up[row, column] = to_bf16(grad_value * value * sigmoid)
            slope = _GELU_SCALE * value * (_ONE + _THREE * square) * (_ONE - sigmoid)
            grad_value *= to_fp32(up[row, column]) * sigmoid * (_ONE + slope)
            grad_gate[row, column] = to_bf16(grad_value)


@compiled("void(uint16[:, ::1], int64[::1], float32[::1], float32[::1], boolean[::1])")
def log_probs(
    logits: Bf16, targets: Indices, logp: Floats, totals: Floats, first: NDArray[np.bool_]
) -> None:
    """Log-probabilities of the targets (C) under the softmax of bf16 logits (C, V).

    Writes logp (C), totals (C) = logsumexp of each row, and first (C): whether no logit exceeds the
    target's.
    """
    for row in range(logits.shape[0]):
        rank = _rank(logits[row, 0])
        for column in range(logits.shape[1]):
            rank = max(rank, _rank(logits[row, column]))
        peak = _from_rank(rank)
        mass = _ZERO
        for column in range(logits.shape[1]):
            mass += exp(to_fp32(logits[row, column]) - peak)
        target = to_fp32(logits[row, targets[row]])
        totals[row] = peak + np.log(mass)
        logp[row] = target - totals[row]
        first[row] = target >= peak


@compiled("void(uint16[:, ::1], int64[::1], float32[::1], float32[::1])")
def log_probs_backward(logits: Bf16, targets: Indices, totals: Floats, grads: Floats) -> None:
    """Overwrite bf16 logits (C, V) with their gradient.

    totals (C) are those of `log_probs`, grads (C) the gradients of the log-probabilities.
    """
    for row in range(logits.shape[0]):
        total, grad = totals[row], grads[row]
        target = targets[row]
        own = grad * (_ONE - exp(to_fp32(logits[row, target]) - total))
        values = logits[row]
        for column in range(values.size):
            values[column] = to_bf16(-grad * exp(to_fp32(values[column]) - total))
        values[target] = to_bf16(own)
