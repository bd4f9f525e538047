"""What the code of a `Fused` phase stands in: a vector loop, masks, values that are known already."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from loopgrad.analysis.types import element_type
from loopgrad.backends.llvm.fused.accesses import splat
from loopgrad.backends.llvm.fused.frame import Frame, Value
from loopgrad.backends.llvm.writing.layout import EXTENT_BITS
from loopgrad.backends.llvm.writing.text import I64, vector
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Read
from loopgrad.ir.operations import ElementType

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT

INDEX_BITS = EXTENT_BITS + 4  # of a loop's bounds, and so of its index


@dataclass(frozen=True, slots=True)
class Position:
    """An index's value, and from where to where it runs, as far as that is known."""

    text: str
    lower: Expression | None = None
    upper: Expression | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """The vector loop that code stands in; `lanes` is 1 outside of any.

    `index` has the value `first` in the first lane, and the next ones in the others. Of several copies
    of the body that follow each other this is number `copy`. `tail` are the lanes that the loop
    runs, None for all of them (at least one does); `mask` those of them where the code is reached.
    `count`, an i64, is given where the tail is the first so many lanes. Of values of the index that are
    done one by one `first` alone is given.
    `ends`, of a loop whose last lanes are those outside of the tail: from where to where it runs.
    """

    index: str = ""
    lanes: int = 1
    first: str = ""
    copy: int = 0
    tail: str | None = None
    mask: str | None = None
    count: str | None = None
    ends: tuple[Expression, Expression] | None = None


class Surroundings:
    """Instructions on values of any width, at the place where the body of the frame stands."""

    def __init__(self, frame: Frame):
        self.frame, self.body, self.layout = frame, frame.body, frame.layout
        self.real_type = frame.module.real
        self.indices: dict[str, Position] = {}
        self.around = Around()
        self.registers: dict[tuple[str, int, int], str] = {}
        self.unproved: frozenset[Read] = frozenset()  # of the step at hand
        self.checked: frozenset[tuple[Read, int]] = frozenset()  # axes, for the whole loop
        self.rows: dict[Read, tuple[str, int]] = {}  # places at index 0, strides
        self.own_offsets: dict[Read, tuple[str, str]] = {}  # of lanes, for a loop inside of them
        self.past_caches: frozenset[str] = frozenset()  # tensors that are stored so
        self.known: dict[Expression, Value] = {}
        self._writes: list[str] = []  # tensors, in order
        self._first_lane = False
        self._types: dict[Expression, ElementType] = {}

    def type_of(self, expression: Expression) -> ElementType:
        constants = self.layout.task.facts.constants
        return element_type(expression, self.frame.types, constants, self._types)

    def kind(self, element: ElementType, lanes: int = 1) -> str:
        """The LLVM type of values."""
        return vector({BOOL: "i1", INT: I64, FLOAT: self.real_type}[element], lanes)

    def widened(self, value: Value, lanes: int) -> Value:
        if value.lanes == lanes:
            return value
        text = splat(self.body, self.kind(value.element), value.text, lanes)
        return replace(value, text=text, lanes=lanes)

    def even(self, *values: Value) -> tuple[int, list[str]]:
        """The values, each in as many lanes as the widest has."""
        lanes = values[0].lanes
        if all(value.lanes == lanes for value in values):
            return lanes, [value.text for value in values]
        lanes = max(value.lanes for value in values)
        return lanes, [self.widened(value, lanes).text for value in values]

    @contextmanager
    def scope(self, without: Collection[str] = (), indices: Collection[str] = ()) -> Iterator[None]:
        """Code that need not run where the code behind it does, or that runs again and again.

        What becomes known inside is forgotten. Inside, nothing is known of what reads the tensors
        `without`, or has the indices.
        """
        before, start = self.known, len(self._writes)
        known = _not_reading(before, without)
        for expression in [e for e in known if not walk.indices_of(e).isdisjoint(indices)]:
            del known[expression]
        self.known = known
        yield
        self.known = _not_reading(before, set(self._writes[start:]))

    def wrote(self, target: Read, value: Value | None) -> None:
        """An element has changed; `value` is what it holds now, where that is worth remembering."""
        self._writes.append(target.tensor)
        self.known = _not_reading(self.known, {target.tensor})
        if value is not None:
            self.known[target] = value

    def varies(self, expression: Expression) -> bool:
        """May it differ from lane to lane?"""
        if self.around.lanes == 1:
            return False
        for node in walk.subexpressions(expression):
            match node:
                case Index(name) if name == self.around.index:
                    return True
                case Read(tensor) if self.frame.storage(tensor).lanes:
                    return True
        return False

    @contextmanager
    def masked(self, holds: Value) -> Iterator[None]:
        """Code that only the lanes reach where the condition, a vector, holds."""
        around = self.around
        mask = holds.text
        if around.mask is not None:
            mask = self.body.value(f"and {self.kind(BOOL, around.lanes)} {around.mask}, {mask}")
        self.around = replace(around, mask=mask)
        with self.scope():
            yield
        self.around = around

    def any_lane(self) -> str:
        """The i1 that tells whether any lane reaches the code."""
        around = self.around
        if around.mask == around.tail:
            return "true"
        assert around.mask is not None
        return self._in_lanes(around.mask, around.lanes, "ne")

    def _in_lanes(self, conditions: str, lanes: int, order: str) -> str:
        """The i1 that tells whether any lane of them holds ("ne"), or none ("eq")."""
        kind = self.kind(BOOL, lanes)
        bits = self.body.value(f"bitcast {kind} {conditions} to i{lanes}")
        return self.body.value(f"icmp {order} i{lanes} {bits}, 0")

    def any_of(self, conditions: Value) -> str:
        """The i1 that tells whether the condition holds in any lane."""
        return self._in_lanes(conditions.text, conditions.lanes, "ne")

    def require(self, holds: Value) -> None:
        """Gives up where the condition does not hold in a lane that reaches the code."""
        around = self.around
        if holds.lanes == 1:
            fine = holds.text
            if around.mask != around.tail:
                unreached = self.body.value(f"xor i1 {self.any_lane()}, true")
                fine = self.body.value(f"or i1 {fine}, {unreached}")
        else:
            missed = self.negated(holds).text
            if around.mask is not None:
                kind = self.kind(BOOL, holds.lanes)
                missed = self.body.value(f"and {kind} {missed}, {around.mask}")
            fine = self._in_lanes(missed, holds.lanes, "eq")
        self.frame.go_on_where(fine)

    def negated(self, holds: Value) -> Value:
        kind = self.kind(BOOL, holds.lanes)
        true = splat(self.body, "i1", "true", holds.lanes)
        return Value(self.body.value(f"xor {kind} {holds.text}, {true}"), BOOL, holds.lanes)

    def both(self, a: Value, b: Value, instruction: str = "and") -> Value:
        if instruction == "and" and "true" in (a.text, b.text):
            return b if a.text == "true" else a
        lanes, (x, y) = self.even(a, b)
        return Value(
            self.body.value(f"{instruction} {self.kind(BOOL, lanes)} {x}, {y}"), BOOL, lanes
        )

    def select(self, condition: Value, then: Value, otherwise: Value) -> Value:
        lanes, (c, a, b) = self.even(condition, then, otherwise)
        kind = self.kind(then.element, lanes)
        if condition.lanes == 1:
            text = self.body.select(condition.text, kind, a, b)
        else:
            text = self.body.value(f"select {self.kind(BOOL, lanes)} {c}, {kind} {a}, {kind} {b}")
        return Value(text, then.element, lanes, max(then.bits, otherwise.bits))


def _not_reading(
    known: Mapping[Expression, Value], tensors: Collection[str]
) -> dict[Expression, Value]:
    """What is known that does not read any of the tensors."""
    found = dict(known)
    if tensors:
        for expression in [e for e in known if not walk.tensors_in(e).isdisjoint(tensors)]:
            del found[expression]
    return found
