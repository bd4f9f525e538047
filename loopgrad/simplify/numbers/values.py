"""Expressions evaluated in all iterations of a statement at once, on both lines.

Elements that are read or written are marked, where a tensor is watched: decision 1 has what of.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from loopgrad.ir.nodes import (
    Apply,
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
)
from loopgrad.ir.walk import bounds, subexpressions
from loopgrad.simplify.numbers.integer_arithmetic import COMPARE, INTEGER, integer_power
from loopgrad.simplify.numbers.integer_arithmetic import Undefined as Undefined
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.numbers.spaces import Integers, Mask, Space

# Of an expression: numbers, integers or truth values, of a shape that broadcasts to the space's.
Values: TypeAlias = Numbers | Integers | Mask
# Of a tensor: numbers or integers of its shape; in a run of several worlds, these are axis 0.
Tensor: TypeAlias = Numbers | Integers
Known: TypeAlias = Mapping[str, int | float | Fraction]
Found = TypeVar("Found")

MOST_REMEMBERED = 256  # in a space


class _Hanging(NamedTuple):
    """The sizes and constants in expressions, and the tensors that they read, each once.

    whole: there are integers alone in them, whatever the tensors and constants are.
    """

    sizes: tuple[str, ...]
    tensors: tuple[str, ...]
    whole: bool


@lru_cache(maxsize=4096)
def _hanging(asked: tuple[Expression | Range | None, ...]) -> _Hanging:
    parts = [part for part in asked if part is not None]
    ranges = [part for part in parts if isinstance(part, Range)]
    expressions = [*bounds(ranges), *(p for p in parts if not isinstance(p, Range))]
    nodes = [node for e in expressions for node in subexpressions(e)]
    return _Hanging(
        tuple(dict.fromkeys(n.name for n in nodes if isinstance(n, Extent | Constant))),
        tuple(dict.fromkeys(n.tensor for n in nodes if isinstance(n, Read))),
        all(map(_is_whole, nodes)),
    )


def _is_whole(node: Expression) -> bool:
    match node:
        case Index() | Extent() | Number(int()) | Compare():
            return True
        case Apply("+" | "-" | "*" | "neg" | "and" | "or" | "not"):
            return True
    return False


def _different(places: Integers, states: Integers) -> int:
    """How many of the places differ. (What NumPy has for it loads a large module when first used.)"""
    found = np.zeros(states.shape, np.bool_)
    found[places] = True
    return int(np.count_nonzero(found))


class Expressions:
    """Expressions over tensors, flat, whose axis 0 is the world's.

    given: tensors that no statement changes, as given; what reads no other is found once in a space.
    `states` as in docs/decisions/0001: an element's last writing step, -1 once it was read; of watched
    tensors. Without lines it knows integers alone.
    """

    def __init__(
        self,
        lines: Lines | None,
        tensors: Mapping[str, Tensor],
        known: Known,
        watched: Iterable[str] = (),
        given: Mapping[str, Tensor] | None = None,
    ):
        self._lines = lines
        self.given = given or {}
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.tensors = {name: reshaped(t, (prod(t.shape),)) for name, t in tensors.items()}
        self.known = known
        self.step = 0
        self.states = {name: np.zeros(prod(self.shapes[name]), np.int64) for name in watched}

    @property
    def lines(self) -> Lines:
        assert self._lines is not None, "an integer formula"
        return self._lines

    # ------------------------------------------------------------------------------ completeness

    def mark_written(self, name: str, places: Integers, reduction: Reduction, space: Space) -> None:
        states = self.states.get(name)
        if states is None:
            return
        before = states[places]
        if (before == -1).any():
            raise Undefined(f"`{name}` is changed after it was read")
        if reduction is Reduction.SET and (
            before.any() or _different(places, states) < space.count
        ):
            raise Undefined(f"an element of `{name}` is written twice by `=`")
        states[places] = self.step

    def mark_read(self, name: str, places: Integers) -> None:
        states = self.states.get(name)
        if states is None:
            return
        if (states[places] == self.step).any():
            raise Undefined(f"`{name}` is read by the statement that writes it")
        states[places] = -1

    # ------------------------------------------------------------------------------ expressions

    def cells(self, place: Read, space: Space) -> Integers:
        """The elements that a read or target means, as places in the flattened tensor."""
        shape = self.shapes[place.tensor]
        return self.once(space, place.subscripts, shape, lambda: self._cells(place, space, shape))

    def once(
        self,
        space: Space,
        asked: tuple[Expression | Range | None, ...],
        beside: object,
        find: Callable[[], Found],
    ) -> Found:
        """What is found of these expressions, and of something beside them, in a space: once, in whichever
        run, where they hang on its indices, on sizes and on given tensors alone."""
        on = _hanging(asked)
        known, given, lines = self.known, self.given, self._lines
        for name in on.tensors:
            if name not in given:
                return find()
        if not (on.whole or lines is None or lines.repeats):
            return find()
        used = [given[name] for name in on.tensors]
        sizes = tuple([known[name] for name in on.sizes])
        key = (type(lines), asked, beside, sizes, tuple(map(id, used)))
        found: tuple[Found, object] | None = space.memory.get(key)
        if found is None:
            found = find(), used  # with the tensors, so that no others get their identities
            if len(space.memory) < MOST_REMEMBERED:
                space.memory[key] = found
        return found[0]

    def _cells(self, place: Read, space: Space, shape: tuple[int, ...]) -> Integers:
        flat = space.world
        for subscript, extent in zip(place.subscripts, shape[1:], strict=True):
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
            return self.lines.compare("!=", value, self.literal(0, space))
        return np.asarray(value != 0)

    def numbers(self, values: Values) -> Numbers:
        if isinstance(values, Numbers):
            return values
        return self.lines.of_integers(values.astype(np.int64))

    @staticmethod
    def as_integers(values: Values) -> Integers:
        assert not isinstance(values, Numbers), "an integer expression"
        return values.astype(np.int64, copy=False)

    def value(self, expression: Expression, space: Space) -> Values:
        match expression:
            case Read(name):
                places = self.cells(expression, space)
                self.mark_read(name, places)
                return self.tensors[name][places]
            case Index(name):
                return space.indices[name]
            case Number(int(value)):
                return _integer(value, space.axes)
            case Number(value):
                return self.literal(value, space)
            case Extent(name) | Constant(name):
                known = self.known[name]
                if isinstance(known, int):
                    return _integer(known, space.axes)
                return self.literal(known, space)
            case Compare(operators, operands):
                return self.comparison(operators, operands, space)
            case Conditional(condition, then, otherwise):
                return self.conditional(self.truth(condition, space), then, otherwise, space)
            case Apply("and" | "or" as operation, (left, right)):
                first = self.truth(left, space)
                if not first.any() if operation == "and" else first.all():
                    return first
                if first.all() if operation == "and" else not first.any():
                    return self.truth(right, space)
                if _is_total(right):
                    second = self.truth(right, space)
                    return np.asarray(first & second if operation == "and" else first | second)
                return self.value(_lazily(operation, left, right), space)
            case Apply("not", (operand,)):
                return ~self.truth(operand, space)
            case Apply(operation, operands):
                return self.apply(operation, operands, space)
        raise AssertionError("reductions were unfolded")

    def literal(self, value: int | float | Fraction, space: Space) -> Numbers:
        return self.lines.number(value).reshaped((1,) * space.axes)

    def conditional(
        self, mask: Mask, then: Expression, otherwise: Expression, space: Space
    ) -> Values:
        """Each branch where it is taken; also where nowhere, if it says whether the whole is a number."""
        if mask.all():
            every = self.value(then, space)
            if isinstance(every, Numbers):
                return every
        elif not mask.any():
            every = self.value(otherwise, space)
            if isinstance(every, Numbers):
                return every
        yes = self.value(then, space.where(mask))
        no = self.value(otherwise, space.where(~mask))
        taken = ((mask, yes), (~mask, no))
        if not isinstance(yes, Numbers) and not isinstance(no, Numbers):
            whole = np.empty(space.shape, np.int64)
            for where, integers in taken:
                space.put(whole, where, self.as_integers(integers))
            return whole
        yes, no = self.numbers(yes), self.numbers(no)
        result = Numbers(
            np.empty((len(yes.residues), *space.shape), np.int64)
            if yes.residues is not None
            else None,
            np.empty(space.shape, object) if yes.reals is not None else None,
        )
        for where, numbers in ((mask, yes), (~mask, no)):
            if result.residues is not None and numbers.residues is not None:
                space.put(result.residues, where, numbers.residues)
            if result.reals is not None and numbers.reals is not None:
                space.put(result.reals, where, numbers.reals)
        return result

    def comparison(
        self, operators: Sequence[str], operands: Sequence[Expression], space: Space
    ) -> Mask:
        """A chain, each link only where those before it hold."""
        left, right = self.value(operands[0], space), self.value(operands[1], space)
        if isinstance(left, Numbers) or isinstance(right, Numbers):
            first = self.lines.compare(operators[0], self.numbers(left), self.numbers(right))
        else:
            first = COMPARE[operators[0]](self.as_integers(left), self.as_integers(right))
        if len(operators) == 1:
            return first
        if all(map(_is_total, operands[2:])):
            return np.asarray(first & self.comparison(operators[1:], operands[1:], space))
        result = np.zeros(space.shape, np.bool_)
        rest = self.comparison(operators[1:], operands[1:], space.where(first))
        space.put(result, first, rest)
        return result

    def apply(self, operation: str, operands: Sequence[Expression], space: Space) -> Values:
        if operation == "pi":
            return self.lines.pi().reshaped((1,) * space.axes)
        values = [self.value(operand, space) for operand in operands]
        if operation == "**":
            return self.power(values[0], values[1], operands[1])
        exact = INTEGER.get(operation)
        if exact is not None:
            whole = [v for v in values if not isinstance(v, Numbers)]
            if len(whole) == len(values):
                return exact(*map(self.as_integers, whole))
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
            return integer_power(base.astype(np.int64), exponents)
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


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tensor.reshaped(shape) if isinstance(tensor, Numbers) else tensor.reshape(shape)


def _is_total(expression: Expression) -> bool:
    """Has it a value whatever its indices are, which may be computed where nobody asks for it?"""
    match expression:
        case Index() | Extent() | Number():
            return True
        case Apply("+" | "-" | "neg" | "and" | "or" | "not", operands) | Compare(_, operands):
            return all(map(_is_total, operands))
    return False


def _lazily(operation: str, left: Expression, right: Expression) -> Conditional:
    """`and`, `or` as a conditional, whose right side is evaluated where it is needed alone."""
    truth = Compare(("!=",), (right, Number(0)))
    return Conditional(left, *((truth, Number(0)) if operation == "and" else (Number(1), truth)))


RATIONAL: dict[str, Callable[..., Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


@lru_cache(maxsize=1024)
def _integer(value: int, axes: int) -> Integers:
    return np.full((1,) * axes, value, np.int64)
