"""What may share a loop: the position of each line relative to loops over an index.

Even positions are inside of a loop, the first at 0; odd ones stand between. Lines take the first
position that their dependences allow (docs/decisions/0009); or that of what needs them, where they share
nothing with others before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.polynomial import add, constant, constant_value
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Reduction
from loopgrad.schedule.lines import Line


def stage(
    lines: Sequence[Line],
    index: str,
    inside: Callable[[Line], bool],
    apart: Callable[[Line, Line], bool] = lambda line, earlier: False,
) -> list[int]:
    """A position for each line.

    inside: which of them loop over the index. apart: which of two should not share a loop, for other
    reasons than dependences.
    """
    positions: list[int] = []
    writing: dict[str, list[int]] = {}  # the lines so far, by the tensor that they write
    for number, line in enumerate(lines):
        loops = inside(line)
        position = 0 if loops else -1
        needed = {line.written.tensor, *(one.tensor for one in line.read)}
        for place in (p for tensor in needed for p in writing.get(tensor, ())):
            earlier, before = lines[place], positions[place]
            if _are_apart(line, earlier):
                continue
            if loops and inside(earlier):
                together = _aligned(line, earlier, index) and _alike(line, earlier, index)
                position = max(position, before if together else before + 2)
            elif loops or inside(earlier):
                position = max(position, before + 1)
            else:
                position = max(position, before)
        if loops:
            there = zip(lines, positions, strict=False)
            others = [(earlier, p) for earlier, p in there if inside(earlier)]
            shunned = {
                p for other, p in others if apart(line, other) or not _alike(line, other, index)
            }
            while position in shunned:
                position += 2
        positions.append(position)
        writing.setdefault(line.written.tensor, []).append(number)
    for number in reversed(range(len(lines))):
        if positions[number] % 2 == 0:
            positions[number] = _late(number, lines, positions, index, apart)
    return positions


def _late(
    number: int,
    lines: Sequence[Line],
    positions: Sequence[int],
    index: str,
    apart: Callable[[Line, Line], bool],
) -> int:
    """The position of all that uses what the line writes, where nothing ties it to its own: then an
    iteration's share of that is all that is ever kept. A product is not tied by what is there then anyway.
    """
    line, position = lines[number], positions[number]
    tensor = line.written.tensor
    others = [
        (other, p) for i, (other, p) in enumerate(zip(lines, positions, strict=True)) if i != number
    ]
    users = [(other, p) for other, p in others if tensor in _tensors(other)]
    late = min((p for _, p in users), default=position)
    if late <= position or late % 2:
        return position
    near = {one.tensor for one in line.read}
    if line.roles is not None:
        near &= {other.written.tensor for other, _ in others}
        near -= {one.tensor for other, p in others if p >= late for one in other.read}
    for other, p in others:
        if p == position and not near.isdisjoint(_tensors(other)):
            return position
        if p == late and (apart(line, other) or not _alike(line, other, index)):
            return position
    return (
        late if all(_aligned(other, line, index) for other, p in users if p == late) else position
    )


def _tensors(line: Line) -> set[str]:
    return {line.written.tensor, *(one.tensor for one in line.read)}


def _alike(line: Line, other: Line, index: str) -> bool:
    """Does the index take the same values in both?"""
    return line.bounds[index] == other.bounds[index]


def _aligned(line: Line, earlier: Line, index: str) -> bool:
    """May both be in one iteration: does the line need only what the earlier one has written then?"""
    written = earlier.written
    axis = written.axis_of(index)
    uses = [one for one in line.read if one.tensor == written.tensor]
    if line.written.tensor == written.tensor and not _both_reduce(line, earlier, index):
        uses.append(line.written)
    return all(axis is not None and one.bare[axis] == index for one in uses)


def _are_apart(line: Line, earlier: Line) -> bool:
    """Do both write one tensor, which the line does not read, and evidently no element that the other does?

    `x[2*q]` and `x[2*q+1]`.
    """
    tensor = earlier.written.tensor
    if line.written.tensor != tensor or any(one.tensor == tensor for one in line.read):
        return False
    pairs = zip(line.target.subscripts, earlier.target.subscripts, strict=True)
    return any(_never_meet(one, other) for one, other in pairs)


def _never_meet(one: Expression, other: Expression) -> bool:
    """`2*q` and `2*r + 1`: do they differ by what is no multiple of what all indices are multiplied by?"""
    step, rest = 0, constant(0)
    for subscript, sign in ((one, 1), (other, -1)):
        for monomial, coefficient in polynomial(subscript).items():
            if any(walk.indices_of(atom) or any(walk.reads(atom)) for atom in monomial):
                step = gcd(step, coefficient)
            else:
                rest = add(rest, {monomial: coefficient}, sign)
    apart = constant_value(rest)
    return apart is not None and apart % step != 0 if step else bool(apart)


def _both_reduce(line: Line, earlier: Line, index: str) -> bool:
    """Do both update one tensor, over the index? Updates commute, unless one stores.

    The first to write only starts where the loops begin that reduce it, which then are those of both.
    """
    if Reduction.SET in (line.statement.reduction, earlier.statement.reduction):
        return False
    if index not in line.reduced or index not in earlier.reduced:
        return False
    alike = line.target == earlier.target and line.reduced == earlier.reduced
    return alike or not earlier.first
