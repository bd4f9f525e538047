"""Which elements a target writes: may `T = sum[i](...)` become `T += ...`?

Only where every element is written once, by one statement. Conservative: False means "not evident",
and the caller then keeps the `=`, for `validate` to judge.
"""

from __future__ import annotations

from collections.abc import Sequence

from loopgrad.analysis import extents as ext
from loopgrad.ir.nodes import Apply, Expression, Extent, Index, Number, Range, Read
from loopgrad.ir.walk import ZERO, indices_of


def writes_once(target: Read, ranges: Sequence[Range]) -> bool:
    """Do different values of the loops' indices always give different elements?"""
    missing = {r.index for r in ranges}
    learning = True
    while missing and learning:
        learning = False
        for subscript in target.subscripts:
            unknown = indices_of(subscript) & missing
            if len(unknown) == 1 and _determines(subscript, *unknown):
                missing -= unknown
                learning = True
    return not missing


def _determines(subscript: Expression, index: str) -> bool:
    """`c * index + rest`, where the number c is not 0 and the rest is free of the index."""
    terms = [m for m in ext.polynomial(subscript) if any(index in indices_of(a) for a in m)]
    return terms == [(Index(index),)]


def disjoint(one: Read, ranges: Sequence[Range], other: Read, others: Sequence[Range]) -> bool:
    """Do two targets in one tensor evidently never meet?"""
    return any(
        _below(a, ranges, b, others) or _below(b, others, a, ranges)
        for a, b in zip(one.subscripts, other.subscripts, strict=False)
    )


def _below(
    left: Expression, ranges: Sequence[Range], right: Expression, others: Sequence[Range]
) -> bool:
    """Is the largest value of `left` evidently less than the smallest of `right`?"""
    greatest = ext.largest(left, _bounds(ranges, "left"), frozenset())
    negative = ext.largest(Apply("neg", (right,)), _bounds(others, "right"), frozenset())
    if greatest is None or negative is None:
        return False
    gap = ext.polynomial(Apply("-", (Apply("neg", (negative,)), Apply("+", (greatest, Number(1))))))
    return all(c > 0 and all(isinstance(a, Extent) for a in m) for m, c in gap.items())


def _bounds(ranges: Sequence[Range], side: str) -> list[tuple[str, Expression, Expression]]:
    # An extent that nobody can name stands for the bound of a bare index.
    return [(r.index, r.lower or ZERO, r.upper or Extent(f"? {side} {r.index}")) for r in ranges]


def covers_whole_axes(
    target: Read, ranges: Sequence[Range], extents: Sequence[Expression] | None
) -> bool:
    """Are the subscripts all the loops' indices, each once, each running over its whole axis?"""
    by_name = {r.index: r for r in ranges}
    names = [s.name for s in target.subscripts if isinstance(s, Index)]
    if len(names) != len(target.subscripts) or sorted(names) != sorted(by_name):
        return False
    return all(_whole(by_name[n], extents[k] if extents else None) for k, n in enumerate(names))


def _whole(r: Range, extent: Expression | None) -> bool:
    if r.lower not in (None, ZERO):
        return False
    return r.upper is None or (not indices_of(r.upper) and extent in (None, r.upper))


def is_natural(expression: Expression, ranges: Sequence[Range]) -> bool:
    """Is an integer expression evidently never negative? Extents are not, nor bare indices."""
    by_name = {r.index: r for r in ranges}

    def natural(atom: Expression) -> bool:
        if isinstance(atom, Index) and atom.name in by_name:
            lower = by_name[atom.name].lower
            outer = ranges[: list(by_name).index(atom.name)]
            return lower is None or is_natural(lower, outer)
        return isinstance(atom, Extent)

    return all(c > 0 and all(map(natural, m)) for m, c in ext.polynomial(expression).items())
