"""AVX512_BF16 microkernel: one tile of a bf16 matrix product, in registers, written as LLVM IR.

numba calls it like a function. The instruction (VDPBF16PS) sums products of two neighbours at once,
so operands are words: int32 of two bf16 values that are neighbours in the summed dimension. Nothing
here is compiled before a kernel that calls a tile is compiled.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jangin.models.device import has_bf16_tiles

ROWS, COLUMNS = 8, 32
"""Of a tile: 16 accumulators of 16 fp32 each, enough to hide the instruction's latency."""
_cgutils: Any = cgutils
_LANES = 16
_SUMS = ir.VectorType(ir.FloatType(), _LANES)
_WORDS = ir.VectorType(ir.IntType(32), _LANES)
_HALVES = ir.VectorType(ir.IntType(16), _LANES)
_MULTIPLY, _NARROW = "llvm.x86.avx512bf16.dpbf16ps.512", "llvm.x86.avx512bf16.cvtneps2bf16.512"
_ARGUMENTS = (
    *("a", "a_at", "a_row", "a_step", "b", "b_at", "b_step", "steps"),
    *("c", "c_at", "c_row", "add", "half", "half_at", "half_row"),
)
_Sums = list[list[Any]]


def require_bf16_tiles() -> None:
    """Raise before LLVM compiles tiles for a CPU without the instruction and aborts the process.

    Raises:
        ImportError: the CPU has no AVX512_BF16.

    """
    if not has_bf16_tiles():
        raise ImportError("tiles need a CPU with AVX512_BF16")


def _index(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def _memory(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Pointer to the data of a numba array."""
    return _cgutils.create_struct_proxy(kind)(context, builder, value=array).data


class _Writer:
    """Emits the instructions of a tile at the builder's position."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        kinds = dict(zip(_ARGUMENTS, sig.args, strict=True))
        self.builder, self.args = builder, dict(zip(_ARGUMENTS, args, strict=True))
        for name in ("a", "b", "c", "half"):
            self.args[name] = _memory(context, builder, kinds[name], self.args[name])

    def _call(self, name: str, returned: Any, *values: Any) -> Any:
        """Call the LLVM intrinsic `name`, which returns the type `returned`."""
        kind = ir.FunctionType(returned, [each.type for each in values])
        function = _cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, values)

    def _rows(self, name: str) -> list[Any]:
        """Pointers to the first element of each of the 8 rows of a matrix."""
        builder, args = self.builder, self.args
        offsets = [builder.mul(_index(row), args[f"{name}_row"]) for row in range(ROWS)]
        start = builder.gep(args[name], [args[f"{name}_at"]])
        return [builder.gep(start, [offset]) for offset in offsets]

    def _part(self, row: Any, part: int, kind: Any) -> Any:
        """Pointer, as `kind`, to the sixteen elements number `part` of a row."""
        position = self.builder.gep(row, [_index(part * _LANES)])
        return self.builder.bitcast(position, kind.as_pointer())

    def _load(self, row: Any, part: int, kind: Any) -> Any:
        """Load sixteen elements; aligned to a bf16 value only."""
        loaded = self.builder.load(self._part(row, part, kind))
        loaded.align = 2
        return loaded

    def _broadcast(self, word: Any) -> Any:
        """Vector with the word in all lanes."""
        undefined = ir.Constant(_WORDS, ir.Undefined)
        first = self.builder.insert_element(undefined, word, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(_WORDS, [0] * _LANES))

    def _step(self, sums: _Sums, step: Any, a_rows: list[Any]) -> _Sums:
        """Accumulators after one more word of every row and column."""
        builder, args = self.builder, self.args
        position = builder.add(args["b_at"], builder.mul(step, args["b_step"]))
        b_row = builder.gep(args["b"], [position])
        columns = [self._load(b_row, part, _WORDS) for part in range(COLUMNS // _LANES)]
        a_position, results = builder.mul(step, args["a_step"]), []
        for own, row in zip(sums, a_rows, strict=True):
            word = self._broadcast(builder.load(builder.gep(row, [a_position])))
            results.append(
                [
                    self._call(_MULTIPLY, _SUMS, each, word, column)
                    for each, column in zip(own, columns, strict=True)
                ]
            )
        return results

    def sums(self) -> _Sums:
        """Emit the loop over all steps; starts from zero or, if `add`, from the values of C."""
        builder, args = self.builder, self.args
        a_rows, c_rows = self._rows("a"), self._rows("c")
        parts = range(COLUMNS // _LANES)
        before = builder.block
        loading, loop, after = (builder.append_basic_block(n) for n in ("load", "loop", "after"))
        builder.cbranch(builder.icmp_signed("!=", args["add"], _index(0)), loading, loop)
        builder.position_at_end(loading)
        loaded = [[self._load(row, part, _SUMS) for part in parts] for row in c_rows]
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(ir.IntType(64))
        sums = [[builder.phi(_SUMS) for _ in parts] for _ in c_rows]
        results = self._step(sums, step, a_rows)
        following = builder.add(step, _index(1))
        for block, value in ((before, _index(0)), (loading, _index(0)), (loop, following)):
            step.add_incoming(value, block)
        zero = ir.Constant(_SUMS, [0.0] * _LANES)
        for own, old, new in zip(sums, loaded, results, strict=True):
            for each, left, right in zip(own, old, new, strict=True):
                each.add_incoming(zero, before)
                each.add_incoming(left, loading)
                each.add_incoming(right, loop)
        builder.cbranch(builder.icmp_signed("<", following, args["steps"]), loop, after)
        builder.position_at_end(after)
        return results

    def store(self, sums: _Sums, *, half: bool) -> None:
        """Write the sums to C in fp32, or if `half` rounded to bf16."""
        for row, own in zip(self._rows("half" if half else "c"), sums, strict=True):
            for part, each in enumerate(own):
                value = self._call(_NARROW, _HALVES, each) if half else each
                self.builder.store(value, self._part(row, part, value.type)).align = 2


def _intrinsic(*, to_half: bool) -> Any:
    def write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        writer = _Writer(context, builder, sig, args)
        writer.store(writer.sums(), half=to_half)
        return context.get_dummy_value()

    def tile(
        _context: Any, a: Any, _a_at: Any, _a_row: Any, _a_step: Any,
        b: Any, _b_at: Any, _b_step: Any, _steps: Any,
        c: Any, _c_at: Any, _c_row: Any, _add: Any, half: Any, _half_at: Any, _half_row: Any,
    ) -> Any:  # fmt: skip
        n = types.int64
        return types.void(a, n, n, n, b, n, n, n, c, n, n, n, half, n, n), write

    result: Any = intrinsic(tile)
    return result


tile = _intrinsic(to_half=False)
"""tile(a, a_at, a_row, a_step, b, b_at, b_step, steps, c, c_at, c_row, add, c, c_at, c_row)

Writes the sum over s < steps of a[a_at + i * a_row + s * a_step] * b[b_at + s * b_step + j] to
c[c_at + i * c_row + j], i < 8, j < 32; adds to c instead unless `add` is 0. a and b are flat int32
arrays of words (the product of two words is the dot product of their bf16 values), c is flat fp32.
steps is at least 1."""
tile_bf16 = _intrinsic(to_half=True)
"""`tile`, but the last three arguments are a flat uint16 array, index and row length: the result is
written there, rounded to bf16, and c is only read."""


def _write_interleave(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    _, upper, lower, _, at, step = args
    x, packed = (_memory(context, builder, sig.args[at], args[at]) for at in (0, 3))
    half, whole = (ir.VectorType(ir.IntType(size), COLUMNS) for size in (16, 32))

    def row(position: Any) -> Any:
        pointer = builder.bitcast(builder.gep(x, [position]), half.as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 2
        return builder.zext(loaded, whole)

    shift = ir.Constant(whole, [16] * COLUMNS)
    words = builder.or_(row(upper), builder.shl(row(lower), shift))
    for group in range(COLUMNS // ROWS):
        lanes = [*range(group * ROWS, (group + 1) * ROWS)]
        kind = ir.VectorType(ir.IntType(32), ROWS)
        part = builder.shuffle_vector(words, words, ir.Constant(kind, lanes))
        position = builder.add(at, builder.mul(_index(group), step))
        pointer = builder.bitcast(builder.gep(packed, [position]), kind.as_pointer())
        builder.store(part, pointer).align = 4
    return context.get_dummy_value()


def _interleave(
    _context: Any, x: Any, _upper: Any, _lower: Any, packed: Any, _at: Any, _step: Any
) -> Any:
    n = types.int64
    return types.void(x, n, n, packed, n, n), _write_interleave


interleave: Any = intrinsic(_interleave)
"""interleave(x, upper, lower, packed, at, step)

Writes the 32 words (x[upper + j], x[lower + j]), the first in the low half, to `packed`: eight
contiguous words from `at` on, the next eight from `at + step` on, and so on. x is flat uint16,
packed flat int32."""
