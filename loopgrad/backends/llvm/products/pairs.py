"""Sums and extrema over pairs (`Product.update`): tiles in registers, over what is packed.

The code of a tile is the program's own, as what it does is: some rows of two vectors, then of one, under a
mask; the last rows one by one. What is done for a pair are two instructions or more, so such a tile
keeps a processor busy: it loads four elements and two vectors for eight pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.llvm.fused.accesses import Place, load, positions, splat, store
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.surroundings import Around
from loopgrad.backends.llvm.products.groups import Along
from loopgrad.backends.llvm.products.operands import LEFT, TARGET, Packed
from loopgrad.backends.llvm.writing.repeat import handing, where, while_any, whole_groups
from loopgrad.backends.llvm.writing.text import vector
from loopgrad.ir.nodes import Apply, Number, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.identities import identity
from loopgrad.schedule.tree import LEFT_OF_PAIR, RIGHT_OF_PAIR, Buffer, Scope, Update

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.lowering import Products

ROWS, VECTORS = 4, 2

FLOAT = ElementType.FLOAT


class Pairs:
    """Emits them where the body of the products stands."""

    def __init__(self, products: Products):
        self.products, self.body = products, products.body
        self.vectors, self.groups = products.vectors, products.groups
        self.lanes, self.real = products.lanes, products.real

    def write(
        self,
        update: Update,
        counts: tuple[Along, str, Along],
        places: Mapping[str, str],
        packed: Packed,
        first: str,
        scale: str,
        adds: str,
    ) -> None:
        """counts: of m, n and k. first: the value of k from which on what is packed is meant."""
        _Tiles(self, update, counts, places, packed, first, scale, adds).write()


class _Tiles:
    def __init__(
        self,
        pairs: Pairs,
        update: Update,
        counts: tuple[Along, str, Along],
        places: Mapping[str, str],
        packed: Packed,
        first: str,
        scale: str,
        adds: str,
    ):
        self.body, self.groups, self.products = pairs.body, pairs.groups, pairs.products
        self.vectors, self.lanes, self.real = pairs.vectors, pairs.lanes, pairs.real
        self.update, self.places, self.packed = update, places, packed
        self.m, self.columns, self.k = counts
        self.first, self.adds = first, adds
        self.negative = scale != "1.0"
        assert scale in ("1.0", "-1.0"), "no factors of pairs"

    # -------------------------------------------------------------------------------------- loops

    def write(self) -> None:
        body = self.body
        some = body.value(f"icmp sgt i64 {self.k.count}, 0")
        where(body, some, lambda: self._while_any("0", self.columns, self._width, self._panel))
        # Of nothing: what the target starts from.
        fresh = body.value(f"xor i1 {self.adds}, true")
        none = body.value(f"and i1 {fresh}, {body.value(f'xor i1 {some}, true')}")
        where(body, none, lambda: self._while_any("0", self.m.count, 1, self._start))

    @property
    def _width(self) -> int:
        return self.products.tiling.width

    def _start(self, row: str) -> None:
        start = splat(self.body, self.real, self._identity, self.lanes)

        def columns(n: str) -> None:
            place = Place(self.real, self._target(row, n), 1)
            store(self.body, place, start, self.lanes, self._mask(self._rest(n)))

        self._while_any("0", self.columns, self.lanes, columns)

    def _panel(self, n: str) -> None:
        """Columns that are packed one behind the other: for each value of k so many vectors."""
        body, packed = self.body, self.packed
        count = self.products.least(self._rest(n), str(self._width))
        there = body.value(f"sub i64 {packed.columns}, {n}")
        self.stride = self.products.filled(self.products.least(there, str(self._width)))
        panel = self.groups.at(packed.memory, self._multiply(n, packed.depth))
        panel = self.groups.at(panel, self._multiply(self.first, self.stride))
        step = self.lanes * VECTORS
        full = whole_groups(body, "0", count, step)

        def several(first: str) -> None:
            self._rows(self.groups.at(panel, first), self._sum(n, first), VECTORS, None)

        def single(first: str) -> None:
            mask = self._mask(body.value(f"sub i64 {count}, {first}"))
            self._rows(self.groups.at(panel, first), self._sum(n, first), 1, mask)

        self._while_any("0", full, step, several)
        self._while_any(full, count, self.lanes, single)

    def _rows(self, right: str, n: str, vectors: int, mask: str | None) -> None:
        whole = whole_groups(self.body, "0", self.m.count, ROWS)

        def some(count: int) -> Callable[[str], None]:
            return lambda row: self._tile(row, right, n, count, vectors, mask)

        self._while_any("0", whole, ROWS, some(ROWS))
        self._while_any(whole, self.m.count, 1, some(1))

    # --------------------------------------------------------------------------------------- tiles

    def _tile(
        self, row: str, right: str, n: str, rows: int, vectors: int, mask: str | None
    ) -> None:
        body, kind = self.body, vector(self.real, self.lanes)
        numbers = [self._sum(row, str(r)) if r else row for r in range(rows)]
        left = [
            self.groups.at(self.places[LEFT], self._multiply(number, self.m.strides[LEFT]))
            for number in numbers
        ]
        start = splat(body, self.real, self._identity, self.lanes)

        def once(k: str, sums: Sequence[str]) -> list[str]:
            here = self.groups.at(right, self._multiply(k, self.stride))
            columns = [
                load(
                    body,
                    Place(self.real, self.groups.at(here, str(v * self.lanes)), 1),
                    self.lanes,
                    None,
                )
                for v in range(vectors)
            ]
            at = self._multiply(k, self.k.strides[LEFT])
            then = []
            for r, place in enumerate(left):
                element = body.load(self.real, self.groups.at(place, at))
                for v, column in enumerate(columns):
                    then.append(self._updated(sums[r * vectors + v], element, column))
            return then

        count = rows * vectors
        found = handing(body, "0", self.k.count, once, [(kind, start)] * count)
        targets = [
            self._target(number, self._sum(n, str(v * self.lanes)) if v else n)
            for number in numbers
            for v in range(vectors)
        ]
        if self.adds != "true":
            fresh = body.value(f"xor i1 {self.adds}, true")
            where(body, fresh, lambda: self._put(targets, found, mask, False))
        if self.adds != "false":
            where(body, self.adds, lambda: self._put(targets, found, mask, True))

    def _put(
        self, targets: Sequence[str], sums: Sequence[str], mask: str | None, adds: bool
    ) -> None:
        how = Reduction.SUBTRACT if self.negative else self.update.reduction
        for target, text in zip(targets, sums, strict=True):
            place, value = Place(self.real, target, 1), Value(text, FLOAT, self.lanes)
            if adds:
                before = Value(load(self.body, place, self.lanes, mask), FLOAT, self.lanes)
                value = self._combined(how, before, value)
            elif self.negative:
                value = self.vectors.operate("neg", value)
            store(self.body, place, value.text, self.lanes, mask)

    def _updated(self, total: str, left: str, right: str) -> str:
        """The sum, or extremum, after a pair.

        Products are fused into sums; nothing else is changed, so that an extremum is found by its bits.
        """
        sums = self.update.reduction is Reduction.ADD
        flags = "contract" if sums else ""
        with self._pair(left, right):
            match self.update.value:
                case Apply("*", factors) if sums:
                    value = self.vectors.operate("*", *map(self.vectors.real, factors), flags=flags)
                case Apply("**", (base, Number(2))) if sums:
                    root = self.vectors.real(base)
                    value = self.vectors.operate("*", root, root, flags=flags)
                case other:
                    value = self.vectors.real(other)
        before = Value(total, FLOAT, self.lanes)
        return self._combined(self.update.reduction, before, value, flags).text

    @contextmanager
    def _pair(self, left: str, right: str) -> Iterator[None]:
        """Where the elements of a pair are known."""
        vectors = self.vectors
        for element, lanes in ((LEFT_OF_PAIR, False), (RIGHT_OF_PAIR, True)):
            facts = TensorFacts(element.tensor, "temporary", (), FLOAT)
            vectors.frame.add(facts, Buffer(element.tensor, FLOAT, Scope.REGISTER, lanes=lanes))
        around, vectors.around = vectors.around, Around("pairs", self.lanes, "0")
        with vectors.scope():
            vectors.known[LEFT_OF_PAIR] = Value(left, FLOAT)
            vectors.known[RIGHT_OF_PAIR] = Value(right, FLOAT, self.lanes)
            yield
        vectors.around = around

    # ------------------------------------------------------------------------------------- numbers

    @property
    def _identity(self) -> str:
        start = identity(self.update.reduction, FLOAT)
        return self.vectors.real(start).text

    def _combined(self, how: Reduction, before: Value, value: Value, flags: str = "") -> Value:
        return self.products.trees.contributions.combined(how, before, value, flags)

    def _target(self, row: str, n: str) -> str:
        offset = self._sum(self._multiply(row, self.m.strides[TARGET]), n)
        return self.groups.at(self.places[TARGET], offset)

    def _mask(self, count: str) -> str:
        """Of the lanes below the count."""
        body, lanes = self.body, self.lanes
        left = body.value(f"trunc i64 {self.products.least(count, str(lanes))} to i32")
        numbers = f"{vector('i32', lanes)} {positions(lanes, 'i32')}"
        return body.value(f"icmp slt {numbers}, {splat(body, 'i32', left, lanes)}")

    def _rest(self, n: str) -> str:
        return self.body.value(f"sub i64 {self.columns}, {n}")

    def _sum(self, a: str, b: str) -> str:
        return self.body.value(f"add i64 {a}, {b}")

    def _multiply(self, a: str, b: str) -> str:
        return self.products.multiply(a, b)

    def _while_any(self, lower: str, upper: str, step: int, write: Callable[[str], None]) -> None:
        while_any(self.body, lower, upper, step, write)
