"""Winograd's F(4x4, 3x3) convolution for CPUs, as machine code written through numba.

Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016: an output tile of 4x4
pixels needs the input tile of 6x6 pixels around it,

    Y = A^T [(G g G^T) * (B^T d B)] A,

with 36 products for each pair of channels, where the direct convolution has 144. Summed over the
input channels, they are 36 matrix products (tiles x inputs) (inputs x outputs). The interpolation
points are 0, ±1/sqrt(2), ±sqrt(2) and infinity, which round less than 0, ±1, ±2 and infinity.

The loops are Python, compiled by numba. The three inner parts are vector instructions, emitted as
LLVM code: compilers do not keep the accumulators of a matrix product in registers by themselves.

Memory, float32:
- images (N, 4*rows+2, 4*columns+2, channels): `rows` x `columns` tiles, a border of one pixel, and
  zeros in the border and in what exceeds the image;
- transformed maps (blocks, 36 x `plane_size`): TILES successive tiles a block, of all images, and in it
  (36, channels/16, TILES, 16), with 16 floats after each of the 36 planes, without which they would
  share a few sets of the L1 cache;
- weights (36, outputs/PANEL, inputs, PANEL).
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from realsr.networks.rrdb import RESIDUAL_SCALE, SLOPE

# numba's cache of machine code has these features in its key.
_AVX512 = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]
WIDTH = 16 if _AVX512 else 8  # floats of a vector
ROWS = 12 if _AVX512 else 6  # rows of a product whose accumulators fit the registers
PANEL = 2 * WIDTH  # its columns
GROUP = 16  # channels that lie together
TILES = 48  # of a block: more read the weights less often, fewer leave the L2 cache less often
UNROLL = 4

# The squares of the points a and b.
_A2, _B2 = 0.5, 2.0
_A, _B = math.sqrt(_A2), math.sqrt(_B2)

_FLOAT, _INT, _POINTER = ir.FloatType(), ir.IntType(64), ir.PointerType()
_VECTOR = ir.VectorType(_FLOAT, WIDTH)


def plane_size(channels: int) -> int:
    """Return the floats of one of the 36 planes of a block of transformed maps."""
    return channels * TILES + 16


def transform_weights(weight: np.ndarray) -> np.ndarray:
    """Return G g G^T of a convolution's weight (outputs, inputs, 3, 3), in the layout above."""
    g = [[1 / (_A2 * _B2), 0, 0]]
    for square, other in ((_A2, _B2), (_B2, _A2)):
        factor = 2 * square * (square - other)
        for point in (math.sqrt(square), -math.sqrt(square)):
            g.append([1 / factor, point / factor, square / factor])
    g.append([0, 0, 1])
    outputs, inputs = weight.shape[:2]
    u = np.kron(g, g) @ weight.reshape(outputs * inputs, 9).T.astype(np.float64)
    u = u.reshape(36, outputs // PANEL, PANEL, inputs).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(u, np.float32)


class _Emitter:
    """Writes vector instructions; addresses are integers, offsets count floats."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def integer(self, value: int) -> Any:
        return ir.Constant(_INT, value)

    def vector(self, value: float) -> Any:
        return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(np.float32(value)))] * WIDTH)

    def offset(self, *terms: tuple[Any, int]) -> Any:
        """Return the sum of the products of each pair."""
        total = self.integer(0)
        for value, factor in terms:
            total = self.builder.add(total, self.builder.mul(value, self.integer(factor)))
        return total

    def address(self, base: Any, offset: Any) -> Any:
        offset = self.integer(offset) if isinstance(offset, int) else offset
        return self.builder.add(base, self.builder.shl(offset, self.integer(2)))

    def pointer(self, base: Any, offset: Any) -> Any:
        return self.builder.inttoptr(self.address(base, offset), _POINTER)

    def load(self, base: Any, offset: Any) -> Any:
        return self.builder.load(self.pointer(base, offset), typ=_VECTOR, align=4)

    def store(self, value: Any, base: Any, offset: Any) -> None:
        self.builder.store(value, self.pointer(base, offset), align=4)

    def repeat(self, base: Any, offset: Any) -> Any:
        """Return a vector with the float of an address in all places."""
        scalar = self.builder.load(self.pointer(base, offset), typ=_FLOAT, align=4)
        empty, places = ir.Constant(_VECTOR, ir.Undefined), ir.VectorType(ir.IntType(32), WIDTH)
        first = self.builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(places, [0] * WIDTH))

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z; x may be a number."""
        x = self.vector(x) if isinstance(x, float) else x
        name, kind = f"llvm.fma.v{WIDTH}f32", ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [x, y, z])


def _machine_code(emit: Callable[..., Any], result: Any = types.void) -> Any:
    """Return a function for compiled code, with integers as arguments: those of `emit` after e."""

    def type_function(context: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = emit(_Emitter(builder), *values)
            return context.get_dummy_value() if value is None else value

        return result(*[types.intp] * len(arguments)), generate

    type_function.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
    return intrinsic(type_function)


def _emit_product(e: _Emitter, left: Any, right: Any, y: Any, stride: Any, groups: Any) -> None:
    """Write y (ROWS, PANEL), rows `stride` apart: left (groups, ROWS, 16), right (16*groups, PANEL)."""
    builder, columns = e.builder, PANEL // WIDTH
    # LLVM keeps these variables in registers.
    sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(columns)] for _ in range(ROWS)]
    for row in sums:
        for total in row:
            builder.store(e.vector(0), total)
    with cgutils.for_range(builder, groups) as outer:
        group_left = e.address(left, e.offset((outer.index, GROUP * TILES)))
        group_right = e.address(right, e.offset((outer.index, GROUP * PANEL)))
        with cgutils.for_range(builder, e.integer(GROUP // UNROLL)) as inner:
            part_left = e.address(group_left, e.offset((inner.index, UNROLL)))
            part_right = e.address(group_right, e.offset((inner.index, UNROLL * PANEL)))
            for k in range(UNROLL):
                weights = [e.load(part_right, k * PANEL + j * WIDTH) for j in range(columns)]
                for i, row in enumerate(sums):
                    x = e.repeat(part_left, i * GROUP + k)
                    for total, weight in zip(row, weights, strict=True):
                        product = e.fma(x, weight, builder.load(total, typ=_VECTOR))
                        builder.store(product, total)
    for i, row in enumerate(sums):
        for j, total in enumerate(row):
            place = builder.add(e.offset((stride, i)), e.integer(j * WIDTH))
            e.store(builder.load(total, typ=_VECTOR), y, place)


def _input_vector(e: _Emitter, d: list[Any]) -> list[Any]:
    """Return B^T d of six values."""
    even_a, odd_a = e.fma(-_B2, d[2], d[4]), e.fma(-_B2, d[1], d[3])
    even_b, odd_b = e.fma(-_A2, d[2], d[4]), e.fma(-_A2, d[1], d[3])
    return [
        e.builder.fadd(e.fma(-_A2 - _B2, d[2], d[4]), d[0]),
        e.fma(_A, odd_a, even_a),
        e.fma(-_A, odd_a, even_a),
        e.fma(_B, odd_b, even_b),
        e.fma(-_B, odd_b, even_b),
        e.builder.fadd(e.fma(-_A2 - _B2, d[3], d[5]), d[1]),
    ]


def _output_vector(e: _Emitter, m: list[Any]) -> list[Any]:
    """Return A^T m of six values."""
    builder = e.builder
    sum_a, difference_a = builder.fadd(m[1], m[2]), builder.fsub(m[1], m[2])
    sum_b, difference_b = builder.fadd(m[3], m[4]), builder.fsub(m[3], m[4])
    zero = e.vector(0)
    return [
        builder.fadd(builder.fadd(m[0], sum_a), sum_b),
        e.fma(_A, difference_a, e.fma(_B, difference_b, zero)),
        e.fma(_A2, sum_a, e.fma(_B2, sum_b, zero)),
        e.fma(_A * _A2, difference_a, e.fma(_B * _B2, difference_b, m[5])),
    ]


def _emit_input(e: _Emitter, x: Any, row: Any, pixel: Any, v: Any, plane: Any) -> None:
    """Write B^T d B of one tile and WIDTH channels; `row`, `pixel`, `plane`: floats to the next."""
    columns = [
        _input_vector(e, [e.load(x, e.offset((row, i), (pixel, j))) for i in range(6)])
        for j in range(6)
    ]
    for i in range(6):
        for j, value in enumerate(_input_vector(e, [column[i] for column in columns])):
            e.store(value, v, e.offset((plane, 6 * i + j)))


def _outputs(e: _Emitter, m: Any, plane: Any, bias: Any) -> Iterator[tuple[int, int, Any]]:
    """Yield row, column and value of A^T M A + bias."""
    columns = [
        _output_vector(e, [e.load(m, e.offset((plane, 6 * i + j))) for i in range(6)])
        for j in range(6)
    ]
    bias = e.load(bias, 0)
    for i in range(4):
        for j, value in enumerate(_output_vector(e, [column[i] for column in columns])):
            yield i, j, e.builder.fadd(value, bias)


def _inside(e: _Emitter, i: int, j: int, height: Any, width: Any) -> Any:
    """Return a context for instructions that run only if the pixel is inside the image."""
    rows = e.builder.icmp_signed(">", height, e.integer(i))
    columns = e.builder.icmp_signed(">", width, e.integer(j))
    return e.builder.if_then(e.builder.and_(rows, columns), likely=True)


def _emit_result(
    e: _Emitter,
    m: Any,
    plane: Any,
    bias: Any,
    y: Any,
    row: Any,
    height: Any,
    width: Any,
    inner: Any,
    outer: Any,
    residual: Any,
) -> None:
    """Write z = A^T M A + bias of one tile and WIDTH channels, see `residual` of `_convolve`.

    plane: also the channels.
    """
    builder, total = e.builder, cgutils.alloca_once(e.builder, _VECTOR)
    is_residual = builder.icmp_signed(">", residual, e.integer(0))
    is_last = builder.icmp_signed(">", residual, e.integer(1))
    with builder.if_else(is_residual) as (add, activate):
        with add:
            for i, j, z in _outputs(e, m, plane, bias):
                with _inside(e, i, j, height, width):
                    place = e.offset((row, i), (plane, j))
                    z = e.fma(RESIDUAL_SCALE, z, e.load(inner, place))
                    builder.store(z, total)
                    with builder.if_then(is_last):
                        builder.store(e.fma(RESIDUAL_SCALE, z, e.load(outer, place)), total)
                    e.store(builder.load(total, typ=_VECTOR), y, place)
        with activate:
            for i, j, z in _outputs(e, m, plane, bias):
                small = builder.fmul(z, e.vector(SLOPE))
                z = builder.select(builder.fcmp_ordered("<", z, small), small, z)
                with _inside(e, i, j, height, width):
                    e.store(z, y, e.offset((row, i), (plane, j)))


def _emit_increment(e: _Emitter, counter: Any) -> Any:
    """Add 1 to the integer at an address, and return its earlier value; threads take turns."""
    pointer = e.builder.inttoptr(counter, _POINTER)
    return e.builder.atomic_rmw("add", pointer, e.integer(1), "seq_cst")


_transform_input = _machine_code(_emit_input)
_multiply = _machine_code(_emit_product)
_write_result = _machine_code(_emit_result)
_increment = _machine_code(_emit_increment, types.intp)


def _convolve(  # type: ignore[no-untyped-def]  # read by numba
    products, counter, x, v, start, weights, bias, y, height, width, inner, outer, residual
):
    """Compute one convolution of a dense block, for blocks of tiles until none is left.

    products: buffer (TILES, 36, outputs) of this thread. counter: (1,) int64, the next block, which
    the threads share. x: image of the newest channels, which are transformed into the channels of
    `v` from `start`. weights: of all channels up to these. y: the result's image. height, width:
    pixels of the image. residual: 0 for leaky ReLU, 1 for inner + 0.2 z, 2 for
    outer + 0.2 (inner + 0.2 z).
    """
    count, x_rows, x_columns, channels = x.shape
    rows, columns = (x_rows - 2) // 4, (x_columns - 2) // 4
    panels, inputs, outputs = weights.shape[1], weights.shape[2], y.shape[3]
    plane = v.shape[1] // 36
    while True:
        block = _increment(counter.ctypes.data)
        if block >= v.shape[0]:
            return
        maps = v.ctypes.data + 4 * block * v.shape[1]
        last = min(TILES, count * rows * columns - block * TILES)
        for tile in range(last):
            image, place = divmod(block * TILES + tile, rows * columns)
            row, column = divmod(place, columns)
            pixel = ((image * x_rows + 4 * row) * x_columns + 4 * column) * channels
            for channel in range(0, channels, WIDTH):
                group = (start + channel) // GROUP
                source = x.ctypes.data + 4 * (pixel + channel)
                target = maps + 4 * ((group * TILES + tile) * GROUP + channel % GROUP)
                _transform_input(source, x_columns * channels, channels, target, plane)
        for product in range(36):
            for panel in range(panels):
                for tile in range(0, TILES, ROWS):
                    left = maps + 4 * (product * plane + tile * GROUP)
                    right = weights.ctypes.data + 4 * (product * panels + panel) * inputs * PANEL
                    place = (tile * 36 + product) * outputs + panel * PANEL
                    target = products.ctypes.data + 4 * place
                    _multiply(left, right, target, 36 * outputs, inputs // GROUP)
        for tile in range(last):
            image, place = divmod(block * TILES + tile, rows * columns)
            row, column = divmod(place, columns)
            pixel = ((image * x_rows + 4 * row + 1) * x_columns + 4 * column + 1) * outputs
            for channel in range(0, outputs, WIDTH):
                offset = 4 * (pixel + channel)
                _write_result(
                    products.ctypes.data + 4 * (tile * 36 * outputs + channel),
                    outputs,
                    bias.ctypes.data + 4 * channel,
                    y.ctypes.data + offset,
                    x_columns * outputs,
                    height - 4 * row,
                    width - 4 * column,
                    inner.ctypes.data + offset,
                    outer.ctypes.data + offset,
                    residual,
                )


def _compile() -> Callable[..., None]:
    try:
        return njit(nogil=True, cache=True)(_convolve)
    except RuntimeError:  # no folder can be written
        return njit(nogil=True)(_convolve)


convolve = _compile()
