"""What the steps of a `Fused` phase do to elements: their values, and how these are taken in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from loopgrad.backends.llvm.fused import accesses
from loopgrad.backends.llvm.fused.accesses import Place, splat
from loopgrad.backends.llvm.fused.frame import Storage, Value
from loopgrad.backends.llvm.fused.surroundings import Around
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.fused.weaving import Weaving
from loopgrad.backends.llvm.literal.identities import identity
from loopgrad.backends.llvm.literal.integers import GREATEST, LEAST
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.repeat import counted, each_bit, where
from loopgrad.backends.llvm.writing.scratch import ALIGNMENT, BYTES
from loopgrad.backends.llvm.writing.text import I64, vector
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Index, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import ZERO, block_to

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT

_OPERATION = {
    Reduction.ADD: "+",
    Reduction.SUBTRACT: "-",
    Reduction.MULTIPLY: "*",
    Reduction.MAXIMUM: "max",
    Reduction.MINIMUM: "min",
}
# What elements start from, and what changes none: x + 0.0 is not x for x = -0.0.
_START = {
    Reduction.ADD: (0.0, 0),
    Reduction.SUBTRACT: (0.0, 0),
    Reduction.MULTIPLY: (1.0, 1),
    Reduction.MAXIMUM: (float("-inf"), LEAST),
    Reduction.MINIMUM: (float("inf"), GREATEST),
}
_NEUTRAL = {**_START, Reduction.ADD: (-0.0, 0)}

_ORDER = {Reduction.MAXIMUM: "ogt", Reduction.MINIMUM: "olt"}

COUNT_BITS = 20  # of an integer that is added up without checks: 2**40 of them fit


def joining(reduction: Reduction) -> Reduction:
    """How two parts of what was accumulated are put together."""
    return Reduction.ADD if reduction is Reduction.SUBTRACT else reduction


def _without_rows(indices: Collection[str]) -> frozenset[str]:
    return frozenset(index.partition("+")[0] for index in indices)


class Contributions:
    """Emits the values of statements, and what they do, where the body of `vectors` stands."""

    def __init__(self, vectors: Vectors):
        self.vectors, self.body, self.frame = vectors, vectors.body, vectors.frame
        self.weaving = Weaving()  # of the body at hand

    def value(self, statement: Accumulate) -> Value:
        """The statement's value, as an element of its target."""
        element = self.frame.types[statement.target.tensor]
        match statement.value:
            case Apply("*", (left, right)) as product if (
                self.flags(statement) and self.vectors.type_of(product) is FLOAT
            ):
                factors = self.vectors.real(left), self.vectors.real(right)
                return self.vectors.operate("*", *factors, flags="contract")
        return self.vectors.lower_as(statement.value, element)

    def flags(self, statement: Accumulate) -> str:
        """Products may be fused into sums that run over a loop; nothing else may be changed.

        What is not a sum has to give the same bits wherever it is computed again: a backward
        finds the winner of a maximum by comparing with `==`.
        """
        if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
            return ""
        kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
        loops = {name for name in self.vectors.indices if not name.endswith((".from", ".to"))}
        # One turn of a loop that is written out has an index of its own: `dx#2`.
        loops -= {n for n in loops if "#" in n} - walk.indices_of(statement.value)
        # Rows that share a loop have indices of their own: `b+1`.
        return "contract" if _without_rows(loops) - _without_rows(kept) else ""

    def combined(self, reduction: Reduction, before: Value, value: Value, flags: str = "") -> Value:
        """The element's new value: `before += value` and its like."""
        operation = _OPERATION[reduction]
        if reduction in _ORDER and value.element is FLOAT:
            return self._extremum(_ORDER[reduction], before, value)
        if value.element is FLOAT:
            return self.vectors.operate(operation, before, value, flags=flags)
        return self.vectors.whole.apply(operation, [before, value])

    def _extremum(self, order: str, before: Value, value: Value) -> Value:
        """The greatest or least so far: NaN once there has been one. Of equal ones the earlier.

        Where one of them is NaN their sum is: of a choice between a value and what is in memory LLVM makes
        a store under a mask, for which what is read again soon after has to wait.
        """
        if self._is_plain_number(value):
            lanes, (a, b) = self.vectors.even(before, value)
            w = Lanes(self.body, lanes)
            return Value(w.select(w.compare(order, b, a), b, a), FLOAT, lanes)
        lanes, (a, b) = self.vectors.even(before, value)
        w = Lanes(self.body, lanes)
        found = w.select(w.compare(order, b, a), b, a)
        return Value(w.select(w.compare("uno", a, b), w.operate("+", a, b), found), FLOAT, lanes)

    def _is_plain_number(self, value: Value) -> bool:
        """Is it written out, and so no NaN, and neither of the zeros, which are equal but differ?"""
        others = {self.frame.module.number(x) for x in (0.0, -0.0, float("nan"), -float("nan"))}
        return not value.text.startswith("%") and value.lanes == 1 and value.text not in others

    def start(self, statement: Accumulate) -> Value:
        """What the target holds before anything is written to it."""
        if statement.reduction is not Reduction.SET:
            return self.literal(_START[statement.reduction], statement)
        tensor = statement.target.tensor
        element = self.frame.types[tensor]
        if tensor not in self.frame.layout.tensor_types:
            return self.literal((0.0, 0), statement)
        text = identity(self.frame.layout, tensor, self.frame.module)
        return Value(text, element, 1, 63)

    def neutral(self, statement: Accumulate) -> Value:
        """A value that changes no element."""
        return self.literal(_NEUTRAL[statement.reduction], statement)

    def literal(self, values: tuple[float, int], statement: Accumulate) -> Value:
        if self.frame.types[statement.target.tensor] is INT:
            return Value(str(values[1]), INT, 1, 63)
        return Value(self.frame.module.number(values[0]), FLOAT)

    def across(self, join: Callable[[Value, Value], Value], value: Value) -> Value:
        """All lanes put together, by halves."""
        while value.lanes > 1:
            half, full = value.lanes // 2, vector(self._kind(value), value.lanes)
            parts = []
            for first in (0, half):
                lanes = [str(first + lane) for lane in range(half)]
                order = accesses.literal_vector("i32", lanes)
                text = self.body.value(
                    f"shufflevector {full} {value.text}, {full} undef, <{half} x i32> {order}"
                )
                if half == 1:
                    text = self.body.value(
                        f"extractelement <1 x {self._kind(value)}> {text}, i64 0"
                    )
                parts.append(replace(value, text=text, lanes=half))
            value = join(parts[0], parts[1])
        return value

    def _kind(self, value: Value) -> str:
        return self.vectors.kind(value.element)

    # ------------------------------------------------------------------------------------ writing

    def update(
        self,
        statement: Accumulate,
        value: Value,
        first: bool = False,
        carries: bool = False,
        hold: bool = False,
    ) -> Value | None:
        """Takes the value in, in every lane that reaches the code; the element where it is carried on.

        carries: a register holds the element, of every lane of the loop. hold: what comes of it is not
            stored, as soon more is added to it.
        """
        vectors, target = self.vectors, statement.target
        vectors.check(target)
        store = self.frame.storage(target.tensor)
        around = vectors.around
        if store.register:
            lanes = around.lanes if store.lanes else 1
            place = Place(store.kind, vectors.register(target.tensor))
        else:
            place = vectors.place(target)
            lanes = vectors.lanes_of(place)
        held: Value | None = None
        carries = carries and not store.register
        collides = lanes > 1 and self._may_collide(store, place)
        if lanes < around.lanes:
            self._update_for_all(statement, place, value, first)
        elif collides and statement.reduction is not Reduction.SET:
            self._lane_by_lane(statement, place, value, first)
        else:
            carries = carries and not collides
            hold = hold and carries  # what is added lane by lane is added in memory
            keeps = carries or (lanes > 1 and not first and self._is_own_row(target, place))
            if keeps and vectors.around.mask != vectors.around.tail:
                held = self._kept_outside(statement, place, lanes, value, hold)
            else:
                held = self._update_at(statement, place, lanes, value, first, hold)
        vectors.wrote(target, None if store.register else held)
        return held if carries else None

    def _update_at(
        self,
        statement: Accumulate,
        place: Place,
        lanes: int,
        value: Value,
        first: bool,
        hold: bool = False,
    ) -> Value:
        """The element, or an element of its own for each lane; what it then holds."""
        vectors = self.vectors
        store = self.frame.storage(statement.target.tensor)
        mask = vectors.around.mask if lanes > 1 else None
        if statement.reduction is not Reduction.SET:
            if first:
                before = self.start(statement)
            elif store.register:
                text = self.body.load(vector(store.kind, lanes), place.pointer)
                before = Value(text, store.facts.element, lanes, 63)
            else:
                before = self._present(statement, place, lanes, mask)
            value = self._taken_in(statement, before, value, first)
        value = vectors.widened(value, lanes)
        text = value.text
        if store.register:
            if mask != vectors.around.tail and lanes > 1 and not first:
                old = self.body.load(vector(store.kind, lanes), place.pointer)
                kept, new = (Value(t, value.element, lanes) for t in (old, text))
                text = vectors.select(Value(mask or "", BOOL, lanes), new, kept).text
            self.body.store(vector(store.kind, lanes), text, place.pointer)
        elif hold:
            pass
        elif lanes == 1:
            self.body.store(store.kind, text, place.pointer)
        else:
            if self.weaving.takes(self.body, statement.target, place, text, lanes, mask):
                return value
            past = statement.target.tensor in vectors.past_caches
            mask = self._stored(statement.target, place, mask)
            count = vectors.around.count if mask == vectors.around.tail else None
            accesses.store(self.body, place, text, lanes, mask, past and mask is None, count)
        return value

    def _stored(self, target: Read, place: Place, mask: str | None) -> str | None:
        """The lanes to store: all, where those behind the loop's end fill up a line of the thread's own.

        What a store under a mask has written is read again only when it has left for the cache.
        """
        around = self.vectors.around
        if around.ends is None or mask != around.tail or not self._is_own_row(target, place):
            return mask
        (axis,) = self.frame.buffers[target.tensor].axes
        lower, upper = around.ends
        end = axis.extent if axis.origin == ZERO else block_to(around.index)
        whole = (axis.origin, end) == (lower, upper)  # `u < s` leaves what the row has behind s
        return None if whole and around.lanes * BYTES[place.kind] <= ALIGNMENT else mask

    def _is_own_row(self, target: Read, place: Place) -> bool:
        """Do the lanes lie side by side in the one row that the thread has?"""
        buffer = self.frame.buffers.get(target.tensor)
        if buffer is None or not buffer.is_one_row or (place.offsets, place.stride) != (None, 1):
            return False
        return target.subscripts[buffer.axes[0].position] == Index(self.vectors.around.index)

    def _kept_outside(
        self, statement: Accumulate, place: Place, lanes: int, value: Value, hold: bool
    ) -> Value:
        """The same where lanes outside of the mask keep what they hold: all are stored."""
        around = self.vectors.around
        mask = Value(around.mask or "", BOOL, lanes)
        before = self._present(statement, place, lanes, around.tail)
        after = self._taken_in(statement, before, value, False)
        kept = self.vectors.select(mask, after, before)
        if not hold:
            lanes_stored = self._stored(statement.target, place, around.tail)
            count = around.count if lanes_stored == around.tail else None
            accesses.store(self.body, place, kept.text, lanes, lanes_stored, count=count)
        return kept

    def _present(self, statement: Accumulate, place: Place, lanes: int, mask: str | None) -> Value:
        """What the element holds."""
        known = self.vectors.known.get(statement.target)
        if known is not None and known.lanes == lanes:
            return known
        text = accesses.load(self.body, place, lanes, mask)
        return Value(text, self.frame.types[statement.target.tensor], lanes, 63)

    def _taken_in(self, statement: Accumulate, before: Value, value: Value, first: bool) -> Value:
        if statement.reduction is Reduction.SET:
            return self.vectors.widened(value, before.lanes)
        # The identity and x: x, but for sums, where -0.0 becomes 0.0.
        if first and statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
            return value
        return self.combined(statement.reduction, before, value, self.flags(statement))

    def _update_for_all(
        self, statement: Accumulate, place: Place, value: Value, first: bool
    ) -> None:
        """One element, into which all lanes go."""
        if statement.reduction is Reduction.SET:
            self._lane_by_lane(statement, place, value, first)
            return
        vectors, around = self.vectors, self.vectors.around
        value = vectors.widened(value, around.lanes)
        if value.element is INT and statement.reduction in (Reduction.ADD, Reduction.SUBTRACT):
            value = vectors.whole.limited(value, COUNT_BITS)
        if around.mask is not None:
            mask = Value(around.mask, BOOL, around.lanes)
            value = vectors.select(mask, value, self.neutral(statement))
        how = joining(statement.reduction)
        total = self.across(lambda a, b: self.combined(how, a, b), value)
        reached = vectors.any_lane()
        vectors.around = Around()

        def update() -> None:
            self._update_at(statement, place, 1, total, first)

        if reached == "true":
            update()
        else:
            where(self.body, reached, update)
        vectors.around = around

    def _may_collide(self, store: Storage, place: Place) -> bool:
        """May two lanes have one element, so that they have to take turns?"""
        if store.register:
            return False
        if place.offsets is not None:
            return True
        return isinstance(place.stride, str)  # which may be 0: a constant's

    def _lane_by_lane(self, statement: Accumulate, place: Place, value: Value, first: bool) -> None:
        """In the order of the lanes."""
        vectors, body, around = self.vectors, self.body, self.vectors.around
        lanes, kind = around.lanes, self._kind(value)
        text = vectors.widened(value, lanes).text
        offsets = place.offsets
        if offsets is None:
            stride = splat(body, I64, str(place.stride), lanes)
            wide = vector(I64, lanes)
            offsets = body.value(f"mul {wide} {stride}, {accesses.positions(lanes)}")

        places, values = self._in_memory(place.width, offsets), self._in_memory(kind, text)
        store = self.frame.storage(statement.target.tensor)

        def lane(number: str) -> None:
            one = replace(value, text=body.load(kind, values(number)), lanes=1)
            pointer = place.pointer
            if not store.register:
                offset = body.load(place.width, places(number))
                if place.width != I64:
                    offset = body.value(f"sext {place.width} {offset} to i64")
                pointer = accesses.behind(body, store.kind, pointer, offset)
            self._update_at(statement, Place(place.kind, pointer), 1, one, first)

        vectors.around = Around()
        with vectors.scope({statement.target.tensor}):
            if around.mask is None:
                counted(body, "0", str(lanes), 1, lane)
            else:
                mask = f"{vectors.kind(BOOL, lanes)} {around.mask}"
                bits = body.value(f"bitcast {mask} to i{lanes}")
                each_bit(body, f"i{lanes}", bits, lane)
        vectors.around = around

    def _in_memory(self, kind: str, values: str) -> Callable[[str], str]:
        """Keeps what lanes hold on the stack: a function that tells a lane's address by its number."""
        body, full = self.body, vector(kind, self.vectors.around.lanes)
        variable = body.alloca(full)
        body.store(full, values, variable)
        at = f"getelementptr {full}, {body.module.pointer(full)} {variable}, i64 0, i64 "
        return lambda number: body.value(at + number)
