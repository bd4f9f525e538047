"""Winners of windows that move by one place, and what they spread, in a logarithm of their widths.

    for n < N, d < 5:  w[n] min= d   if x[n+d] == y[n]
    for n < N, d < 5:  x.grad[n+d] += g[n]   if d == w[n]

The maximum of a window is that of two or three smaller ones, which lie side by side, or overlap:

    for p < N+2:  m1[p] = max(x[p], x[p+1], x[p+2])     of three places
    for p < N:    m2[p] = max(m1[p], m1[p+2])           of five

Of two that are equal the first has won. So what a window has to give goes back the same way, step by step,
and nobody asks at which place it arrives:

    for p < N+2:  h[p] = g[p] where p < N and m1[p] >= m1[p+2], and g[p-2] where p >= 2 and m1[p-2] < m1[p]

Along several axes the steps come one after the other, those of the innermost index first: so the first winner
in loop order has it. The places of all axes stand one behind the other, as one axis: then a step is one loop,
without ends of rows. Windows that begin at the end of a row go on in the next one; nobody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.extents import Polynomial, polynomial, to_expression
from loopgrad.analysis.polynomial import add, constant, multiply, negate, scale, subtract
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Compare,
    Conditional,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import Line, covers
from loopgrad.schedule.windows.extrema import (
    NONE,
    ONE,
    Extremum,
    checked,
    extremum_of,
    is_number,
    ranges_of_windows,
    sense,
    spread_conditions,
    without,
)
from loopgrad.schedule.windows.ordinals import Search
from loopgrad.schedule.windows.separating import Window, in_sums, is_plain, is_whole, windows

LOWEST = identity(Reduction.MAXIMUM, ElementType.FLOAT)

FEWEST = 10  # places of a window along all of its axes from which on steps pay


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis that windows move over: `position + window - low`, from 0, says which place it is.

    index: a name for that. places: how many there are. shift: what is added to one where it is read or
    written. stride: how far apart neighbours are, where the places of all axes stand behind each other.
    """

    position: str
    window: str
    low: int
    width: int
    index: str
    places: Polynomial
    shift: Polynomial
    stride: Polynomial

    def steps(self) -> Iterator[tuple[Polynomial, ...]]:
        """Where the windows begin, two or three, that are made one, until it is whole."""
        reached = 1
        while reached < self.width:
            two, three = (min(many * reached, self.width) for many in (2, 3))
            saved = self._doublings(two) - self._doublings(three)
            most = (two if saved < 1 else three) - reached
            begins = (0, most) if saved < 1 else (0, (most + 1) // 2, most)
            yield tuple(scale(self.stride, begin) for begin in begins)
            reached += most

    def _doublings(self, reached: int) -> int:
        """Until a window of so many places is whole, or more."""
        return ((self.width - 1) // reached).bit_length()

    def at(self, place: Expression) -> Expression:
        """The index in the window of which this is the place."""
        first = add(polynomial(place), constant(self.low))
        return to_expression(subtract(first, polynomial(Index(self.position))))


@dataclass(frozen=True, slots=True)
class Level:
    """The maxima of all windows of some size, and how many there are."""

    tensor: str
    count: Polynomial


@dataclass(frozen=True, slots=True)
class Step:
    """Of windows of `narrow` that begin at these distances one of `wide` is made."""

    narrow: Level
    wide: Level
    begins: tuple[Polynomial, ...]


@dataclass(frozen=True, slots=True)
class _Last:
    """Where the places' own are written, if all of `guard` holds. `place`: which place it is."""

    target: Read
    ranges: tuple[Range, ...]
    place: Expression
    guard: tuple[Expression, ...]


# What is added where all conditions hold.
_Part = tuple[tuple[Expression, ...], Expression]


def doubled(lines: tuple[Line, ...], search: Search, context: Context) -> tuple[Line, ...] | None:
    """All lines, with winners found in steps; None where the search is of another kind."""
    first = search.lines[0]
    found = extremum_of(first, context)
    if found is None or first.unproved or first.bounding or not is_whole(first, context):
        return None
    axes = _axes(first, found, search, context)
    if axes is None or sum(axis.width for axis in axes) < FEWEST:
        return None
    return _Doubling(search, found, axes, context).lines(lines)


def _axes(
    first: Line, found: Extremum, search: Search, context: Context
) -> tuple[Axis, ...] | None:
    """Of each index of the search, in its order; None where some windows do not move by one place."""
    reads = walk.reads(found.value)
    known = {w.window: w for read in reads for w in windows(read, first, context)}
    if {*known} != {*search.indices} or len({w.position for w in known.values()}) < len(known):
        return None
    axes: dict[str, Axis] = {}
    stride = constant(1)
    # The last axis of the target is that whose places are neighbours.
    order = [s.name for s in first.target.subscripts if isinstance(s, Index)]
    limits = dict(zip(search.indices, zip(search.lows, search.counts, strict=True), strict=True))
    for index in sorted(search.indices, key=lambda i: -order.index(known[i].position)):
        shift = _shift(known[index])
        if shift is None:
            return None
        low, width = limits[index]
        position = known[index].position
        name = context.name(f"{found.extremum.tensor}.{position}")
        places = add(polynomial(first.bounds[position][1]), constant(width - 1))
        shift = add(shift, constant(low))
        axes[index] = Axis(position, index, low, width, name, places, shift, stride)
        stride = multiply(stride, places, show_expression)
    return tuple(axes[index] for index in search.indices)


def _shift(window: Window) -> Polynomial | None:
    """What is added to position and window; None where either counts more than once."""
    both = add(polynomial(Index(window.position)), polynomial(Index(window.window)))
    rest = subtract(polynomial(window.place), both)
    left = {i for atoms in rest for atom in atoms for i in walk.indices_of(atom)}
    return None if left & window.indices else rest


class _Doubling:
    def __init__(self, search: Search, found: Extremum, axes: tuple[Axis, ...], context: Context):
        self.search = search
        self.found = found
        self.axes = axes
        self.context = context
        self.first = search.lines[0]
        self.place = context.name(f"{found.extremum.tensor}.place")
        self.guard = without(self.first.statement.guard, [found.condition])
        self.own = {i for axis in axes for i in (axis.position, axis.window)}

    def lines(self, lines: Sequence[Line]) -> tuple[Line, ...] | None:
        value = self._value_at_places()
        if value is None:
            return None
        seeing, turn = sense(self.search, self.axes[0].position, self.found, self.context)
        wanted = walk.apply("*", turn, self.found.extremum)
        bottom = self._level(self._places())
        laid_out = self._laid_out(bottom, walk.apply("*", turn, value[0]), value[1])
        steps, climbing = self._climb(bottom)
        lows = laid_out[1] if len(laid_out) > 1 else None
        checking = self._checked(steps[-1].wide, wanted, lows)
        made: list[Line] = []
        for line in lines:
            if line is self.first:
                made += [*seeing, *laid_out, *climbing, *checking]
            elif any(line is other for other in self.search.lines):
                continue
            elif any(one.tensor in self.search.tensors for one in line.read):
                spread = self._spread(line, steps, wanted)
                if spread is None:
                    return None
                made += spread
            else:
                made.append(line)
        return _without_zeros(made, self.context)

    # ------------------------------------------------------------------------------------ maxima

    def _value_at_places(self) -> tuple[Expression, Expression | None] | None:
        """What a place holds, and if it counts; None where more hangs on a window than its places."""
        places = {axis.window: axis.at(Index(axis.index)) for axis in self.axes}
        value = in_sums(walk.substitute(self.found.value, places))
        guard = [in_sums(walk.substitute(c, places)) for c in walk.conjuncts(self.guard)]
        if any(walk.indices_of(e) & self.own for e in (value, *guard)):
            return None
        return value, walk.conjunction(guard)

    def _laid_out(self, level: Level, value: Expression, guard: Expression | None) -> list[Line]:
        """Each place by itself; where some are left out, another line counts the others as low."""
        names = {axis.position: axis for axis in self.axes}
        ranges = tuple(
            Range(names[r.index].index, Number(0), to_expression(names[r.index].places))
            if r.index in names
            else r
            for r in ranges_of_windows(self.search)
        )
        target = self._read(level.tensor, self._behind({a.position: a.index for a in self.axes}))
        low: list[Line] = []
        if guard is not None:
            low = [self._counted("low", ranges, guard, walk.compare("==", value, LOWEST))]
            value = Conditional(guard, value, LOWEST)
        return [Line(Accumulate(target, Reduction.SET, value, ranges), first=True), *low]

    def _climb(self, level: Level) -> tuple[list[Step], list[Line]]:
        """All steps in order, along the axis of the innermost index first, and the lines that make them."""
        steps: list[Step] = []
        lines: list[Line] = []
        for axis in reversed(self.axes):
            for begins in axis.steps():
                wide = self._level(subtract(level.count, begins[-1]))
                lines += self._largest(wide, [self._at(level.tensor, begin) for begin in begins])
                steps.append(Step(level, wide, begins))
                level = wide
        return steps, lines

    def _largest(self, wide: Level, values: Sequence[Read]) -> Iterator[Line]:
        """Of two at a time: a condition in another is computed again for each of its parts."""
        value, *others = values
        for number, other in enumerate(others, 1):
            larger = _larger(value, other)
            last = number == len(others)
            level = wide if last else self._level(wide.count)
            yield self._set(level.tensor, larger, wide.count)
            value = self._at(level.tensor, {})

    def _checked(self, top: Level, wanted: Expression, lows: Line | None) -> list[Line]:
        """What is given has to be the maximum; where places are left out, no other may be as low and win."""
        above = walk.apply("not", walk.compare("<=", self._at_windows(top.tensor), wanted))
        ranges = ranges_of_windows(self.search)
        wrong = self._counted("wrong", ranges, is_number(self.found.extremum), above)
        if lows is None:
            return checked([wrong], wrong.target, self.context)
        lowest = self._counted("lowest", ranges, walk.compare("==", wanted, LOWEST))
        both = walk.apply("*", lows.target, lowest.target)
        count = walk.apply("+", wrong.target, both)
        return checked([wrong, lowest], count, self.context)

    def _counted(self, name: str, ranges: Sequence[Range], *conditions: Expression) -> Line:
        count = Read(self.context.temporary(name, ()), ())
        guard = walk.conjunction(conditions)
        return Line(Accumulate(count, Reduction.ADD, ONE, tuple(ranges), guard), first=True)

    # ------------------------------------------------------------------------------------ spreads

    def _spread(self, line: Line, steps: Sequence[Step], wanted: Expression) -> list[Line] | None:
        """What windows spread, back along the steps; None where the line has more to do with them."""
        rest = spread_conditions(line, self.search) if is_plain(line) else None
        last = self._at_last(line)
        if rest is None or last is None:
            return None
        value = line.statement.value
        inside = frozenset(axis.window for axis in self.axes)
        if any(walk.indices_of(e) & inside for e in (value, *rest)):
            return None
        top = steps[-1].wide
        given = self._gradient(line, top)
        zeros = self._set(given, NONE, top.count)
        won = walk.compare("==", self._at_windows(top.tensor), wanted)
        guard = walk.conjunction([won, *rest])
        ranges = ranges_of_windows(self.search)
        seed = Accumulate(self._at_windows(given), Reduction.ADD, value, ranges, guard)
        made = [zeros, Line(seed)]
        for step in reversed(steps[1:]):
            taken = self._gradient(line, step.narrow)
            parts = [_where(conditions, part) for conditions, part in self._back(step, given)]
            made.append(self._set(taken, _sum(parts), step.narrow.count))
            given = taken
        return [*made, self._stored(line, last, self._back(steps[0], given))]

    def _back(self, step: Step, given: str) -> Sequence[_Part]:
        """What a place of the narrow windows gets of wide ones, as the first in them, and so on."""
        place = polynomial(Index(self.place))
        own = self._at(step.narrow.tensor, {})
        parts: list[_Part] = []
        for number, begin in enumerate(step.begins):
            wide = to_expression(subtract(place, begin))
            there = [walk.compare(">=", wide, Number(0))] if begin else []
            if begin != step.begins[-1]:
                there.append(walk.compare("<", wide, to_expression(step.wide.count)))
            won: list[Expression] = []
            for other, rival in enumerate(step.begins):
                if other != number:
                    against = self._at(step.narrow.tensor, subtract(rival, begin))
                    no_less = walk.compare(">=", own, against)
                    not_first = walk.apply("not", walk.compare(">=", against, own))
                    won.append(no_less if other > number else not_first)
            parts.append(((*there, *won), self._at(given, negate(begin))))
        return parts

    def _at_last(self, line: Line) -> _Last | None:
        """Where the line writes, but for windows; None where it does not, once for each place of one."""
        if {*line.indices} != {*self.first.indices} or line.bounds != self.first.bounds:
            return None
        extents = self.context.tensors[line.written.tensor].extents
        over: dict[str, Range] = {}
        which: dict[str, Expression] = {}
        subscripts = list(line.target.subscripts)
        for axis in self.axes:
            both = add(polynomial(Index(axis.position)), polynomial(Index(axis.window)))
            place = add(subtract(both, constant(axis.low)), axis.shift)
            at = [i for i, subscript in enumerate(subscripts) if polynomial(subscript) == place]
            if len(at) != 1:
                return None
            name = self.context.name(f"{line.written.tensor}.{axis.position}")
            over[axis.position] = Range(name, Number(0), extents[at[0]])
            subscripts[at[0]] = Index(name)
            which[axis.position] = to_expression(subtract(polynomial(Index(name)), axis.shift))
        if any(walk.indices_of(s) & self.own for s in subscripts):
            return None
        places = {axis.window: axis.at(which[axis.position]) for axis in self.axes}
        guard = [in_sums(walk.substitute(c, places)) for c in walk.conjuncts(self.guard)]
        for axis in self.axes:
            own = which[axis.position]
            guard += [walk.compare(">=", own, Number(0))]
            guard += [walk.compare("<", own, to_expression(axis.places))]
        ranges = tuple(over.get(r.index, r) for r in ranges_of_windows(self.search))
        target = Read(line.target.tensor, tuple(subscripts))
        return _Last(target, ranges, self._behind(which), tuple(guard))

    def _stored(self, line: Line, last: _Last, parts: Sequence[_Part]) -> Line:
        places = {self.place: last.place}

        def needed(conditions: Sequence[Expression]) -> list[Expression]:
            there = [in_sums(walk.substitute(c, places)) for c in conditions]
            return [c for c in there if not _always_holds(c, last.ranges)]

        found = [
            _where(needed(conditions), in_sums(walk.substitute(part, places)))
            for conditions, part in parts
        ]
        value = _sum(found)
        guard = walk.conjunction(needed(last.guard))
        statement = replace(
            line.statement, target=last.target, value=value, ranges=last.ranges, guard=guard
        )
        return replace(line, statement=statement)

    # ------------------------------------------------------------------------------------- levels

    def _places(self) -> Polynomial:
        total = constant(1)
        for axis in self.axes:
            total = multiply(total, axis.places, show_expression)
        return total

    def _behind(self, which: Mapping[str, Expression | str]) -> Expression:
        """The place, where those of all axes stand behind each other. `which` it is of each, by position."""
        total: Polynomial = {}
        for axis in self.axes:
            own = which[axis.position]
            own = Index(own) if isinstance(own, str) else own
            total = add(total, multiply(axis.stride, polynomial(own), show_expression))
        return to_expression(total)

    def _level(self, count: Polynomial) -> Level:
        name = f"{self.found.extremum.tensor}.most"
        return Level(self.context.temporary(name, self._extents(count)), count)

    def _gradient(self, line: Line, level: Level) -> str:
        name = f"{line.written.tensor}.part"
        return self.context.temporary(name, self._extents(level.count))

    def _extents(self, count: Polynomial) -> tuple[Expression, ...]:
        extents = self.context.tensors[self.first.target.tensor].extents
        return tuple(
            to_expression(count) if place is None else extents[place] for place in self._kept()
        )

    def _kept(self) -> list[int | None]:
        """The axes of the search's target; None for those of windows, all of them."""
        found: list[int | None] = []
        for i, subscript in enumerate(self.first.target.subscripts):
            if not walk.indices_of(subscript) & self.own:
                found.append(i)
            elif None not in found:
                found.append(None)
        return found

    def _read(self, tensor: str, place: Expression | None = None) -> Read:
        own = place or Index(self.place)
        target = self.first.target
        return Read(tensor, tuple(own if i is None else target.subscripts[i] for i in self._kept()))

    def _at_windows(self, tensor: str) -> Read:
        """Where a window of the search begins."""
        return self._read(tensor, self._behind({a.position: a.position for a in self.axes}))

    def _at(self, tensor: str, distance: Polynomial) -> Read:
        """The element so far behind the place."""
        return self._read(tensor, to_expression(add(polynomial(Index(self.place)), distance)))

    def _set(self, tensor: str, value: Expression, count: Polynomial) -> Line:
        known = {r.index: r for r in ranges_of_windows(self.search)}
        target = self._read(tensor)
        ranges = tuple(
            known.get(s.name, Range(s.name, Number(0), to_expression(count)))
            for s in target.subscripts
            if isinstance(s, Index)
        )
        return Line(Accumulate(target, Reduction.SET, value, ranges), first=True)


def _without_zeros(lines: Sequence[Line], context: Context) -> tuple[Line, ...]:
    """The lines; what is added to zeros, and is all that is, is stored in their place."""
    found = list(lines)
    for line in lines:
        using = [one for one in lines if line.written.tensor in _tensors(one)]
        second = len(using) > 1 and using[1] is line and _is_zeros(using[0])
        whole = _whole(line) if second else None
        others = [one for one in using[2:] if one.written.tensor == line.written.tensor]
        extents = context.tensors[line.written.tensor].extents
        if whole is not None and not others and covers(whole, extents):
            found = [whole if one is line else one for one in found if one is not using[0]]
    return tuple(found)


def _tensors(line: Line) -> set[str]:
    return {line.written.tensor, *(one.tensor for one in line.read)}


def _is_zeros(line: Line) -> bool:
    statement = line.statement
    return line.first and statement.reduction is Reduction.SET and statement.value == NONE


def _whole(line: Line) -> Line | None:
    """The line as one that stores, zeros too, where it adds once to each element."""
    statement = line.statement
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT) or line.reduced:
        return None
    value = statement.value
    if statement.reduction is Reduction.SUBTRACT:
        value = walk.apply("neg", value)
    value = _where(list(walk.conjuncts(statement.guard)), value)
    whole = replace(statement, reduction=Reduction.SET, value=value, guard=None)
    return replace(line, statement=whole, first=True)


def _larger(a: Expression, b: Expression) -> Expression:
    """`max(a, b)` but for the sign of a zero, of which nobody asks: three instructions, not six."""
    larger = Conditional(walk.compare(">", a, b), a, b)
    return Conditional(is_number(a), larger, a)


def _sum(terms: Sequence[Expression]) -> Expression:
    first, *others = terms
    for other in others:
        first = walk.apply("+", first, other)
    return first


def _where(conditions: Sequence[Expression], value: Expression) -> Expression:
    condition = walk.conjunction(conditions)
    return value if condition is None else Conditional(condition, value, NONE)


def _always_holds(condition: Expression, ranges: Sequence[Range]) -> bool:
    """Does it for all values of the indices, whatever the extents?"""
    match condition:
        case Compare(("<" | "<=" | ">" | ">=" as operator,), (left, right)):
            more, less = (right, left) if operator in ("<", "<=") else (left, right)
        case _:
            return False
    spare = subtract(polynomial(more), polynomial(less))
    if operator in ("<", ">"):
        spare = subtract(spare, constant(1))
    for r in ranges:
        own = {m: c for m, c in spare.items() if Index(r.index) in m}
        if not own or r.upper is None:
            continue
        counts = {tuple(a for a in m if a != Index(r.index)): c for m, c in own.items()}
        spare = subtract(spare, own)
        if min(counts.values()) < 0:
            last = subtract(polynomial(r.upper), constant(1))
            spare = add(spare, multiply(counts, last, show_expression))
    fixed = all(isinstance(a, Extent) for m in spare for a in m)
    return fixed and min(spare.values(), default=0) >= 0
