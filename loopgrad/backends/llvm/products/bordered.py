"""Calls of products that leave out the zeros around what they read (`boxes.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.strides import coefficient
from loopgrad.backends.llvm.products.borders import (
    AT_A_TIME,
    BOXES,
    FIELDS,
    HEAD,
    INDEX,
    INDICES,
    NOBODY,
    ROOM,
    K,
    N,
    Window,
)
from loopgrad.backends.llvm.products.groups import Along
from loopgrad.backends.llvm.products.library import SUFFIX
from loopgrad.backends.llvm.products.operands import RIGHT, Sides
from loopgrad.backends.llvm.products.workspace import DEEP, DEEPEST, PLACES
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression
from loopgrad.schedule.tree import Border, Dimension

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products

TOLD = 8  # numbers that are stored at a time


def windows(
    products: Products, borders: Sequence[Border], n: Sequence[Dimension], k: Sequence[Dimension]
) -> tuple[Window, ...]:
    """What is known to be zero, as far as it hangs on an index of n and one of k, of each on one alone."""
    found: list[Window] = []
    if max(len(n), len(k)) > INDICES:
        return ()
    for border in borders:
        window = _window(products, border, n, k)
        if window is not None and all(window.n != w.n and window.k != w.k for w in found):
            found.append(window)
    return tuple(found)


def _window(
    products: Products, border: Border, n: Sequence[Dimension], k: Sequence[Dimension]
) -> Window | None:
    trees, vectors, body = products.trees, products.vectors, products.body
    inside = walk.indices_of(border.subscript)
    of_n, of_k = ([i for i, d in enumerate(group) if d.index in inside] for group in (n, k))
    if len(of_n) != 1 or len(of_k) != 1:
        return None
    both = n[of_n[0]], k[of_k[0]]
    steps = []
    for d in both:
        step = coefficient(border.subscript, d.index, _varying(d.index))
        if step is None or (not isinstance(step, int) and walk.indices_of(step)):
            return None
        steps.append(str(step) if isinstance(step, int) else trees.bound(step).text)
    positions = products.positions(both)
    with vectors.scope((), positions), trees.with_positions(positions):
        value = vectors.integer(border.subscript).text
    lower, upper = trees.bound(border.lower).text, trees.bound(border.upper).text
    first, length = (body.value(f"sub i64 {high}, {lower}") for high in (value, upper))
    return Window(of_n[0], of_k[0], first, steps[0], steps[1], length)


def _varying(index: str) -> Callable[[Expression], bool]:
    return lambda e: index in walk.indices_of(e)


@dataclass(frozen=True, slots=True)
class Plan:
    """Whether zeros are left out (an i1), and if so how much is taken at a time: columns, with all that have
    the same value of n's first index; and values of k's first index, each of which has `unit` of k.
    """

    applies: str
    columns: str
    parts: str
    unit: str


class Bordered:
    """One product's. `memory`: what its workspace begins at."""

    def __init__(self, products: Products, sides: Sides, memory: str):
        self.body, self.products, self.sides = products.body, products, sides
        self.least, self.total = products.least, products.groups.total
        most = self.least(sides.total, str(DEEPEST))
        tables = (ROOM, PLACES, PLACES, self._times(most, BOXES))
        places = [memory]
        for size in tables:
            places.append(self.body.element("i64", places[-1], size))
        self.tables = places  # boxes, at_n, to, at_k, rows
        count = HEAD + INDEX * (len(sides.n_within) + len(sides.k_within))
        self.count = count + -count % TOLD
        self.given = self.body.alloca("i64", self.count)

    def plan(self, width: str) -> Plan:
        """`width`: how many columns may be taken at a time."""
        body, others_n = self.body, self.sides.n_within[1:]
        first_k, *others_k = self.sides.k_within
        row, unit = self.total(others_n), self.total(others_k)
        rows = body.value(f"udiv i64 {width}, {self._some(row)}")
        parts = body.value(f"udiv i64 {DEEP}, {self._some(unit)}")
        parts = self.least(self._some(parts), first_k.count)
        conditions = [
            body.value(f"icmp sge i64 {rows}, 1"),
            body.value(f"icmp sle i64 {unit}, {DEEPEST}"),
            *(body.value(f"icmp ne i64 {window.by_k}, 0") for window in self.sides.windows),
        ]
        if any(window.k == 0 for window in self.sides.windows):
            conditions.append(body.value(f"icmp sle i64 {self.sides.total}, {DEEPEST}"))
            parts = first_k.count
        applies = "true"
        for condition in conditions:
            applies = body.value(f"and i1 {applies}, {condition}")
        return Plan(applies, self._times(self._some(rows), row), parts, unit)

    def find(self, plan: Plan, first: str, count: str) -> None:
        """The boxes of so many columns."""
        where(self.body, plan.applies, lambda: self._find(plan, first, count))

    def _find(self, plan: Plan, first: str, count: str) -> None:
        body, sides = self.body, self.sides
        row = self.total(sides.n_within[1:])
        begin, some = (body.value(f"udiv i64 {x}, {self._some(row)}") for x in (first, count))
        end = body.value(f"add i64 {begin}, {some}")
        told = {N: str(len(sides.n_within)), K: str(len(sides.k_within))}
        told |= {AT_A_TIME: plan.parts, NOBODY: count}
        for i, along in enumerate(sides.n_within):
            window = next((w for w in sides.windows if w.n == i), None)
            ends = (begin, end) if i == 0 else ("0", along.count)
            rest = ("-1", "0", "0", "1", "0")
            if window is not None:
                rest = (str(window.k), window.first, window.by_n, window.by_k, window.length)
            told |= self._index(i, ends, along, sides.n_within[i + 1 :], rest)
        for e, along in enumerate(sides.k_within):
            place = len(sides.n_within) + e
            rest = ("-1", "0", "0", "1", "0")
            told |= self._index(place, ("0", along.count), along, sides.k_within[e + 1 :], rest)
        self._tell(told)
        t = body.module.pointer("i64")
        name = f"loopgrad_boxes_{SUFFIX[self.products.real]}"
        body.module.declare(f"declare void @{name}({', '.join([t] * 6)})")
        given = ", ".join(f"{t} {x}" for x in (self.given, *self.tables))
        body.do(f"call void @{name}({given})")

    def _index(
        self,
        place: int,
        ends: tuple[str, str],
        along: Along,
        inside: Sequence[Along],
        window: Sequence[str],
    ) -> dict[int, str]:
        values = (*ends, along.strides[RIGHT], self.total(inside), *window)
        assert len(values) == len(FIELDS)
        return dict(enumerate(values, HEAD + INDEX * place))

    def _tell(self, values: Mapping[int, str]) -> None:
        """Most are numbers: several at a time, and behind them the others."""
        body, several = self.body, f"<{TOLD} x i64>"
        for begin in range(0, self.count, TOLD):
            some = [values.get(i, "0") for i in range(begin, begin + TOLD)]
            numbers = ", ".join(f"i64 {0 if v.startswith('%') else v}" for v in some)
            place = body.element("i64", self.given, begin)
            if not body.module.opaque_pointers:
                place = body.value(f"bitcast i64* {place} to {several}*")
            pointer = body.module.pointer(several)
            body.do(f"store {several} <{numbers}>, {pointer} {place}, align 8")
        for i, value in values.items():
            if value.startswith("%"):
                body.store("i64", value, body.element("i64", self.given, i))

    def call(
        self,
        rows: str,
        parts: str,
        left: tuple[str, str, str],
        right: str,
        into: tuple[str, str],
        adds: str,
    ) -> None:
        """So many values of k's first index. left: what is packed, its first value of k of these, and how
        many it has; right: where it is, at the first of these; into: the turned sums, and from one to the
        next."""
        body, p, t = self.body, self.products.pointer, self.body.module.pointer("i64")
        name = f"loopgrad_product_boxes_{SUFFIX[self.products.real]}"
        kinds = f"i64, i64, {p}, i64, i64, {p}, {', '.join([t] * 5)}, {p}, i64, i1 zeroext"
        body.module.declare(f"declare void @{name}({kinds})")
        packed, first, depth = left
        tables = ", ".join(f"{t} {x}" for x in self.tables)
        body.do(
            f"call void @{name}(i64 {rows}, i64 {parts}, {p} {packed}, i64 {first}, i64 {depth}, "
            f"{p} {right}, {tables}, {p} {into[0]}, i64 {into[1]}, i1 zeroext {adds})"
        )

    def _times(self, a: str, b: str | int) -> str:
        return self.body.value(f"mul i64 {a}, {b}")

    def _some(self, count: str) -> str:
        """At least 1, to divide by."""
        more = self.body.value(f"icmp sgt i64 {count}, 1")
        return self.body.select(more, "i64", count, "1")
