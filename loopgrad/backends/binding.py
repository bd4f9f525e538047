"""The arguments of a call: which is which, and are they of the right types.

Whatever NumPy takes is taken. Whatever does not fit is a TypeError (a wrong name, kind, or number
of arguments) or a ValueError (a wrong shape or value) that names the argument, what it got and
what it needs.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.backends import memory, recycling
from loopgrad.backends.shapes import Shape, Shaped, Shapes, count, label, short
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import Default, Input, Size
from loopgrad.ir.operations import ElementType

DOUBLE, SINGLE, INT64 = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64)
BOOL = np.dtype(np.bool_)
LEAST, GREATEST = -(2**63), 2**63 - 1

# The kinds of NumPy types (float, signed, unsigned, boolean) that a kind of input takes.
ACCEPTED = {"input": "fiub", "param": "fiub", "int": "iub", "bool": "b"}
EXACT = {"int": INT64, "bool": BOOL}


MOST_KNOWN = 64  # signatures


@dataclass(frozen=True)
class Arguments:
    """What the arguments of a call come to, but for the arrays; see `BoundCall`."""

    dtype: np.dtype[Any]
    extents: dict[str, int]
    constants: dict[str, int | float]
    shapes: dict[str, Shape]  # of every tensor
    checked: bool
    small: bool  # all tensors fit for sure
    plain: bool = False  # the inputs were arrays that are taken as they are, and always will be
    kept: dict[Any, Any] = field(default_factory=dict)


Inputs = dict[str, NDArray[Any]]


class Binder:
    """Binds the calls of one program."""

    def __init__(self, facts: Facts, safety: Safety):
        program = facts.program
        self.name = program.name
        self.positive = safety.positive
        self.shapes = Shapes(facts)
        self.inputs = program.inputs
        self.keywords = {a.name: a for a in program.arguments if isinstance(a, Size | Default)}
        self.sizes, self.defaults = program.sizes, program.constants
        self.labels = {i.name: label(i) for i in program.inputs}
        self.input_names = [i.name for i in program.inputs]
        self._known: dict[Any, Arguments] = {}  # of calls with arrays, by their signature
        self.known = [i.name for i in program.inputs] + list(self.keywords)

    def bind(self, positional: Sequence[Any], named: Mapping[str, Any]) -> tuple[Arguments, Inputs]:
        """Sorts, checks and converts the arguments of one call.

        Raises TypeError or ValueError, naming the argument.
        """
        key = signature(positional, named)
        known = self._known.get(key) if key else None
        if known is not None:
            given = {**dict(zip(self.input_names, positional, strict=False)), **named}
            if known.plain:
                return known, {name: given[name] for name in self.input_names}
            return known, {
                i.name: self._converted(i, given[i.name], known.dtype) for i in self.inputs
            }
        given = self.by_name(positional, named)
        bound, inputs = self._bound(given)
        if key and all(type(given[name]) is np.ndarray for name in inputs):
            plain = all(given[name] is array for name, array in inputs.items())
            bound = replace(bound, plain=plain)
            if len(self._known) >= MOST_KNOWN:
                self._known = {}
            self._known[key] = bound
        return bound, inputs

    def _bound(self, given: Mapping[str, Any]) -> tuple[Arguments, Inputs]:
        arrays = {i.name: self._array(i, given[i.name]) for i in self.inputs}
        bound = self.of_shapes(arrays, given, lambda: self._dtype(given, arrays))
        inputs = {i.name: self._converted(i, arrays[i.name], bound.dtype) for i in self.inputs}
        return bound, inputs

    def of_shapes(
        self,
        shaped: Mapping[str, Shaped],
        numbers: Mapping[str, Any],
        dtype: Callable[[], np.dtype[Any]],
    ) -> Arguments:
        """What a call comes to whose inputs have these shapes: no array is looked into.

        shaped: whatever has a `shape`, for each input. numbers: the sizes and constants, which may
        stand among other things. dtype: asked for the floating type when all shapes fit.
        Raises TypeError or ValueError, naming the argument.
        """
        constants = {c.name: self._constant(c, numbers) for c in self.defaults}
        sizes = {s.name: self._size(s, numbers) for s in self.sizes}
        extents, shapes = self.shapes.of_call(shaped, sizes, constants)
        checked = any(constants[name] < 1 for name in self.positive)
        small = 16 * sum(map(math.prod, shapes.values())) <= memory.ALWAYS_FITS
        return Arguments(dtype(), extents, constants, shapes, checked, small)

    # -------------------------------------------------------------------------- which is which

    def by_name(self, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by their names. Raises TypeError for one too many and one that is missing."""
        if len(positional) > len(self.inputs):
            self._too_many(len(positional))
        given = {i.name: value for i, value in zip(self.inputs, positional, strict=False)}
        for name, value in named.items():
            if name in given:
                raise self._error(TypeError, f"got `{name}` twice, by place and by name")
            given[name] = value
            if name not in self.known:
                self._unknown(name)
        needed = [self._label(i) for i in self.inputs if i.name not in given]
        needed += [f"size {s.name}" for s in self.sizes if s.name not in given]
        if needed:
            hint = " (sizes are given by keyword)" if needed[-1].startswith("size ") else ""
            raise self._error(TypeError, f"needs {listing(needed)}, which it did not get{hint}")
        return given

    def _too_many(self, got: int) -> NoReturn:
        takes = listing([self._label(i) for i in self.inputs]) or "none"
        message = f"takes {count(len(self.inputs), 'array')} ({takes}), got {got}"
        if self.keywords:
            message += f"; {listing(list(self.keywords))} are given by keyword"
        raise self._error(TypeError, message)

    def _unknown(self, name: str) -> NoReturn:
        meant = suggestion(name, self.known)
        fixed = self.shapes.fixed_by(name)
        if fixed:
            raise self._error(
                TypeError, f"has no argument `{name}`: that extent is fixed by {fixed}"
            )
        takes = listing(self.known) or "none"
        hint = f"; did you mean `{meant}`?" if meant else f"; it takes {takes}"
        raise self._error(TypeError, f"has no argument `{name}`{hint}")

    # ------------------------------------------------------------------- sizes and constants

    def _constant(self, default: Default, given: Mapping[str, Any]) -> int | float:
        name = default.name
        if name not in given:
            return default.value
        value = given[name]
        if isinstance(default.value, int):
            return self._integer(f"constant `{name}`", value, f"{name} = {default.value}.0")
        try:
            if isinstance(value, str | bytes | complex | np.complexfloating) or np.ndim(value):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise self._error(
                TypeError, f"constant `{name}` has to be a number, got {_described(value)}"
            ) from None

    def _size(self, size: Size, given: Mapping[str, Any]) -> int:
        value = self._integer(f"size `{size.name}`", given[size.name])
        if value < 0:
            raise self._error(ValueError, f"size `{size.name}` cannot be negative, got {value}")
        return value

    def _integer(self, what: str, value: Any, real: str | None = None) -> int:
        try:
            whole = int(operator.index(value))  # of True: 1
        except TypeError:
            hint = f" (for a real one write `{real}` in the header)" if real else ""
            got = _described(value)
            raise self._error(TypeError, f"{what} has to be an integer, got {got}{hint}") from None
        if not LEAST <= whole <= GREATEST:
            raise self._error(ValueError, f"{what} does not fit int64: {short(whole)}")
        return whole

    # -------------------------------------------------------------------------- element types

    def _dtype(self, given: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> np.dtype[Any]:
        """The floating type of the call: `np.result_type` of the floating inputs' arrays.

        Python's numbers are weak; where nothing is floating, it is float64.
        """
        found = [
            arrays[i.name].dtype
            for i in self.inputs
            if i.differentiable and type(given[i.name]) not in (bool, int, float)
        ]
        if all(dtype == DOUBLE for dtype in found):
            return DOUBLE
        dtype = np.result_type(*found)
        if dtype.kind != "f" or dtype == DOUBLE:
            return DOUBLE
        if dtype == SINGLE:
            return SINGLE
        narrow = [i for i in self.inputs if i.differentiable and arrays[i.name].dtype == dtype]
        raise self._error(
            TypeError,
            f"argument `{self._label(narrow[0])}` is {dtype.name}, and nothing promotes it; "
            "float32 and float64 can be computed with: give it as `.astype(np.float32)`",
        )

    def _converted(self, i: Input, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The array as a backend takes it: itself where it is so already."""
        wanted = EXACT.get(i.kind, dtype)
        if i.kind == "int" and array.dtype == np.uint64 and array.size:
            largest = int(array.max())
            if largest > GREATEST:
                raise self._error(
                    ValueError,
                    f"argument `{self._label(i)}` holds {largest}, which does not fit int64",
                )
        flags = array.flags
        if array.dtype == wanted and flags.c_contiguous and flags.aligned and array.dtype.isnative:
            return array
        memory.refuse_what_cannot_fit(
            f"{self.name}: to convert argument `{i.name}`",
            {i.name: array.shape},
            {i.name: wanted.itemsize},
        )
        return recycling.copy(array, wanted)

    def _array(self, i: Input, value: Any) -> NDArray[Any]:
        """The argument as an array of a type that its kind allows; not yet converted to it."""
        array = array_of(f"{self.name}: argument `{self._label(i)}`", value)
        dtype = array.dtype
        if dtype.kind in ACCEPTED[i.kind] and (dtype.kind != "f" or dtype.itemsize <= 8):
            return array
        if array.size == 0 and type(value) in (list, tuple) and i.kind in EXACT:
            return array.astype(EXACT[i.kind])  # [] has no type of its own
        return self._wrong_type(i, value, array)

    def _wrong_type(self, i: Input, value: Any, array: NDArray[Any]) -> NoReturn:
        kind = array.dtype.kind
        got = array.dtype.name if kind != "O" else f"{_described(value)} (dtype object)"
        what = f"argument `{self._label(i)}`"
        whole = kind == "O" and all(isinstance(e, int) for e in array.flat)
        if whole and any(not -(2**63) <= e < 2**63 for e in array.flat):
            raise self._error(ValueError, f"{what} holds integers that do not fit int64")
        if i.kind == "int":
            hint = "; write `.astype(np.int64)` if its values are whole" if kind == "f" else ""
            needs = "is an `int` tensor and needs integers (or booleans)"
        elif i.kind == "bool":
            hint = "; write `.astype(bool)` if true is what is not 0" if kind in "fiu" else ""
            needs = "is a `bool` tensor and needs booleans"
        else:
            hint, needs = "", "needs real numbers (float32 or float64)"
        raise self._error(TypeError, f"{what} {needs}, got {got}{hint}")

    # ---------------------------------------------------------------------------------- words

    def _label(self, i: Input) -> str:
        return self.labels[i.name]

    def _error(self, kind: type[Exception], message: str) -> Exception:
        return kind(f"{self.name}: {message}")


def signature(positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """What a call hangs on beside the contents of its arrays; None where it has other things.

    Floats count by their bits: -0.0 and 0.0 are equal, and NaN is not.
    """
    parts: list[Any] = []
    for value in (*positional, *named.values()):
        if type(value) is np.ndarray:
            flags = value.flags
            parts += (value.shape, value.dtype, flags.c_contiguous and flags.aligned)
        elif type(value) is int:
            parts.append(value)
        elif type(value) is float:
            parts.append(value.hex())
        else:
            return None
    return (len(positional), tuple(named), *parts)


def array_of(what: str, value: Any) -> NDArray[Any]:
    """Whatever NumPy takes, as an array of the type that it has. Nothing is lost of what it says.

    Raises TypeError, saying `what` it is, for what is no array, and for elements that are not there.
    """
    if "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{what} is a masked array, whose mask would be lost; fill it (a program may take a mask "
            "as an input of its own)"
        )
    if _missing(value):
        raise TypeError(
            f"{what} has missing values, which NumPy has not; fill them (a program may take a mask "
            "as an input of its own)"
        )
    try:
        return _as_array(value)
    except Exception as error:  # whatever another library's __array__ raises
        got = _described(value)
        raise TypeError(f"{what} has to be an array, got {got}: {error}") from error


def _as_array(value: Any) -> NDArray[Any]:
    """As NumPy has it: without a copy, where the value has memory that it shares in some way."""
    if hasattr(value, "__array__"):
        return np.asarray(value)
    # Before DLPack: what Arrow's tensors lend that way was memory freed already, before version 26.
    if hasattr(value, "to_numpy"):
        return np.asarray(value.to_numpy())
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def _missing(value: Any) -> bool:
    """Has it elements that are not there, as arrays of Arrow may? NumPy would make NaN of them."""
    count = getattr(value, "null_count", 0)
    return bool(count() if callable(count) else count)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name}, shape {value.shape}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def element_dtype(element: ElementType, floating: np.dtype[Any]) -> np.dtype[Any]:
    """The NumPy type of a computed tensor's elements in a call of that floating type."""
    return floating if element is ElementType.FLOAT else INT64
