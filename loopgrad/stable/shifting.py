"""Inputs less what is common to them: where f(x + c) = f(x), f is computed of x minus its mean.

A `Shift` names an input and the axes that a constant may hang on that is added to it. Whether the
results stay as they are is asked of the program itself: it is run with and without constants, in
decimals. A result may also move by a multiple of the constant, as a log of a sum of exponentials does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Index,
    Input,
    Local,
    Program,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    accumulates,
    apply,
    children,
    fresh_name,
    indices_of,
    map_statement,
    names_in,
    number,
    reads,
    rebuild,
    rename_tensors,
    subexpressions,
    substitute,
)
from loopgrad.simplify.evaluate import (
    Prepared,
    Setting,
    Tensor,
    TooLarge,
    Undefined,
    computed,
    shape_of,
)
from loopgrad.simplify.lines import Lines, Numbers
from loopgrad.simplify.spaces import worlds
from loopgrad.stable.forms import Linear
from loopgrad.stable.loops import loops_over
from loopgrad.stable.reader import Top, finite

if TYPE_CHECKING:
    from loopgrad.stable.gate import Case

PAIRED = (0, 0, 1, 1, 2, 2)  # worlds whose inputs are run without and with a constant
EQUAL = Decimal("1e-20")
NO_DIFFERENCE = Decimal("1e-35")  # rounding, where numbers near 1 cancel
LARGEST_MULTIPLE = 4

DEEPEST = 3  # tensors between an exponent and an input

By = Literal["max", "mean"]


@dataclass(frozen=True)
class Shift:
    """`tensor - c[kept axes]`, where c is a maximum or a mean over the other axes."""

    tensor: str
    kept: tuple[int, ...]
    by: By


# --------------------------------------------------------------------------------- candidates


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
        found: dict[tuple[str, tuple[int, ...]], By] = {}
        for statements in self.statements.values():
            for statement in statements:
                if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
                    continue
                kept = {s.name for s in statement.target.subscripts if isinstance(s, Index)}
                if kept >= {r.index for r in statement.ranges}:
                    continue
                for by, read in self._linear_reads(statement):
                    axes = _kept_axes(read, kept)
                    if axes is not None and (by == "max" or (read.tensor, axes) not in found):
                        found[read.tensor, axes] = by
        return [Shift(tensor, axes, by) for (tensor, axes), by in found.items()]

    def _linear_reads(self, statement: Accumulate) -> Iterator[tuple[By, Read]]:
        """Reads that the value is linear in, alone ("mean"), and those in its exponentials ("max")."""
        if statement.target.tensor in self.subtracted:
            for read in self._summands(statement.value):
                yield "mean", read
        for node in subexpressions(statement.value):
            if isinstance(node, Apply) and node.operation == "exp":
                for read in self._exponents(node.operands[0], DEEPEST):
                    yield "max", read

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

    def _exponents(self, exponent: Expression, depth: int) -> Iterator[Read]:
        """The inputs that an exponent is a sum of multiples of, through what is made of them element
        by element."""
        match exponent:
            case Read(name, subscripts):
                if name in self.data:
                    yield exponent
                elif depth:
                    for statement in self.statements.get(name, ()):
                        own = statement.target.subscripts
                        if not all(isinstance(s, Index) for s in own):
                            continue
                        names = [s.name for s in own if isinstance(s, Index)]
                        binding = dict(zip(names, subscripts, strict=True))
                        value = substitute(statement.value, binding)
                        yield from self._exponents(value, depth - 1)
            case Apply("+" | "-" | "neg" | "*", operands):
                for operand in operands:
                    yield from self._exponents(operand, depth)
            case Apply("/", (left, _)):
                yield from self._exponents(left, depth)

    def _is_plain(self, expression: Expression) -> bool:
        """Is there no floating tensor in it?"""
        tensors = self.facts.tensors
        return all(tensors[r.tensor].element is not ElementType.FLOAT for r in reads(expression))


def _kept_axes(read: Read, kept: set[str]) -> tuple[int, ...] | None:
    """The axes that a sum keeps; None where it keeps all, or where one that it does not has a subscript
    that is no index."""
    axes: list[int] = []
    gone: set[str] = set()
    for axis, subscript in enumerate(read.subscripts):
        if indices_of(subscript) <= kept:
            axes.append(axis)
        elif isinstance(subscript, Index) and subscript.name not in gone:
            gone.add(subscript.name)
        else:
            return None
    return tuple(axes) if gone else None


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


# ------------------------------------------------------------------------------------ programs


@dataclass(frozen=True)
class Shifted:
    """The program that reads the input less a constant, which is an input of its own, `c`."""

    facts: Facts
    shift: Shift
    constant: str  # its name
    statements: tuple[Statement, ...]

    def open(self) -> Program:
        """The program in which the constant is given."""
        program = self.facts.program
        extents = self.facts.tensors[self.shift.tensor].extents
        kept = tuple(extents[axis] for axis in self.shift.kept)
        return replace(
            program,
            arguments=(Input(self.constant, kept), *program.arguments),
            statements=self.statements,
            primal=None,
        )

    def closed(self, moved: Mapping[str, Moved]) -> Program:
        """The program that computes the constant, and what its results are without it."""
        program, shift = self.facts.program, self.shift
        taken = names_in(program) | {self.constant}
        raw = fresh_name(f"{shift.tensor}.{shift.by}", taken)
        taken.add(raw)
        stored: dict[str, str] = {}
        for name, how in moved.items():
            if how.multiple:
                new = name + "'"
                while new in taken:
                    new += "'"
                taken.add(new)
                stored[name] = new
        statements = [*self._constant(raw), *(_renamed(s, stored) for s in self.statements)]
        for name, new in stored.items():
            statements += self._restored(name, new, moved[name])
        extents = self.facts.tensors[shift.tensor].extents
        kept = tuple(extents[axis] for axis in shift.kept)
        locals_ = [*program.locals, Local(raw, kept), Local(self.constant, kept)]
        declared = {local.name for local in program.locals}
        for name, tensor in self.facts.tensors.items():
            if name in stored:
                locals_.append(Local(stored[name], tensor.extents))
            elif tensor.role == "temporary" and name not in declared:
                locals_.append(Local(name, tensor.extents, tensor.element))
        return replace(program, statements=tuple(statements), locals=tuple(locals_))

    def _constant(self, raw: str) -> Iterator[Statement]:
        """The maximum or the mean, or 0 where that is no finite number."""
        shift = self.shift
        extents = self.facts.tensors[shift.tensor].extents
        ranges = loops_over(self.facts, extents)
        subscripts = tuple(Index(r.index) for r in ranges)
        kept = tuple(subscripts[axis] for axis in shift.kept)
        value: Expression = Read(shift.tensor, subscripts)
        if shift.by == "mean":
            count: Expression | None = None
            for axis, extent in enumerate(extents):
                if axis not in shift.kept:
                    count = extent if count is None else apply("*", count, extent)
            assert count is not None
            value = apply("/", value, count)
        reduction = Reduction.MAXIMUM if shift.by == "max" else Reduction.ADD
        yield Accumulate(Read(raw, kept), reduction, value, ranges)
        found = Read(raw, kept)
        yield Accumulate(
            Read(self.constant, kept),
            Reduction.SET,
            finite(found),
            tuple(ranges[axis] for axis in shift.kept),
        )

    def _restored(self, name: str, stored: str, how: Moved) -> Iterator[Accumulate]:
        ranges = loops_over(self.facts, self.facts.tensors[name].extents)
        subscripts = tuple(Index(r.index) for r in ranges)
        extents = self.facts.tensors[self.shift.tensor].extents
        kept = [extents[axis] for axis in self.shift.kept]
        own = loops_over(self.facts, kept, {r.index for r in ranges})
        at: list[Expression] = [
            Index(r.index) if axis is None else subscripts[axis]
            for r, axis in zip(own, how.axes, strict=True)
        ]
        constant: Expression = Read(self.constant, tuple(at))
        if abs(how.multiple) != 1:
            constant = apply("*", number(_plain(abs(how.multiple))), constant)
        target = Read(name, subscripts)
        value: Expression = Read(stored, subscripts)
        if how.kind == "multiplies":
            exponent = constant if how.multiple > 0 else apply("neg", constant)
            value = apply("*", value, apply("exp", exponent))
        yield Accumulate(target, Reduction.SET, value, ranges)
        if how.kind == "adds":
            reduction = Reduction.ADD if how.multiple > 0 else Reduction.SUBTRACT
            summed = (r for r, axis in zip(own, how.axes, strict=True) if axis is None)
            yield Accumulate(target, reduction, constant, (*ranges, *summed))

    def top(self) -> Top | None:
        """The maximum taken off, as scaling knows it."""
        if self.shift.by != "max":
            return None
        rank = len(self.facts.tensors[self.shift.tensor].extents)
        whole: list[Expression] = [Index(f"$x{axis}") for axis in range(rank)]
        argument: Linear = {Read(self.shift.tensor, tuple(whole)): Fraction(1)}
        return Top(argument, Read(self.constant, tuple(whole[axis] for axis in self.shift.kept)))


def _plain(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _renamed(statement: Statement, names: Mapping[str, str]) -> Statement:
    if not names:
        return statement
    changed = map_statement(statement, lambda e: rename_tensors(e, names))
    return _retargeted(changed, names)


def _retargeted(statement: Statement, names: Mapping[str, str]) -> Statement:
    if isinstance(statement, Accumulate):
        target = statement.target
        new = names.get(target.tensor, target.tensor)
        return replace(statement, target=Read(new, target.subscripts, target.span))
    body = tuple(_retargeted(s, names) for s in statement.body)  # type: ignore[union-attr]
    return replace(statement, body=body)  # type: ignore[arg-type]


def shifted(facts: Facts, shift: Shift) -> Shifted:
    """The program with every read of the input less the constant."""
    constant = fresh_name(f"{shift.tensor}.shift", names_in(facts.program))

    def change(node: Expression) -> Expression:
        node = rebuild(node, change) if children(node) else node
        if isinstance(node, Read) and node.tensor == shift.tensor:
            kept = tuple(node.subscripts[axis] for axis in shift.kept)
            return apply("-", node, Read(constant, kept))
        return node

    statements = tuple(map_statement(s, change) for s in facts.program.statements)
    return Shifted(facts, shift, constant, statements)


# ---------------------------------------------------------------------------------- invariance


@dataclass(frozen=True)
class Moved:
    """What becomes of a result when x is less c: less multiple * c, or divided by exp(multiple * c).

    axes: for each axis of the constant, that of the result; None where it is summed over.
    """

    kind: Literal["adds", "multiplies"]
    multiple: Fraction
    axes: tuple[int | None, ...] = ()


STILL = Moved("adds", Fraction(0))


def moves(candidate: Shifted, case: Case, rng: np.random.Generator) -> dict[str, Moved] | None:
    """What a constant does to each result, in a case; None where that is nothing simple.

    At other sizes it may do something else: whether it does, the certificate says.
    """
    opened = infer(candidate.open())
    extents, constants, inputs = case.extents, case.constants, case.inputs
    kept = shape_of(opened.tensors[candidate.constant].extents, {**extents, **constants})
    drawn = np.round(rng.uniform(-2, 2, (len(PAIRED), *kept)), 6)
    drawn[::2] = 0
    reals = np.empty(drawn.shape, object)
    reals.reshape(-1)[:] = [Decimal(repr(float(v))) for v in drawn.flat]
    given = {i.name: inputs[i.name][list(PAIRED)] for i in candidate.facts.program.inputs}
    given[candidate.constant] = Numbers(None, reals)
    try:
        found = computed(
            Prepared(opened), Setting(extents, constants, given), Lines(None), worlds(len(PAIRED))
        )
    except (Undefined, TooLarge):
        return None
    result: dict[str, Moved] = {}
    for r in opened.program.results:
        tensor = found[r.name]
        own = opened.tensors[r.name].extents
        how = _move(tensor, own, reals, opened.tensors[candidate.constant].extents)
        if how is None:
            return None
        result[r.name] = how
    return result


def _move(
    tensor: Tensor,
    own: Sequence[Expression],
    constant: NDArray[Any],
    kept: Sequence[Expression],
) -> Moved | None:
    if not isinstance(tensor, Numbers):
        return STILL if np.array_equal(tensor[::2], tensor[1::2]) else None
    assert tensor.reals is not None
    whole = tensor.reals[::2].shape
    before: list[Decimal] = list(tensor.reals[::2].flat)  # type: ignore[arg-type]
    after: list[Decimal] = list(tensor.reals[1::2].flat)  # type: ignore[arg-type]
    numbers = [(x, y) for x, y in zip(before, after, strict=True) if x.is_finite()]
    scale = max((abs(x) for x, _ in numbers), default=Decimal(0))
    if not numbers:
        return None
    if all(y.is_finite() and abs(x - y) <= max(EQUAL * scale, NO_DIFFERENCE) for x, y in numbers):
        return STILL
    axes = _embedded(kept, own)
    summed = tuple(1 + axis for axis, at in enumerate(axes) if at is None)
    constants = np.add.reduce(constant[1::2], axis=summed) if summed else constant[1::2]
    shape = [len(constants), *(1 for _ in own)]
    places = [at for at in axes if at is not None]
    for at, size in zip(places, constants.shape[1:], strict=True):
        shape[1 + at] = size
    added: list[Decimal] = list(np.broadcast_to(constants.reshape(shape), whole).flat)
    ratio = _ratio([(x - y, c) for x, y, c in zip(before, after, added, strict=True)])
    if ratio is not None:
        return Moved("adds", ratio, axes)
    if not summed and all(x > 0 and y > 0 for x, y in zip(before, after, strict=True)):
        logs = [((x / y).ln(), c) for x, y, c in zip(before, after, added, strict=True)]
        ratio = _ratio(logs)
        if ratio is not None:
            return Moved("multiplies", ratio, axes)
    return None


def _ratio(pairs: Sequence[tuple[Decimal, Decimal]]) -> Fraction | None:
    """The simple number that the first of each pair is of the second."""
    if any(not a.is_finite() or not c for a, c in pairs) or not pairs:
        return None
    a, c = pairs[0]
    simple = Fraction(float(a / c)).limit_denominator(LARGEST_MULTIPLE)
    if not simple or abs(simple) > LARGEST_MULTIPLE:
        return None
    exact = Decimal(simple.numerator) / Decimal(simple.denominator)
    if all(abs(a - exact * c) <= EQUAL * max(abs(c), Decimal(1)) for a, c in pairs):
        return simple
    return None


def _embedded(kept: Sequence[Expression], own: Sequence[Expression]) -> tuple[int | None, ...]:
    """For each of the constant's axes that of a tensor that is it, in order; None where there is none."""
    found: list[int | None] = []
    start = 0
    for extent in kept:
        at = next((a for a in range(start, len(own)) if own[a] == extent), None)
        found.append(at)
        start = start if at is None else at + 1
    return tuple(found)
