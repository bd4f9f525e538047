"""Random sizes, constants and inputs that several programs can be run on together.

The programs share their inputs and results by name; each has its own names of extents. An axis of a
shared tensor has the same extent in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Equality, Facts
from loopgrad.analysis.fitting import ANY, Interval, covered, fitting
from loopgrad.ir.nodes import Expression, Extent
from loopgrad.ir.walk import subexpressions
from loopgrad.simplify.numbers.decimals import Reals, decimal
from loopgrad.simplify.numbers.evaluate import Known, Tensor, integer, shape_of
from loopgrad.simplify.numbers.fields import Residues
from loopgrad.simplify.numbers.integer_arithmetic import Undefined
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.numbers.spaces import Integers

# How floating inputs are drawn: of both signs, between 0 and 1, above 1; with `zeros`, zeros and small
# integers in places, for kinks and ties.
Kind: TypeAlias = Literal["signed", "unit", "large", "zeros", "far", "far apart"]
KINDS: tuple[Kind, ...] = ("signed", "unit", "zeros", "large")
RANGES = {
    "signed": (-2.0, 2.0),
    "unit": (0.05, 0.95),
    "large": (1.1, 4.0),
    "zeros": (-2.0, 2.0),
    # For questions of rounding: tanh is 1 to more digits than a float has. Some below 0 if "apart".
    "far": (50.0, 200.0),
    "far apart": (50.0, 200.0),
}

ZEROS = 0.3  # the least share of zeros where there are some
ATTEMPTS = 60
CHOICES = 6  # of sizes, of which those are taken that differ most

SECOND = 1  # the number of the program that is to stand for the first
# Extents that the second program alone has are drawn last: the others do not hang on it.
RANK = {0: 0, SECOND: 2, 2: 1}

Variable: TypeAlias = tuple[int, str]  # a program's number, and the extent's name


@dataclass(frozen=True)
class Axis:
    """An axis of a shared tensor, as one of the programs declares it."""

    program: int
    extent: Expression


@dataclass(frozen=True)
class World:
    """How the floating inputs of one world are drawn; the one called `zero` is all zeros.

    near: what about half of the numbers are, and of the integers that subscript nothing.
    """

    kind: Kind
    zero: str | None = None
    near: tuple[Fraction, ...] = ()


class Sizes:
    """The extents of programs that share tensors.

    programs: their facts. shared: for each shared tensor the programs that have it. What the second
    program asks of extents beyond its header (its loops take two for one) is not made to hold:
    `accepts` says whether it does.
    """

    def __init__(self, programs: Sequence[Facts], shared: Mapping[str, Sequence[int]]):
        self.programs = programs
        self.parents: dict[Variable, Variable] = {}
        self.formulas: list[tuple[Axis, Axis]] = []
        self.axes: dict[Axis, None] = {}
        self.asked: list[Equality] = []
        for number, facts in enumerate(programs):
            for name in facts.extents:
                self.parents.setdefault((number, name), (number, name))
            for equality in facts.equalities:
                if number == SECOND and _names(equality.left, equality.right) <= self._given(
                    shared
                ):
                    self.asked.append(equality)
                    continue
                self._equal(Axis(number, equality.left), Axis(number, equality.right))
            for name, formula in facts.defined.items():
                self._equal(Axis(number, Extent(name)), Axis(number, formula))
            for tensor in facts.tensors.values():
                self.axes.update((Axis(number, extent), None) for extent in tensor.extents)
        for name, holders in shared.items():
            first = holders[0]
            for other in holders[1:]:
                pairs = zip(self._extents(first, name), self._extents(other, name), strict=True)
                for left, right in pairs:
                    self._equal(Axis(first, left), Axis(other, right))
        self._share_sizes()
        roots = sorted({self._find(v) for v in self.parents}, key=_rank)
        self.common = [v for v in roots if v[0] != SECOND]
        self.own = [v for v in roots if v[0] == SECOND]
        self.names = {axis: _names(axis.extent) for axis in self._all_axes()}
        # Axes that nothing says are alike, those of the second program apart.
        axes: dict[object, Axis] = {}
        for axis in self.axes:
            if axis.program != SECOND:
                what: object = axis.extent
                if isinstance(axis.extent, Extent):
                    what = self._find((axis.program, axis.extent.name))[1]
                axes.setdefault(what, axis)
        self.different = tuple(axes.values())

    def _all_axes(self) -> Iterable[Axis]:
        return (*self.axes, *(axis for pair in self.formulas for axis in pair))

    def accepts(self, extents: Mapping[str, int], constants: Known) -> bool:
        """Whether the second program runs at these extents."""
        known = {**extents, **constants}
        return all(integer(e.left, known) == integer(e.right, known) for e in self.asked)

    def _extents(self, program: int, tensor: str) -> tuple[Expression, ...]:
        """As the second program's header says, not yet as its loops do."""
        facts = self.programs[program]
        if program == SECOND:
            declared = {i.name: i.extents for i in facts.program.inputs}
            declared |= {r.name: r.extents for r in facts.program.results}
            if tensor in declared:
                return declared[tensor]
        return facts.tensors[tensor].extents

    def _given(self, shared: Mapping[str, Sequence[int]]) -> set[str]:
        """The second program's names of extents that others know."""
        tensors = [name for name, holders in shared.items() if SECOND in holders]
        return _names(*(e for name in tensors for e in self._extents(SECOND, name)))

    def _share_sizes(self) -> None:
        """`size V` is one thing in all programs."""
        first: dict[str, Variable] = {}
        for number, facts in enumerate(self.programs):
            for size in facts.program.sizes:
                if (number, size.name) in self.parents:
                    known = first.setdefault(size.name, (number, size.name))
                    self._unite((number, size.name), known)

    def _equal(self, left: Axis, right: Axis) -> None:
        match left.extent, right.extent:
            case Extent(a), Extent(b):
                self._unite((left.program, a), (right.program, b))
            case _:
                self.formulas.append((left, right))

    def _unite(self, one: Variable, other: Variable) -> None:
        first, second = sorted((self._find(one), self._find(other)), key=_rank)
        self.parents[second] = first

    def _find(self, variable: Variable) -> Variable:
        while self.parents.setdefault(variable, variable) != variable:
            variable = self.parents[variable]
        return variable

    def draw(
        self,
        rng: np.random.Generator,
        constants: Known,
        small: bool = False,
        every: int | None = None,
        among: Sequence[int] = (),
        empty: bool = False,
        none: str = "",
    ) -> list[dict[str, int]] | None:
        """The extents of each program, most of them distinct; None where none are found.

        every: one value for all of them. among: the values to choose from. empty: axes may be; none:
        the name of an extent that is 0. What the common extents get does not hang on the second
        program, unless that asks something of them.
        """
        # What the first program and the forward call alike is alike, even where nothing says so.
        names = list(dict.fromkeys(name for _, name in self.common))
        few = len(names) < 4
        among = among if every is None else (every,)
        best: tuple[float, dict[Variable, int]] | None = None
        choices = failures = 0
        # Where there is no choice, again only to allow empty axes.
        for attempt in range(ATTEMPTS) if len(among) != 1 else (0, ATTEMPTS):
            if best is not None and attempt > ATTEMPTS // 2:
                break
            largest = (2 if small else 4 + few) + failures // 8
            least = 1 if small or rng.random() < 0.15 else 2
            pool = among or range(least, largest + 1)
            distinct = len(pool) >= len(names) and rng.random() < 0.8
            values = rng.choice(pool, len(names), replace=not distinct).tolist()
            by_name = dict(zip(names, values, strict=True))
            by_name |= {none: 0} if none else {}
            chosen = {v: by_name[v[1]] for v in self.common}
            if self.own:
                more = np.random.default_rng(attempt).choice(pool, len(self.own))
                chosen |= zip(self.own, map(int, more), strict=True)
            if not self._fit(chosen, constants, empty or attempt > ATTEMPTS // 2):
                failures += 1
                continue
            score = self._variety(chosen, constants)
            if best is None or score > best[0]:
                best = score, chosen
            choices += 1
            if score == 1 or choices == CHOICES or small or among:
                break
        if best is None:
            return None
        return [
            {name: best[1][self._find((k, name))] for name in facts.extents}
            for k, facts in enumerate(self.programs)
        ]

    def _variety(self, chosen: Mapping[Variable, int], constants: Known) -> float:
        """1 where all axes differ, as far as they may, and none has extent 1."""
        values = [self._value(axis, chosen, constants) for axis in self.different]
        return (len(set(values)) - values.count(1)) / max(len(values), 1)

    def _value(self, axis: Axis, chosen: Mapping[Variable, int], constants: Known) -> int:
        if isinstance(axis.extent, Extent):
            return chosen[self._find((axis.program, axis.extent.name))]
        names = {n: chosen[self._find((axis.program, n))] for n in self.names[axis]}
        return integer(axis.extent, {**names, **constants})

    def _fit(
        self,
        chosen: dict[Variable, int],
        constants: Known,
        empty: bool,
    ) -> bool:
        """Makes the formulas hold where a bare extent stands on one side; whether all do."""

        def value(axis: Axis) -> int:
            return self._value(axis, chosen, constants)

        def assign() -> None:
            for left, right in self.formulas:
                for to, of in ((left, right), (right, left)):
                    if isinstance(to.extent, Extent):
                        chosen[self._find((to.program, to.extent.name))] = value(of)
                        break

        try:
            for _ in range(2):
                assign()
            return all(value(a) == value(b) for a, b in self.formulas) and all(
                value(axis) >= (0 if empty else 1) for axis in self.axes
            )
        except Undefined:
            return False


def _rank(variable: Variable) -> tuple[int, str]:
    return RANK[variable[0]], variable[1]


def _names(*extents: Expression) -> set[str]:
    return {n.name for e in extents for n in subexpressions(e) if isinstance(n, Extent)}


def turn(attempt: int, kinds: int) -> int:
    """Which of the kinds of world it is the turn of: not the same ones at all even attempts, where
    constants have their defaults."""
    return (attempt + attempt // kinds) % kinds


def draw_constants(
    programs: Iterable[Facts], rng: np.random.Generator, given: bool
) -> dict[str, int | float | Fraction]:
    """A value for each constant: the default where `given`, else another, of the same sign."""
    values: dict[str, int | float | Fraction] = {}
    for facts in programs:
        for constant in facts.program.constants:
            if constant.name in values:
                continue
            if isinstance(constant.value, int):
                sign = -1 if constant.value < 0 else 1
                moved = constant.value + sign * (0 if given else int(rng.integers(1, 3)))
                values[constant.name] = moved
            elif abs(constant.value) == float("inf"):
                values[constant.name] = constant.value
            elif given and constant.value:
                values[constant.name] = Fraction(repr(constant.value))
            else:
                sign = -1 if constant.value < 0 else 1
                values[constant.name] = sign * Fraction(int(rng.integers(100, 1000)), 1000)
    return values


class Inputs:
    """Draws the input tensors of a program.

    among: all programs that use them; an integer is drawn so that it fits where it subscripts. What the
    second program asks counts (if `second` is its number) where the others ask nothing: what is out of
    range in it alone is its fault.
    """

    def __init__(self, among: Sequence[Facts], second: int | None = None):
        self.among = among
        self.second = second
        self.fitting = list(map(fitting, among))
        self.compared: dict[str, dict[Expression, None]] = {}  # with what numbers and constants
        for asked in self.fitting:
            for name, values in asked.compared.items():
                self.compared.setdefault(name, {}).update(dict.fromkeys(values))

    def draw(
        self,
        name: str,
        of: int,
        extents: Sequence[Mapping[str, int]],
        constants: Known,
        lines: Lines,
        rng: np.random.Generator,
        kind: Kind,
        attempt: int,
        given: Mapping[str, Tensor],
    ) -> Tensor:
        """A value for the input `name` of program `of`; of an integer, with each attempt of another
        pattern. given: those drawn before."""
        drawn = self.in_worlds(
            name, of, extents, constants, lines, rng, (World(kind),), attempt, given
        )
        if isinstance(drawn, Numbers):
            return drawn.reshaped(drawn.shape[1:])
        return np.asarray(drawn[0])

    def in_worlds(
        self,
        name: str,
        of: int,
        extents: Sequence[Mapping[str, int]],
        constants: Known,
        lines: Lines,
        rng: np.random.Generator,
        worlds: Sequence[World],
        attempt: int,
        given: Mapping[str, Tensor],
    ) -> Tensor:
        """A value in each world; integers are the same in all. given: those drawn before."""
        facts = self.among[of]
        argument = next(i for i in facts.program.inputs if i.name == name)
        shape = shape_of(facts.tensors[name].extents, {**extents[of], **constants})
        if argument.kind == "bool":
            return _repeated(rng.integers(0, 2, shape), len(worlds))
        if argument.kind == "int":
            asked = self.interval(name, extents, constants, given)
            low, high = (asked or ANY).ends()
            values = _integers(shape, low, high, rng, attempt)
            near = [int(v) for v in worlds[0].near if v.denominator == 1]
            if near and asked is None:
                values = np.where(rng.random(shape) < 0.5, rng.choice(near, shape), values)
            others = [v for v in self._fixed(name, constants) if not low <= v <= high]
            if others and attempt % 2 == 0:
                values = np.where(rng.random(shape) < 0.5, rng.choice(others, shape), values)
            return _repeated(values, len(worlds))
        return random_numbers(lines, name, shape, rng, worlds)

    def _fixed(self, name: str, constants: Known) -> list[int]:
        """The numbers that the integers are compared with."""
        try:
            return [integer(value, constants) for value in self.compared.get(name, ())]
        except (Undefined, KeyError):
            return []

    def interval(
        self,
        name: str,
        extents: Sequence[Mapping[str, int]],
        constants: Known,
        given: Mapping[str, Tensor],
    ) -> Interval | None:
        """What the elements of an integer input have to lie between; None where nothing is asked."""
        drawn = covered(given)
        found: list[Interval] = []
        for number in sorted(range(len(self.among)), key=lambda n: n == self.second):
            if number == self.second and found:
                break
            known = {**extents[number], **constants}
            asked = self.fitting[number].interval(name, known, drawn)
            if asked is not None:
                found.append(asked)
        if not found:
            return None
        low, high = max(a.low for a in found), min(a.high for a in found)
        return Interval(low, high) if low <= high else ANY


def _repeated(values: Integers, worlds: int) -> Integers:
    return np.array(np.broadcast_to(values, (worlds, *values.shape)))


def _integers(
    shape: tuple[int, ...], low: int, high: int, rng: np.random.Generator, attempt: int
) -> Integers:
    """Between the two ends, with some attempts one below too."""
    places = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    match attempt % 6:
        case 0:
            return rng.integers(low, high + 1, shape)
        case 1:  # in order along the last axis, as offsets are
            drawn = rng.integers(low, high + 1, shape)
            return np.sort(drawn, axis=-1) if shape else drawn
        case 2:
            return rng.integers(low - 1, high + 1, shape)
        case 3:
            return np.minimum(low + places, high)
        case 4:
            return low + places - 1
    return np.full(shape, low, np.int64)


def random_numbers(
    lines: Lines,
    name: str,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    worlds: Sequence[World],
) -> Numbers:
    """Random numbers of twelve digits, the residues drawn apart from the reals.

    Where the reals are positive, the residues are squares, so that logs and roots of them exist.
    Worlds that differ in which input is zero get the same numbers for the rest, if there are no residues:
    what is computed of these is computed once.
    """
    whole = (len(worlds), *shape)

    def by_world(values: Sequence[float | bool]) -> NDArray[Any]:
        return np.array(values).reshape(-1, *[1] * len(shape))

    reals: Reals | None = None
    residues: Residues | None = None
    if lines.real:
        low, high = (by_world([RANGES[w.kind][end] for w in worlds]) for end in (0, 1))
        drawn = np.rint(rng.uniform(low, high, whole) * 10.0**12)
        digits = [Decimal(int(v)).scaleb(-12) for v in drawn.flat]
        reals = np.empty(whole, object)
        reals.reshape(-1)[:] = digits
        for world, how in enumerate(worlds):
            if how.kind == "far apart":
                reals[world] *= np.where(rng.random(shape) < 0.5, 1, -1)
        if not lines.exact and any(how.zero is not None for how in worlds):
            reals[:] = reals[:1]
    if lines.exact:
        squares = by_world([w.kind in ("unit", "large") for w in worlds])
        residues = lines.field.random(whole, rng, squares)
    numbers = Numbers(residues, reals)
    for world, how in enumerate(worlds):
        if how.zero == name:
            _set(numbers, world, np.ones(shape, np.bool_), np.zeros(shape, np.int64), lines)
        elif how.near and numbers.reals is not None:
            places = np.flatnonzero(rng.random(shape) < 0.5)
            chosen = [how.near[n] for n in rng.integers(0, len(how.near), len(places))]
            numbers.reals.reshape(len(worlds), -1)[world, places] = list(map(decimal, chosen))
        elif how.kind == "zeros":
            values = np.where(rng.random(shape) < 0.5, 0, rng.integers(-2, 3, shape))
            some = np.asarray(rng.random(shape) < 2 * ZEROS)
            _set(numbers, world, some, values, lines)
    return numbers


def _set(
    numbers: Numbers, world: int, places: NDArray[np.bool_], values: Integers, lines: Lines
) -> None:
    """In one world, small integers in these places."""
    at = np.flatnonzero(places)
    chosen = np.asarray(values).reshape(-1)[at]
    if numbers.reals is not None:
        numbers.reals.reshape(len(numbers.reals), -1)[world, at] = [Decimal(int(n)) for n in chosen]
    if numbers.residues is not None:
        rows, worlds = numbers.residues.shape[:2]
        numbers.residues.reshape(rows, worlds, -1)[:, world, at] = lines.field.integers(chosen)
