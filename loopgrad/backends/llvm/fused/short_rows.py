"""Rows that run several at a time (`abreast.py`) -> instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.abreast import Abreast, of_row
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.surroundings import FLOAT, Around
from loopgrad.ir import walk
from loopgrad.schedule.tree import Over, Step

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees


class ShortRows:
    """Emits the rows where the body of `trees` stands. What each has for itself is memory of the thread's."""

    def __init__(self, trees: Trees, rows: Abreast):
        self.trees, self.body, self.rows = trees, trees.body, rows

    def emit(self, lower: str, upper: str) -> None:
        """Those from one value of the index up to another."""
        rows, body, frame = self.rows, self.body, self.trees.frame
        for tensor in rows.own:
            for row in range(1, rows.count):
                name = of_row(tensor, row)
                facts, buffer = frame.tensors[tensor], frame.buffers[tensor]
                frame.add(replace(facts, name=name), replace(buffer, tensor=name))
        length = body.value(f"sub nsw i64 {upper}, {lower}")
        some = body.value(f"and i64 {length}, {-rows.count}")
        middle = body.value(f"add nsw i64 {lower}, {some}")
        self._some(rows, lower, middle)
        self._some(replace(rows, count=1), middle, upper)

    def _some(self, rows: Abreast, lower: str, upper: str) -> None:
        """Groups of `count`, all of them whole."""
        trees, body = self.trees, self.body
        nodes = list(rows.nodes())
        loop = rows.over(nodes)

        def number(index: str, row: int) -> str:
            return body.value(f"add nsw i64 {index}, {row}")

        def together(index: str) -> None:
            others = {
                name: trees.position(loop.index, number(index, row), loop.lower, loop.upper)
                for row, name in enumerate(rows.indices)
                if row
            }
            before, trees.at_a_time = trees.at_a_time, rows.count
            with trees.at(loop, index), trees.with_positions(others):
                for node in nodes:
                    if isinstance(node, Over):
                        trees.nodes((node,))
                    elif rows.count > 1 and rows.in_lanes(node[0], trees.frame):
                        self._in_lanes(node, index)
                    else:
                        trees.nodes(node)
            trees.at_a_time = before

        with trees.accumulators.around(loop, trees.lanes, lambda _: 1) as accumulators:
            trees.while_any(lower, upper, rows.count, together)
        for accumulator in accumulators:
            trees.finish(accumulator, False)

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
