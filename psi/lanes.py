"""Eight 64-bit numbers side by side, for compiled loops: one register of AVX-512.

A numba type with the few operations that big-number arithmetic needs; products are those of the instruction
set AVX-512 IFMA. All operations take the same time whatever the numbers are.
"""

import operator
from collections.abc import Callable
from typing import Any, Final

from llvmlite import binding, ir
from numba import extending
from numba.core import cgutils, config, types

LANES: Final = 8
VECTOR: Final = ir.VectorType(ir.IntType(64), LANES)


def supported() -> bool:
    """Has this machine the instructions, and does numba compile for this very machine?"""
    if any(getattr(config, name) for name in ("DISABLE_JIT", "CPU_NAME", "CPU_FEATURES")):
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512f") and features.get("avx512ifma"))


def _intrinsic(typing: Callable[..., Any]) -> Callable[..., Any]:
    """For mypy: inside compiled code it is called without the typing context, which comes first here."""
    return extending.intrinsic(prefer_literal=True)(typing)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES_TYPE: Final = _LanesType()


@extending.register_model(_LanesType)
class _LanesModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def _all(number: int) -> ir.Constant:
    return ir.Constant(VECTOR, [number] * LANES)


def _place(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    array = context.make_array(kind)(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), VECTOR.as_pointer())


@_intrinsic
def load(_: Any, array: Any, at: Any) -> Any:
    """The eight numbers of a flat uint64 array from place `at` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], arguments), align=8)

    return LANES_TYPE(array, types.intp), generate


@_intrinsic
def store(_: Any, array: Any, at: Any, lanes: Any) -> Any:
    """The other way round."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(context, builder, signature.args[0], arguments), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES_TYPE), generate


@_intrinsic
def every(_: Any, number: Any) -> Any:
    """The same number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = context.cast(builder, arguments[0], signature.args[0], types.uint64)
        one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), wide, ir.Constant(ir.IntType(32), 0))
        where = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), where)

    return LANES_TYPE(number), generate


@_intrinsic
def zeros(_: Any, lanes: Any) -> Any:
    """All ones in the lanes that are zero, else zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sext(builder.icmp_unsigned("==", arguments[0], _all(0)), VECTOR)

    return LANES_TYPE(LANES_TYPE), generate


def _columns(squared: bool) -> Any:
    """The product of two numbers of five 51-bit limbs, or of one with itself, in ten columns of weight 2^51k.

    Limbs are below 2^52. Of a_i b_j the low 52 bits go to column i + j, and twice those above to the next.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a = cgutils.unpack_tuple(builder, arguments[0])
        b = cgutils.unpack_tuple(builder, arguments[-1])
        halves = []
        for half in ("l", "h"):
            name, kind = f"llvm.x86.avx512.vpmadd52{half}.uq.512", ir.FunctionType(VECTOR, [VECTOR] * 3)
            multiply_add = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            sums: list[Any] = [_all(0)] * 10
            for i in range(5):
                for j in range(i + 1 if squared else 0, 5):
                    sums[i + j] = builder.call(multiply_add, [sums[i + j], a[i], b[j]])
            if squared:
                sums = [builder.add(total, total) for total in sums]
                for i in range(5):
                    sums[2 * i] = builder.call(multiply_add, [sums[2 * i], a[i], a[i]])
            halves.append(sums)
        low, high = halves
        high = [_all(0)] + [builder.add(total, total) for total in high[:9]]
        columns = [builder.add(one, two) for one, two in zip(low, high, strict=True)]
        return context.make_tuple(builder, signature.return_type, columns)

    limbs, columns = types.UniTuple(LANES_TYPE, 5), types.UniTuple(LANES_TYPE, 10)

    @_intrinsic
    def square(_: Any, a: Any) -> Any:
        return columns(limbs), generate

    @_intrinsic
    def product(_: Any, a: Any, b: Any) -> Any:
        return columns(limbs, limbs), generate

    return square if squared else product


product, square = _columns(squared=False), _columns(squared=True)


def _shift(how: str) -> Any:
    @_intrinsic
    def shift(_: Any, lanes: Any, bits: Any) -> Any:
        constant = bits.literal_value

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, how)(arguments[0], _all(constant))

        return LANES_TYPE(LANES_TYPE, bits), generate

    return shift


left, right = _shift("shl"), _shift("lshr")
"""By a constant number of bits."""


def _operate(sign: Callable[..., Any], how: str) -> None:
    @_intrinsic
    def operate(_: Any, one: Any, two: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, how)(*arguments)

        return LANES_TYPE(LANES_TYPE, LANES_TYPE), generate

    @extending.overload(sign)
    def implement(one: Any, two: Any) -> Any:
        def apply(one: Any, two: Any) -> Any:
            return operate(one, two)

        return apply if one is LANES_TYPE and two is LANES_TYPE else None


for _sign, _how in (
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.and_, "and_"),
    (operator.or_, "or_"),
    (operator.xor, "xor"),
):
    _operate(_sign, _how)
