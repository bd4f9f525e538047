"""Winners of windows over several axes, looked for along one axis after the other.

    for m, n, dx < 7, dy < 7:  w.dx[m,n] min= dx   if x[m+dx,n+dy] == y[m,n]
    for m, n, dx < 7, dy < 7:  w.dy[m,n] min= dy   if x[m+dx,n+dy] == y[m,n] and dx == w.dx[m,n]
    for m, n, dx < 7, dy < 7:  x.grad[m+dx,n+dy] += g[m,n]   if dx == w.dx[m,n] and dy == w.dy[m,n]

Where y is the maximum, the first place in loop order is in the first row whose own maximum it is, and there
the first that has it:

    for i, n, dy < 7:  r[i,n]   max= x[i,n+dy]
    for i, n, dy < 7:  v[i,n]   min= dy   if x[i,n+dy] == r[i,n]
    for m, n, dx < 7:  u[m,n]   min= dx   if r[m+dx,n] == y[m,n]
    for m, n, dx < 7:  h[m+dx,n]    += g[m,n]   if dx == u[m,n]
    for i, n, dy < 7:  x.grad[i,n+dy] += h[i,n]     if dy == v[i,n]

Minima are maxima of what has the other sign; which of both y holds is seen from where it is not equal to x.
It is looked at whether y is the extremum indeed, as anything may be given for it: where not, the literal
loops run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.lines import Line
from loopgrad.schedule.windows.doubling import doubled
from loopgrad.schedule.windows.extrema import (
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
from loopgrad.schedule.windows.ordinals import Search, for_each_search
from loopgrad.schedule.windows.separating import (
    Window,
    is_plain,
    is_whole,
    pays,
    spread_in_stages,
    staged,
    windows,
)

Lines = tuple[Line, ...]
Way = Callable[[Lines, Search, Context], Lines | None]


def with_staged_winners(
    lines: Sequence[Line], context: Context, kept: Collection[str]
) -> tuple[Line, ...]:
    """The lines, with winners that are looked for in stages. `kept`: tensors that others see."""

    def staged_winner(current: Lines, search: Search) -> Lines:
        found = _tried(doubled, current, search, context)
        if found is None and len(search.lines) > 1:
            found = _tried(_staged, current, search, context)
        return current if found is None else found

    return for_each_search(lines, kept, staged_winner)


def _tried(way: Way, lines: tuple[Line, ...], search: Search, context: Context) -> Lines | None:
    """What the way makes of the lines; where that is nothing, all names are as they were."""
    names, tensors = set(context.taken), dict(context.tensors)
    found = way(lines, search, context)
    if found is None:
        context.taken.intersection_update(names)
        context.tensors.clear()
        context.tensors.update(tensors)
    return found


def _staged(lines: Lines, search: Search, context: Context) -> Lines | None:
    return _Winner(search, context).in_stages(lines)


@dataclass(frozen=True, slots=True)
class _Stages:
    """What finds the winners. `wanted`: of each index what it has to be equal to, where it has won."""

    lines: tuple[Line, ...]
    window: Window
    wanted: dict[str, Read]


@dataclass
class _Winner:
    search: Search
    context: Context

    def in_stages(self, lines: Sequence[Line]) -> tuple[Line, ...] | None:
        """All lines; None where the search is of another kind, or where what it finds has other uses."""
        first = self.search.lines[0]
        equal = extremum_of(first, self.context)
        if equal is None or first.unproved or first.bounding or not is_whole(first, self.context):
            return None
        stages = self._stages(first, equal)
        if stages is None:
            return None
        found: list[Line] = []
        for line in lines:
            if line is first:
                found += stages.lines
            elif any(line is other for other in self.search.lines):
                continue
            elif any(one.tensor in self.search.tensors for one in line.read):
                spread = self._spread(line, stages, equal)
                if spread is None:
                    return None
                found += spread
            else:
                found.append(line)
        return tuple(found)

    # ---------------------------------------------------------------------------------- search

    def _stages(self, first: Line, equal: Extremum) -> _Stages | None:
        index, *others = self.search.indices
        for read in walk.reads(equal.value):
            for window in windows(read, first, self.context):
                if window.window == index and pays(first, window, others):
                    return self._along(window, first, equal)
        return None

    def _along(self, window: Window, first: Line, equal: Extremum) -> _Stages | None:
        index, *others = self.search.indices
        guard = without(first.statement.guard, [equal.condition])
        seeing, turn = sense(self.search, window.position, equal, self.context)
        values, value = self._turned(first, equal.value, turn)
        whose, target = equal.extremum.tensor, first.target
        most = Read(
            self.context.temporary(f"{whose}.found", self._extents(first)), target.subscripts
        )
        whole = replace(
            first.statement, target=most, reduction=Reduction.MAXIMUM, value=value, guard=guard
        )
        both = staged(Line(whole, first=True), window, others, self.context)
        if not both:
            return None
        inner, outer = both
        row = inner.target
        found: dict[str, Read] = {}
        columns = []
        for other in others:
            same = walk.compare("==", inner.statement.value, row)
            known = [walk.compare("==", Index(i), read) for i, read in found.items()]
            columns.append(self._look(other, f"{whose}.{other}", row, inner, [same, *known]))
            found[other] = columns[-1].target
        wanted = walk.apply("*", turn, equal.extremum)
        same = walk.compare("==", outer.statement.value, wanted)
        look = self._look(index, f"{whose}.{index}", target, outer, [same])
        fits = walk.compare("<=", outer.statement.value, wanted)
        inside, real = outer.statement.guard, is_number(equal.extremum)
        above = walk.conjunction([inside, real, walk.apply("not", fits)])
        assert above is not None
        extents = self.context.tensors[target.tensor].extents
        each = Read(self.context.temporary("above", extents), target.subscripts)
        count = Read(self.context.temporary("wrong", ()), ())
        one = Accumulate(each, Reduction.ADD, ONE, outer.statement.ranges, above)
        every = Accumulate(count, Reduction.ADD, each, ranges_of_windows(self.search))
        counting = [Line(one, first=True), Line(every, first=True)]
        checking = checked(counting, count, self.context)
        lines = (*seeing, *values, inner, *columns, look, *checking)
        return _Stages(lines, window, {index: look.target, **found})

    def _look(
        self, index: str, wanted: str, place: Read, stage: Line, conditions: Sequence[Expression]
    ) -> Line:
        """A search for the first value of the index, among those that a stage goes over."""
        name = self.context.name(wanted)
        extents = self.context.tensors[place.tensor].extents
        self.context.tensors[name] = TensorFacts(name, "temporary", extents, ElementType.INT)
        guard = walk.conjunction([stage.statement.guard, *conditions])
        target = Read(name, place.subscripts)
        ranges = stage.statement.ranges
        return Line(
            Accumulate(target, Reduction.MINIMUM, Index(index), ranges, guard),
            first=True,
            integral=True,
        )

    def _turned(
        self, first: Line, value: Expression, turn: Expression
    ) -> tuple[list[Line], Expression]:
        """The value with its sign; where it is a read, computed for all windows by the lines."""
        if not isinstance(value, Read):
            return [], walk.apply("*", turn, value)
        extents = self.context.tensors[value.tensor].extents
        name = self.context.temporary(f"{value.tensor}.turned", extents)
        indices = [
            self._over(subscript, extent, first, f"{name}.{axis}")
            for axis, (subscript, extent) in enumerate(zip(value.subscripts, extents, strict=True))
        ]
        own = tuple(map(Index, indices))
        ranges = tuple(
            Range(i, Number(0), extent) for i, extent in zip(indices, extents, strict=True)
        )
        turned = walk.apply("*", turn, Read(value.tensor, own))
        setting = Accumulate(Read(name, own), Reduction.SET, turned, ranges)
        return [Line(setting, first=True)], Read(name, value.subscripts)

    def _over(self, subscript: Expression, extent: Expression, first: Line, wanted: str) -> str:
        """An index over an axis: the one that the line has for it, or a new one."""
        match subscript:
            case Index(name) if name not in self.search.indices:
                if first.bounds[name] == (Number(0), extent):
                    return name
        return self.context.name(wanted)

    def _extents(self, line: Line) -> tuple[Expression, ...]:
        return self.context.tensors[line.target.tensor].extents

    # --------------------------------------------------------------------------------- spreads

    def _spread(self, line: Line, stages: _Stages, equal: Extremum) -> list[Line] | None:
        """What winners spread, in two stages; None where something else is done with what was found."""
        rest = spread_conditions(line, self.search) if is_plain(line) else None
        if rest is None:
            return None
        guard = without(self.search.lines[0].statement.guard, [equal.condition])
        inside = walk.conjunction([guard, *rest])
        plain = replace(line, statement=replace(line.statement, guard=inside))
        every = list(windows(line.target, line, self.context))
        own = [
            w for w in every if w.is_at(stages.window.place) and w.extent == stages.window.extent
        ]
        others = [w for w in every if w not in own]
        if len(own) != 1 or {w.window for w in others} != {*self.search.indices[1:]}:
            return None
        found = spread_in_stages(plain, own[0], others, self.context)
        if not found:
            return None
        start, first, second = found
        index, *columns = self.search.indices
        first = _where(first, [walk.compare("==", Index(index), stages.wanted[index])])
        name = next(i for i in second.indices if i not in line.indices)
        matches = []
        for column in columns:
            read = stages.wanted[column]
            old = next(
                s
                for s, t in zip(
                    read.subscripts, self.search.lines[0].target.subscripts, strict=True
                )
                if s != t
            )
            place = Read(
                read.tensor, tuple(Index(name) if s == old else s for s in read.subscripts)
            )
            matches.append(walk.compare("==", Index(column), place))
        return [start, first, _where(second, matches)]


def _where(line: Line, conditions: Sequence[Expression]) -> Line:
    guard = walk.conjunction([line.statement.guard, *conditions])
    return replace(line, statement=replace(line.statement, guard=guard))
