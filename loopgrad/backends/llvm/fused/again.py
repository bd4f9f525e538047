"""Vector loops whose last lanes may be done again.

    for n vector:  y[n] = max(x[2*n], x[2*n+1])

Of 13 values of n, with eight lanes, the second vector begins at 5: it computes three once more, as they are,
and no lane has to be left out. Without AVX-512 masks take several times as long where lanes do not lie side
by side in memory, more so where there are conditions, which are masks, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.interior import Interior
from loopgrad.backends.llvm.fused.invariants import written_in
from loopgrad.backends.llvm.fused.sizes import size
from loopgrad.backends.llvm.fused.surroundings import Around
from loopgrad.backends.llvm.writing.repeat import counted, whole_groups
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Read, Reduction
from loopgrad.schedule.tree import Mark, Node, Over, Step, loops, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees

SLOW_MASKS = 32  # bytes of a register: those of AVX-512 have masks that cost nothing
LEAST_LANES = 4  # half a vector is a vector, too


class Again:
    """Emits such a loop: the interior in whole vectors, or in half ones where there is no whole one; outside
    of it a few values one by one, more under masks. Where there is not even half a vector, all are.
    """

    def __init__(self, trees: Trees, loop: Over, inside: Interior | None):
        self.trees, self.body, self.loop, self.inside = trees, trees.body, loop, inside
        self.lanes = trees.lanes

    def can(self) -> bool:
        """May it, and does it pay? Here are no copies side by side, and what takes long hides the masks."""
        slow = self.trees.frame.module.vector_bytes == SLOW_MASKS
        light = not any(size(s.statement.value)[1] for s in _steps(self.loop))
        gains = slow and self.lanes >= LEAST_LANES and light and self._has_gaps()
        return gains and may_run_again(self.loop)

    def _has_gaps(self) -> bool:
        """Are there elements that do not lie side by side?"""
        return any(abs(stride) > 1 for _, stride in self.trees.vectors.rows.values())

    def emit(
        self, first: str, end: str, step: int, write: Callable[[str], None], last: bool
    ) -> None:
        """For the values from `first` up to `end`; `write` emits whole vectors of `step` values from one on.

        last: as `Trees.some` has it.
        """
        trees, body = self.trees, self.body
        begin, stop = self._limits(first, end)
        length = body.value(f"sub nsw i64 {stop}, {begin}")
        half = self.lanes // 2
        enough, some = (body.value(f"icmp sge i64 {length}, {n}") for n in (self.lanes, half))
        inside = self.inside.known if self.inside else {}

        def whole() -> None:
            middle = whole_groups(body, begin, stop, step)
            trees.while_any(begin, middle, step, write)
            self._up_to(middle, stop, self.lanes)

        def others() -> None:
            trees.certain = inside
            few = body.value(f"and i1 {some}, {body.value(f'xor i1 {enough}, true')}")
            trees.where(few, lambda: self._up_to(begin, stop, half))
            trees.certain = {}
            if self.inside is None:
                rest = body.select(some, I64, end, first)
                trees.while_any(
                    rest, end, self.lanes, lambda i: trees.some(self.loop, i, end, last)
                )
            else:
                self._outside(first, begin, stop, end, some)

        trees.certain = inside
        trees.where(enough, whole)
        trees.certain = {}
        every = body.value(f"sub nsw i64 {end}, {first}")
        done = body.value(f"icmp eq i64 {every}, {length}")
        done = body.value(f"and i1 {enough}, {done}")
        trees.where(body.value(f"xor i1 {done}, true"), others)

    def _up_to(self, begin: str, stop: str, lanes: int) -> None:
        """Vectors of so many lanes, the last of which ends with the interior, wherever it begins."""
        most = self.body.value(f"sub nsw i64 {stop}, {lanes}")

        def once(index: str) -> None:
            around = Around(self.loop.index, lanes, self.trees.least(index, most))
            self.trees.once_in_lanes(self.loop, around)

        self.trees.while_any(begin, stop, lanes, once)

    def _limits(self, first: str, end: str) -> tuple[str, str]:
        """The interior's."""
        if self.inside is None:
            return first, end
        lower, upper = self.inside.lower, self.inside.upper
        begin = first if lower is None else self.trees.greatest(first, lower)
        return begin, self.trees.least(end, upper)

    def _outside(self, first: str, begin: str, stop: str, end: str, done: str) -> None:
        """The values before and behind the interior; all, where the i1 `done` does not hold."""
        trees, body = self.trees, self.body
        before = body.value(f"sub nsw i64 {begin}, {first}")
        behind = body.value(f"sub nsw i64 {end}, {stop}")
        count = body.value(f"add nsw i64 {before}, {behind}")
        interior = body.value(f"sub nsw i64 {stop}, {begin}")
        few = body.value(f"icmp sle i64 {count}, {self.lanes // 2}")
        singly = body.value(f"and i1 {done}, {few}")

        def once(number: str) -> None:
            past = body.value(f"icmp sge i64 {number}, {before}")
            skipped = body.select(past, I64, interior, "0")
            offset = body.value(f"add nsw i64 {number}, {skipped}")
            index = body.value(f"add nsw i64 {first}, {offset}")
            with trees.in_lanes(self.loop, Around(first=index)):
                trees.nodes(self.loop.body)

        trees.while_any("0", body.select(singly, I64, count, "0"), 1, once)
        middle = body.select(done, I64, begin, end)
        behind = body.select(done, I64, stop, end)

        def part(number: str) -> None:
            is_first = body.value(f"icmp eq i64 {number}, 0")
            lower = body.select(is_first, I64, first, behind)
            upper = body.select(is_first, I64, middle, end)
            trees.while_any(lower, upper, self.lanes, lambda i: trees.some(self.loop, i, upper))

        trees.where(body.value(f"xor i1 {singly}, true"), lambda: counted(body, "0", "2", 1, part))


def _steps(loop: Over) -> Iterator[Step]:
    return (step for step in steps(loop.body) if isinstance(step, Step))


def may_run_again(loop: Over) -> bool:
    """Is each value of the index on its own, and starts with what it writes?"""
    targets = (step.statement.target for step in _steps(loop))
    if any(loop.index not in walk.indices_of(target) for target in targets):
        return False
    return _begins(loop.body, written_in(loop.body), set())


def _begins(nodes: tuple[Node, ...], written: frozenset[str], begun: set[Read]) -> bool:
    """begun: elements written from nothing before, in this turn of the loop; it grows."""
    for node in nodes:
        match node:
            case Over(mark=Mark.SEQUENTIAL):
                if not _reads(written, node.lower, node.upper) <= begun:
                    return False
                if not _begins(node.body, written, set(begun)):
                    return False
                # It may have no turns, and another loop others: what it sums up begins even so.
                sums = (step for step in _steps(node) if step.first and _is_alone(step, node))
                begun |= {step.statement.target for step in sums}
            case Step(statement, first, ()):
                if not _reads(written, *walk.statement_expressions(statement)) <= begun:
                    return False
                if not first and statement.reduction is not Reduction.SET:
                    if statement.target not in begun:
                        return False
                elif statement.guard is None or first:
                    begun.add(statement.target)
            case _:
                return False
    return True


def _reads(written: frozenset[str], *expressions: Expression) -> set[Read]:
    """Of the tensors that the loop writes."""
    return {r for e in expressions for r in walk.reads(e) if r.tensor in written}


def _is_alone(step: Step, loop: Over) -> bool:
    """Is its target the same element in all turns of these loops?"""
    inside = {loop.index, *(each.index for each in loops(loop.body))}
    return walk.indices_of(step.statement.target).isdisjoint(inside)
