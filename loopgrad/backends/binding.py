"""The arguments of a call: which is which, are they right, and what sizes do they give.

Whatever NumPy takes is taken. Whatever does not fit is a TypeError (a wrong name, kind, or number
of arguments) or a ValueError (a wrong shape or value) that names the argument, what it got and
what it needs.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.backends import memory
from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import Default, Expression, Extent, Input, Number, Size
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import subexpressions

DOUBLE, SINGLE, INT64 = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64)
BOOL = np.dtype(np.bool_)
LEAST, GREATEST = -(2**63), 2**63 - 1

# The kinds of NumPy types (float, signed, unsigned, boolean) that a kind of input takes.
ACCEPTED = {"input": "fiub", "param": "fiub", "int": "iub", "bool": "b"}
EXACT = {"int": INT64, "bool": BOOL}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Arguments:
    """What the arguments of a call come to; the fields of `BoundCall` that hang on them."""

    dtype: np.dtype[Any]
    extents: dict[str, int]
    constants: dict[str, int | float]
    inputs: dict[str, NDArray[Any]]
    shapes: dict[str, Shape]  # of every tensor
    checked: bool


class Binder:
    """Binds the calls of one program."""

    def __init__(self, facts: Facts, safety: Safety):
        program = facts.program
        self.facts, self.safety = facts, safety
        self.name = program.name
        self.inputs = program.inputs
        self.keywords = {a.name: a for a in program.arguments if isinstance(a, Size | Default)}
        self.sizes, self.defaults = program.sizes, program.constants
        # The axes that fix a name come first: a formula is checked when all names are known.
        axes = [(i, axis, e) for i in program.inputs for axis, e in enumerate(i.extents)]
        self.named_axes = [(i, axis, e.name) for i, axis, e in axes if isinstance(e, Extent)]
        self.other_axes = [(i, axis, e) for i, axis, e in axes if not isinstance(e, Extent)]
        self.labels = {i.name: label(i) for i in program.inputs}
        self.known = [i.name for i in program.inputs] + list(self.keywords)

    def bind(self, positional: Sequence[Any], named: Mapping[str, Any]) -> Arguments:
        """Sorts, checks and converts the arguments of one call.

        Raises TypeError or ValueError, naming the argument.
        """
        given = self._sorted(positional, named)
        constants = {c.name: self._constant(c, given) for c in self.defaults}
        arrays = {i.name: self._array(i, given[i.name]) for i in self.inputs}
        extents = self._extents(given, arrays, constants)
        dtype = self._dtype(given, arrays)
        inputs = {i.name: self._converted(i, arrays[i.name], dtype) for i in self.inputs}
        checked = any(constants[name] < 1 for name in self.safety.positive)
        return Arguments(
            dtype, extents, constants, inputs, self._shapes(extents, constants, inputs), checked
        )

    # -------------------------------------------------------------------------- which is which

    def _sorted(self, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
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
        message = f"takes {_count(len(self.inputs), 'array')} ({takes}), got {got}"
        if self.keywords:
            message += f"; {listing(list(self.keywords))} are given by keyword"
        raise self._error(TypeError, message)

    def _unknown(self, name: str) -> NoReturn:
        meant = suggestion(name, self.known)
        for source, axis, extent in self.named_axes:
            if extent == name:
                raise self._error(
                    TypeError,
                    f"has no argument `{name}`: that extent is fixed by axis {axis} of "
                    f"`{self._label(source)}`",
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
            if isinstance(value, str | bytes | complex | np.complexfloating):
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
            whole = operator.index(value)
        except TypeError:
            hint = f" (for a real one write `{real}` in the header)" if real else ""
            got = _described(value)
            raise self._error(TypeError, f"{what} has to be an integer, got {got}{hint}") from None
        if not LEAST <= whole <= GREATEST:
            raise self._error(ValueError, f"{what} does not fit int64: {_short(whole)}")
        return whole

    # -------------------------------------------------------------------------------- shapes

    def _extents(
        self,
        given: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        constants: Mapping[str, int | float],
    ) -> dict[str, int]:
        """The value of every name, with all that the header says of shapes checked."""
        for i in self.inputs:
            if arrays[i.name].ndim != len(i.extents):
                self._wrong_rank(i, arrays[i.name].shape)
        extents = {s.name: self._size(s, given) for s in self.sizes}
        origin: dict[str, tuple[Input, int]] = {}
        for i, axis, name in self.named_axes:
            got = arrays[i.name].shape[axis]
            if extents.setdefault(name, got) != got:
                self._two_extents(name, extents[name], origin.get(name), i, axis, arrays)
            origin.setdefault(name, (i, axis))
        for name, formula in self.facts.defined.items():
            if name not in extents:
                extents[name] = self._evaluate(formula, extents, constants)
                why = self._sizes_in(formula, extents, constants)
                if extents[name] > GREATEST:
                    raise MemoryError(f"{self.name}: extent `{name}` does not fit int64{why}")
                if extents[name] < 0:
                    raise self._error(
                        ValueError,
                        f"extent `{name}`, which is `{show_expression(formula, True)}`, would be "
                        f"{extents[name]}{why}",
                    )
        for i, axis, formula in self.other_axes:
            self._check_axis(i, axis, formula, arrays[i.name].shape, extents, constants)
        for equality in self.facts.equalities:
            left = self._evaluate(equality.left, extents, constants)
            right = self._evaluate(equality.right, extents, constants)
            if left != right:
                names = (
                    show_expression(equality.left, True),
                    show_expression(equality.right, True),
                )
                raise self._error(
                    ValueError,
                    f"extents `{names[0]}` and `{names[1]}` have to be equal, got {left} and "
                    f"{right}: {equality.reason}",
                )
        return extents

    def _wrong_rank(self, i: Input, shape: Shape) -> NoReturn:
        needs = _count(len(i.extents), "axis", "axes") if i.extents else "no axes (it is a scalar)"
        raise self._error(
            ValueError,
            f"argument `{self._label(i)}` needs {needs}, got {_count(len(shape), 'axis', 'axes')}: "
            f"shape {shape}",
        )

    def _two_extents(
        self,
        name: str,
        known: int,
        origin: tuple[Input, int] | None,
        i: Input,
        axis: int,
        arrays: Mapping[str, NDArray[Any]],
    ) -> NoReturn:
        if origin is None:
            first = f"{known} by keyword"
        else:
            other, other_axis = origin
            first = f"{known} in axis {other_axis} of `{self._label(other)}`"
            first += f" (shape {arrays[other.name].shape})"
        shape = arrays[i.name].shape
        raise self._error(
            ValueError,
            f"extent `{name}` is {first}, but {shape[axis]} in axis {axis} of "
            f"`{self._label(i)}` (shape {shape})",
        )

    def _check_axis(
        self,
        i: Input,
        axis: int,
        formula: Expression,
        shape: Shape,
        extents: Mapping[str, int],
        constants: Mapping[str, int | float],
    ) -> None:
        wanted = self._evaluate(formula, extents, constants)
        if shape[axis] != wanted:
            why = self._sizes_in(formula, extents, constants)
            formula_text = show_expression(formula, True)
            extent = formula_text if isinstance(formula, Number) else f"{formula_text} = {wanted}"
            raise self._error(
                ValueError,
                f"axis {axis} of argument `{self._label(i)}` has to have extent {extent}{why}, "
                f"got {shape[axis]}: shape {shape}",
            )

    def _shapes(
        self,
        extents: Mapping[str, int],
        constants: Mapping[str, int | float],
        inputs: Mapping[str, NDArray[Any]],
    ) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for name, tensor in self.facts.tensors.items():
            if name in inputs:
                shapes[name] = inputs[name].shape
                continue
            shape = tuple(self._evaluate(e, extents, constants) for e in tensor.extents)
            if min(shape, default=0) < 0:
                if tensor.role == "result":
                    self._negative_result(name, shape, extents, constants)
                # A formula for the largest index + 1 is negative only where nothing is written.
                shape = tuple(max(0, extent) for extent in shape)
            shapes[name] = shape
        return shapes

    def _negative_result(
        self,
        name: str,
        shape: Shape,
        extents: Mapping[str, int],
        constants: Mapping[str, int | float],
    ) -> NoReturn:
        axis = min(range(len(shape)), key=shape.__getitem__)
        formula = self.facts.tensors[name].extents[axis]
        why = self._sizes_in(formula, extents, constants)
        raise self._error(
            ValueError,
            f"axis {axis} of result `{name}` would have the negative extent "
            f"{show_expression(formula, True)} = {shape[axis]}{why}",
        )

    def _evaluate(
        self,
        formula: Expression,
        extents: Mapping[str, int],
        constants: Mapping[str, int | float],
    ) -> int:
        try:
            return evaluate(formula, extents, constants)
        except FormulaError as error:
            why = self._sizes_in(formula, extents, constants)
            if "too large" in str(error):
                raise MemoryError(f"{self.name}: extent {error}{why}") from None
            raise self._error(ValueError, f"extent {error}{why}") from None

    def _sizes_in(
        self,
        formula: Expression,
        extents: Mapping[str, int],
        constants: Mapping[str, int | float],
    ) -> str:
        """` (X = 10, stride = 2)`: the names in a formula, with what they are in this call."""
        values = {**constants, **extents}
        names = dict.fromkeys(getattr(e, "name", "") for e in subexpressions(formula))
        shown = ", ".join(f"{name} = {_short(values[name])}" for name in names if name in values)
        return f" ({shown})" if shown else ""

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
        return array.astype(wanted, order="C")

    def _array(self, i: Input, value: Any) -> NDArray[Any]:
        """The argument as an array of a type that its kind allows; not yet converted to it."""
        if isinstance(value, np.ma.MaskedArray):
            raise self._error(
                TypeError,
                f"argument `{self._label(i)}` is a masked array, whose mask would be lost; fill "
                "it, or pass `.data` and the mask as an input of its own",
            )
        try:
            array = np.asarray(value)
        except Exception as error:  # whatever another library's __array__ raises
            got = _described(value)
            raise self._error(
                TypeError, f"argument `{self._label(i)}` has to be an array, got {got}: {error}"
            ) from error
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
        if kind == "O" and array.size and all(isinstance(e, int) for e in array.flat):
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


def label(i: Input) -> str:
    """`s[B,J]`, as in the header."""
    extents = ",".join(show_expression(e, True) for e in i.extents)
    return f"{i.name}[{extents}]" if extents else i.name


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name}, shape {value.shape}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _short(value: int | float) -> str:
    """A number, however long; Python itself refuses to print integers of many thousand digits."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"about 2**{value.bit_length() - 1}" if value > 0 else "below -2**64"
    return str(value)


def element_dtype(element: ElementType, floating: np.dtype[Any]) -> np.dtype[Any]:
    """The NumPy type of a computed tensor's elements in a call of that floating type."""
    return floating if element is ElementType.FLOAT else INT64
