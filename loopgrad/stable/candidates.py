"""Which inputs may have something in common that changes nothing: candidates to take it off.

An input that a sum is linear in, where something is subtracted: its mean. One in the exponents of a sum:
its maximum. What stands between, such as a division by a temperature, may be a number only where
nothing is taken off: that is the shift's condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Index, Number, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    ZERO,
    accumulates,
    apply,
    bounds,
    compare,
    conjunction,
    indices_of,
    reads,
    subexpressions,
    substitute,
)

DEEPEST = 3  # tensors between an exponent and an input

By = Literal["max", "mean"]


@dataclass(frozen=True)
class Shift:
    """`tensor - c[subscripts]`, where c is a maximum or a mean over the elements that it is taken off.

    subscripts: in the tensor's own, which are `$0`, `$1`, ...: axes that are kept, and groups such as
    `$1 // K`. extents: of c. where: the condition on which it is taken off, if there is one.
    """

    tensor: str
    subscripts: tuple[Expression, ...]
    extents: tuple[Expression, ...]
    by: By
    where: Expression | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes that are subscripts of their own."""
        return tuple(int(s.name[1:]) for s in self.subscripts if isinstance(s, Index))

    def at(self, subscripts: Sequence[Expression]) -> tuple[Expression, ...]:
        """The constant's subscripts for an element of the tensor."""
        own = {f"${axis}": subscript for axis, subscript in enumerate(subscripts)}
        return tuple(substitute(s, own) for s in self.subscripts)


Divisors = tuple[Expression, ...]
Subscripts = tuple[str, tuple[Expression, ...]]
# Axes of a tensor, of which each is kept, or only the group that an element is in, of how many.
Axes = tuple[tuple[int, tuple[Expression, Expression] | None], ...]


def candidates(facts: Facts) -> list[Shift]:
    """Inputs of which a program forms sums or sums of exponentials, and where it subtracts."""
    return _Candidates(facts).found()


class _Candidates:
    def __init__(self, facts: Facts):
        self.facts = facts
        self.data = {
            i.name
            for i in facts.program.inputs
            if i.differentiable and not i.name.endswith((".grad", ".dot")) and i.extents
        }
        self.subtracted = _subtracted(facts)
        self.statements: dict[str, list[Accumulate]] = {}
        for _, statement in accumulates(facts.program.statements):
            self.statements.setdefault(statement.target.tensor, []).append(statement)

    def found(self) -> list[Shift]:
        found: dict[Subscripts, Shift] = {}
        coarser: dict[Subscripts, Shift] = {}
        for statements in self.statements.values():
            for statement in statements:
                if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
                    continue
                kept = {s.name for s in statement.target.subscripts if isinstance(s, Index)}
                if kept >= {r.index for r in statement.ranges}:
                    continue
                whole = _is_whole(statement, kept)
                for by, read, divisors in self._linear_reads(statement):
                    if by == "max" and not whole:
                        continue  # far below the largest of all a sum of others loses its digits
                    axes = _kept_axes(read, kept)
                    if axes is None:
                        continue
                    groups = self._groups(read, axes, statement)
                    for fewer in (*([groups] if groups else []), *_fewer(axes)):
                        where = _where(read, fewer, divisors, statement)
                        shift = self._shift(read.tensor, fewer, by, where)
                        table = found if len(fewer) >= len(axes) else coarser
                        at = (shift.tensor, shift.subscripts)
                        if by == "max" or at not in table:
                            table[at] = shift
        return [*found.values(), *(s for at, s in coarser.items() if at not in found)]

    def _shift(self, tensor: str, axes: Axes, by: By, where: Expression | None) -> Shift:
        extents = self.facts.tensors[tensor].extents
        subscripts = (Index(f"${axis}") if group is None else group[0] for axis, group in axes)
        sizes = (extents[axis] if group is None else group[1] for axis, group in axes)
        grouped = any(group is not None for _, group in axes)
        return Shift(tensor, tuple(subscripts), tuple(sizes), "max" if grouped else by, where)

    def _groups(self, read: Read, axes: Axes, statement: Accumulate) -> Axes:
        """The axes, and the groups of elements along others, one of which each target sums; none if there
        is no group."""
        kept, found = {axis for axis, _ in axes}, list(axes)
        uppers = {r.index: r.upper for r in statement.ranges}
        sizes = self.facts.tensors[statement.target.tensor].extents
        for target, extent in zip(statement.target.subscripts, sizes, strict=True):
            for axis, subscript in enumerate(read.subscripts):
                group = _group(target, subscript, Index(f"${axis}"), uppers)
                if axis not in kept and group is not None:
                    found.append((axis, (group, extent)))
                    kept.add(axis)
        return tuple(sorted(found, key=lambda f: f[0])) if len(found) > len(axes) else ()

    def _linear_reads(self, statement: Accumulate) -> Iterator[tuple[By, Read, Divisors]]:
        """Reads that the value is linear in, alone ("mean"), and those in its exponentials ("max"), with
        what these are divided by there."""
        if statement.target.tensor in self.subtracted:
            for read in self._summands(statement.value):
                yield "mean", read, ()
        for node in subexpressions(statement.value):
            if isinstance(node, Apply) and node.operation == "exp":
                for read, divisors in self._exponents(node.operands[0], DEEPEST):
                    yield "max", read, divisors

    def _summands(self, value: Expression) -> Iterator[Read]:
        match value:
            case Read(name) if name in self.data:
                yield value
            case Apply("+" | "-" | "neg", operands):
                for operand in operands:
                    yield from self._summands(operand)
            case Apply("*", (left, right)) if self._is_plain(left) != self._is_plain(right):
                yield from self._summands(right if self._is_plain(left) else left)
            case Apply("/", (left, right)) if self._is_plain(right):
                yield from self._summands(left)

    def _exponents(
        self, exponent: Expression, depth: int, divisors: Divisors = ()
    ) -> Iterator[tuple[Read, Divisors]]:
        """The inputs that an exponent is a sum of multiples of, through what is made of them element
        by element; with the tensors that they are divided by."""
        match exponent:
            case Read(name, subscripts):
                if name in self.data:
                    yield exponent, divisors
                elif depth:
                    for statement in self.statements.get(name, ()):
                        own = statement.target.subscripts
                        if not all(isinstance(s, Index) for s in own):
                            continue
                        names = [s.name for s in own if isinstance(s, Index)]
                        binding = dict(zip(names, subscripts, strict=True))
                        value = substitute(statement.value, binding)
                        yield from self._exponents(value, depth - 1, divisors)
            case Apply("+" | "-" | "neg" | "*", operands):
                for operand in operands:
                    yield from self._exponents(operand, depth, divisors)
            case Apply("/", (left, right)):
                more = (right,) if any(True for _ in reads(right)) else ()
                yield from self._exponents(left, depth, (*divisors, *more))

    def _is_plain(self, expression: Expression) -> bool:
        """Is there no floating tensor in it?"""
        tensors = self.facts.tensors
        return all(tensors[r.tensor].element is not ElementType.FLOAT for r in reads(expression))


def _is_whole(statement: Accumulate, kept: set[str]) -> bool:
    """Is each of its sums over all that there is, or over one of groups of equal sizes?"""
    if statement.guard is not None:
        return False
    if any(any(True for _ in reads(s)) for s in statement.target.subscripts):
        return False
    summed = [r for r in statement.ranges if r.index not in kept]
    return not any(indices_of(b) or any(True for _ in reads(b)) for b in bounds(summed))


def _kept_axes(read: Read, kept: set[str]) -> Axes | None:
    """The axes that a sum keeps; None where it keeps all."""
    axes = tuple((a, None) for a, s in enumerate(read.subscripts) if indices_of(s) <= kept)
    return axes if len(axes) < len(read.subscripts) else None


def _fewer(axes: Axes) -> list[Axes]:
    """These axes, all but one of them, and none: what is common to all has fewer places to differ at."""
    but_one = [axes[:k] + axes[k + 1 :] for k in range(len(axes))]
    return list(dict.fromkeys([axes, *but_one, ()]))


def _group(
    target: Expression,
    subscript: Expression,
    axis: Index,
    uppers: Mapping[str, Expression | None],
) -> Expression | None:
    """Which group the element at the subscript is in, where all of a group go to one target:
    `c*G//C` for c, or `g` for `g*K + k` with k < K."""
    match target, subscript:
        case Apply("//"), Index(name) if indices_of(target) == {name}:
            return substitute(target, {name: axis})
        case Index(g), Apply(
            "+", (Apply("*", operands), Index(k)) | (Index(k), Apply("*", operands))
        ):
            for one, size in (operands, operands[::-1]):
                if one == Index(g) and size == uppers.get(k):
                    return apply("//", axis, size)
    return None


def _where(read: Read, kept: Axes, divisors: Divisors, statement: Accumulate) -> Expression | None:
    """Nothing is divided by 0, and the groups that are summed over are all of one size."""
    names: dict[str, Expression] = {
        s.name: Index(f"${axis}")
        for axis, group in kept
        if group is None and isinstance(s := read.subscripts[axis], Index)
    }
    conditions = [
        compare("!=", substitute(divisor, names), Number(0))
        for divisor in divisors
        if indices_of(divisor) <= names.keys()
    ]
    conditions += [compare("==", r, ZERO) for r in _remainders(statement)]
    return conjunction(conditions)


def remainders(facts: Facts) -> list[Expression]:
    """What is 0 where each group of elements that a program sums has as many as the others."""
    each = (_remainders(s) for _, s in accumulates(facts.program.statements))
    return list(dict.fromkeys(r for found in each for r in found))


def _remainders(statement: Accumulate) -> list[Expression]:
    """Of groups of an axis: `C % G` for the group `c*G//C` of c, or `c // (C//G)`; `C % S` for `c // S`."""
    uppers = {r.index: r.upper for r in statement.ranges if r.upper is not None}
    found: list[Expression] = []
    for subscript in statement.target.subscripts:
        match subscript:
            case Apply("//", (Apply("*", (Index(), many)), all_of)) if _is_size(many, all_of):
                found.append(apply("%", all_of, many))
            case Apply("//", (Apply("*", (many, Index())), all_of)) if _is_size(many, all_of):
                found.append(apply("%", all_of, many))
            case Apply("//", (Index(), Apply("//", (all_of, many)))) if _is_size(many, all_of):
                found.append(apply("%", all_of, many))
            case Apply("//", (Index(name), size)) if name in uppers and _is_size(
                uppers[name], size
            ):  # else no size tells: with `i < n` some groups are smaller whatever N is
                found.append(apply("%", uppers[name], size))
    return found


def _is_size(*expressions: Expression) -> bool:
    """Are they made of extents, constants and numbers?"""
    return not any(indices_of(e) or any(True for _ in reads(e)) for e in expressions)


def _subtracted(facts: Facts) -> set[str]:
    """Tensors that are read where something is subtracted."""
    found: set[str] = set()
    for _, statement in accumulates(facts.program.statements):
        minus = statement.reduction is Reduction.SUBTRACT or any(
            isinstance(n, Apply) and n.operation in ("-", "neg")
            for n in subexpressions(statement.value)
        )
        if minus:
            found.update(r.tensor for r in reads(statement.value))
    return found
