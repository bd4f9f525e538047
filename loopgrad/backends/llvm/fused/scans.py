"""A scan -> instructions: as many steps at a time as a register has lanes.

The steps of a vector are put together by doubling: after the first round each lane stands for two of
them, then for four, ... (Hillis and Steele, "Data parallel algorithms", 1986). So what they start from is
needed by the last operation alone, `state = factors * carry + addends`: no more waits for the vector
before.

In real arithmetic that is what the steps come to. With rounding, sums are added up in another order,
and a product of factors may overflow, or vanish, where no step does. So factors whose products leave
a range that is safe, and states that are not finite, are noticed before anything is stored: that
vector's steps then run one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.accesses import literal_vector, positions, splat
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.surroundings import FLOAT, Around
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.repeat import counted, whole_groups
from loopgrad.backends.llvm.writing.text import vector
from loopgrad.ir.nodes import Expression, Reduction
from loopgrad.schedule.tree import Over, Step

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees

# Between these, products of factors that are in it have quotients that are normal numbers too.
_RANGE = {"float": (2.0**-60, 2.0**60), "double": (2.0**-500, 2.0**500)}
FEW = 2  # the part of a vector's lanes up to which steps are quicker one by one
_ORDER = {"max": "ogt", "min": "olt"}


class Scan:
    """Emits one where the body of the trees stands; it runs for at least one value of its index."""

    def __init__(self, trees: Trees, loop: Over, lanes: int):
        assert loop.linear is not None
        (step,) = loop.body
        assert isinstance(step, Step)
        self.trees, self.loop, self.step, self.linear = trees, loop, step, loop.linear
        self.vectors, self.body = trees.vectors, trees.body
        self.lanes, self.w = lanes, Lanes(trees.body, lanes)
        self.carry = self.body.alloca(self.w.real)

    def emit(self, lower: Value, upper: Value) -> None:
        down = self.loop.descending
        one = self.vectors.whole.literal(1)
        first = self.vectors.whole.arithmetic("-", upper, one) if down else lower
        self._singly(first.text, self._next(first.text))
        self._take(first.text)
        if down:
            self._vectors_down(lower.text, first.text)
        else:
            self._vectors_up(self._next(first.text), upper.text)

    # ------------------------------------------------------------------------- which steps together

    def _vectors_up(self, lower: str, upper: str) -> None:
        middle = whole_groups(self.body, lower, upper, self.lanes)
        self.trees.while_any(lower, middle, self.lanes, self._vector)
        self._rest(middle, upper)

    def _vectors_down(self, lower: str, upper: str) -> None:
        """The first of the lanes is the last in time."""
        count = self.body.value(f"sub nsw i64 {upper}, {lower}")
        full = whole_groups(self.body, "0", count, self.lanes)
        self.trees.while_any(
            "0",
            full,
            self.lanes,
            lambda done: self._vector(
                self.body.value(
                    f"sub nsw i64 {self.body.value(f'sub nsw i64 {upper}, {done}')}, {self.lanes}"
                )
            ),
        )
        self._rest(lower, self.body.value(f"sub nsw i64 {upper}, {full}"))

    def _rest(self, lower: str, upper: str) -> None:
        """Fewer steps than there are lanes, if any: together, unless they are few."""

        def write() -> None:
            left = self.body.value(f"sub nsw i64 {upper}, {lower}")
            wide = vector("i32", self.lanes)
            count = splat(self.body, "i32", self.body.value(f"trunc i64 {left} to i32"), self.lanes)
            numbers = positions(self.lanes, "i32")
            self._vector(lower, self.body.value(f"icmp slt {wide} {numbers}, {count}"), upper)

        limit = self.body.value(f"add nsw i64 {lower}, {self.lanes // FEW}")
        many = self.body.value(f"icmp sgt i64 {upper}, {limit}")
        self.trees.where(many, write)
        some = self.body.value(f"icmp slt i64 {lower}, {upper}")
        less = self.body.value(f"xor i1 {many}, true")
        self.trees.where(
            self.body.value(f"and i1 {some}, {less}"), lambda: self._singly(lower, upper)
        )

    # -------------------------------------------------------------------------------- one by one

    def _singly(self, lower: str, upper: str) -> None:
        """The steps as they are written."""

        def once(index: str) -> None:
            with self._alone(index):
                self.trees.nodes(self.loop.body)

        counted(self.body, lower, upper, 1, once, self.loop.descending)

    def _take(self, index: str) -> None:
        """What the step has written is what the next one starts from."""
        with self._alone(index):
            value = self.vectors.lower(self.step.statement.target)
        self._carry(splat(self.body, self.body.module.real, value.text, self.lanes))

    @contextmanager
    def _alone(self, index: str) -> Iterator[None]:
        """A step by itself: rows that were found for vectors are nothing to it."""
        rows, self.vectors.rows = self.vectors.rows, {}
        with self.trees.at(self.loop, index):
            yield
        self.vectors.rows = rows

    def _carry(self, text: str) -> None:
        self.body.store(self.w.real, text, self.carry)

    def _next(self, index: str) -> str:
        return self.body.value(f"add nsw i64 {index}, 1")

    # ------------------------------------------------------------------------------- all together

    def _vector(self, first: str, mask: str | None = None, end: str | None = None) -> None:
        """The steps of a vector whose first lane is at that value of the index."""
        around = Around(self.loop.index, self.lanes, first, tail=mask, mask=mask)
        with self.trees.in_lanes(self.loop, around):
            value, fine = self._values()
            done = self.body.fresh("scanned")
            self.body.branch(fine, f"{done}.together", f"{done}.singly")
            self.body.start(f"{done}.together")
            with self.vectors.scope():
                statement = replace(self.step.statement, reduction=Reduction.SET, guard=None)
                self.trees.contributions.update(statement, Value(value, FLOAT, self.lanes))
            self._carry(self._last_in_all(value))
            self.body.jump(f"{done}.end")
        self.body.start(f"{done}.singly")
        last = end or self.body.value(f"add nsw i64 {first}, {self.lanes}")
        with self.vectors.scope():
            self._singly(first, last)
            final = first if self.loop.descending else self.body.value(f"sub nsw i64 {last}, 1")
            self._take(final)
        self.body.jump(f"{done}.end")
        self.body.start(f"{done}.end")

    def _values(self) -> tuple[str, str]:
        """The state after each step, and whether it is what the steps one by one would give."""
        w, linear = self.w, self.linear
        with self.trees.checking(self.step):
            factor = self._lanes_of(linear.factor, 1.0)
            addend = self._lanes_of(linear.addend, 0.0 if linear.operation == "+" else None)
        carry = self.body.load(w.real, self.carry)
        if linear.operation != "+":
            return self._extrema(carry, addend or "")
        factors, addends = self._together(factor, addend)
        value = carry
        fine = []
        if factors is not None:
            value = self._fused("*", factors, value)
            size, (least, greatest) = w.absolute(factors), _RANGE[w.element]
            fine.append(w.compare("oge", size, w.number(least)))
            fine.append(w.compare("ole", size, w.number(greatest)))
        if addends is not None:
            value = self._fused("+", value, addends)
        fine.append(w.compare("olt", w.absolute(value), w.number(float("inf"))))
        return value, self._in_all(fine)

    def _together(self, factor: str | None, addend: str | None) -> tuple[str | None, str | None]:
        """Of each lane, the factor and the addend of all steps up to it."""
        distance = 1
        while distance < self.lanes:
            if addend is not None:
                more = self._moved(addend, distance, 0.0)
                more = more if factor is None else self._fused("*", factor, more)
                addend = self._fused("+", addend, more)
            if factor is not None:
                factor = self.w.multiply(factor, self._moved(factor, distance, 1.0))
            distance *= 2
        return factor, addend

    def _extrema(self, carry: str, value: str) -> tuple[str, str]:
        """The greatest or least so far. NaNs, to which the instruction is blind, go one by one."""
        w, order = self.w, _ORDER[self.linear.operation]
        ordered = w.compare("ord", value, carry)
        neutral = float("-inf") if order == "ogt" else float("inf")
        distance = 1
        while distance < self.lanes:
            other = self._moved(value, distance, neutral)
            value = w.select(w.compare(order, other, value), other, value)
            distance *= 2
        value = w.select(w.compare(order, carry, value), carry, value)
        return value, self._in_all([ordered])

    def _fused(self, operation: str, a: str, b: str) -> str:
        values = (Value(text, FLOAT, self.lanes) for text in (a, b))
        return self.vectors.operate(operation, *values, flags="contract").text

    def _lanes_of(self, part: Expression | None, neutral: float | None) -> str | None:
        """The part's value in each lane that runs; in the others what changes nothing."""
        if part is None:
            return None
        vectors = self.vectors
        text = vectors.widened(vectors.real(part), self.lanes).text
        mask = vectors.around.mask
        if mask is None:
            return text
        if neutral is None:
            neutral = float("-inf") if self.linear.operation == "max" else float("inf")
        return self.w.select(mask, text, self.w.number(neutral))

    # -------------------------------------------------------------------------------- across lanes

    def _moved(self, text: str, distance: int, neutral: float) -> str:
        """Each lane's value in the lane so many steps later; in the first ones what changes nothing."""
        sign = 1 if self.loop.descending else -1
        sources = [lane + sign * distance for lane in range(self.lanes)]
        inside = [s if 0 <= s < self.lanes else self.lanes + lane for lane, s in enumerate(sources)]
        order = literal_vector("i32", list(map(str, inside)))
        second = self.w.number(neutral)
        return self.body.value(
            f"shufflevector {self.w.real} {text}, {self.w.real} {second}, "
            f"<{self.lanes} x i32> {order}"
        )

    def _last_in_all(self, text: str) -> str:
        last = "0" if self.loop.descending else str(self.lanes - 1)
        order = literal_vector("i32", [last] * self.lanes)
        return self.body.value(
            f"shufflevector {self.w.real} {text}, {self.w.real} undef, <{self.lanes} x i32> {order}"
        )

    def _in_all(self, conditions: list[str]) -> str:
        holds = conditions[0]
        for other in conditions[1:]:
            holds = self.w.both(holds, other)
        bits = self.body.value(f"bitcast {self.w.condition} {holds} to i{self.lanes}")
        return self.body.value(f"icmp eq i{self.lanes} {bits}, -1")
