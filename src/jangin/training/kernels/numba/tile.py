"""One tile of a product of bf16 matrices, in the registers of a CPU with AVX512_BF16.

numba calls it like a function of its own. The instruction adds up products of two neighbours at a
time, so operands are read as words: two bf16 numbers that follow each other in the dimension that
is summed over. Nothing here is compiled before somebody compiles a kernel that calls a tile.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jangin.models.device import has_bf16_tiles

ROWS, COLUMNS = 8, 32
"""Of a tile: sixteen sums of sixteen numbers each, enough to hide the instruction's latency."""
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
    """Refuse to compile tiles for a CPU that lacks their instruction.

    LLVM would abort the whole process instead.

    Raises:
        ImportError: the CPU has no AVX512_BF16, or has AMX, which is faster.

    """
    if not has_bf16_tiles():
        raise ImportError("tiles need a CPU with AVX512_BF16 and without AMX")


def _index(number: int) -> Any:
    return ir.Constant(ir.IntType(64), number)


def _memory(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Where a numba array begins."""
    return _cgutils.create_struct_proxy(kind)(context, builder, value=array).data


class _Writer:
    """Writes a tile's instructions."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        kinds = dict(zip(_ARGUMENTS, sig.args, strict=True))
        self.builder, self.args = builder, dict(zip(_ARGUMENTS, args, strict=True))
        for name in ("a", "b", "c", "half"):
            self.args[name] = _memory(context, builder, kinds[name], self.args[name])

    def _call(self, name: str, made: Any, *given: Any) -> Any:
        kind = ir.FunctionType(made, [each.type for each in given])
        function = _cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, given)

    def _rows(self, name: str) -> list[Any]:
        """Where each row of a matrix begins."""
        builder, args = self.builder, self.args
        offsets = [builder.mul(_index(row), args[f"{name}_row"]) for row in range(ROWS)]
        start = builder.gep(args[name], [args[f"{name}_at"]])
        return [builder.gep(start, [offset]) for offset in offsets]

    def _part(self, row: Any, part: int, kind: Any) -> Any:
        """A pointer to sixteen numbers of a row."""
        place = self.builder.gep(row, [_index(part * _LANES)])
        return self.builder.bitcast(place, kind.as_pointer())

    def _load(self, row: Any, part: int, kind: Any) -> Any:
        loaded = self.builder.load(self._part(row, part, kind))
        loaded.align = 2
        return loaded

    def _everywhere(self, word: Any) -> Any:
        """A word in all lanes."""
        nothing = ir.Constant(_WORDS, ir.Undefined)
        first = self.builder.insert_element(nothing, word, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(_WORDS, [0] * _LANES))

    def _step(self, sums: _Sums, step: Any, a_rows: list[Any]) -> _Sums:
        """All sums after one more word of every row and column."""
        builder, args = self.builder, self.args
        place = builder.add(args["b_at"], builder.mul(step, args["b_step"]))
        b_row = builder.gep(args["b"], [place])
        columns = [self._load(b_row, part, _WORDS) for part in range(COLUMNS // _LANES)]
        a_place, made = builder.mul(step, args["a_step"]), []
        for own, row in zip(sums, a_rows, strict=True):
            word = self._everywhere(builder.load(builder.gep(row, [a_place])))
            made.append(
                [
                    self._call(_MULTIPLY, _SUMS, each, word, column)
                    for each, column in zip(own, columns, strict=True)
                ]
            )
        return made

    def sums(self) -> _Sums:
        """The loop over all steps, from zero or, if `add`, from what C holds."""
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
        made = self._step(sums, step, a_rows)
        following = builder.add(step, _index(1))
        for block, number in ((before, _index(0)), (loading, _index(0)), (loop, following)):
            step.add_incoming(number, block)
        zero = ir.Constant(_SUMS, [0.0] * _LANES)
        for own, old, new in zip(sums, loaded, made, strict=True):
            for each, left, right in zip(own, old, new, strict=True):
                each.add_incoming(zero, before)
                each.add_incoming(left, loading)
                each.add_incoming(right, loop)
        builder.cbranch(builder.icmp_signed("<", following, args["steps"]), loop, after)
        builder.position_at_end(after)
        return made

    def store(self, sums: _Sums, *, half: bool) -> None:
        """To C in fp32, or rounded to bf16."""
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

    made: Any = intrinsic(tile)
    return made


tile = _intrinsic(to_half=False)
"""tile(a, a_at, a_row, a_step, b, b_at, b_step, steps, c, c_at, c_row, add, c, c_at, c_row)

Puts the sum over s < steps of a[a_at + i * a_row + s * a_step] * b[b_at + s * b_step + j] into
c[c_at + i * c_row + j], i < 8, j < 32; adds it to what is there unless `add` is 0. a and b are
int32 arrays of words (two bf16 numbers each), c is of fp32; all have one dimension."""
half_tile = _intrinsic(to_half=True)
"""The same, but the last three arguments are a uint16 array, place and row length: what `tile`
would put into c goes there, rounded to bf16."""


def _write_pairs(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    _, upper, lower, _, at, step = args
    x, laid = (_memory(context, builder, sig.args[at], args[at]) for at in (0, 3))
    half, whole = (ir.VectorType(ir.IntType(size), COLUMNS) for size in (16, 32))

    def row(place: Any) -> Any:
        pointer = builder.bitcast(builder.gep(x, [place]), half.as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 2
        return builder.zext(loaded, whole)

    shift = ir.Constant(whole, [16] * COLUMNS)
    words = builder.or_(row(upper), builder.shl(row(lower), shift))
    for group in range(COLUMNS // ROWS):
        places = [*range(group * ROWS, (group + 1) * ROWS)]
        kind = ir.VectorType(ir.IntType(32), ROWS)
        part = builder.shuffle_vector(words, words, ir.Constant(kind, places))
        place = builder.add(at, builder.mul(_index(group), step))
        pointer = builder.bitcast(builder.gep(laid, [place]), kind.as_pointer())
        builder.store(part, pointer).align = 4
    return context.get_dummy_value()


def _pairs(_context: Any, x: Any, _upper: Any, _lower: Any, laid: Any, _at: Any, _step: Any) -> Any:
    n = types.int64
    return types.void(x, n, n, laid, n, n), _write_pairs


pairs: Any = intrinsic(_pairs)
"""pairs(x, upper, lower, laid, at, step)

Puts the words of x[upper + j] and x[lower + j], j < 32, into laid from `at` on: eight lie together,
and the first of each eight lies `step` behind that of the eight before. x is uint16, laid int32."""
