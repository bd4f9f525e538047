"""Runs a program over `Lines`: all iterations of a statement, in all worlds, at once.

The whole notation: blocks, guards, conditionals, gathers and scatters, every reduction. Integers are
exact. What the reference interpreter refuses while running (subscripts out of range, a tensor read
before it is complete, an integer division by zero) is `Undefined` here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.memo import once_per_program
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import accumulates, all_statements, statement_reads
from loopgrad.simplify.numbers.alike import Alike, definitions
from loopgrad.simplify.numbers.alike import Reached as Reached
from loopgrad.simplify.numbers.integer_arithmetic import UPDATES
from loopgrad.simplify.numbers.integer_arithmetic import Undefined as Undefined
from loopgrad.simplify.numbers.levels import depth
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.numbers.spaces import WORLD, Integers, Loop, Space, spread, worlds
from loopgrad.simplify.numbers.values import RATIONAL, Expressions, Values, reshaped
from loopgrad.simplify.numbers.values import Known as Known
from loopgrad.simplify.numbers.values import Tensor as Tensor

LARGEST_SPACE = 40_000  # iterations of one statement in one world; sizes are small
LARGEST_RUN = 400_000  # in all worlds
LARGEST_TENSOR = 400_000  # elements, in one world
MOST_STEPS = 20_000  # statements run, those of blocks once for each turn
LEAST, GREATEST = -(2**63), 2**63 - 1
SUMS = (Reduction.ADD, Reduction.SUBTRACT)


class TooLarge(Exception):
    """The sizes are too large for a check."""


@dataclass(frozen=True)
class Setting:
    """What a run gets: extents, constants, and the tensors that are inputs."""

    extents: Mapping[str, int]
    constants: Known
    inputs: Mapping[str, Tensor]


class Prepared:
    """A program, and what its runs ask about it.

    identities: what each computed tensor starts with: the identity of its operation beside `=`.
    definitions: of the tensors that follow from their statements, in order.
    watched: the computed tensors of which the statements' order alone does not say that each
    element is complete before it is read, and written once by `=`.
    """

    def __init__(self, facts: Facts):
        self.facts = facts
        self.identities = _identities(facts)
        self.watched = _watched(facts)
        self.definitions = definitions(facts, self.watched)

    @cached_property
    def levels(self) -> int:
        """Of the chain of finite fields; see `levels.depth`."""
        return depth(self.facts)


def prepared(program: Program) -> Prepared:
    return prepared_of(infer(program))


def prepared_of(facts: Facts) -> Prepared:
    """Found once for a program."""
    return _prepared(facts.program, facts)


@once_per_program
def _prepared(_: Program, facts: Facts) -> Prepared:
    return Prepared(facts)


def shape_of(extents: Sequence[Expression], known: Known) -> tuple[int, ...]:
    """A tensor's shape; Undefined where an extent is negative."""
    shape = tuple([integer(e, known) for e in extents])
    if min(shape, default=0) < 0:
        raise Undefined("an extent is negative")
    if prod(shape) > LARGEST_TENSOR:
        raise TooLarge
    return shape


def integer(expression: Expression, known: Known) -> int:
    """An integer formula in extents and constants."""
    match expression:
        case Number(int(value)):
            return value
        case Extent(name) | Constant(name) if isinstance(known[name], int):
            return int(known[name])
        case Apply("+" | "-" | "*" as operation, (left, right)):
            return int(RATIONAL[operation](integer(left, known), integer(right, known)))
    run = Run(None, {}, Setting({}, known, {}))
    return int(run.integers(expression, ONE_TURN).flat[0])


def evaluate(
    facts: Facts, setting: Setting, lines: Lines, reached: Reached | None = None
) -> dict[str, Tensor]:
    """Every tensor of the program, inputs included. Raises Undefined, TooLarge or NeedsReals.

    reached: gets the accumulates that run.
    """
    inputs = {name: reshaped(t, (1, *t.shape)) for name, t in setting.inputs.items()}
    own = Setting(setting.extents, setting.constants, inputs)
    found = computed(Prepared(facts), own, lines, worlds(1), reached)
    return {name: reshaped(t, t.shape[1:]) for name, t in found.items()}


def computed(
    prepared: Prepared,
    setting: Setting,
    lines: Lines,
    space: Space,
    reached: Reached | None = None,
    alike: Alike | None = None,
) -> dict[str, Tensor]:
    """As `evaluate`, in all worlds of the space.

    alike: what other programs have computed from these inputs, in the same arithmetic.
    """
    facts = prepared.facts
    known = {**setting.extents, **setting.constants}
    tensors = dict(setting.inputs)
    reached = reached or Reached()
    made, numbered = dict[str, Tensor](), dict[str, int]()
    if alike is not None:
        numbered = alike.numbered(prepared.definitions, known, setting.inputs)
        made = alike.taken(prepared.definitions, numbered, reached)
    for name, identity in prepared.identities.items():
        if name in made:
            tensors[name] = made[name]
            continue
        shape = (space.count, *shape_of(facts.tensors[name].extents, known))
        if facts.tensors[name].element is ElementType.FLOAT:
            tensors[name] = lines.filled(identity, shape)
        else:
            tensors[name] = np.full(shape, _whole(identity), np.int64)
    run = Run(lines, tensors, setting, prepared.watched, reached)
    for statement in facts.program.statements:
        if not isinstance(statement, Accumulate) or statement.target.tensor not in made:
            run.statement(statement, space)
    found = {name: reshaped(flat, run.shapes[name]) for name, flat in run.tensors.items()}
    if alike is not None:
        alike.keep(prepared.definitions, numbered, found, reached)
    return found


def _whole(identity: float) -> int:
    """Of integers, the least and the largest stand for the infinities."""
    return int(min(max(identity, LEAST), GREATEST))


def _identities(facts: Facts) -> dict[str, float]:
    identity = {
        Reduction.MULTIPLY: 1.0,
        Reduction.MAXIMUM: float("-inf"),
        Reduction.MINIMUM: float("inf"),
    }
    found: dict[str, float] = {}
    for _, statement in accumulates(facts.program.statements):
        name = statement.target.tensor
        if name not in found or statement.reduction is not Reduction.SET:
            found[name] = identity.get(statement.reduction, 0.0)
    return found


def _watched(facts: Facts) -> frozenset[str]:
    last: dict[str, int] = {}  # the place of the last statement that writes it
    first: dict[str, int] = {}  # and of the first that reads it
    writers: dict[str, int] = {}
    often: set[str] = set()  # may write an element more than once by `=`
    for place, outer in enumerate(facts.program.statements):
        for blocks, statement in accumulates([outer]):
            name = statement.target.tensor
            last[name] = place
            writers[name] = writers.get(name, 0) + 1
            subscripts = {s.name for s in statement.target.subscripts if isinstance(s, Index)}
            once = not blocks and {r.index for r in statement.ranges} <= subscripts
            if statement.reduction is Reduction.SET and not once:
                often.add(name)
        for inner in all_statements([outer]):
            for read in statement_reads(inner):
                first.setdefault(read.tensor, place)
    by_setting = {
        s.target.tensor
        for _, s in accumulates(facts.program.statements)
        if s.reduction is Reduction.SET
    }
    often |= {name for name in by_setting if writers[name] > 1}
    early = {name for name, place in last.items() if first.get(name, place + 1) <= place}
    return frozenset(often | early)


class Run(Expressions):
    """One run of a program: its tensors, flat, and what was read and written so far."""

    def __init__(
        self,
        lines: Lines | None,
        tensors: Mapping[str, Tensor],
        setting: Setting,
        watched: Iterable[str] = (),
        reached: Reached | None = None,
    ):
        known = {**setting.extents, **setting.constants}
        super().__init__(lines, tensors, known, watched, setting.inputs)
        self.reached = reached or Reached()

    # ------------------------------------------------------------------------------ statements

    def statement(self, statement: Statement, space: Space) -> None:
        match statement:
            case Accumulate(target, reduction, value, ranges, guard):
                self.next_step()
                space = self.iterations(ranges, guard, space)
                if space.count:
                    self.reached.ran.add(id(statement))
                    new = self.accumulate(target, reduction, value, space)
                    if reduction not in SUMS or _some(new):
                        self.reached.telling.add(id(statement))
            case Block(ranges, body):
                self.block(ranges, body, space)
            case _:
                raise AssertionError("calls were unfolded")

    def iterations(
        self, ranges: tuple[Range, ...], guard: Expression | None, space: Space
    ) -> Space:
        """Those of the loops inside those of the space, where the guard holds."""

        def find() -> Space:
            found = self.nest(ranges, space)
            if guard is not None and found.count:
                mask = self.truth(guard, found)
                if not mask.all():
                    return found.where(mask)
            return found

        return self.once(space, (*ranges, guard), None, find)

    def next_step(self) -> None:
        self.step += 1
        if self.step > MOST_STEPS:
            raise TooLarge

    def block(self, ranges: Sequence[Range], body: Sequence[Statement], space: Space) -> None:
        """Turn by turn; a turn is that of the worlds whose bounds hold it."""
        if not ranges:
            for statement in body:
                self.statement(statement, space)
            return
        r = ranges[0]
        self.next_step()
        assert r.lower is not None and r.upper is not None
        lower, upper = self.integers(r.lower, space), self.integers(r.upper, space)
        if not space.count:
            return
        first, end = int(lower.min()), int(upper.max())
        if end - first > LARGEST_SPACE:
            raise TooLarge
        values = range(first, end)
        for value in reversed(values) if r.descending else values:
            mask = (lower <= value) & (value < upper)
            if mask.all():
                self.block(ranges[1:], body, space.turn(r.index, value))
            elif mask.any():
                self.block(ranges[1:], body, space.where(mask).at(r.index, value))

    def nest(self, ranges: Sequence[Range], space: Space) -> Space:
        """The iterations of the loops inside those of `space`, in order."""
        loops: list[Loop] = []
        for r in ranges:
            assert r.lower is not None and r.upper is not None
            lower, upper = self.bound(r.lower), self.bound(r.upper)
            if lower is None or upper is None:
                space, loops = space.looped(loops), []
                least, most = self.integers(r.lower, space), self.integers(r.upper, space)
                if least.size != 1 or most.size != 1:
                    space = self.small(space.within(r.index, least, most))
                    continue
                lower, upper = int(least.flat[0]), int(most.flat[0])
            if upper - lower > LARGEST_SPACE:
                raise TooLarge
            loops.append((r.index, lower, upper))
        return self.small(space.looped(loops))

    def small(self, space: Space) -> Space:
        if space.count > LARGEST_RUN:
            raise TooLarge
        return space

    def bound(self, bound: Expression) -> int | None:
        """Where it hangs on no index."""
        match bound:
            case Number(int(value)):
                return value
            case Extent(name) | Constant(name):
                return int(self.known[name])
        return None

    # ------------------------------------------------------------------------------ updates

    def accumulate(
        self, target: Read, reduction: Reduction, value: Expression, space: Space
    ) -> Values:
        """The values, after they were put into the target."""
        name = target.tensor
        tensor = self.tensors[name]
        places = self.cells(target, space)
        new = self.value(value, space)
        self.mark_written(name, places, reduction, space)
        if not isinstance(tensor, Numbers):
            cells = spread(places, space.shape).reshape(-1)
            whole = spread(self.as_integers(new), space.shape).reshape(-1)
            UPDATES[reduction](tensor, cells, whole)
            return new
        values = self.numbers(new)
        sums = reduction in SUMS
        # Loops that the target does not name repeat its cells.
        repeated = [a for a, n in enumerate(places.shape) if n == 1 < space.shape[a]]
        shape = space.shape
        if repeated and sums:
            shape = tuple([1 if a in repeated else n for a, n in enumerate(shape)])
            along = zip(values.shape, space.shape, strict=True)
            whole_axes = [n if a in repeated else m for a, (m, n) in enumerate(along)]
            values = self.lines.total(values.spread(tuple(whole_axes)), tuple(repeated))
            repeated = []
        if not repeated and _named(target, space):
            self._update(tensor, spread(places, shape), values, reduction)
            return new
        beside = self.shapes[name], shape
        groups = self.once(space, target.subscripts, beside, lambda: _groups(places, shape))
        cells, values = groups.cells, values.spread(shape).reshaped((groups.cells.size,))
        if sums:
            if not groups.distinct:
                values = self.lines.grouped(values[groups.order], groups.starts)
            self._update(tensor, groups.each, values, reduction)
            return new
        for turns in _rounds(groups):
            self._update(tensor, cells[turns], values[turns], reduction)
        return new

    def _update(
        self, tensor: Numbers, cells: Integers, values: Numbers, reduction: Reduction
    ) -> None:
        """Combines each of the elements, no two of which are the same, with its value."""
        lines = self.lines
        match reduction:
            case Reduction.ADD:
                values = lines.add(tensor[cells], values)
            case Reduction.SUBTRACT:
                values = lines.subtract(tensor[cells], values)
            case Reduction.MULTIPLY:
                values = lines.multiply(tensor[cells], values)
            case Reduction.MAXIMUM:
                values = lines.largest(tensor[cells], values)
            case Reduction.MINIMUM:
                values = lines.smallest(tensor[cells], values)
        tensor[cells] = values


ONE_TURN = worlds(1)


def _some(values: Values) -> bool:
    """Is any of them not 0, or not known to be?"""
    if not isinstance(values, Numbers):
        return bool(values.any())
    if values.reals is not None:
        return any(values.reals.flat)
    return values.residues is not None and bool(values.residues.any())


def _named(target: Read, space: Space) -> bool:
    """Do the subscripts alone tell the iterations apart, other loops aside?"""
    subscripts = [s.name for s in target.subscripts if isinstance(s, Index)]
    return len(subscripts) == len(target.subscripts) and space.ranges.issuperset(
        (WORLD, *subscripts)
    )


class _Groups(NamedTuple):
    """The elements that iterations change, sorted by element.

    starts: where each element's iterations begin among those in order. each: every element once.
    """

    cells: Integers
    order: Integers
    starts: Integers
    each: Integers

    @property
    def distinct(self) -> bool:
        return len(self.starts) == len(self.cells)


def _groups(places: Integers, shape: tuple[int, ...]) -> _Groups:
    cells = spread(places, shape).reshape(-1)
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    first = np.ones(len(cells), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = first.nonzero()[0]
    each = cells if len(starts) == len(cells) else ordered[starts]
    return _Groups(cells, order, starts, each)


def _rounds(groups: _Groups) -> list[NDArray[np.int64]]:
    """The iterations in rounds, in order, each of which meets an element at most once."""
    starts, count = groups.starts, len(groups.cells)
    if groups.distinct:
        return [np.arange(count)]
    turn = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))
    return [groups.order[turn == k] for k in range(int(turn.max()) + 1)]
