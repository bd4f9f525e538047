"""Expressions -> instructions in a `Fused` phase: one value, or one in each lane of the loop around.

What does not vary from lane to lane is computed once. Where something would be an error, the phase
gives up (`Frame.leave_where`): the literal code then finds and raises it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import assert_never

from loopgrad.analysis.types import element_type, join
from loopgrad.backends.llvm import accesses, functions
from loopgrad.backends.llvm.accesses import Place, splat
from loopgrad.backends.llvm.frame import Frame, Storage, Value
from loopgrad.backends.llvm.lanes import Lanes
from loopgrad.backends.llvm.layout import CONSTANT_BITS, EXTENT_BITS
from loopgrad.backends.llvm.strides import coefficient
from loopgrad.backends.llvm.text import I64, as_float, vector
from loopgrad.backends.llvm.whole import Whole
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduce,
)
from loopgrad.ir.operations import ElementType

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT

INDEX_BITS = EXTENT_BITS + 4  # of a loop's bounds, and so of its index

_INTEGER_ORDER = {"==": "eq", "!=": "ne", "<": "slt", "<=": "sle", ">": "sgt", ">=": "sge"}
# Evaluated where it need not be, if its operands may be.
_CHEAP = frozenset(["+", "-", "*", "neg", "abs", "max", "min", "relu", "not", "and", "or", "pi"])


@dataclass(frozen=True, slots=True)
class Position:
    """An index's value, and from where to where it runs, as far as that is known."""

    text: str
    lower: Expression | None = None
    upper: Expression | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """The vector loop that code stands in; `lanes` is 1 outside of any.

    `index` has the value `first` in the first lane, and those of `each` in all. Of several copies
    of the body that follow each other this is number `copy`. `tail` are the lanes that the loop
    runs, None for all of them (at least one does); `mask` those of them where the code is reached.
    """

    index: str = ""
    lanes: int = 1
    first: str = ""
    each: str = ""
    copy: int = 0
    tail: str | None = None
    mask: str | None = None


class Vectors:
    """Lowers expressions at the place where the body of the frame stands."""

    def __init__(self, frame: Frame):
        self.frame, self.body, self.layout = frame, frame.body, frame.layout
        self.real_type = frame.module.real
        self.indices: dict[str, Position] = {}
        self.around = Around()
        self.registers: dict[tuple[str, int], str] = {}
        self.unproved: frozenset[Read] = frozenset()  # of the step at hand
        self.checked: frozenset[tuple[Read, int]] = frozenset()  # axes, for the whole loop
        self.rows: dict[Read, tuple[str, int]] = {}  # places at index 0, strides
        self.past_caches: frozenset[str] = frozenset()  # tensors that are stored so
        self.known: dict[Expression, Value] = {}
        self._writes: list[str] = []  # tensors, in order
        self.whole = Whole(self)
        self._first_lane = False

    def type_of(self, expression: Expression) -> ElementType:
        return element_type(expression, self.frame.types, self.layout.task.facts.constants)

    # ------------------------------------------------------------------------ widths, conversions

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
        lanes = max(value.lanes for value in values)
        return lanes, [self.widened(value, lanes).text for value in values]

    def convert(self, value: Value, wanted: ElementType) -> Value:
        """bool -> int -> float; anything -> bool is whether it is not 0."""
        if value.element is wanted:
            return value
        old, new = self.kind(value.element, value.lanes), self.kind(wanted, value.lanes)
        match value.element, wanted:
            case ElementType.INT, ElementType.BOOL:
                zero = splat(self.body, I64, "0", value.lanes)
                text = self.body.value(f"icmp ne {old} {value.text}, {zero}")
                return Value(text, BOOL, value.lanes)
            case ElementType.BOOL, ElementType.INT:
                text = self.body.value(f"zext {old} {value.text} to {new}")
                return Value(text, INT, value.lanes, 1)
            case ((ElementType.BOOL | ElementType.INT), ElementType.FLOAT):
                name = "uitofp" if value.element is BOOL else "sitofp"
                text = self.body.value(f"{name} {old} {value.text} to {new}")
                return Value(text, FLOAT, value.lanes)
        raise TypeError(f"a {value.element.value} where a {wanted.value} is needed")

    def real(self, expression: Expression) -> Value:
        match expression:
            case Number(value):
                return self._real_literal(value)
            case Apply("neg", (Number(value),)):
                return self._real_literal(-value)
        return self.convert(self.lower(expression), FLOAT)

    def _real_literal(self, value: int | float) -> Value:
        return Value(self.frame.module.number(as_float(value)), FLOAT)

    def integer(self, expression: Expression) -> Value:
        return self.convert(self.lower(expression), INT)

    def condition(self, expression: Expression) -> Value:
        return self.convert(self.lower(expression), BOOL)

    def lower_as(self, expression: Expression, element: ElementType) -> Value:
        if element is FLOAT:
            return self.real(expression)
        return self.convert(self.lower(expression), element)

    # ---------------------------------------------------------------------------------- lowering

    def lower(self, expression: Expression) -> Value:
        if isinstance(expression, Read | Apply | Compare | Conditional):
            found = self.known.get(expression)
            if found is not None and not (self._first_lane and found.lanes > 1):
                return found
        match expression:
            case Number(int(value)):
                return self.whole.literal(value)
            case Number(value):
                return self._real_literal(value)
            case Index(name):
                return self._index(name)
            case Extent() | Constant():
                return self._argument(expression)
            case Read():
                return self._read(expression)
            case Compare():
                return self._compare(expression)
            case Conditional():
                return self._conditional(expression)
            case Apply():
                return self._apply(expression)
            case Reduce(name):
                raise TypeError(f"{name}[...] has to be unfolded before it is compiled")
        assert_never(expression)

    def _index(self, name: str) -> Value:
        if name != self.around.index:
            return Value(self.indices[name].text, INT, 1, INDEX_BITS)
        if self._first_lane:
            return Value(self.around.first, INT, 1, INDEX_BITS)
        return Value(self.around.each, INT, self.around.lanes, INDEX_BITS)

    def _argument(self, argument: Extent | Constant) -> Value:
        frame, layout = self.frame, self.layout
        if isinstance(argument, Extent):
            slot = layout.slots["extent", argument.name]
            return Value(frame.integer(slot), INT, 1, EXTENT_BITS)
        if argument.name in layout.real_constants:
            return Value(frame.real(layout.real_constants.index(argument.name)), FLOAT)
        slot = layout.slots["constant", argument.name]
        return Value(frame.integer(slot), INT, 1, CONSTANT_BITS)

    def extent(self, extent: Expression) -> str:
        """The extent of an axis, as a call has it."""
        slot = self.frame.slot(extent)
        return self.integer(extent).text if slot is None else self.frame.integer(slot)

    # ------------------------------------------------------------------------------ what is known

    @contextmanager
    def scope(self, without: Collection[str] = (), indices: Collection[str] = ()) -> Iterator[None]:
        """Code that need not run where the code behind it does, or that runs again and again.

        What becomes known inside is forgotten. Inside, nothing is known of what reads the tensors
        `without`, or has the indices.
        """
        before, start = self.known, len(self._writes)
        known = _not_reading(before, without)
        self.known = {e: v for e, v in known.items() if walk.indices_of(e).isdisjoint(indices)}
        yield
        self.known = _not_reading(before, set(self._writes[start:]))

    def wrote(self, target: Read, value: Value | None) -> None:
        """An element has changed; `value` is what it holds now, where that is worth remembering."""
        self._writes.append(target.tensor)
        self.known = _not_reading(self.known, {target.tensor})
        if value is not None:
            self.known[target] = value

    # --------------------------------------------------------------------------------- varying

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

    # ------------------------------------------------------------------------------------ reads

    def _read(self, read: Read) -> Value:
        self.check(read)
        store = self.frame.storage(read.tensor)
        if store.register:
            lanes = self.around.lanes if store.lanes else 1
            text = self.body.load(vector(store.kind, lanes), self.register(read.tensor))
        else:
            place = self.place(read)
            lanes = self.lanes_of(place)
            safe = self.is_safe(read)
            if lanes == 1 and not safe:
                place = self._somewhere(place)
            mask = self.around.tail if safe else self.around.mask
            text = accesses.load(self.body, place, lanes, mask)
        match store.facts.element:
            case ElementType.BOOL:
                zero = splat(self.body, "i8", "0", lanes)
                kind = vector("i8", lanes)
                text = self.body.value(f"icmp ne {kind} {text}, {zero}")
                value = Value(text, BOOL, lanes)
            case element:
                value = Value(text, element, lanes, 63)
        if not store.register:
            self.known[read] = value
        return value

    def _somewhere(self, place: Place) -> Place:
        """The place, where some lane reaches the code; else one that is there for certain."""
        if self.around.mask == self.around.tail:
            return place
        kind = self.body.module.pointer(place.kind)
        dummy = self.frame.dummy(place.kind)
        pointer = self.body.select(self.any_lane(), kind, place.pointer, dummy)
        return replace(place, pointer=pointer)

    def lanes_of(self, place: Place) -> int:
        return 1 if place.offsets is None and place.stride == 0 else self.around.lanes

    def register(self, tensor: str) -> str:
        """The address of a variable on the stack that LLVM makes a register of."""
        store, around = self.frame.storage(tensor), self.around
        key = (tensor, around.copy if store.lanes else 0)
        if key not in self.registers:
            lanes = around.lanes if store.lanes else 1
            self.registers[key] = self.body.alloca(vector(store.kind, lanes))
        return self.registers[key]

    def check(self, read: Read) -> None:
        """Gives up where a subscript is out of range, if that is not known."""
        if read not in self.unproved:
            return
        extents = self.frame.tensors[read.tensor].extents
        for axis, (subscript, extent) in enumerate(zip(read.subscripts, extents, strict=True)):
            if (read, axis) not in self.checked and not self._covers(subscript, extent):
                self.require(self.is_below(subscript, extent))

    def is_below(self, subscript: Expression, extent: Expression) -> Value:
        return self._is_below(self.integer(subscript), self.extent(extent))

    def _is_below(self, value: Value, extent: str) -> Value:
        # Unsigned: a negative subscript counts as a huge one.
        limit = splat(self.body, I64, extent, value.lanes)
        kind = vector(I64, value.lanes)
        text = self.body.value(f"icmp ult {kind} {value.text}, {limit}")
        return Value(text, BOOL, value.lanes)

    def is_inside(self, read: Read) -> Value:
        """Whether all subscripts are in range."""
        holds = Value("true", BOOL)
        extents = self.frame.tensors[read.tensor].extents
        for subscript, extent in zip(read.subscripts, extents, strict=True):
            holds = self.both(holds, self._is_below(self.integer(subscript), self.extent(extent)))
        return holds

    def is_safe(self, read: Read) -> bool:
        """Is it in range wherever its indices are, whatever a condition says?"""
        extents = self.frame.tensors[read.tensor].extents
        for subscript, extent in zip(read.subscripts, extents, strict=True):
            if not self._covers(subscript, extent):
                return False
        return True

    def _covers(self, subscript: Expression, extent: Expression) -> bool:
        """Is it an index that runs over the axis?"""
        if not isinstance(subscript, Index):
            return False
        position = self.indices[subscript.name]
        return position.lower == walk.ZERO and position.upper == extent

    def place(self, read: Read) -> Place:
        """Where the element lies, or those of all lanes."""
        row = self.rows.get(read)
        if row is not None:
            return self._on_row(read, *row)
        store, index = self.frame.storage(read.tensor), self.around.index
        pointer = self.frame.pointer(read.tensor)
        subscripts = [self._within(read, axis.position, axis.origin) for axis in store.axes]
        if not any(map(self.varies, subscripts)):
            offset = self._offset(store, subscripts)
            return Place(store.kind, accesses.behind(self.body, store.kind, pointer, offset.text))
        coefficients = [
            0 if not self.varies(s) else coefficient(s, index, self.varies) for s in subscripts
        ]
        known = [c for c in coefficients if c is not None]
        if len(known) < len(coefficients):
            offset = self.widened(self._offset(store, subscripts), self.around.lanes)
            return Place(store.kind, pointer, 0, offset.text)
        with self.at_first_lane():
            offset = self._offset(store, subscripts)
            stride = self.stride(store, known)
        first = accesses.behind(self.body, store.kind, pointer, offset.text)
        return Place(store.kind, first, stride)

    def offset(self, read: Read) -> str:
        """How far behind its tensor's first element it lies, outside of vector loops."""
        store = self.frame.storage(read.tensor)
        subscripts = [self._within(read, axis.position, axis.origin) for axis in store.axes]
        return self._offset(store, subscripts).text

    def _on_row(self, read: Read, row: str, stride: int) -> Place:
        kind, offset = self.frame.storage(read.tensor).kind, self.around.first
        if stride != 1:
            offset = self.body.value(f"mul nsw i64 {offset}, {stride}")
        return Place(kind, accesses.behind(self.body, kind, row, offset), stride)

    def _within(self, read: Read, position: int, origin: Expression) -> Expression:
        subscript = read.subscripts[position]
        return subscript if origin == walk.ZERO else walk.apply("-", subscript, origin)

    def _offset(self, store: Storage, subscripts: list[Expression]) -> Value:
        """In C order. What is out of range may overflow: nobody then reads there."""
        offset = Value("0", INT)
        for i, (axis, subscript) in enumerate(zip(store.axes, subscripts, strict=True)):
            value = self.integer(subscript)
            if i:
                extent = Value(self.extent(axis.extent), INT)
                value = self._plain("add", self._plain("mul", offset, extent), value)
            offset = value
        return offset

    def _plain(self, instruction: str, a: Value, b: Value) -> Value:
        lanes, (x, y) = self.even(a, b)
        text = self.body.value(f"{instruction} {vector(I64, lanes)} {x}, {y}")
        return Value(text, INT, lanes)

    def stride(self, store: Storage, coefficients: list[int | Expression]) -> int | str:
        total: int | str = 0
        size: int | str = 1
        for axis, factor in reversed(list(zip(store.axes, coefficients, strict=True))):
            if factor != 0:
                wide = factor if isinstance(factor, int) else self.integer(factor).text
                total = self._number("add", total, self._number("mul", wide, size))
            match axis.extent:
                case Number(value):
                    size = self._number("mul", size, int(value))
                case extent:
                    size = self._number("mul", size, self.extent(extent))
        return total

    def _number(self, instruction: str, a: int | str, b: int | str) -> int | str:
        if isinstance(a, int) and isinstance(b, int):
            return a + b if instruction == "add" else a * b
        if instruction == "add" and 0 in (a, b):
            return b if a == 0 else a
        if instruction == "mul" and 1 in (a, b):
            return b if a == 1 else a
        return self.body.value(f"{instruction} i64 {a}, {b}")

    @contextmanager
    def at_first_lane(self) -> Iterator[None]:
        """The loop's index is a number here, that of the first lane."""
        before, self._first_lane = self._first_lane, True
        yield
        self._first_lane = before

    # ------------------------------------------------------------------------------------- masks

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
        return self._any(around.mask, around.lanes)

    def _any(self, conditions: str, lanes: int) -> str:
        kind = self.kind(BOOL, lanes)
        bits = self.body.value(f"bitcast {kind} {conditions} to i{lanes}")
        return self.body.value(f"icmp ne i{lanes} {bits}, 0")

    def any_of(self, conditions: Value) -> str:
        """The i1 that tells whether the condition holds in any lane."""
        return self._any(conditions.text, conditions.lanes)

    def require(self, holds: Value) -> None:
        """Gives up where the condition does not hold in a lane that reaches the code."""
        around = self.around
        if holds.lanes == 1:
            bad = self.body.value(f"xor i1 {holds.text}, true")
            if around.mask != around.tail:
                bad = self.body.value(f"and i1 {bad}, {self.any_lane()}")
        else:
            missed = self.negated(holds).text
            if around.mask is not None:
                kind = self.kind(BOOL, holds.lanes)
                missed = self.body.value(f"and {kind} {missed}, {around.mask}")
            bad = self._any(missed, holds.lanes)
        self.frame.leave_where(bad)

    # --------------------------------------------------------------------------------- branching

    def negated(self, holds: Value) -> Value:
        kind = self.kind(BOOL, holds.lanes)
        true = splat(self.body, "i1", "true", holds.lanes)
        return Value(self.body.value(f"xor {kind} {holds.text}, {true}"), BOOL, holds.lanes)

    def both(self, a: Value, b: Value, instruction: str = "and") -> Value:
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

    def _compare(self, chain: Compare) -> Value:
        """A chain; each operand is evaluated only where all before it held."""

        def link(i: int, left: Value) -> Value:
            right = self.lower(chain.operands[i + 1])
            holds = self._compare_values(chain.operators[i], left, right)
            if i + 1 == len(chain.operators):
                return holds
            rest = chain.operands[i + 2 :]
            return self._lazily("and", holds, lambda: link(i + 1, right), *rest)

        return link(0, self.lower(chain.operands[0]))

    def _compare_values(self, operator: str, left: Value, right: Value) -> Value:
        common = join(INT, left.element, right.element)
        lanes, (a, b) = self.even(self.convert(left, common), self.convert(right, common))
        if common is FLOAT:
            return Value(functions.compare(Lanes(self.body, lanes), operator, a, b), BOOL, lanes)
        order = f"icmp {_INTEGER_ORDER[operator]} {vector(I64, lanes)}"
        return Value(self.body.value(f"{order} {a}, {b}"), BOOL, lanes)

    def _lazily(
        self, operation: str, first: Value, second: Callable[[], Value], *parts: Expression
    ) -> Value:
        """`first and second`, or `or`; `second` is made of the parts, and may not be evaluated."""
        if all(map(self.is_cheap, parts)):
            return self.both(first, second(), operation)
        reached = first if operation == "and" else self.negated(first)
        if first.lanes > 1:
            with self.masked(reached):
                return self.both(first, second(), operation)
        lanes = self.around.lanes if any(map(self.varies, parts)) else 1
        done = self.widened(Value("false" if operation == "and" else "true", BOOL), lanes)
        return self._choose(reached, lambda: self.widened(second(), lanes), lambda: done)

    def _conditional(self, expression: Conditional) -> Value:
        element = self.type_of(expression)
        condition = self.condition(expression.condition)
        then, otherwise = expression.then, expression.otherwise
        if condition.lanes > 1:
            with self.masked(condition):
                first = self.lower_as(then, element)
            with self.masked(self.negated(condition)):
                second = self.lower_as(otherwise, element)
            return self.select(condition, first, second)
        if self.is_cheap(then) and self.is_cheap(otherwise):
            first = self.lower_as(then, element)
            return self.select(condition, first, self.lower_as(otherwise, element))
        lanes = self.around.lanes if self.varies(then) or self.varies(otherwise) else 1
        return self._choose(
            condition,
            lambda: self.widened(self.lower_as(then, element), lanes),
            lambda: self.widened(self.lower_as(otherwise, element), lanes),
        )

    def _choose(
        self, condition: Value, then: Callable[[], Value], otherwise: Callable[[], Value]
    ) -> Value:
        """Evaluates one of two, in blocks of their own."""
        body, mark = self.body, self.body.fresh("if")
        body.branch(condition.text, f"{mark}.then", f"{mark}.else")
        body.start(f"{mark}.then")
        with self.scope():
            a, first_end = then(), body.block
        body.jump(f"{mark}.end")
        body.start(f"{mark}.else")
        with self.scope():
            b, second_end = otherwise(), body.block
        body.jump(f"{mark}.end")
        body.start(f"{mark}.end")
        text = body.phi(self.kind(a.element, a.lanes), (a.text, first_end), (b.text, second_end))
        return Value(text, a.element, a.lanes, max(a.bits, b.bits))

    def is_cheap(self, expression: Expression) -> bool:
        """May it be evaluated where it need not be? It cannot fail, and costs little."""
        match expression:
            case Number() | Index() | Extent() | Constant():
                return True
            case Read(tensor):
                return read_is_cheap(self, expression, tensor)
            case Compare(_, operands):
                return all(map(self.is_cheap, operands))
            case Apply(operation, operands):
                return operation in _CHEAP and all(map(self.is_cheap, operands))
            case Conditional(condition, then, otherwise):
                return all(map(self.is_cheap, (condition, then, otherwise)))
        return False

    # -------------------------------------------------------------------------------- operations

    def _apply(self, expression: Apply) -> Value:
        operation, operands = expression.operation, expression.operands
        match operation:
            case "and" | "or":
                right = operands[1]
                first = self.condition(operands[0])
                return self._lazily(operation, first, lambda: self.condition(right), right)
            case "not":
                return self.negated(self.condition(operands[0]))
            case "floor" if self.type_of(operands[0]) is FLOAT:
                return self.whole.floor(self.real(operands[0]))
        if self.type_of(expression) is FLOAT:
            return self._real_operation(operation, operands)
        return self.whole.apply(operation, [self.integer(o) for o in operands])

    def _real_operation(self, operation: str, operands: tuple[Expression, ...]) -> Value:
        if operation == "pi":
            return Value(functions.call(Lanes(self.body), "pi"), FLOAT)
        if operation == "**":
            exponent = _literal(operands[1])
            base = self.real(operands[0])
            if exponent is not None:
                w = Lanes(self.body, base.lanes)
                short = functions.literal_power(w, base.text, exponent)
                if short is not None:
                    return Value(short, FLOAT, base.lanes)
        return self.operate(operation, *map(self.real, operands))

    def operate(self, operation: str, *values: Value, flags: str = "") -> Value:
        """An operation on reals."""
        lanes, texts = self.even(*values)
        return Value(
            functions.call(Lanes(self.body, lanes, flags), operation, *texts), FLOAT, lanes
        )


def _not_reading(
    known: Mapping[Expression, Value], tensors: Collection[str]
) -> dict[Expression, Value]:
    """What is known that does not read any of the tensors."""
    if not tensors:
        return dict(known)
    return {e: v for e, v in known.items() if all(r.tensor not in tensors for r in walk.reads(e))}


def read_is_cheap(vectors: Vectors, read: Read, tensor: str) -> bool:
    """Is it there for certain? And so are its subscripts, which then are indices."""
    if read in vectors.unproved:
        return False
    return vectors.frame.storage(tensor).register or vectors.is_safe(read)


def _literal(exponent: Expression) -> float | None:
    match exponent:
        case Number(value):
            return value
        case Apply("neg", (Number(value),)):
            return -value
    return None
