"""One compiled function: its parameters, the values that it knows, and its ways to fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from loopgrad.backends.llvm.layout import (
    CONSTANT_BITS,
    EXTENT_BITS,
    RECORD_HEAD,
    ErrorSite,
    Layout,
)
from loopgrad.backends.llvm.text import I64, Body, Module
from loopgrad.ir.nodes import Expression, Number, Read, Statement
from loopgrad.ir.operations import ElementType

ALL_BITS = 63


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
    """A function that runs one phase of a program: `i32 (record, integers, reals, tensors...)`.

    It returns 0, or 1 with the record filled. Every tensor has a `noalias` pointer of its own, by
    which LLVM sees that a store into one changes no other.
    """

    def __init__(self, module: Module, layout: Layout, name: str, tensors: Sequence[str]):
        self.module, self.layout, self.name = module, layout, name
        self.tensors = list(tensors)
        self.states = [t for t in tensors if t in layout.tracked]
        self._tensor = {t: f"%T{i}" for i, t in enumerate(self.tensors)}
        self._state = {t: f"%S{i}" for i, t in enumerate(self.states)}
        inputs = {t.name for t in layout.task.facts.tensors.values() if t.role == "input"}
        pointer = module.pointer
        parameters = [
            f"{pointer(I64)} noalias %record",
            f"{pointer(I64)} noalias readonly %integers",
            f"{pointer('double')} noalias readonly %reals",
        ]
        for t in self.tensors:
            mark = "noalias readonly" if t in inputs else "noalias"
            parameters.append(f"{pointer(layout.element(t))} {mark} {self._tensor[t]}")
        parameters += [f"{pointer(I64)} noalias {self._state[t]}" for t in self.states]
        head = f"internal i32 @{name}({', '.join(parameters)}) noinline nounwind"
        self.body = Body(module, name, head)
        self._integers: dict[int, str] = {}
        self._reals: dict[int, str] = {}
        self._dummies: dict[str, str] = {}
        self._load_arguments()
        self.statement: Statement | None = None
        self.number = -1  # of the statement
        self.executed: str | None = None  # how many statements have run, this one included
        self.indices: dict[str, Value] = {}
        self.trusted: frozenset[tuple[Read, int]] = frozenset()  # subscripts checked before

    def _load_arguments(self) -> None:
        # All at the entry: what is not used is thrown away by the first pass of the optimiser.
        for slot in range(len(self.layout.integers)):
            self._integers[slot] = self.body.load(I64, self.body.element(I64, "%integers", slot))
        for slot in range(len(self.layout.real_constants)):
            value = self.body.load("double", self.body.element("double", "%reals", slot))
            if self.module.real == "float":
                value = self.body.value(f"fptrunc double {value} to float")
            self._reals[slot] = value

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
        return self._tensor[tensor]

    def dummy(self, kind: str) -> str:
        """An element on the stack, to load and store in place of one that is not there."""
        if kind not in self._dummies:
            self._dummies[kind] = self.body.variable(kind, "0" if kind == I64 else "0.0")
        return self._dummies[kind]

    def state_pointer(self, tensor: str) -> str | None:
        return self._state.get(tensor)

    def extent_value(self, name: str) -> Value:
        bits = ALL_BITS if self.layout.variant.wide else EXTENT_BITS
        text = self._integers[self.layout.slots["extent", name]]
        return Value(text, ElementType.INT, bits)

    def axis_extent(self, extent: Expression) -> str:
        """The extent of an axis, as a call has it."""
        if isinstance(extent, Number):
            return str(extent.value)
        return self._integers[self.layout.slots[self.layout.axis_key(extent)]]

    def constant_value(self, name: str) -> Value:
        if name in self.layout.real_constants:
            slot = self.layout.real_constants.index(name)
            return Value(self._reals[slot], ElementType.FLOAT)
        bits = ALL_BITS if self.layout.variant.wide else CONSTANT_BITS
        return Value(self._integers[self.layout.slots["constant", name]], ElementType.INT, bits)

    # --------------------------------------------------------------------------------- failing

    def require(self, condition: str, error: ErrorSite, details: Sequence[str] = ()) -> None:
        """Goes on where the i1 `condition` holds; else leaves with the error and i64 details."""
        site = self.layout.add_site(error)
        fail, go_on = f"fail{site}", f"ok{site}"
        self.body.branch(condition, go_on, fail)
        pointer = self.module.pointer(I64)
        lines = [f"store i64 {site}, {pointer} %record"]
        for i, detail in enumerate(details):
            place = f"%d{site}.{i}"
            lines.append(f"{place} = getelementptr i64, {pointer} %record, i64 {RECORD_HEAD + i}")
            lines.append(f"store i64 {detail}, {pointer} {place}")
        self.body.at_end(fail, [*lines, "ret i32 1"])
        self.body.start(go_on)

    def running(self) -> Statement:
        """The statement that an error is about."""
        assert self.statement is not None
        return self.statement
