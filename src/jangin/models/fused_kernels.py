"""Compiled passes over bf16 activations; importing this file compiles them once.

bf16 numbers come as uint16: the upper halves of fp32 ones, rounded to the nearest, ties to even.
Everything is computed in fp32; NaN and infinity come through.

Arrays: T tokens, D hidden size, V vocabulary. `flat` holds one block after another, each of
(heads, block rows, head size); a token's row stands in the block that begins after `starts[t]`
rows of all heads, is `sizes[t]` rows high, and there at `rows[t]`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Kernel = Callable[..., Any]
Halves = NDArray[np.uint16]
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


def _compiled(signature: str) -> Callable[[Kernel], Kernel]:
    """Compile now; keep the machine code beside this file or in the user's cache folder.

    numba raises RuntimeError where neither can be written (a read-only container): such a
    process compiles for itself.
    """

    def decorate(function: Kernel) -> Kernel:
        try:
            kernel: Kernel = njit(signature, cache=True, **_OPTIONS)(function)
        except RuntimeError:
            kernel = njit(signature, **_OPTIONS)(function)
        return kernel

    return decorate


_part: Callable[[Kernel], Kernel] = njit(inline="always", **_OPTIONS)


@_part
def _wide(half: np.uint16) -> np.float32:
    """bf16 as fp32."""
    value: np.float32 = np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)
    return value


@_part
def _narrow(value: np.float32) -> np.uint16:
    """fp32 as bf16."""
    bits = np.float32(value).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@_part
def _rank(half: np.uint16) -> np.int32:
    """An integer that orders as the bf16 number does: maxima of integers become vectors."""
    bits = np.int32(np.int16(half))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFF)))


@_part
def _of_rank(rank: np.int32) -> np.float32:
    """The number with this rank, as fp32."""
    return np.float32(_wide(np.uint16(rank ^ ((rank >> np.int32(31)) & np.int32(0x7FFF)))))


@_part
def _exp(x: np.float32) -> np.float32:
    """The exponential to 1e-6 for |x| < 10; comparisons are such that NaN stays NaN."""
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    power = np.floor(x * _LOG2_E + _HALF)
    r = x - power * _LN_2
    made = _C4 + r * (_C5 + r * _C6)
    made = _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * made)))
    made *= np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(made)


@_compiled(
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
            value = residual[row, place] + _wide(x[row, place])
            total[row, place] = value
            square += value * value
        scale = _ONE / np.sqrt(square / np.float32(size) + epsilon)
        scales[row] = scale
        for place in range(size):
            normed[row, place] = _narrow(total[row, place] * scale * weight[place])


@_compiled(
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
            product = total[row, place] * scale * _wide(grad[row, place])
            grad_weight[place] += product
            inner += product * weight[place]
        inner /= np.float32(size)
        for place in range(size):
            value = _wide(grad[row, place]) * weight[place]
            value = (value - total[row, place] * scale * inner) * scale
            if joined:
                value += grad_total[row, place]
            grad_residual[row, place] = value
            grad_x[row, place] = _narrow(value)


@_compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def swiglu(gate: Halves, up: Halves, made: Halves) -> None:
    """silu(gate) * up."""
    for row in range(gate.shape[0]):
        for place in range(gate.shape[1]):
            value = _wide(gate[row, place])
            value = value / (_ONE + _exp(-value))
            made[row, place] = _narrow(value * _wide(up[row, place]))


@_compiled("void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1])")
def swiglu_back(gate: Halves, up: Halves, grad: Halves, grad_gate: Halves, grad_up: Halves) -> None:
    """Gradients of `swiglu`."""
    for row in range(gate.shape[0]):
        for place in range(gate.shape[1]):
            value, slope = _wide(gate[row, place]), _wide(grad[row, place])
            share = _ONE / (_ONE + _exp(-value))
            grad_up[row, place] = _narrow(slope * value * share)
            slope *= _wide(up[row, place]) * share * (_ONE + value * (_ONE - share))
            grad_gate[row, place] = _narrow(slope)


@_compiled("void(uint16[:, ::1], int64[::1], float32[::1], float32[::1], boolean[::1])")
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
            mass += _exp(_wide(logits[row, place]) - peak)
        target = _wide(logits[row, targets[row]])
        totals[row] = peak + np.log(mass)
        logp[row] = target - totals[row]
        first[row] = target >= peak


@_compiled("void(uint16[:, ::1], int64[::1], float32[::1], float32[::1])")
def log_probabilities_back(logits: Halves, targets: Places, totals: Floats, grads: Floats) -> None:
    """Put the logits' gradients in their place, from those of the log-probabilities."""
    for row in range(logits.shape[0]):
        total, grad = totals[row], grads[row]
        target = targets[row]
        own = grad * (_ONE - _exp(_wide(logits[row, target]) - total))
        values = logits[row]
        for place in range(values.size):
            values[place] = _narrow(-grad * _exp(_wide(values[place]) - total))
        values[target] = _narrow(own)


@_compiled(
    "void(uint16[:, ::1], float32[:, ::1], float32[:, ::1], boolean, int64[::1], int64[::1], "
    "int64[::1], uint16[::1], int64)"
)
def fold(
    x: Halves,
    cos: Floats,
    sin: Floats,
    turn: bool,
    starts: Places,
    sizes: Places,
    rows: Places,
    flat: Halves,
    heads: int,
) -> None:
    """Copy tokens' heads to their blocks, rotated if `turn`; a token of size 0 has no place."""
    half = cos.shape[1]
    width = 2 * half
    for token in range(x.shape[0]):
        if sizes[token] == 0:
            continue
        for head in range(heads):
            place = (starts[token] * heads + head * sizes[token] + rows[token]) * width
            block = flat[place : place + width]
            own = x[token, head * width : head * width + width]
            if turn:
                for column in range(half):
                    left, right = _wide(own[column]), _wide(own[half + column])
                    c, s = cos[token, column], sin[token, column]
                    block[column] = _narrow(left * c - right * s)
                    block[half + column] = _narrow(right * c + left * s)
            else:
                for column in range(width):
                    block[column] = own[column]


@_compiled("void(int64[:, ::1], uint16[::1], int64, int64)")
def clear(filled: Places, flat: Halves, heads: int, size: int) -> None:
    """Zeros behind the tokens of each block (its start, its rows, its tokens)."""
    for block in range(filled.shape[0]):
        start, rows, tokens = filled[block]
        for head in range(heads):
            first = start * heads + head * rows
            flat[(first + tokens) * size : (first + rows) * size] = np.uint16(0)


@_compiled(
    "void(uint16[::1], float32[:, ::1], float32[:, ::1], boolean, int64[:, ::1], int64[:, ::1], "
    "int64[:, ::1], uint16[:, ::1], int64)"
)
def unfold(
    flat: Halves,
    cos: Floats,
    sin: Floats,
    turn: bool,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    rows: NDArray[np.int64],
    x: Halves,
    heads: int,
) -> None:
    """Sum what stands at a token's places (one row of `starts` each); rotate back if `turn`."""
    half = cos.shape[1]
    width = 2 * half
    summed = np.empty(width, np.float32)
    for token in range(x.shape[0]):
        for head in range(heads):
            summed[:] = _ZERO
            for copy in range(starts.shape[0]):
                size = sizes[copy, token]
                if size:
                    place = starts[copy, token] * heads + head * size + rows[copy, token]
                    block = flat[place * width : place * width + width]
                    for column in range(width):
                        summed[column] += _wide(block[column])
            own = x[token, head * width : head * width + width]
            if turn:
                for column in range(half):
                    left, right = summed[column], summed[half + column]
                    c, s = cos[token, column], sin[token, column]
                    own[column] = _narrow(left * c + right * s)
                    own[half + column] = _narrow(right * c - left * s)
            else:
                for column in range(width):
                    own[column] = _narrow(summed[column])


@_compiled("void(uint16[:, ::1], int64, int64[::1], float32)")
def softmax(scores: Halves, period: int, ahead: Places, scaling: float) -> None:
    """Scores to weights in place; row r sees columns up to its `ahead` + r modulo `period`.

    Rows are as many for each number in `ahead`, one after another.
    """
    width = scores.shape[1]
    each = scores.shape[0] // ahead.size
    made = np.empty(width, np.float32)
    for row in range(scores.shape[0]):
        seen = min(ahead[row // each] + row % period + 1, width)
        rank = _rank(scores[row, 0])
        for place in range(seen):
            rank = max(rank, _rank(scores[row, place]))
        peak = _of_rank(rank)
        mass = _ZERO
        for place in range(seen):
            value = _exp((_wide(scores[row, place]) - peak) * scaling)
            made[place] = value
            mass += value
        mass = _ONE / mass
        for place in range(seen):
            scores[row, place] = _narrow(made[place] * mass)
        scores[row, seen:] = np.uint16(0)


@_compiled("void(uint16[:, ::1], uint16[:, ::1], int64, int64[::1], float32)")
def softmax_back(
    weights: Halves, grads: Halves, period: int, ahead: Places, scaling: float
) -> None:
    """Gradients of `softmax`'s weights to those of its scores, in place."""
    width = weights.shape[1]
    each = weights.shape[0] // ahead.size
    for row in range(weights.shape[0]):
        seen = min(ahead[row // each] + row % period + 1, width)
        inner = _ZERO
        for place in range(seen):
            inner += _wide(weights[row, place]) * _wide(grads[row, place])
        for place in range(seen):
            value = _wide(weights[row, place]) * (_wide(grads[row, place]) - inner)
            grads[row, place] = _narrow(value * scaling)
        grads[row, seen:] = np.uint16(0)
