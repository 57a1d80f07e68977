"""Vectors of whole numbers for the fast engine's loops: what a processor adds at once.

Numba vectorises loops by itself, but half as wide as some processors can, and not where
types of several widths meet. A value of type :class:`Lanes` is a vector in LLVM's own
sense: every processor takes it, in as many pieces as it needs. Arithmetic wraps. :class:`Reals`
are float32, for whole numbers below 2**24, which these hold exactly.

Numba keeps compiled loops while ``kernels.py`` stays as it is: a digest there changes with this
file.
"""

from __future__ import annotations

import operator
import platform
import sys
from typing import Any

import numba as nb
from llvmlite import ir
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "COMPRESSES", "FUSED", "TOWARD_ZERO", "Lanes", "Reals", "add_to", "as_lanes", "as_reals",
    "as_word", "bytes_at", "counted", "counted_up", "element", "fetch", "fetch_at", "give_way",
    "kept_and", "kept_part", "loaded", "lowest_bit", "masked", "number_of_bits", "numbers_of_bits",
    "plain", "put", "put_numbers", "real", "reals_at", "round_as", "rounding", "select", "splat",
    "store", "store_bytes", "total", "widened", "write_to", "zeros",
]  # fmt: skip


def _features() -> set[str]:
    """Return what the processor that Numba compiles for can do: this one, or one it was told."""
    numba: Any = config  # its settings have no types
    told = numba.CPU_FEATURES
    if told is None:
        told = "" if numba.CPU_NAME == "generic" else get_host_cpu_features()
    return {item[1:] for item in told.split(",") if item.startswith("+")}


_ARM = platform.machine().lower() in ("arm64", "aarch64")
_FEATURES = _features()
#: Whether this processor multiplies and adds floats with one rounding, and can be told which;
#: what to set in its word to round toward zero.
FUSED, TOWARD_ZERO = _ARM or "fma" in _FEATURES, 3 << 22 if _ARM else 3 << 13
#: Whether it writes the bytes that a mask chooses one behind the other.
COMPRESSES = "avx512vbmi2" in _FEATURES


#: What LLVM is to write for a call; the second kind knows numbers that the call names.
_intrinsic: Any = intrinsic
_of_numbers: Any = intrinsic(prefer_literal=True)


class Lanes(nb.types.Type):
    """``count`` integers of ``bits`` bits; of 1 bit, a comparison's result."""

    def __init__(self, count: int, bits: int) -> None:
        self.count, self.bits = count, bits
        super().__init__(name=f"{count}xint{bits}")

    @property
    def llvm(self) -> Any:
        """The same as LLVM calls it."""
        return ir.VectorType(ir.IntType(self.bits), self.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.llvm)


class Reals(nb.types.Type):
    """``count`` floats of 32 bits."""

    def __init__(self, count: int) -> None:
        self.count, self.bits = count, 32
        super().__init__(name=f"{count}xfloat32")

    @property
    def llvm(self) -> Any:
        """The same as LLVM calls it."""
        return ir.VectorType(ir.FloatType(), self.count)


register_model(Reals)(_LanesModel)


def _all(kind: Lanes | Reals, value: float) -> Any:
    return ir.Constant(kind.llvm, [value] * kind.count)


def _spread(builder: Any, kind: Lanes, value: Any) -> Any:
    """Return a vector whose lanes all hold ``value``."""
    wide = ir.IntType(kind.bits)
    if value.type.width > kind.bits:
        value = builder.trunc(value, wide)
    elif value.type.width < kind.bits:
        value = builder.sext(value, wide)
    one = builder.insert_element(_all(kind, 0), value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, one, places)


def _operation(symbol: Any, name: str) -> None:
    """Let an operator work on two vectors, or on a vector and an integer."""

    class Typed(AbstractTemplate):
        key = symbol

        def generic(self, args: Any, _kws: Any) -> Any:
            left, right = args
            if not isinstance(left, Lanes) or not isinstance(right, (Lanes, nb.types.Integer)):
                return None
            compared = name in ("<", ">", "!=")
            return signature(Lanes(left.count, 1) if compared else left, left, right)

    infer_global(symbol)(Typed)

    def lowered(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = args
        if isinstance(sig.args[1], nb.types.Integer):
            right = _spread(builder, sig.args[0], right)
        if name in ("<", ">", "!="):
            return builder.icmp_signed(name, left, right)
        return getattr(builder, name)(left, right)

    lower_builtin(symbol, Lanes, Lanes)(lowered)
    lower_builtin(symbol, Lanes, nb.types.Integer)(lowered)


for _symbol, _name in (
    (operator.add, "add"), (operator.sub, "sub"), (operator.mul, "mul"), (operator.and_, "and_"),
    (operator.lshift, "shl"), (operator.rshift, "ashr"), (operator.or_, "or_"),
    (operator.lt, "<"), (operator.gt, ">"), (operator.ne, "!="),
    (operator.iadd, "add"), (operator.isub, "sub"),
):  # fmt: skip
    _operation(_symbol, _name)


def _real_operation(symbol: Any, name: str) -> None:
    """Let an operator work on two vectors of floats."""
    compares = name in ("<", ">", "!=")

    class Typed(AbstractTemplate):
        key = symbol

        def generic(self, args: Any, _kws: Any) -> Any:
            left, right = args
            if not isinstance(left, Reals) or left != right:
                return None
            return signature(Lanes(left.count, 1) if compares else left, left, left)

    infer_global(symbol)(Typed)

    def lowered(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        if compares:
            return builder.fcmp_ordered(name, *args)
        return getattr(builder, name)(*args)

    lower_builtin(symbol, Reals, Reals)(lowered)


for _symbol, _name in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.lt, "<"),
    (operator.gt, ">"), (operator.ne, "!="),
):  # fmt: skip
    _real_operation(_symbol, _name)


def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any, llvm: Any) -> Any:
    """Return where element ``at`` of an array is, as the place of an ``llvm``."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), llvm.as_pointer())


def _resized(builder: Any, value: Any, kind: Lanes) -> Any:
    have = value.type.element.width
    if have == kind.bits:
        return value
    return (builder.trunc if have > kind.bits else builder.sext)(value, kind.llvm)


@_intrinsic
def plain(_context: Any, value: Any) -> Any:
    """A number as any of its type: Numba compiles functions anew for each one that a call names."""
    kind = nb.types.unliteral(value)
    return kind(value), lambda _context, _builder, _sig, args: args[0]


@_intrinsic
def element(_context: Any, array: Any, _at: Any) -> Any:
    """An element of an array as an integer of 64 bits; none is counted from the end."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(sig.args[0].dtype)
        value = builder.load(_address(context, builder, sig.args[0], args[0], args[1], kind))
        return builder.sext(value, ir.IntType(64))

    return nb.int64(array, nb.int64), generate


@_of_numbers
def loaded(_context: Any, array: Any, _at: Any, count: Any, bits: Any) -> Any:
    """``count`` elements of an array from ``at``, each as ``bits`` bits with its sign."""
    kind = Lanes(count.literal_value, bits.literal_value)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_value_type(sig.args[0].dtype)
        llvm = ir.VectorType(element, kind.count)
        value = builder.load(
            _address(context, builder, sig.args[0], args[0], args[1], llvm),
            align=element.width // 8,
        )
        return _resized(builder, value, kind)

    return kind(array, nb.int64, count, bits), generate


@_of_numbers
def bytes_at(_context: Any, _place: Any, count: Any) -> Any:
    """``count`` bytes at an address."""
    kind = Lanes(count.literal_value, 8)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], kind.llvm.as_pointer()), align=1)

    return kind(nb.int64, count), generate


@_intrinsic
def store(_context: Any, array: Any, _at: Any, lanes: Any) -> Any:
    """Write lanes to an array from ``at``, in the array's type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_value_type(sig.args[0].dtype)
        kind = Lanes(sig.args[2].count, element.width)
        place = _address(context, builder, sig.args[0], args[0], args[1], kind.llvm)
        builder.store(_resized(builder, args[2], kind), place, align=element.width // 8)
        return context.get_dummy_value()

    return nb.void(array, nb.int64, lanes), generate


@_intrinsic
def store_bytes(_context: Any, array: Any, _at: Any, mask: Any) -> Any:
    """Write a comparison's result as bytes, 0 or 1."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = Lanes(sig.args[2].count, 8)
        place = _address(context, builder, sig.args[0], args[0], args[1], kind.llvm)
        builder.store(builder.zext(args[2], kind.llvm), place, align=1)
        return context.get_dummy_value()

    return nb.void(array, nb.int64, mask), generate


@_of_numbers
def zeros(_context: Any, count: Any, bits: Any) -> Any:
    """A vector of zeros."""
    kind = Lanes(count.literal_value, bits.literal_value)
    return kind(count, bits), lambda _context, _builder, _sig, _args: _all(kind, 0)


@_of_numbers
def splat(_context: Any, _value: Any, count: Any) -> Any:
    """A vector of 32-bit lanes that all hold ``value``."""
    kind = Lanes(count.literal_value, 32)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return _spread(builder, kind, args[0])

    return kind(nb.int32, count), generate


@_of_numbers
def real(_context: Any, _value: Any, count: Any) -> Any:
    """A vector of floats that all are the whole number ``value``."""
    kind = Reals(count.literal_value)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.sitofp(_spread(builder, Lanes(kind.count, 32), args[0]), kind.llvm)

    return kind(nb.int32, count), generate


@_of_numbers
def reals_at(_context: Any, array: Any, _at: Any, count: Any) -> Any:
    """``count`` floats of which an array of int32 holds the bits, from element ``at``."""
    kind = Reals(count.literal_value)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _address(context, builder, sig.args[0], args[0], args[1], kind.llvm)
        return builder.load(place, align=4)

    return kind(array, nb.int64, count), generate


@_intrinsic
def as_reals(_context: Any, lanes: Any) -> Any:
    """The same whole numbers as floats."""
    kind = Reals(lanes.count)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.sitofp(args[0], kind.llvm)

    return kind(lanes), generate


@_intrinsic
def as_lanes(_context: Any, reals: Any) -> Any:
    """The same whole numbers as integers of 32 bits."""
    kind = Lanes(reals.count, 32)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.fptosi(args[0], kind.llvm)

    return kind(reals), generate


@_intrinsic
def kept_part(_context: Any, state: Any, _factor: Any) -> Any:
    """``rtz(state * factor)`` of whole numbers below 2**23, where floats round toward zero.

    ``factor`` is a multiple of 1/4096 from 0 to 1. Beside 2**23 a float32 has no fraction: the sum
    is the product cut off, as the product is not rounded before. Needs :func:`round_as`.
    """

    def generate(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        whole = _all(kind, float(1 << 23))
        offset = _called(builder, kind, "copysign", [whole, args[0]])
        cut = _called(builder, kind, "fma", [args[0], args[1], offset])
        return builder.fsub(cut, offset)

    return state(state, state), generate


@_intrinsic
def kept_and(_context: Any, values: Any, _factor: Any, _added: Any) -> Any:
    """``values * factor + added``, rounded once."""

    def generate(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _called(builder, sig.args[0], "fma", list(args))

    return values(values, values, values), generate


def _called(builder: Any, kind: Reals, name: str, args: list[Any]) -> Any:
    """Call what LLVM has for floats, of vectors."""
    function = ir.FunctionType(kind.llvm, [kind.llvm] * len(args))
    name = f"llvm.{name}.v{kind.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args)


@_intrinsic
def rounding(_context: Any) -> Any:
    """The word that says how this thread's processor rounds floats."""

    def generate(_context: Any, builder: Any, _sig: Any, _args: Any) -> Any:
        if not FUSED:
            return ir.Constant(ir.IntType(64), 0)
        if _ARM:
            kind = ir.FunctionType(ir.IntType(64), [])
            name = "llvm.aarch64.get.fpcr"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _mxcsr(builder, "st", place)
        return builder.zext(builder.load(place), ir.IntType(64))

    return nb.int64(), generate


@_intrinsic
def round_as(_context: Any, _word: Any) -> Any:
    """Let this thread round floats as :func:`rounding` said, or :data:`TOWARD_ZERO` besides."""

    def generate(context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        if FUSED and _ARM:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
            name = "llvm.aarch64.set.fpcr"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)
        elif FUSED:
            place = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), place)
            _mxcsr(builder, "ld", place)
        return context.get_dummy_value()

    return nb.void(nb.int64), generate


def _mxcsr(builder: Any, way: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    kind, name = ir.FunctionType(ir.VoidType(), [byte]), f"llvm.x86.sse.{way}mxcsr"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(place, byte)])


@_intrinsic
def select(_context: Any, mask: Any, chosen: Any, other: Any) -> Any:
    """``chosen`` where the mask holds, else ``other``."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return chosen(mask, chosen, other), generate


@_of_numbers
def masked(_context: Any, lanes: Any, _first: Any) -> Any:
    """The ``first`` lanes; zeros behind them."""

    def generate(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        numbers = ir.Constant(kind.llvm, list(range(kind.count)))
        inside = builder.icmp_signed("<", numbers, _spread(builder, kind, args[1]))
        return builder.select(inside, args[0], _all(kind, 0))

    return lanes(lanes, nb.int64), generate


def _shifted(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Any, Any, int]:
    """Return where lanes go in an array, these shifted and in its type, and how it is aligned."""
    element = context.get_value_type(sig.args[0].dtype)
    kind = Lanes(sig.args[2].count, element.width)
    place = _address(context, builder, sig.args[0], args[0], args[1], kind.llvm)
    values = builder.shl(_resized(builder, args[2], kind), _spread(builder, kind, args[3]))
    return place, values, element.width // 8


@_intrinsic
def add_to(_context: Any, array: Any, _at: Any, lanes: Any, _shift: Any) -> Any:
    """Add ``lanes << shift`` to an array from ``at``, in the array's type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place, values, align = _shifted(context, builder, sig, args)
        builder.store(builder.add(builder.load(place, align=align), values), place, align=align)
        return context.get_dummy_value()

    return nb.void(array, nb.int64, lanes, nb.int64), generate


@_intrinsic
def write_to(_context: Any, array: Any, _at: Any, lanes: Any, _shift: Any) -> Any:
    """Write ``lanes << shift`` to an array from ``at``, in the array's type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place, values, align = _shifted(context, builder, sig, args)
        builder.store(values, place, align=align)
        return context.get_dummy_value()

    return nb.void(array, nb.int64, lanes, nb.int64), generate


@_of_numbers
def widened(_context: Any, lanes: Any, bits: Any) -> Any:
    """The same numbers in lanes of ``bits`` bits."""
    kind = Lanes(lanes.count, bits.literal_value)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return _resized(builder, args[0], kind)

    return kind(lanes, bits), generate


@_intrinsic
def total(_context: Any, lanes: Any) -> Any:
    """The sum of all lanes."""

    def generate(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        name = f"llvm.vector.reduce.add.v{kind.count}i{kind.bits}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(kind.bits), [kind.llvm]), name
        )
        return builder.sext(builder.call(function, args), ir.IntType(64))

    return nb.int64(lanes), generate


@_intrinsic
def as_word(_context: Any, mask: Any) -> Any:
    """Where a comparison of 64 lanes holds, as the bits of a word."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return nb.uint64(mask), generate


@_intrinsic
def lowest_bit(_context: Any, _word: Any) -> Any:
    """The number of the lowest bit that is set; 64 where none is."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return nb.int64(nb.uint64), generate


@_intrinsic
def numbers_of_bits(_context: Any, _word: Any) -> Any:
    """The numbers of the bits that are set, in order, as bytes; only where ``COMPRESSES``."""
    kind = Lanes(64, 8)

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        numbers = ir.Constant(kind.llvm, list(range(64)))
        mask = builder.bitcast(args[0], ir.VectorType(ir.IntType(1), 64))
        function = ir.FunctionType(kind.llvm, [kind.llvm, kind.llvm, mask.type])
        name = "llvm.x86.avx512.mask.compress.v64i8"
        called = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(called, [numbers, _all(kind, 0), mask])

    return kind(nb.uint64), generate


@_of_numbers
def put_numbers(_context: Any, array: Any, _at: Any, lanes: Any, begin: Any, _place: Any) -> Any:
    """Write 16 bytes from lane ``begin``, plus ``place``, as int32 to an array from ``at``."""
    first = begin.literal_value

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = Lanes(16, 32)
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), 16), list(range(first, first + 16)))
        some = builder.shuffle_vector(args[2], args[2], chosen)
        values = builder.add(builder.zext(some, kind.llvm), _spread(builder, kind, args[4]))
        place = _address(context, builder, sig.args[0], args[0], args[1], kind.llvm)
        builder.store(values, place, align=4)
        return context.get_dummy_value()

    return nb.void(array, nb.int64, lanes, begin, nb.int64), generate


@_intrinsic
def put(_context: Any, array: Any, _at: Any, _value: Any) -> Any:
    """Write an element of an array; none is counted from the end."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(sig.args[0].dtype)
        place = _address(context, builder, sig.args[0], args[0], args[1], kind)
        value = args[2] if kind.width == 64 else builder.trunc(args[2], kind)
        builder.store(value, place)
        return context.get_dummy_value()

    return nb.void(array, nb.int64, nb.int64), generate


@_intrinsic
def number_of_bits(_context: Any, _word: Any) -> Any:
    """How many bits are set."""

    def generate(_context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return nb.int64(nb.uint64), generate


@_intrinsic
def fetch(_context: Any, array: Any, _at: Any) -> Any:
    """Ask for the line of memory around element ``at``, which is needed soon."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte, number = ir.IntType(8), ir.IntType(32)
        place = _address(context, builder, sig.args[0], args[0], args[1], byte)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte.as_pointer()], kind)
        builder.call(function, [place, *(ir.Constant(number, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return nb.void(array, nb.int64), generate


@_intrinsic
def fetch_at(_context: Any, _place: Any) -> Any:
    """Ask for the line of memory at an address."""

    def generate(context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        byte, number = ir.IntType(8), ir.IntType(32)
        place = builder.inttoptr(args[0], byte.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte.as_pointer()], kind)
        builder.call(function, [place, *(ir.Constant(number, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return nb.void(nb.int64), generate


@_intrinsic
def counted_up(_context: Any, array: Any, _at: Any) -> Any:
    """Add 1 to a number that threads share, and return what it was."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _address(context, builder, sig.args[0], args[0], args[1], ir.IntType(64))
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return nb.int64(array, nb.int64), generate


@_intrinsic
def counted(_context: Any, array: Any, _at: Any) -> Any:
    """Return a number that threads share; what was written before it was counted up is seen."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _address(context, builder, sig.args[0], args[0], args[1], ir.IntType(64))
        return builder.load_atomic(place, "acquire", 8)

    return nb.int64(array, nb.int64), generate


@_intrinsic
def give_way(_context: Any) -> Any:
    """Let another thread have the processor, where the system has a call for it."""

    def generate(context: Any, builder: Any, _sig: Any, _args: Any) -> Any:
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return nb.void(), generate
