"""Runs a program over `Lines`: all iterations of a statement at once, as arrays.

The whole notation: blocks, guards, conditionals, gathers and scatters, every reduction. Integers are
exact. What the reference interpreter refuses while running (subscripts out of range, a tensor read
before it is complete, an integer division by zero) is `Undefined` here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import accumulates
from loopgrad.simplify.fields import UNKNOWN
from loopgrad.simplify.lines import Integers, Lines, Mask, Numbers

# Of an expression: numbers, integers or truth values, of length n, or 1 for all n alike.
Values: TypeAlias = Numbers | Integers | Mask
# Of a tensor: `residues` (rows, *shape) and `reals` (*shape,), or integers (*shape,).
Tensor: TypeAlias = Numbers | Integers

LARGEST_SPACE = 40_000  # iterations of one statement; a certificate is made at small sizes
LARGEST_TENSOR = 400_000  # elements
MOST_STEPS = 20_000  # statements run, those of blocks once for each turn
LARGEST_INTEGER = 2.0**62
LEAST, GREATEST = -(2**63), 2**63 - 1


class Undefined(Exception):
    """The inputs are none that the program can be run on."""


class TooLarge(Exception):
    """The sizes are too large for a check."""


@dataclass(frozen=True)
class Setting:
    """What a run gets: extents, constants, and the tensors that are inputs."""

    extents: Mapping[str, int]
    constants: Mapping[str, int | float | Fraction]
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Space:
    """Iterations: how many, and each index's value in each."""

    count: int
    indices: Mapping[str, Integers]

    def where(self, mask: Mask) -> Space:
        mask = np.broadcast_to(mask, self.count)
        kept = {name: values[mask] for name, values in self.indices.items()}
        return Space(int(np.count_nonzero(mask)), kept)


ONE_TURN = Space(1, {})


def shape_of(
    extents: Sequence[Expression], known: Mapping[str, int | float | Fraction]
) -> tuple[int, ...]:
    """A tensor's shape; Undefined where an extent is negative."""
    shape = tuple(integer(e, known) for e in extents)
    if any(extent < 0 for extent in shape):
        raise Undefined("an extent is negative")
    if prod(shape) > LARGEST_TENSOR:
        raise TooLarge
    return shape


def integer(expression: Expression, known: Mapping[str, int | float | Fraction]) -> int:
    """An integer formula in extents and constants."""
    lines_free = Run(None, {}, Setting({}, known, {}))
    values = lines_free.integers(expression, ONE_TURN)
    return int(values[0])


def evaluate(
    facts: Facts, setting: Setting, lines: Lines, reached: set[int] | None = None
) -> dict[str, Tensor]:
    """Every tensor of the program, inputs included. Raises Undefined or TooLarge.

    reached: gets the `id` of each accumulate that runs at least once.
    """
    known = {**setting.extents, **setting.constants}
    tensors: dict[str, Tensor] = dict(setting.inputs)
    for name, identity in _identities(facts).items():
        shape = shape_of(facts.tensors[name].extents, known)
        if facts.tensors[name].element is ElementType.FLOAT:
            tensors[name] = _filled(lines, identity, shape)
        else:
            tensors[name] = np.full(shape, _whole(identity), np.int64)
    run = Run(lines, tensors, setting)
    for statement in facts.program.statements:
        run.statement(statement, ONE_TURN)
    if reached is not None:
        reached |= run.reached
    return tensors


def _whole(identity: float) -> int:
    """Of integers, the least and the largest stand for the infinities."""
    return int(min(max(identity, LEAST), GREATEST))


def _identities(facts: Facts) -> dict[str, float]:
    """What each computed tensor starts with: the identity of its operation beside `=`."""
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


def _filled(lines: Lines, value: float, shape: tuple[int, ...]) -> Numbers:
    one = lines.number(value)
    residues = np.empty((lines.field.rows, *shape), np.int64)
    residues[...] = one.residues.reshape(-1, *[1] * len(shape))
    reals = np.empty(shape, object)
    reals[...] = one.reals[0]
    return Numbers(residues, reals)


class Run:
    """One run of a program: its tensors, and what was read and written so far.

    `states` as in docs/decisions/0001: an element's last writing step, -1 once it was read.
    Without lines it knows integers alone.
    """

    def __init__(self, lines: Lines | None, tensors: dict[str, Tensor], setting: Setting):
        self._lines = lines
        self.tensors = tensors
        self.setting = setting
        self.known = {**setting.extents, **setting.constants}
        self.step = 0
        self.reached: set[int] = set()
        self.states = {
            name: np.zeros(_shape(tensor), np.int64)
            for name, tensor in tensors.items()
            if name not in setting.inputs
        }

    @property
    def lines(self) -> Lines:
        assert self._lines is not None, "an integer formula"
        return self._lines

    # ------------------------------------------------------------------------------ statements

    def statement(self, statement: Statement, space: Space) -> None:
        match statement:
            case Accumulate(target, reduction, value, ranges, guard):
                self.next_step()
                space = self.nest(ranges, space)
                if guard is not None:
                    space = space.where(self.truth(guard, space))
                if space.count:
                    self.reached.add(id(statement))
                    self.accumulate(target, reduction, value, space)
            case Block(ranges, body):
                self.block(ranges, body, space)
            case _:
                raise AssertionError("calls were unfolded")

    def next_step(self) -> None:
        self.step += 1
        if self.step > MOST_STEPS:
            raise TooLarge

    def block(self, ranges: Sequence[Range], body: Sequence[Statement], space: Space) -> None:
        if not ranges:
            for statement in body:
                self.statement(statement, space)
            return
        r = ranges[0]
        self.next_step()
        assert r.lower is not None and r.upper is not None
        lower, upper = int(self.integers(r.lower, space)[0]), int(self.integers(r.upper, space)[0])
        if upper - lower > LARGEST_SPACE:
            raise TooLarge
        values = range(lower, upper)
        for value in reversed(values) if r.descending else values:
            inner = {**space.indices, r.index: np.array([value], np.int64)}
            self.block(ranges[1:], body, Space(1, inner))

    def nest(self, ranges: Sequence[Range], space: Space) -> Space:
        """The iterations of the loops inside those of `space`, in order."""
        for r in ranges:
            assert r.lower is not None and r.upper is not None
            lower = np.broadcast_to(self.integers(r.lower, space), space.count)
            upper = np.broadcast_to(self.integers(r.upper, space), space.count)
            lengths = np.maximum(upper - lower, 0)
            total = int(lengths.sum())
            if total > LARGEST_SPACE:
                raise TooLarge
            turn = np.repeat(np.arange(space.count), lengths)
            first = np.repeat(np.cumsum(lengths) - lengths, lengths)
            indices = {name: values[turn] for name, values in space.indices.items()}
            indices[r.index] = lower[turn] + np.arange(total) - first
            space = Space(total, indices)
        return space

    def accumulate(
        self, target: Read, reduction: Reduction, value: Expression, space: Space
    ) -> None:
        name = target.tensor
        tensor = self.tensors[name]
        cells = self.cells(target, space)
        new = self.value(value, space)
        self.mark_written(name, cells, reduction)
        shape = _shape(tensor)
        if isinstance(tensor, Numbers):
            rows = self.lines.field.rows
            flat = Numbers(tensor.residues.reshape(rows, tensor.reals.size), tensor.reals.ravel())
            full = self.full(self.numbers(new), space.count)
            self._update(flat, cells, full, reduction)
            self.tensors[name] = Numbers(
                flat.residues.reshape(rows, *shape), flat.reals.reshape(shape)
            )
        else:
            values = np.broadcast_to(self.as_integers(new), space.count)
            INTEGER_UPDATES[reduction](tensor.reshape(-1), cells, values)

    def _update(
        self, flat: Numbers, cells: Integers, values: Numbers, reduction: Reduction
    ) -> None:
        """Combines each element with its values."""
        lines = self.lines
        if reduction in (Reduction.ADD, Reduction.SUBTRACT):
            cells, values = _summed(lines, cells, values)
        combine: Callable[[Numbers, Numbers], Numbers] = {
            Reduction.ADD: lines.add,
            Reduction.SUBTRACT: lines.subtract,
            Reduction.MULTIPLY: lines.multiply,
            Reduction.MAXIMUM: lines.largest,
            Reduction.MINIMUM: lines.smallest,
            Reduction.SET: lambda old, new: new,
        }[reduction]
        for turns in _rounds(cells):
            at = cells[turns]
            old = Numbers(flat.residues[:, at], flat.reals[at])
            new = combine(old, Numbers(values.residues[:, turns], values.reals[turns]))
            flat.residues[:, at] = new.residues
            flat.reals[at] = new.reals

    # ------------------------------------------------------------------------------ completeness

    def mark_written(self, name: str, cells: Integers, reduction: Reduction) -> None:
        states = self.states[name].reshape(-1)
        before = states[cells]
        if (before == -1).any():
            raise Undefined(f"`{name}` is changed after it was read")
        if reduction is Reduction.SET and (before.any() or len(np.unique(cells)) < len(cells)):
            raise Undefined(f"an element of `{name}` is written twice by `=`")
        states[cells] = self.step

    def mark_read(self, name: str, cells: Integers) -> None:
        states = self.states.get(name)
        if states is None:
            return
        flat = states.reshape(-1)
        if (flat[cells] == self.step).any():
            raise Undefined(f"`{name}` is read by the statement that writes it")
        flat[cells] = -1

    # ------------------------------------------------------------------------------ expressions

    def cells(self, place: Read, space: Space) -> Integers:
        """The elements that a read or target means, as places in the flattened tensor."""
        shape = _shape(self.tensors[place.tensor])
        flat = np.zeros(space.count, np.int64)
        for subscript, extent in zip(place.subscripts, shape, strict=True):
            values = self.integers(subscript, space)
            if space.count and ((values < 0) | (values >= extent)).any():
                raise Undefined(f"a subscript of `{place.tensor}` is out of range")
            flat = flat * extent + values
        return flat

    def integers(self, expression: Expression, space: Space) -> Integers:
        return self.as_integers(self.value(expression, space))

    def truth(self, condition: Expression, space: Space) -> Mask:
        value = self.value(condition, space)
        if isinstance(value, Numbers):
            return self.lines.compare("!=", value, self.lines.number(0))
        return np.asarray(value != 0)

    def numbers(self, values: Values) -> Numbers:
        if isinstance(values, Numbers):
            return values
        return self.lines.of_integers(values.astype(np.int64))

    @staticmethod
    def as_integers(values: Values) -> Integers:
        assert not isinstance(values, Numbers), "an integer expression"
        return values.astype(np.int64)

    @staticmethod
    def full(values: Numbers, count: int) -> Numbers:
        return Numbers(
            np.broadcast_to(values.residues, (len(values.residues), count)),
            np.broadcast_to(values.reals, count),
        )

    def value(self, expression: Expression, space: Space) -> Values:
        match expression:
            case Number(int(value)):
                return np.array([value], np.int64)
            case Number(value):
                return self.lines.number(value)
            case Index(name):
                return space.indices[name]
            case Extent(name) | Constant(name):
                known = self.known[name]
                if isinstance(known, int):
                    return np.array([known], np.int64)
                return self.lines.number(known)
            case Read(name):
                return self.read(expression, space)
            case Compare(operators, operands):
                return self.comparison(operators, operands, space)
            case Conditional(condition, then, otherwise):
                return self.conditional(self.truth(condition, space), then, otherwise, space)
            case Apply("and", (left, right)):
                both = Conditional(left, Compare(("!=",), (right, Number(0))), Number(0))
                return self.truth(both, space)
            case Apply("or", (left, right)):
                either = Conditional(left, Number(1), Compare(("!=",), (right, Number(0))))
                return self.truth(either, space)
            case Apply("not", (operand,)):
                return ~self.truth(operand, space)
            case Apply(operation, operands):
                return self.apply(operation, operands, space)
        raise AssertionError("reductions were unfolded")

    def read(self, read: Read, space: Space) -> Values:
        cells = self.cells(read, space)
        self.mark_read(read.tensor, cells)
        tensor = self.tensors[read.tensor]
        if isinstance(tensor, Numbers):
            flat = tensor.residues.reshape(len(tensor.residues), tensor.reals.size)
            return Numbers(flat[:, cells], tensor.reals.reshape(-1)[cells])
        return tensor.reshape(-1)[cells]

    def conditional(
        self, mask: Mask, then: Expression, otherwise: Expression, space: Space
    ) -> Values:
        """Each branch where it is taken; also where nowhere, for the sake of its type."""
        mask = np.broadcast_to(mask, space.count)
        yes = self.value(then, space.where(mask))
        no = self.value(otherwise, space.where(~mask))
        if not isinstance(yes, Numbers) and not isinstance(no, Numbers):
            whole = np.empty(space.count, np.int64)
            whole[mask], whole[~mask] = yes, no
            return whole
        yes, no = self.numbers(yes), self.numbers(no)
        residues = np.empty((self.lines.field.rows, space.count), np.int64)
        reals = np.empty(space.count, object)
        residues[:, mask], residues[:, ~mask] = yes.residues, no.residues
        reals[mask], reals[~mask] = yes.reals, no.reals
        return Numbers(residues, reals)

    def comparison(
        self, operators: Sequence[str], operands: Sequence[Expression], space: Space
    ) -> Mask:
        """A chain, each link only where those before it hold."""
        left, right = self.value(operands[0], space), self.value(operands[1], space)
        if isinstance(left, Numbers) or isinstance(right, Numbers):
            first = self.lines.compare(operators[0], self.numbers(left), self.numbers(right))
        else:
            first = COMPARE[operators[0]](left.astype(np.int64), right.astype(np.int64))
        if len(operators) == 1:
            return first
        result = np.array(np.broadcast_to(first, space.count))
        result[result] = self.comparison(operators[1:], operands[1:], space.where(result))
        return result

    def apply(self, operation: str, operands: Sequence[Expression], space: Space) -> Values:
        if operation == "pi":
            return self.lines.pi()
        values = [self.value(operand, space) for operand in operands]
        if operation == "**":
            return self.power(values[0], values[1], operands[1])
        whole = [v for v in values if not isinstance(v, Numbers)]
        exact = INTEGER.get(operation)
        if exact is not None and len(whole) == len(values):
            return exact(*(v.astype(np.int64) for v in whole))
        reals = [self.numbers(v) for v in values]
        lines = self.lines
        match operation:
            case "+":
                return lines.add(*reals)
            case "-":
                return lines.subtract(*reals)
            case "*":
                return lines.multiply(*reals)
            case "/":
                return lines.divide(*reals)
            case "neg":
                return lines.negate(*reals)
            case "max":
                return lines.largest(*reals)
            case "min":
                return lines.smallest(*reals)
            case "floor":
                floor = lines.floor(reals[0])
                if floor is None:
                    raise Undefined("floor of a number that is not finite")
                return floor
        return lines.function(operation, reals[0])

    def power(self, base: Values, exponent: Values, written: Expression) -> Values:
        if not isinstance(exponent, Numbers):
            exponents = exponent.astype(np.int64)
            if isinstance(base, Numbers):
                return self.lines.integer_power(base, exponents)
            return _integer_power(base.astype(np.int64), exponents)
        rational = self.rational(written)
        if rational is not None:
            return self.lines.rational_power(self.numbers(base), rational)
        return self.lines.power(self.numbers(base), exponent)

    def rational(self, expression: Expression) -> Fraction | None:
        """The exact value of a formula in literals, extents and constants; None of any other."""
        match expression:
            case Number(value):
                return Fraction(repr(value)) if abs(value) != float("inf") else None
            case Extent(name) | Constant(name) if abs(self.known[name]) != float("inf"):
                return Fraction(self.known[name])
            case Apply("neg" | "+" | "-" | "*" | "/" as operation, operands):
                values = [self.rational(operand) for operand in operands]
                found = [v for v in values if v is not None]
                if len(found) < len(values) or (operation == "/" and not found[1]):
                    return None
                if operation == "neg":
                    return -found[0]
                return RATIONAL[operation](found[0], found[1])
        return None


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tensor.reals.shape if isinstance(tensor, Numbers) else tensor.shape


def _summed(lines: Lines, cells: Integers, values: Numbers) -> tuple[Integers, Numbers]:
    """Each element once, with the sum of its values."""
    order, starts = _groups(cells)
    if len(starts) == len(cells):
        return cells, values
    residues = values.residues[:, order]
    sums = np.add.reduceat(residues, starts, axis=1) % lines.field.modulus
    sums[np.minimum.reduceat(residues, starts, axis=1) < 0] = UNKNOWN
    return cells[order][starts], Numbers(sums, np.add.reduceat(values.reals[order], starts))


def _groups(cells: Integers) -> tuple[Integers, Integers]:
    """The iterations sorted by element, and where each element's begin among them."""
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    return order, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _rounds(cells: Integers) -> list[NDArray[np.int64]]:
    """The iterations in rounds, in order, each of which meets an element at most once."""
    order, starts = _groups(cells)
    if len(starts) == len(cells):
        return [np.arange(len(cells))]
    turn = np.arange(len(cells)) - np.repeat(starts, np.diff(np.r_[starts, len(cells)]))
    return [order[turn == k] for k in range(int(turn.max()) + 1)]


# -------------------------------------------------------------------------------- exact integers

COMPARE: dict[str, Callable[[Integers, Integers], Mask]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

RATIONAL: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _fitting(estimate: NDArray[np.float64]) -> None:
    if estimate.size and float(np.abs(estimate).max()) > LARGEST_INTEGER:
        raise Undefined("an integer gets too large")


def _exact(function: Callable[[Integers, Integers], Integers]) -> Callable[..., Integers]:
    """The operation, refused where a result may not fit."""

    def checked(a: Integers, b: Integers) -> Integers:
        _fitting(function(a.astype(np.float64), b.astype(np.float64)))  # type: ignore[arg-type]
        return function(a, b)

    return checked


def _divided(function: Callable[[Integers, Integers], Integers]) -> Callable[..., Integers]:
    def checked(a: Integers, b: Integers) -> Integers:
        if (b == 0).any():
            raise Undefined("an integer is divided by zero")
        return function(a, b)

    return checked


def _integer_power(base: Integers, exponent: Integers) -> Integers:
    if (exponent < 0).any():
        raise Undefined("an integer to a negative power")
    with np.errstate(over="ignore"):
        _fitting(base.astype(np.float64) ** exponent.astype(np.float64))
    return np.asarray(base**exponent)


INTEGER: dict[str, Callable[..., Integers]] = {
    "+": _exact(operator.add),
    "-": _exact(operator.sub),
    "*": _exact(operator.mul),
    "//": _divided(operator.floordiv),
    "%": _divided(operator.mod),
    "neg": operator.neg,
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "sign": np.sign,
    "relu": lambda a: np.maximum(a, 0),
    "stop_gradient": lambda a: a,
    "floor": lambda a: a,
}


def _setting(array: Integers, cells: Integers, values: Integers) -> None:
    array[cells] = values


INTEGER_UPDATES: dict[Reduction, Callable[[Integers, Integers, Integers], None]] = {
    Reduction.ADD: np.add.at,
    Reduction.SUBTRACT: np.subtract.at,
    Reduction.MULTIPLY: np.multiply.at,
    Reduction.MAXIMUM: np.maximum.at,
    Reduction.MINIMUM: np.minimum.at,
    Reduction.SET: _setting,
}
