"""The sizes of a call: what the shapes of its inputs fix, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from loopgrad.analysis.facts import Facts
from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.ir.nodes import Expression, Extent, Input, Number
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import subexpressions

LARGEST_EXTENT = 2**63 - 1

Shape = tuple[int, ...]


class Shaped(Protocol):
    """An array, or what stands for one."""

    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True, slots=True)
class StandIn:
    """What stands for an array of which only the shape is known."""

    shape: Shape


Arrays = Mapping[str, Shaped]
Values = Mapping[str, int | float]  # of extents and constants, whose names differ


class Shapes:
    """Finds and checks the extents of the calls of one program."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.name = facts.program.name
        self.inputs = facts.program.inputs
        # The axes that fix a name come first: a formula is checked when all names are known.
        axes = [(i, axis, e) for i in self.inputs for axis, e in enumerate(i.extents)]
        self.named_axes = [(i, axis, e.name) for i, axis, e in axes if isinstance(e, Extent)]
        self.other_axes = [(i, axis, e) for i, axis, e in axes if not isinstance(e, Extent)]
        self.computed = [t for t in facts.tensors.values() if t.role != "input"]

    def of_call(
        self, arrays: Arrays, sizes: Mapping[str, int], constants: Mapping[str, int | float]
    ) -> tuple[dict[str, int], dict[str, Shape]]:
        """The value of every extent, and the shape of every tensor.

        Raises ValueError, naming the arguments, where shapes do not fit the header or each other.
        """
        for i in self.inputs:
            if len(arrays[i.name].shape) != len(i.extents):
                self._wrong_rank(i, arrays[i.name].shape)
        extents = self._named(arrays, sizes)
        values: dict[str, int | float] = {**constants, **extents}
        for name, formula in self.facts.defined.items():
            if name not in extents:
                values[name] = extents[name] = self._defined(name, formula, values)
        for i, axis, formula in self.other_axes:
            self._check_axis(i, axis, formula, arrays[i.name].shape, values)
        self._check_equalities(values)
        shapes = {i.name: arrays[i.name].shape for i in self.inputs}
        shapes.update(
            (t.name, self._shape(t.name, t.role, t.extents, values)) for t in self.computed
        )
        return extents, shapes

    def fixed_by(self, extent: str) -> str | None:
        """`axis 0 of `x[B,J]``, the first that fixes the extent."""
        for i, axis, name in self.named_axes:
            if name == extent:
                return f"axis {axis} of `{label(i)}`"
        return None

    # -------------------------------------------------------------------------- extents of inputs

    def _named(self, arrays: Arrays, sizes: Mapping[str, int]) -> dict[str, int]:
        """The extents that sizes and axes fix; the same name always has the same value."""
        extents = dict(sizes)
        for i, axis, name in self.named_axes:
            got = arrays[i.name].shape[axis]
            if extents.setdefault(name, got) != got:
                self._two_extents(name, extents[name], i, axis, arrays)
        return extents

    def _two_extents(self, name: str, known: int, i: Input, axis: int, arrays: Arrays) -> NoReturn:
        first = f"{known} by keyword"
        if all(size.name != name for size in self.facts.program.sizes):
            other, other_axis = next((j, a) for j, a, n in self.named_axes if n == name)
            first = f"{known} in axis {other_axis} of `{label(other)}`"
            first += f" (shape {arrays[other.name].shape})"
        shape = arrays[i.name].shape
        raise self._error(
            f"extent `{name}` is {first}, but {shape[axis]} in axis {axis} of `{label(i)}` "
            f"(shape {shape})"
        )

    def _wrong_rank(self, i: Input, shape: Shape) -> NoReturn:
        needs = count(len(i.extents), "axis", "axes") if i.extents else "no axes (it is a scalar)"
        raise self._error(
            f"argument `{label(i)}` needs {needs}, got {count(len(shape), 'axis', 'axes')}: "
            f"shape {shape}"
        )

    def _check_axis(
        self, i: Input, axis: int, formula: Expression, shape: Shape, values: Values
    ) -> None:
        wanted = self._evaluate(formula, values)
        if shape[axis] != max(0, wanted):  # as `_shape` has it for a tensor that is computed
            text = show_expression(formula, True)
            extent = text if isinstance(formula, Number) else f"{text} = {short(wanted)}"
            raise self._error(
                f"axis {axis} of argument `{label(i)}` has to have extent {extent}"
                f"{_names_in(formula, values)}, got {shape[axis]}: shape {shape}"
            )

    def _check_equalities(self, values: Values) -> None:
        for equality in self.facts.equalities:
            left = self._evaluate(equality.left, values)
            right = self._evaluate(equality.right, values)
            if left != right:
                one = show_expression(equality.left, True)
                other = show_expression(equality.right, True)
                raise self._error(
                    f"extents `{one}` and `{other}` have to be equal, got {short(left)} and "
                    f"{short(right)}: {equality.reason}"
                )

    # ----------------------------------------------------------------- extents of what is computed

    def _defined(self, name: str, formula: Expression, values: Values) -> int:
        extent = self._evaluate(formula, values)
        why = _names_in(formula, values)
        if extent > LARGEST_EXTENT:
            raise MemoryError(f"{self.name}: extent `{name}` does not fit int64{why}")
        if extent < 0:
            text = show_expression(formula, True)
            raise self._error(f"extent `{name}`, which is `{text}`, would be {extent}{why}")
        return extent

    def _shape(
        self, name: str, role: str, extents: tuple[Expression, ...], values: Values
    ) -> Shape:
        shape = tuple([self._evaluate(e, values) for e in extents])
        if min(shape, default=0) >= 0:
            return shape
        if role == "result":
            axis = min(range(len(shape)), key=shape.__getitem__)
            formula = extents[axis]
            raise self._error(
                f"axis {axis} of result `{name}` would have the negative extent "
                f"{show_expression(formula, True)} = {shape[axis]}{_names_in(formula, values)}"
            )
        # A formula for the largest index + 1 is negative only where nothing is written.
        return tuple(max(0, extent) for extent in shape)

    def _evaluate(self, formula: Expression, values: Values) -> int:
        try:
            return evaluate(formula, values)
        except FormulaError as error:
            message = f"{self.name}: extent {error}{_names_in(formula, values)}"
            raise (MemoryError if error.too_large else ValueError)(message) from None

    def _error(self, message: str) -> ValueError:
        return ValueError(f"{self.name}: {message}")


def _names_in(formula: Expression, values: Values) -> str:
    """` (X = 10, stride = 2)`: the names in a formula, with what they are in this call."""
    names = dict.fromkeys(getattr(e, "name", "") for e in subexpressions(formula))
    shown = ", ".join(f"{name} = {short(values[name])}" for name in names if name in values)
    return f" ({shown})" if shown else ""


def label(i: Input) -> str:
    """`s[B,J]`, as in the header."""
    extents = ",".join(show_expression(e, True) for e in i.extents)
    return f"{i.name}[{extents}]" if extents else i.name


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 axis`, `2 axes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def short(value: int | float) -> str:
    """A number, however long: Python refuses to print integers of many thousand digits."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"about {'-' if value < 0 else ''}2**{value.bit_length() - 1}"
    return str(value)
