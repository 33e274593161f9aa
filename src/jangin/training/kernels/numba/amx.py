"""AMX: products of blocks of bf16 in the CPU's tile registers, written as LLVM IR.

`block` is called like `tile.tile` and reads the same operands, but computes 32 rows at once:
TDPBF16PS multiplies 16 rows of 16 words by 16 words of 16 columns. A kernel calls `configure`
before its first block and `release` after its last, as the registers belong to the thread and
oneDNN uses them too.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jangin.models.device import has_amx

ROWS, COLUMNS = 32, 32
"""Of a block: four of the eight registers hold its sums."""
WORDS = 16
"""Words of a register's row: the summed dimension is a multiple of it."""
_cgutils: Any = cgutils
_SIDE, _WORD_BYTES = 16, 4
_SUMS, _LEFT, _RIGHT = ((0, 1), (2, 3)), (4, 5), (6, 7)
"""Numbers of the registers: of the sums by row and column, of both operands."""
_ARGUMENTS = (
    *("a", "a_at", "a_row", "a_step", "b", "b_at", "b_step", "steps"),
    *("c", "c_at", "c_row", "add", "half", "half_at", "half_row"),
)


def _palette() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Operand of LDTILECFG: eight registers of 16 rows of 64 bytes."""
    palette = np.zeros(64, np.uint8)
    palette[0] = 1
    palette.view(np.uint16)[8:16] = _SIDE * _WORD_BYTES
    palette[48:56] = _SIDE
    return palette


PALETTE = _palette()


def _call(builder: Any, name: str, *values: Any) -> None:
    """Call the LLVM intrinsic `llvm.x86.name`, which returns nothing."""
    kind = ir.FunctionType(ir.VoidType(), [each.type for each in values])
    function = _cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    builder.call(function, values)


def _register(number: int) -> Any:
    return ir.Constant(ir.IntType(8), number)


def _number(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


class _Writer:
    """Emits the instructions of a block at the builder's position."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        self.builder, self.args = builder, dict(zip(_ARGUMENTS, args, strict=True))
        for name, kind in zip(_ARGUMENTS, sig.args, strict=True):
            if name in "abc":
                array = _cgutils.create_struct_proxy(kind)(context, builder, value=self.args[name])
                self.args[name] = array.data

    def _move(self, name: str, register: int, matrix: str, index: Any, row: Any) -> None:
        """Load or store a register; elements of `matrix` from `index` on, rows `row` apart."""
        byte = ir.IntType(8).as_pointer()
        start = self.builder.bitcast(self.builder.gep(self.args[matrix], [index]), byte)
        stride = self.builder.mul(row, _number(_WORD_BYTES))
        _call(self.builder, name, _register(register), start, stride)

    def _sums(self, name: str) -> None:
        """Load or store the four registers of sums."""
        builder, row = self.builder, self.args["c_row"]
        for top in range(2):
            for left in range(2):
                below = builder.mul(row, _number(top * _SIDE))
                index = builder.add(builder.add(self.args["c_at"], below), _number(left * _SIDE))
                self._move(name, _SUMS[top][left], "c", index, row)

    def write(self) -> None:
        """Emit the loop over all steps and the stores."""
        builder, args = self.builder, self.args
        with builder.if_else(builder.icmp_signed("!=", args["add"], _number(0))) as (load, clear):
            with load:
                self._sums("tileloadd64")
            with clear:
                for register in (*_SUMS[0], *_SUMS[1]):
                    _call(builder, "tilezero", _register(register))
        with _cgutils.for_range_slice(
            builder, _number(0), args["steps"], _number(WORDS), ir.IntType(64)
        ) as (step, _):
            for part in range(2):
                below = builder.mul(args["a_row"], _number(part * _SIDE))
                index = builder.add(builder.add(args["a_at"], below), step)
                self._move("tileloadd64", _LEFT[part], "a", index, args["a_row"])
                index = builder.add(args["b_at"], builder.mul(step, args["b_step"]))
                index = builder.add(index, _number(part * _SIDE))
                self._move("tileloadd64", _RIGHT[part], "b", index, args["b_step"])
            for top in range(2):
                for left in range(2):
                    numbers = _SUMS[top][left], _LEFT[top], _RIGHT[left]
                    _call(builder, "tdpbf16ps", *map(_register, numbers))
        self._sums("tilestored64")


def _write_block(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    _Writer(context, builder, sig, args).write()
    return context.get_dummy_value()


def _block(
    _context: Any, a: Any, _a_at: Any, _a_row: Any, _a_step: Any,
    b: Any, _b_at: Any, _b_step: Any, _steps: Any,
    c: Any, _c_at: Any, _c_row: Any, _add: Any, half: Any, _half_at: Any, _half_row: Any,
) -> Any:  # fmt: skip
    n = types.int64
    return types.void(a, n, n, n, b, n, n, n, c, n, n, n, half, n, n), _write_block


def _write_configure(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    palette = _cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    if has_amx():
        _call(builder, "ldtilecfg", builder.bitcast(palette.data, ir.IntType(8).as_pointer()))
    return context.get_dummy_value()


def _write_release(context: Any, builder: Any, _sig: Any, _args: Any) -> Any:
    if has_amx():
        _call(builder, "tilerelease")
    return context.get_dummy_value()


def _configure(_context: Any, palette: Any) -> Any:
    return types.void(palette), _write_configure


def _release(_context: Any) -> Any:
    return types.void(), _write_release


block: Any = intrinsic(_block)
"""`tile.tile` for 32 rows; a_step has to be 1 and steps a multiple of `WORDS`."""
configure: Any = intrinsic(_configure)
"""configure(PALETTE) prepares the thread's tile registers for `block`; nothing without AMX."""
release: Any = intrinsic(_release)
"""release() gives them back empty; nothing without AMX."""
