"""Rows of windows that overlap (`overlapping.py`) -> instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.invariants import hoisted
from loopgrad.backends.llvm.fused.overlapping import Overlap
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir.nodes import Accumulate, Apply, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Over

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.trees import Trees


class WindowRows:
    """Emits some rows at a time: those that end with the last row may have been computed before.

    Each row is computed from its start, so that nothing is added twice.
    """

    def __init__(self, trees: Trees, loop: Over, plan: Overlap):
        self.trees, self.body, self.loop, self.plan = trees, trees.body, loop, plan

    def can(self) -> bool:
        """Is it about reals, and has each row a place of its own in memory?"""
        target = self.plan.targets[0]
        store = self.trees.frame.storage(target.tensor)
        whole = not store.register and len(store.axes) == len(target.subscripts)
        products = (Apply("*", term.factors) for term in self.plan.terms)
        return whole and all(
            e is ElementType.FLOAT
            for e in (store.facts.element, *map(self.trees.vectors.type_of, products))
        )

    def emit(self, lower: Value, upper: Value) -> None:
        trees, body, count = self.trees, self.body, len(self.plan.targets)
        length = body.value(f"sub nsw i64 {upper.text}, {lower.text}")
        enough = body.value(f"icmp sge i64 {length}, {count}")
        end = body.select(enough, I64, upper.text, lower.text)

        def together(index: str) -> None:
            last = body.value(f"sub nsw i64 {upper.text}, {count}")
            less = body.value(f"icmp slt i64 {index}, {last}")
            trees.several = self
            self._row(body.select(less, I64, index, last))
            trees.several = None

        trees.while_any(lower.text, end, count, together)
        trees.while_any(end, upper.text, 1, self._row)

    def _row(self, index: str) -> None:
        trees = self.trees
        (inner,) = self.loop.body
        assert isinstance(inner, Over)
        with trees.at(self.loop, index):
            left, right = trees.bound(inner.lower), trees.bound(inner.upper)
            with hoisted(trees.vectors, inner, left, right):
                trees.while_any(
                    left.text, right.text, trees.lanes, lambda i: trees.some(inner, i, right.text)
                )

    def sums(self) -> None:
        """The rows' sums, in registers, in the lanes at hand."""
        vectors, contributions = self.trees.vectors, self.trees.contributions
        sums = [vectors.real(start) for start in self.plan.starts]
        for term in self.plan.terms:
            factors = [vectors.real(factor) for factor in term.factors]
            product = vectors.operate("*", *factors, flags="contract")
            sums[term.row] = contributions.combined(
                term.reduction, sums[term.row], product, "contract"
            )
        for target, value in zip(self.plan.targets, sums, strict=True):
            contributions.update(Accumulate(target, Reduction.SET, target), value, True)
