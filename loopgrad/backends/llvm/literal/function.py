"""One compiled function: its parameters, the values that it knows, and its ways to fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from loopgrad.backends.llvm.writing.layout import (
    CONSTANT_BITS,
    EXTENT_BITS,
    RECORD_HEAD,
    ErrorSite,
    Layout,
)
from loopgrad.backends.llvm.writing.text import I64, Body, Module
from loopgrad.ir.nodes import Expression, Number, Read, Statement
from loopgrad.ir.operations import ElementType

ALL_BITS = 63

_UNNAMED = "phase"  # in the text of a function that has no name yet


@dataclass(frozen=True, slots=True)
class Value:
    """An LLVM value: i1 for BOOL, i64 for INT, the module's real type for FLOAT.

    `bits` bounds an integer: |value| <= 2**bits. It is what makes most checks of overflow
    needless.
    """

    text: str
    element: ElementType
    bits: int = 0


class PhaseFunction:
    """A function that runs one phase of a program.

    `i32 (record, sites, indices..., integers..., reals..., tensors..., states...)`, of which it
    takes what its code has asked for, in the order asked: phases that differ in names alone have
    the same text, and share one function. It returns 0, or 1 with the record filled. Every tensor
    has a `noalias` pointer of its own, by which LLVM sees that a store into one changes no other.

    `around`: indices of the loops that the function is called in, with their bits.
    """

    def __init__(self, module: Module, layout: Layout, around: Mapping[str, int] | None = None):
        self.module, self.layout = module, layout
        self.body = Body(module, _UNNAMED)
        self.integers: dict[int, str] = {}  # slots -> parameters
        self.reals: dict[int, str] = {}
        self.tensors: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.sites: list[ErrorSite] = []
        self._dummies: dict[str, str] = {}
        self._calls = False
        self.statement: Statement | None = None
        self.number = -1  # of the statement
        self.executed: str | None = None  # how many statements have run, this one included
        self.indices = {
            name: Value(f"%I{i}", ElementType.INT, bits)
            for i, (name, bits) in enumerate((around or {}).items())
        }
        self.around = dict(self.indices)
        self.trusted: frozenset[tuple[Read, int]] = frozenset()  # subscripts checked before

    def finish(self) -> str:
        """Ends the function and adds it to the module, unless that has its like; returns its name."""
        pointer, real = self.module.pointer, self.module.real
        parameters = [f"{pointer(I64)} noalias %record", "i64 %sites"]
        parameters += [f"i64 {index.text}" for index in self.around.values()]
        parameters += [f"i64 {name}" for name in self.integers.values()]
        parameters += [f"{real} {name}" for name in self.reals.values()]
        for tensor, name in self.tensors.items():
            parameters.append(f"{pointer(self.layout.element(tensor))} noalias {name}")
        parameters += [f"{pointer(I64)} noalias {name}" for name in self.states.values()]
        self.body.do("ret i32 0")
        if self._calls:
            self.body.at_end("failed", ["ret i32 1"])
        self.body.head = f"internal i32 @{_UNNAMED}({', '.join(parameters)}) noinline nounwind"
        text = self.body.text()
        name = self.module.shared.setdefault(text, f"phase{len(self.module.shared)}")
        self.module.functions.setdefault(name, text.replace(_UNNAMED, name, 1))
        return name

    @contextmanager
    def index(self, name: str, value: Value) -> Iterator[None]:
        """Gives an index a value; what it was before afterwards."""
        outer = self.indices
        self.indices = {**outer, name: value}
        yield
        self.indices = outer

    @contextmanager
    def trusting(self, subscripts: Iterable[tuple[Read, int]]) -> Iterator[None]:
        """Code is emitted for where these subscripts (a read or target, an axis) are in range."""
        self.trusted = frozenset(subscripts)
        yield
        self.trusted = frozenset()

    # ------------------------------------------------------------------------------------- values

    def pointer(self, tensor: str) -> str:
        return self.tensors.setdefault(tensor, f"%T{len(self.tensors)}")

    def integer(self, slot: int) -> str:
        return self.integers.setdefault(slot, f"%N{len(self.integers)}")

    def real(self, slot: int) -> str:
        return self.reals.setdefault(slot, f"%R{len(self.reals)}")

    def dummy(self, kind: str) -> str:
        """An element on the stack, to load and store in place of one that is not there."""
        if kind not in self._dummies:
            self._dummies[kind] = self.body.variable(kind, "0" if kind == I64 else "0.0")
        return self._dummies[kind]

    def state_pointer(self, tensor: str) -> str | None:
        if tensor not in self.layout.tracked:
            return None
        return self.states.setdefault(tensor, f"%S{len(self.states)}")

    def extent_value(self, name: str) -> Value:
        bits = ALL_BITS if self.layout.variant.wide else EXTENT_BITS
        text = self.integer(self.layout.slots["extent", name])
        return Value(text, ElementType.INT, bits)

    def axis_extent(self, extent: Expression) -> str:
        """The extent of an axis, as a call has it."""
        if isinstance(extent, Number):
            return str(extent.value)
        return self.integer(self.layout.slots[self.layout.axis_key(extent)])

    def constant_value(self, name: str) -> Value:
        if name in self.layout.real_constants:
            slot = self.layout.real_constants.index(name)
            return Value(self.real(slot), ElementType.FLOAT)
        bits = ALL_BITS if self.layout.variant.wide else CONSTANT_BITS
        text = self.integer(self.layout.slots["constant", name])
        return Value(text, ElementType.INT, bits)

    # --------------------------------------------------------------------------------- calling

    def call(self, inner: PhaseFunction) -> None:
        """Ends another function and calls it, with what it takes; leaves where it fails."""
        pointer, real, body = self.module.pointer, self.module.real, self.body
        name = inner.finish()
        first = body.value(f"add i64 %sites, {len(self.sites)}")
        self.sites += inner.sites
        given = [f"{pointer(I64)} %record", f"i64 {first}"]
        given += [f"i64 {self.indices[index].text}" for index in inner.around]
        given += [f"i64 {self.integer(slot)}" for slot in inner.integers]
        given += [f"{real} {self.real(slot)}" for slot in inner.reals]
        for tensor in inner.tensors:
            given.append(f"{pointer(self.layout.element(tensor))} {self.pointer(tensor)}")
        given += [f"{pointer(I64)} {self.state_pointer(tensor)}" for tensor in inner.states]
        failed = body.value(f"call i32 @{name}({', '.join(given)})")
        fine, go_on = body.value(f"icmp eq i32 {failed}, 0"), body.fresh("go")
        body.branch(fine, go_on, "failed")
        body.start(go_on)
        self._calls = True

    # --------------------------------------------------------------------------------- failing

    def require(self, condition: str, error: ErrorSite, details: Sequence[str] = ()) -> None:
        """Goes on where the i1 `condition` holds; else leaves with the error and i64 details."""
        self.sites.append(error)
        number = len(self.sites)
        fail, go_on = f"fail{number}", f"ok{number}"
        self.body.branch(condition, go_on, fail)
        pointer = self.module.pointer(I64)
        lines = [f"%site{number} = add i64 %sites, {number}"]
        lines.append(f"store i64 %site{number}, {pointer} %record")
        for i, detail in enumerate(details):
            place = f"%d{number}.{i}"
            lines.append(f"{place} = getelementptr i64, {pointer} %record, i64 {RECORD_HEAD + i}")
            lines.append(f"store i64 {detail}, {pointer} {place}")
        self.body.at_end(fail, [*lines, "ret i32 1"])
        self.body.start(go_on)

    def running(self) -> Statement:
        """The statement that an error is about."""
        assert self.statement is not None
        return self.statement
