"""Inputs less what is common to them: where f(x + c) = f(x), f is computed of x minus its mean.

`candidates` says which inputs that is tried of, `invariance` what becomes of the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import (
    Accumulate,
    Expression,
    Index,
    Input,
    Local,
    Program,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import (
    apply,
    children,
    fresh_name,
    map_statement,
    names_in,
    number,
    rebuild,
    renamed,
    substitute,
)
from loopgrad.stable.candidates import Shift
from loopgrad.stable.forms import Linear
from loopgrad.stable.invariance import Moved
from loopgrad.stable.loops import loops_over
from loopgrad.stable.reader import Top, finite


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
        return replace(
            program,
            arguments=(Input(self.constant, self.shift.extents), *program.arguments),
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
        statements = [*self._constant(raw), *(renamed(s, stored) for s in self.statements)]
        for name, new in stored.items():
            statements += self._restored(name, new, moved[name])
        made = (Local(raw, shift.extents), Local(self.constant, shift.extents))
        locals_ = [*program.locals, *made]
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
        value: Expression = Read(shift.tensor, subscripts)
        if shift.by == "mean":
            count: Expression | None = None
            for axis, extent in enumerate(extents):
                if axis not in shift.kept:
                    count = extent if count is None else apply("*", count, extent)
            assert count is not None
            value = apply("/", value, count)
        reduction = Reduction.MAXIMUM if shift.by == "max" else Reduction.ADD
        yield Accumulate(Read(raw, shift.at(subscripts)), reduction, value, ranges)
        own = loops_over(self.facts, shift.extents)
        each = tuple(Index(r.index) for r in own)
        where = shift.where
        if where is not None:
            plain = zip(shift.subscripts, each, strict=True)
            where = substitute(where, {s.name: i for s, i in plain if isinstance(s, Index)})
        found = finite(Read(raw, each), where)
        yield Accumulate(Read(self.constant, each), Reduction.SET, found, own)

    def _restored(self, name: str, stored: str, how: Moved) -> Iterator[Accumulate]:
        ranges = loops_over(self.facts, self.facts.tensors[name].extents)
        subscripts = tuple(Index(r.index) for r in ranges)
        own = loops_over(self.facts, self.shift.extents, {r.index for r in ranges})
        at: list[Expression] = [
            Index(r.index) if axis is None else subscripts[axis]
            for r, axis in zip(own, how.axes, strict=True)
        ]
        constant: Expression = Read(self.constant, tuple(at))
        if how.times is not None:
            constant = apply("*", how.times, constant)
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
        if self.shift.by != "max" or len(self.shift.kept) < len(self.shift.subscripts):
            return None
        rank = len(self.facts.tensors[self.shift.tensor].extents)
        whole: list[Expression] = [Index(f"$x{axis}") for axis in range(rank)]
        argument: Linear = {Read(self.shift.tensor, tuple(whole)): Fraction(1)}
        return Top(argument, Read(self.constant, self.shift.at(whole)))


def _plain(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def shifted(facts: Facts, shift: Shift) -> Shifted:
    """The program with every read of the input less the constant."""
    constant = fresh_name(f"{shift.tensor}.shift", names_in(facts.program))

    def change(node: Expression) -> Expression:
        node = rebuild(node, change) if children(node) else node
        if isinstance(node, Read) and node.tensor == shift.tensor:
            return apply("-", node, Read(constant, shift.at(node.subscripts)))
        return node

    statements = tuple(map_statement(s, change) for s in facts.program.statements)
    return Shifted(facts, shift, constant, statements)
