"""The elements of tensors in a `Fused` phase: where they lie, whether they are there, reading them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from loopgrad.backends.llvm.fused import accesses
from loopgrad.backends.llvm.fused.accesses import Place, splat
from loopgrad.backends.llvm.fused.frame import Storage, Value
from loopgrad.backends.llvm.fused.strides import coefficient
from loopgrad.backends.llvm.fused.surroundings import BOOL, INT, Surroundings
from loopgrad.backends.llvm.writing.text import I64, vector
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Index, Number, Read
from loopgrad.ir.operations import ElementType

I32 = "i32"
_WIDE = 8  # bytes of an i64


class Elements(Surroundings):
    """Reads and places; how subscripts are computed is for `Vectors` to say."""

    def integer(self, expression: Expression) -> Value:
        raise NotImplementedError

    def extent(self, extent: Expression) -> str:
        """The extent of an axis, as a call has it."""
        slot = self.frame.slot(extent)
        return self.integer(extent).text if slot is None else self.frame.integer(slot)

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
        copy, lanes = (around.copy, around.lanes) if store.lanes else (0, 1)
        key = tensor, copy, lanes
        if key not in self.registers:
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

    def is_safe(self, read: Read, but: int | None = None) -> bool:
        """Is it in range wherever its indices are, whatever a condition says? Axis `but` is not looked at."""
        extents = self.frame.tensors[read.tensor].extents
        for axis, (subscript, extent) in enumerate(zip(read.subscripts, extents, strict=True)):
            if axis != but and not self._covers(subscript, extent):
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
            return self._apart(read, pointer, subscripts)
        with self.at_first_lane():
            offset = self._offset(store, subscripts)
            stride = self.stride(store, known)
        first = accesses.behind(self.body, store.kind, pointer, offset.text)
        return Place(store.kind, first, stride)

    def _apart(self, read: Read, pointer: str, subscripts: list[Expression]) -> Place:
        """Elements wherever data tell, behind what all lanes have in common: a loop inside of the lanes
        moves on that alone.
        """
        store = self.frame.storage(read.tensor)
        common = [walk.ZERO if self.varies(s) else s for s in subscripts]
        first = accesses.behind(self.body, store.kind, pointer, self._offset(store, common).text)
        offsets, width = self.own_offsets.get(self.own_place(read)) or (self.own_offset(read), I64)
        return Place(store.kind, first, 0, offsets, width)

    def own_place(self, read: Read) -> Read:
        """The element with what all lanes have in common left out."""
        own = tuple(s if self.varies(s) else walk.ZERO for s in read.subscripts)
        return Read(read.tensor, own)

    def own_offset(self, read: Read) -> str:
        """How far each lane's element lies behind what all have in common."""
        store = self.frame.storage(read.tensor)
        subscripts = [self._within(read, axis.position, axis.origin) for axis in store.axes]
        own = [s if self.varies(s) else walk.ZERO for s in subscripts]
        return self.widened(self._offset(store, own), self.around.lanes).text

    def narrow_offset(self, read: Read) -> tuple[str, str]:
        """The same, with its kind: half as wide where elements are, so that a register holds all lanes'.

        Gives up where the tensor has more elements than that can count.
        """
        offset, lanes = self.own_offset(read), self.around.lanes
        if lanes * _WIDE <= self.body.module.vector_bytes:
            return offset, I64
        count: int | str = 1
        for axis in self.frame.storage(read.tensor).axes:
            count = self._number("mul", count, self.extent(axis.extent))
        few = self.body.value(f"icmp ult i64 {count}, {2**31}")
        self.require(Value(few, BOOL))
        return self.body.value(f"trunc {vector(I64, lanes)} {offset} to {vector(I32, lanes)}"), I32

    def offset(self, read: Read) -> str:
        """How far behind its tensor's first element it lies, outside of vector loops."""
        store = self.frame.storage(read.tensor)
        subscripts = [self._within(read, axis.position, axis.origin) for axis in store.axes]
        return self._offset(store, subscripts).text

    def _on_row(self, read: Read, row: str, stride: int) -> Place:
        kind, offset = self.frame.storage(read.tensor).kind, self.around.first
        if stride != 1:
            offset = self.body.value(f"mul nsw i64 {offset}, {stride}")
        # Of one value of a vector loop's index there is one element.
        stride = stride if self.around.lanes > 1 else 0
        return Place(kind, accesses.behind(self.body, kind, row, offset), stride)

    def _within(self, read: Read, position: int, origin: Expression) -> Expression:
        subscript = read.subscripts[position]
        return subscript if origin == walk.ZERO else walk.apply("-", subscript, origin)

    def _offset(self, store: Storage, subscripts: list[Expression]) -> Value:
        """In C order. What is out of range may overflow: nobody then reads there."""
        offset = Value("0", INT)
        for i, (axis, subscript) in enumerate(zip(store.axes, subscripts, strict=True)):
            value = self.integer(subscript)
            if i and offset.text != "0":
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
