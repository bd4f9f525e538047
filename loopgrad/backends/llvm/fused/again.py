"""Vector loops whose last lanes may be done again.

    for n vector:  y[n] = max(x[2*n], x[2*n+1])

Of 13 values of n, with eight lanes, the second vector begins at 5: it computes three once more, as they are,
and no lane has to be left out. Without AVX-512 masks take several times as long where conditions are
masks, too, and where lanes do not lie side by side in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.interior import Interior
from loopgrad.backends.llvm.fused.invariants import written_in
from loopgrad.backends.llvm.fused.sizes import copies
from loopgrad.backends.llvm.fused.surroundings import Around
from loopgrad.backends.llvm.writing.repeat import counted
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Read, Reduction
from loopgrad.schedule.tree import Mark, Node, Over, Step, loops, steps

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees

SLOW_MASKS = 32  # bytes of a register: those of AVX-512 have masks that cost nothing
LEAST_LANES = 4  # half a vector is a vector, too


class Again:
    """Emits such a loop: the interior in whole vectors, or in half ones where there is no whole one; what few
    values there are outside of it one by one. Where there is not even half a vector, all under masks.
    """

    def __init__(self, trees: Trees, loop: Over, inside: Interior | None):
        self.trees, self.body, self.loop, self.inside = trees, trees.body, loop, inside
        self.lanes = trees.lanes

    def can(self) -> bool:
        """May it, and does it pay? The code is there once, where others have copies side by side."""
        slow = self.trees.frame.module.vector_bytes == SLOW_MASKS
        gains = slow and self.lanes >= LEAST_LANES
        gains = gains and (self.inside is not None or self._has_gaps() or copies(self.loop) == 1)
        return gains and may_run_again(self.loop)

    def _has_gaps(self) -> bool:
        """Are there elements that do not lie side by side?"""
        return any(abs(stride) > 1 for _, stride in self.trees.vectors.rows.values())

    def emit(self, first: str, end: str, before: Callable[[str], None], last: bool) -> None:
        """For the values from `first` up to `end`; before: emits what stands before each whole vector.

        last: as `Trees.some` has it.
        """
        trees, body = self.trees, self.body
        begin, stop = self._limits(first, end)
        length = body.value(f"sub nsw i64 {stop}, {begin}")

        def whole(lanes: int, fetch: Callable[[str], None]) -> None:
            most = body.value(f"sub nsw i64 {stop}, {lanes}")

            def once(index: str) -> None:
                index = trees.least(index, most)
                fetch(index)
                trees.once_in_lanes(self.loop, Around(self.loop.index, lanes, index))

            counted(body, begin, stop, lanes, once)

        half = self.lanes // 2
        enough, some = (body.value(f"icmp sge i64 {length}, {n}") for n in (self.lanes, half))
        few = body.value(f"and i1 {some}, {body.value(f'xor i1 {enough}, true')}")
        trees.certain = self.inside.known if self.inside else {}
        trees.where(enough, lambda: whole(self.lanes, before))
        trees.where(few, lambda: whole(half, lambda _: None))
        trees.certain = {}
        if self.inside is not None:
            self._outside((first, begin, stop, end), some)
        rest = body.select(some, I64, end, first)
        trees.while_any(rest, end, self.lanes, lambda i: trees.some(self.loop, i, end, last))

    def _limits(self, first: str, end: str) -> tuple[str, str]:
        """The interior's."""
        if self.inside is None:
            return first, end
        lower, upper = self.inside.lower, self.inside.upper
        begin = first if lower is None else self.trees.greatest(first, lower)
        return begin, self.trees.least(end, upper)

    def _outside(self, ends: tuple[str, str, str, str], some: str) -> None:
        """The values before and behind the interior, where `some` holds. ends: of these three parts."""
        trees, body, (first, begin, stop, end) = self.trees, self.body, ends
        before = body.value(f"sub nsw i64 {begin}, {first}")
        behind = body.value(f"sub nsw i64 {end}, {stop}")
        count = body.value(f"add nsw i64 {before}, {behind}")
        interior = body.value(f"sub nsw i64 {stop}, {begin}")

        def once(number: str) -> None:
            past = body.value(f"icmp sge i64 {number}, {before}")
            skipped = body.select(past, I64, interior, "0")
            offset = body.value(f"add nsw i64 {number}, {skipped}")
            index = body.value(f"add nsw i64 {first}, {offset}")
            with trees.in_lanes(self.loop, Around(first=index)):
                trees.nodes(self.loop.body)

        trees.while_any("0", body.select(some, I64, count, "0"), 1, once)


def may_run_again(loop: Over) -> bool:
    """Is each value of the index on its own, and starts with what it writes?"""
    targets = (s.statement.target for s in steps(loop.body) if isinstance(s, Step))
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
                sums = (s for s in steps(node.body) if isinstance(s, Step) and s.first)
                begun |= {s.statement.target for s in sums if _is_alone(s, node)}
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
