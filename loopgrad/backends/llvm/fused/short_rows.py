"""Rows that run several at a time (`abreast.py`) -> instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.abreast import Abreast, of_row
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.surroundings import FLOAT, Around
from loopgrad.backends.llvm.writing.repeat import whole_groups
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir import walk
from loopgrad.schedule.tree import Over, Step

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees


class ShortRows:
    """Emits the rows where the body of `trees` stands. What each has for itself is memory of the thread's."""

    def __init__(self, trees: Trees, rows: Abreast):
        self.trees, self.body, self.rows = trees, trees.body, rows
        self.nodes = list(rows.nodes())  # steps are told apart by what object they are

    def emit(self, lower: str, upper: str) -> None:
        """Those from one value of the index up to another."""
        rows, body, frame = self.rows, self.body, self.trees.frame
        for tensor in rows.own:
            for row in range(1, rows.count):
                name = of_row(tensor, row)
                facts, buffer = frame.tensors[tensor], frame.buffers[tensor]
                frame.add(replace(facts, name=name), replace(buffer, tensor=name))
        middle = whole_groups(body, lower, upper, rows.count)
        if rows.are_apart:
            middle = body.select(self._are_short(), I64, middle, lower)
        self._some(lower, middle)
        ShortRows(self.trees, replace(rows, count=1))._some(middle, upper)

    def _are_short(self) -> str:
        """The i1: no row is longer than one register and a half."""
        trees, body = self.trees, self.body
        ends = {
            n.upper: trees.bound(n.upper).text for n in self.rows.loop.body if isinstance(n, Over)
        }
        found = [body.value(f"icmp sle i64 {end}, {3 * trees.lanes // 2}") for end in ends.values()]
        return reduce(lambda a, b: body.value(f"and i1 {a}, {b}"), found)

    def _some(self, lower: str, upper: str) -> None:
        """Groups of `count`, all of them whole."""
        trees, body, count = self.trees, self.body, self.rows.count
        loop = self.rows.over(self.nodes)

        def some(index: str) -> None:
            after = (body.value(f"add nsw i64 {index}, {row}") for row in range(1, count))
            self.together([index, *after])

        with trees.accumulators.around(loop, trees.lanes, lambda _: 1) as accumulators:
            trees.while_any(lower, upper, count, some)
        for accumulator in accumulators:
            trees.finish(accumulator, False)

    def together(self, numbers: Sequence[str]) -> None:
        """The rows for these values of the index, which are as many as run at a time."""
        trees, rows = self.trees, self.rows
        loop = rows.over(self.nodes)
        others = {
            name: trees.position(loop.index, number, loop.lower, loop.upper)
            for name, number in zip(rows.indices[1:], numbers[1:], strict=True)
        }
        before, trees.at_a_time = trees.at_a_time, rows.count
        with trees.at(loop, numbers[0]), trees.with_positions(others):
            for node in self.nodes:
                if isinstance(node, Over):
                    trees.nodes((node,))
                elif rows.count > 1 and rows.in_lanes(node[0], trees.frame):
                    self._in_lanes(node, numbers[0])
                else:
                    trees.nodes(node)
        trees.at_a_time = before

    def _in_lanes(self, steps: Sequence[Step], index: str) -> None:
        """A step for all rows, one in each lane: functions take as long for all as for one."""
        vectors, contributions = self.trees.vectors, self.trees.contributions
        first = steps[0].statement
        reads = zip(*(walk.reads(step.statement.value) for step in steps), strict=True)
        gathered = {
            rows[0]: self._gathered([vectors.real(read) for read in rows])
            for rows in reads
            if len({*rows}) > 1
        }
        before = vectors.around
        with vectors.scope((), (self.rows.loop.index,)):
            vectors.around = Around(self.rows.loop.index, len(steps), index)
            vectors.known.update(gathered.items())
            value = contributions.value(first)
            vectors.around = before
        kind = vectors.kind(value.element, value.lanes)
        for row, step in enumerate(steps):
            one = value
            if value.lanes > 1:
                text = self.body.value(f"extractelement {kind} {value.text}, i64 {row}")
                one = replace(value, text=text, lanes=1)
            contributions.update(step.statement, one, step.first)

    def _gathered(self, values: Sequence[Value]) -> Value:
        """In the lanes of one register."""
        kind, element = (self.trees.vectors.kind(FLOAT, n) for n in (len(values), 1))
        text = "undef"
        for lane, value in enumerate(values):
            text = self.body.value(
                f"insertelement {kind} {text}, {element} {value.text}, i64 {lane}"
            )
        return replace(values[0], text=text, lanes=len(values))
