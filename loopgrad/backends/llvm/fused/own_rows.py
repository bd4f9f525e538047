"""Loops over what data send to rows that a thread has for itself (`threads/owning.py`) -> instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.abreast import picked
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.short_rows import ShortRows
from loopgrad.backends.llvm.writing.repeat import found, whole_groups
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.schedule.tree import Over, Step, block_from, block_to, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees

AHEAD = 256  # values of an index that are looked at before anything is done for them


class OwnRows:
    """Emits the iterations whose rows are the thread's own, found some hundred at a time; all of them, where
    there is one thread."""

    def __init__(self, trees: Trees, loop: Over):
        assert loop.picks is not None
        self.trees, self.body, self.loop, self.picks = trees, trees.body, loop, loop.picks
        self.rows = picked(loop, trees.frame)  # how many of them run at a time
        self.alone = self.body.value("icmp eq i64 %threads, 1")

    def emit(self, lower: Value, upper: Value) -> None:
        body = self.body
        places = body.alloca(I64, AHEAD)
        least, most = self._span()
        unproved = next(step for step in steps(self.loop.body) if isinstance(step, Step))

        def holds(index: str) -> str:
            with self.trees.at(self.loop, index), self.trees.checking(unproved):
                row = self.trees.vectors.integer(self.picks.row).text
            return body.value(f"icmp ule i64 {body.value(f'sub i64 {row}, {least}')}, {most}")

        def some(first: str) -> None:
            last = self._sum(first, str(AHEAD))
            less = body.value(f"icmp slt i64 {last}, {upper.text}")
            last = body.select(less, I64, last, upper.text)
            # That one value is looked at in vain costs a thread alone nothing.
            end = body.select(self.alone, I64, self._sum(first, "1"), last)
            own = found(body, first, end, places, holds)
            every = body.value(f"sub nsw i64 {last}, {first}")
            self._found(first, places, body.select(self.alone, I64, every, own))

        self.trees.while_any(lower.text, upper.text, AHEAD, some)

    def _span(self) -> tuple[str, str]:
        """The first row of the thread's own, and how far the last is from there; rows that do not exist are
        theirs who have the first and the last."""
        body, bound = self.body, self.trees.bound
        least, end = (bound(i(self.picks.rows)).text for i in (block_from, block_to))
        first = body.value(f"icmp sle i64 {least}, 0")
        least = body.select(first, I64, str(-(2**63)), least)
        last = body.value(f"icmp sge i64 {end}, {bound(self.picks.count).text}")
        most = body.select(last, I64, str(2**63 - 1), body.value(f"sub nsw i64 {end}, 1"))
        return least, body.value(f"sub i64 {most}, {least}")

    def _found(self, first: str, places: str, count: str) -> None:
        """So many iterations that were found from `first` on."""
        trees, body, rows = self.trees, self.body, self.rows

        def place(number: str) -> str:
            found = f"%{body.fresh()}"
            address = body.element(I64, places, number)
            body.do(f"{found} = load {I64}, {body.module.pointer(I64)} {address}")
            return body.select(self.alone, I64, self._sum(first, number), found)

        def once(number: str) -> None:
            with trees.at(self.loop, place(number)), trees.row_of(self.loop):
                trees.nodes(self.loop.body)

        several = "0"
        if rows is not None:
            each = range(1, rows.count)
            together = ShortRows(trees, rows).together
            several = whole_groups(body, "0", count, rows.count)
            trees.while_any(
                "0",
                several,
                rows.count,
                lambda n: together([place(n), *(place(self._sum(n, str(row))) for row in each)]),
            )
        trees.while_any(several, count, 1, once)

    def _sum(self, one: str, other: str) -> str:
        return self.body.value(f"add nsw i64 {one}, {other}")
