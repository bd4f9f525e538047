"""The first rule of "Meaning": what is read and written lies inside its tensor."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from loopgrad.analysis.accesses import Access, offset_of
from loopgrad.analysis.enumeration import (
    Environment,
    Sizes,
    Unknown,
    whole,
)
from loopgrad.analysis.extents import plus
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.places import diagnostic, values_in_words
from loopgrad.analysis.polynomial import negate, shift, subtract
from loopgrad.analysis.prover import Prover
from loopgrad.analysis.terms import AtLeastZero
from loopgrad.diagnostics import Diagnostic, Span
from loopgrad.ir.nodes import Accumulate, Expression, Number, Range
from loopgrad.ir.printer import show_expression, show_range
from loopgrad.ir.walk import indices_of, number, reads

# ------------------------------------------------------------------------------------------ proofs


class Subscripts:
    """Proofs that subscripts are in range; what was asked once is remembered."""

    def __init__(self, facts: Facts, prover: Prover):
        self.facts = facts
        self.prover = prover
        self._known: dict[tuple[object, ...], bool] = {}

    def unproved(self, access: Access) -> list[int]:
        """The axes on which the access is not proved to stay inside its tensor."""
        extents = self.facts.tensors[access.read.tensor].extents
        return [
            axis
            for axis, (subscript, extent) in enumerate(
                zip(access.read.subscripts, extents, strict=True)
            )
            if not self._in_range(access, subscript, extent)
        ]

    def _in_range(self, access: Access, subscript: Expression, extent: Expression) -> bool:
        low, high = self._at_sight(access, subscript, extent)
        if low and high:
            return True
        asked = (access.ranges, access.path, subscript, extent)
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = self._prove(access, subscript, extent, low, high)
        return known

    def _at_sight(
        self, access: Access, subscript: Expression, extent: Expression
    ) -> tuple[bool, bool]:
        """Whether the range of the one index in a subscript settles its lower and its upper end."""
        offset = offset_of(subscript)
        own = range_of(offset[0], access.ranges) if offset and offset[0] else None
        if offset is None or own is None:
            return False, False
        by = offset[1]
        low = isinstance(own.lower, Number) and own.lower.value + by >= 0
        return low, by <= 0 and own.upper == extent

    def _prove(
        self, access: Access, subscript: Expression, extent: Expression, low: bool, high: bool
    ) -> bool:
        terms = self.prover.terms
        value = terms.convert(subscript)
        if terms.is_real(value):
            return False
        below = AtLeastZero(shift(negate(value), -1))
        beyond = AtLeastZero(subtract(value, terms.convert(extent)))
        return (low or self._impossible(below, access)) and (
            high or self._impossible(beyond, access)
        )

    def _impossible(self, goal: AtLeastZero, access: Access) -> bool:
        """Whether what holds at the access rules the formula out.

        First by what has to do with it alone, which is quicker.
        """
        formulas = access.formulas(self.prover.terms)
        connected = self.prover.terms.connected(goal, formulas)
        if self.prover.impossible([goal, *connected]):
            return True
        return len(connected) < len(formulas) and self.prover.impossible([goal, *formulas])


def range_of(index: str, ranges: tuple[Range, ...]) -> Range | None:
    return next((r for r in ranges if r.index == index), None)


# ------------------------------------------------------------------------------------- refutations


@dataclass(frozen=True, slots=True)
class Outside:
    """A subscript that is out of range whatever the input, and one case in which it is."""

    access: Access
    axis: int
    value: int
    extent: int
    values: Environment


FEWEST_SIZES = 3  # admissible sizes that have to show a fault, where sizes are free at all


def outside(access: Access, axes: list[int], facts: Facts, sizes: Sizes) -> Outside | None:
    """The fault, where one shows at every assignment of sizes at which the access happens.

    `axes` are those to look at. Where they hang on data, no fault can be shown.
    """
    axes = [axis for axis in axes if not any(reads(access.read.subscripts[axis]))]
    if not axes:
        return None
    extents = facts.tensors[access.read.tensor].extents
    first, count = None, 0
    try:
        for assignment in sizes:
            fault, happens = _outside_at(access, axes, extents, assignment, sizes)
            if fault is not None:
                first = first or fault
                count += 1
            elif happens:
                return None
    except Unknown:
        return None
    return first if count >= (FEWEST_SIZES if sizes.free else 1) else None


def _outside_at(
    access: Access,
    axes: list[int],
    extents: tuple[Expression, ...],
    assignment: Environment,
    sizes: Sizes,
) -> tuple[Outside | None, bool]:
    """The first fault at these sizes, and whether the access is known to happen at all."""
    shape = {axis: whole(extents[axis], assignment) for axis in axes}
    indices = frozenset().union(*(indices_of(access.read.subscripts[axis]) for axis in axes))
    happens = False
    # Subscripts leave their axes at the ends of ranges, if anywhere: those are tried first.
    ends = sizes.iterations(access, assignment, indices, ends=True)
    for values in chain(ends, sizes.iterations(access, assignment, indices)):
        happens = True
        for axis in axes:
            try:
                value = whole(access.read.subscripts[axis], values)
            except Unknown:
                continue
            if not 0 <= value < shape[axis]:
                return Outside(access, axis, value, shape[axis], values), True
    return None, happens


# ---------------------------------------------------------------------------------------- messages


def describe(fault: Outside, facts: Facts) -> Diagnostic:
    access, axis = fault.access, fault.axis
    tensor = facts.tensors[access.read.tensor]
    subscript, extent = access.read.subscripts[axis], tensor.extents[axis]
    shown = show_expression(access.read)
    verb = "reads" if access.reduction is None else "writes"
    where = values_in_words(fault.values, indices_of(subscript))
    found = (
        f"`{shown}` {verb} axis {axis} of `{tensor.name}` at {fault.value}{where}; "
        f"its extent is `{show_expression(extent)}`"
    )
    if fault.value >= 0 and not isinstance(extent, Number):
        found += f", here {fault.extent}"
    declared = declaration(tensor.name, facts)
    note = f"axis {axis} of `{tensor.name}` has the extent `{show_expression(extent)}`"
    span = subscript.span or access.read.span
    return diagnostic(access, found, span, mend(fault, facts), ((declared, note),))


def declaration(tensor: str, facts: Facts) -> Span | None:
    program = facts.program
    places = {holder.name: holder.span for holder in program.inputs}
    places |= {holder.name: holder.span for holder in program.results}
    places |= {holder.name: holder.span for holder in program.locals}
    return places.get(tensor)


def mend(fault: Outside, facts: Facts) -> str:
    """What makes the access right: a condition under which it happens, or another range."""
    access = fault.access
    subscript = access.read.subscripts[fault.axis]
    extent = facts.tensors[access.read.tensor].extents[fault.axis]
    if not indices_of(subscript):
        last = show_expression(_minus(extent, 1), compact=True)
        return f"the subscripts of an axis run from 0, and the last one here is `{last}`"
    condition = _condition(subscript, extent, fault.value < 0)
    if access.reduction is not None:
        advice = f"guard the statement: `... if {condition}`"
    else:
        advice = f"rule it out, as in `{show_expression(access.read)} if {condition} else 0`"
    narrower = _narrower_range(fault, extent)
    return f"{advice}; or narrow the range, as in `for {narrower}`" if narrower else advice


def _condition(subscript: Expression, extent: Expression, below: bool) -> str:
    """`t > 0` rather than `t-1 >= 0`."""
    offset = offset_of(subscript)
    if offset is None or offset[0] is None:
        shown, bound = show_expression(subscript, compact=True), show_expression(extent)
        return f"0 <= {shown} < {bound}"
    name, by = offset
    if below:
        return f"{name} > {-by - 1}" if by < 0 else f"{name} >= {-by}"
    return f"{name} < {show_expression(_minus(extent, by), compact=True)}"


def _narrower_range(fault: Outside, extent: Expression) -> str | None:
    """The index's range without the values that leave the tensor, where the statement owns it."""
    access = fault.access
    offset = offset_of(access.read.subscripts[fault.axis])
    if offset is None or not isinstance(access.statement, Accumulate):
        return None
    name, by = offset
    if name is None:
        return None
    own = range_of(name, access.ranges)
    if own is None or own.lower is None or own.upper is None:
        return None
    below = fault.value < 0
    lower = number(-by) if below else own.lower
    upper = own.upper if below else _minus(extent, by)
    return show_range(Range(name, lower, upper, own.descending))


def _minus(expression: Expression, value: int) -> Expression:
    return plus(expression, -value)
