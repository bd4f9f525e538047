"""A program -> phases in which statements share loops, as far as they may (docs/decisions/0009)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from loopgrad.diagnostics import listing
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Loop, Nest, Phase, Scheduled, Sequence, nests, tensors_of
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.context import Context
from loopgrad.schedule.identities import identity
from loopgrad.schedule.lines import Line, aligned, covers, maps_first, maps_together
from loopgrad.schedule.loops.banding import in_bands
from loopgrad.schedule.loops.blocking import uses_alike
from loopgrad.schedule.loops.buffers import buffers_of
from loopgrad.schedule.loops.ending import Ends
from loopgrad.schedule.loops.moments import with_moments
from loopgrad.schedule.loops.narrowing import narrowed
from loopgrad.schedule.loops.one_hot import with_one_hot
from loopgrad.schedule.loops.passing import earlier_sums
from loopgrad.schedule.loops.phases import Tree, trees
from loopgrad.schedule.loops.requirements import required
from loopgrad.schedule.loops.widening import widened
from loopgrad.schedule.products.banded import by_way_of_rows
from loopgrad.schedule.products.borders import with_borders
from loopgrad.schedule.products.contractions import with_roles
from loopgrad.schedule.products.layouts import Layouts, laid_out, layouts
from loopgrad.schedule.recurrences.again import computed_again
from loopgrad.schedule.recurrences.cores import recurrence
from loopgrad.schedule.recurrences.fission import fission
from loopgrad.schedule.recurrences.pulling import pulled
from loopgrad.schedule.recurrences.unwinding import unwound, with_start
from loopgrad.schedule.starting import partly_written
from loopgrad.schedule.sums.factoring import factored
from loopgrad.schedule.sums.inner_sums import with_inner_sums
from loopgrad.schedule.sums.integral import kept_whole
from loopgrad.schedule.sums.partial import of_partial_sums
from loopgrad.schedule.sums.reciprocals import with_reciprocals
from loopgrad.schedule.sums.sharing import hoisted, out_of_block
from loopgrad.schedule.supported import Support
from loopgrad.schedule.threads.grid import in_grid
from loopgrad.schedule.threads.pieces import in_pieces
from loopgrad.schedule.threads.preparing import with_packs_before
from loopgrad.schedule.tree import Fused
from loopgrad.schedule.windows.gathering import at_places, gathered
from loopgrad.schedule.windows.inverting import inverted
from loopgrad.schedule.windows.ordinals import with_ordinals
from loopgrad.schedule.windows.picking import with_picked
from loopgrad.schedule.windows.rotating import without_rotations
from loopgrad.schedule.windows.separating import separated
from loopgrad.schedule.windows.shifting import everywhere, spread
from loopgrad.schedule.windows.tables import with_tables
from loopgrad.schedule.windows.winning import with_staged_winners
from loopgrad.schedule.work import work


def fused(literal: Scheduled, choices: Choices) -> Scheduled:
    """The schedule with its nests fused, as far as code for it can be generated.

    An index is chosen in vain where no loop has it: code for some sizes has fewer loops than there are, and
    other names for some.
    """
    return _fusing(literal, choices).scheduled()


def refuse_unknown_indices(literal: Scheduled, choices: Choices) -> None:
    """ValueError, with those that there are, where an index is chosen that no loop has."""
    fusing = _fusing(literal, choices)
    fusing.scheduled()
    for word, index in (("parallel", choices.parallel), ("vector", choices.vector)):
        if index is not None and index not in fusing.indices:
            there = listing(sorted(fusing.indices)) or "none"
            raise ValueError(f"schedule: `{word} {index}`: there are loops over {there}")


def _fusing(literal: Scheduled, choices: Choices) -> _Fusing:
    return _Fusing(replace(literal, phases=tuple(map(_joined, literal.phases))), choices)


def _joined(phase: Phase) -> Phase:
    """A block that holds nothing but another block as one over the indices of both."""
    match phase:
        case Sequence(number, loops, (Sequence(_, inner, body),)):
            return _joined(Sequence(number, (*loops, *inner), body))
    return phase


@dataclass(frozen=True, slots=True)
class Segment:
    """Lines that are scheduled together. `loops`: of a recurrence, those whose order counts."""

    lines: tuple[Line, ...]
    loops: tuple[Loop, ...] = ()


class _Fusing:
    def __init__(self, literal: Scheduled, choices: Choices):
        self.in_range = set(literal.safety.in_range)
        self.writers = Counter(nest.statement.target.tensor for nest in nests(literal.phases))
        self.written_once = {tensor for tensor, count in self.writers.items() if count == 1}
        self.tensors = dict(literal.facts.tensors)
        program = literal.facts.program
        self.results = {r.name for r in program.results}
        self.reductions = walk.reductions_of(program.statements)
        taken = walk.names_in(program)
        self.context = Context(self.tensors, dict(literal.facts.constants), taken, choices)
        self.choices = choices
        self.ends = Ends(self.context)
        self.support = Support(literal.facts, literal.safety)
        self.literal = replace(
            literal, phases=tuple(map(self._with_whole_integers, literal.phases))
        )
        self.requires: dict[Expression, None] = {}
        self.literal = replace(self.literal, phases=tuple(map(self._cut, self.literal.phases)))
        self.written: set[str] = set()
        self.read: set[str] = set()  # by segments before
        self.partly = partly_written(literal.facts)
        self.started: set[str] = set()
        self.seen: frozenset[str] = frozenset()
        self.spread: frozenset[str] = frozenset()
        self.indices: set[str] = set()

    def scheduled(self) -> Scheduled:
        phases: list[Phase] = []
        groups = [
            (able, list(group)) for able, group in groupby(self.literal.phases, self._is_able)
        ]
        for i, (able, group) in enumerate(groups):
            others = [phase for j, (_, other) in enumerate(groups) if j != i for phase in other]
            seen = frozenset().union(*map(tensors_of, others))
            phases += self._fused(group, seen) if able else self._as_written(group)
        return replace(
            self.literal,
            phases=tuple(phases),
            tensors=self.tensors,
            started=frozenset(self.started),
            requires=tuple({**self.requires, **self.context.requires}),
        )

    def _is_able(self, phase: Phase) -> bool:
        match phase:
            case Nest(number, statement):
                ends = walk.bounds(statement.ranges)
                return self._are_there(number, ends) and not self.support.reason_against(statement)
            case Sequence(number, loops, body):
                ends = (bound for loop in loops for bound in (loop.lower, loop.upper))
                return self._are_there(number, ends) and all(
                    isinstance(p, Nest) and self._is_able(p) for p in body
                )
        return False

    def _are_there(self, number: int, ends: Iterable[Expression]) -> bool:
        """Is all that the ends of ranges read known to be in range? `u < len[w[b]]` is gone through before
        any of its steps could find that there is no such length."""
        reads = (read for end in ends for read in walk.reads(end) if read.subscripts)
        return all((number, read) in self.in_range for read in reads)

    def _with_whole_integers(self, phase: Phase) -> Phase:
        return kept_whole(phase, self.context) if self._is_able(phase) else phase

    def _cut(self, phase: Phase) -> Phase:
        """The phase with rings cut open, where code for it can be generated."""
        if not self._is_able(phase):
            return phase
        found = without_rotations(phase, self.in_range)
        self.in_range |= found.in_range
        self.requires.update(dict.fromkeys(found.requires))
        return found.phase

    def _as_written(self, phases: Iterable[Phase]) -> Iterator[Phase]:
        for phase in phases:
            if isinstance(phase, Nest) and phase.starts:
                self.started.add(phase.statement.target.tensor)
            self.written |= tensors_of(phase)
            yield phase

    def _fused(self, phases: Iterable[Phase], seen: frozenset[str]) -> Iterator[Phase]:
        """The phases as trees. `seen`: the tensors of all others."""
        self.seen = seen
        found = pulled(tuple(phases), self.writers, self.in_range)
        self.in_range |= found.in_range
        if self.choices.fuse:
            alone = (phase.statement for phase in found.phases if isinstance(phase, Nest))
            self.spread = spread(alone, self.tensors)
        segments = list(self._with_starts(self._laid_out(self._segments(found.phases))))
        made = list(trees(self.ends.lines, self.context))
        for segment in segments:
            others = (line for other in segments if other is not segment for line in other.lines)
            elsewhere = {one.tensor for line in others for one in (line.written, *line.read)}
            for tree in self._trees(segment, seen | self.results | elsewhere):
                made += with_packs_before(tree, self.context)
        buffers = buffers_of(made, self.tensors, seen | self.results)
        for tree, own in zip(made, buffers, strict=True):
            whole = tuple(replace(b, first=tree.copied.get(b.tensor, False)) for b in own)
            nodes, whole = in_grid(in_pieces(tree.nodes, own), whole, self.tensors)
            yield Fused(nodes, whole, work(tree.nodes))

    def _trees(self, segment: Segment, seen: frozenset[str]) -> Iterator[Tree]:
        """seen: tensors that others see than the segment's lines."""
        lines = segment.lines
        if not segment.loops:
            lines = with_staged_winners(lines, self.context, seen)
            lines = separated(lines, self.context)
            lines = with_ordinals(lines, self.context, seen)
            lines = with_picked(with_one_hot(lines, self.context), self.context)
            lines = with_tables(lines, self.context)
        if self.choices.share:
            if not segment.loops:
                lines = with_moments(of_partial_sums(lines, self.written_once), self.context)
            lines = with_reciprocals(lines, self.written_once)
        if segment.loops:
            lines = tuple(at_places(line, self.context) for line in lines)
            before, lines = out_of_block(lines, len(segment.loops), self.context)
            looked_at, tree = recurrence(lines, segment.loops, self.context)
            yield from trees((*before, *looked_at), self.context)
            yield tree
            return
        lines = hoisted(lines, self.context)
        if self.choices.share:
            lines = self._with_inner_sums(lines)
            needed = factored(earlier_sums(lines, self.context), self.context)
            lines = _without_unread(needed, _read_by(lines) - seen)
            lines = maps_together(lines, self.tensors)
        if self.choices.products:
            units = {c.name for c in self.literal.facts.program.constants if c.value == 1}
            lines, conditions = with_roles(lines, self.context, units)
            self.requires.update(dict.fromkeys(conditions))
            lines = tuple(by_way_of_rows(lines, self.context))
        lines = with_borders(gathered(lines, self.context), self.context)
        for group in [lines] if self.choices.fuse else [(line,) for line in lines]:
            yield from trees(group, self.context)

    def _with_inner_sums(self, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        if not self.choices.products:
            return lines
        found = with_inner_sums(lines, self.context)
        self.requires.update(dict.fromkeys(found.requires))
        return found.lines

    # --------------------------------------------------------------------------------- segments

    def _segments(self, phases: Iterable[Phase]) -> Iterator[Segment]:
        """The statements in the order in which they run, their indices of one meaning throughout."""
        runs = [(lines, loops) for phase in phases for lines, loops in self._runs(phase)]
        if self.choices.products:
            alone = [line for lines, loops in runs if not loops for line in lines]
            changed = iter(in_bands(self.ends.in_products(alone)))
            runs = [(x if loops else [next(changed) for _ in x], loops) for x, loops in runs]
        everything = aligned(line for run, _ in runs for line in run)
        self.indices |= {index for line in everything for index in line.indices}
        lines = iter(everything)
        for loops, group in groupby(runs, lambda run: run[1]):
            taken = tuple(self._required(next(lines)) for run, _ in group for _ in run)
            if not loops:
                taken = tuple(inverted(line, self.context) for line in taken)
            if taken:
                yield Segment(taken, loops)

    def _laid_out(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """The segments, what only they see lying as their products want it."""
        known = list(segments)
        kept = self.seen | self.results
        for segment in known:
            if segment.loops:
                kept = kept.union(*map(_tensors, segment.lines))
        lines = [line for segment in known for line in segment.lines if not segment.loops]
        movable = {line.written.tensor for line in lines} - kept
        found = Layouts({}, ())
        if self.choices.products:
            found = layouts(lines, movable, self.tensors)
        for tensor, order in found.orders.items():
            extents = self.tensors[tensor].extents
            moved = tuple(extents[axis] for axis in order)
            self.tensors[tensor] = replace(self.tensors[tensor], extents=moved)
        for segment in known:
            yield replace(segment, lines=tuple(laid_out(x, found) for x in segment.lines))

    def _runs(self, phase: Phase) -> Iterator[tuple[list[Line], tuple[Loop, ...]]]:
        match phase:
            case Nest():
                line = narrowed(self._line(phase, ()))
                yield [everywhere(line, self.spread, self.tensors)], ()
            case Sequence(_, loops, body):
                own = [nest for nest in body if isinstance(nest, Nest)]
                others = (p for p in self.literal.phases if p is not phase)
                seen = self.results.union(*map(tensors_of, others))
                unwinding = unwound(
                    own, loops, self.written_once, seen, self.in_range, self.tensors
                )
                unwinding = with_start(unwinding, self.writers, self.in_range)
                self.in_range |= unwinding.in_range
                parts = fission(unwinding.body)
                if self.choices.share:
                    parts, proved = computed_again(
                        parts, loops, self.written_once, seen, self.in_range
                    )
                    self.in_range |= proved
                yield [narrowed(self._line(nest, loops)) for nest in parts.before], ()
                yield [self._line(nest, loops) for nest in parts.core], loops
                yield [narrowed(self._line(nest, loops)) for nest in parts.after], ()

    def _line(self, nest: Nest, around: tuple[Loop, ...]) -> Line:
        statement = nest.statement
        outer = tuple(Range(loop.index, loop.lower, loop.upper) for loop in around)
        reads = dict.fromkeys((statement.target, *walk.statement_reads(statement)))
        unproved = tuple(r for r in reads if r.subscripts and (nest.number, r) not in self.in_range)
        integral = self.tensors[statement.target.tensor].element is not ElementType.FLOAT
        ranges = (*outer, *statement.ranges)
        return widened(Line(replace(statement, ranges=ranges), unproved, integral=integral))

    def _required(self, line: Line) -> Line:
        line, conditions = required(line, self.tensors)
        self.requires.update(dict.fromkeys(conditions))
        return line

    # --------------------------------------------------------------------------------- starting

    def _with_starts(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """The segments, with lines that give a tensor its identity where no line writes all of it
        first.
        """
        known = list(segments)
        everything = [line for segment in known for line in segment.lines]
        for segment in known:
            ordered = segment.lines
            if not segment.loops:
                ordered = maps_first(ordered, self.tensors, self.written)
            starts: list[Line] = []
            lines: list[Line] = []
            read = set(self.read)
            for line in ordered:
                tensor = line.written.tensor
                extents = self.tensors[tensor].extents
                read |= {one.tensor for one in line.read}
                if tensor not in self.written:
                    # Elements that nothing writes may have been read already.
                    late = tensor in self.partly and tensor in read
                    line = line if late else self._unguarded(line)
                    whole = not late and covers(line, extents)
                    whole = whole or self._is_enough(line, everything)
                    # Another iteration of a block may have added to the element already.
                    count = len(segment.loops)
                    whole = whole and (not count or _is_written_alike(line, ordered, count))
                    line = replace(line, first=whole)
                    self.written.add(tensor)
                    in_memory = late and tensor in self.read  # which starts with it then
                    if whole or not in_memory:
                        self.started.add(tensor)
                    if not whole and not in_memory:
                        starts.append(self._start(line, everything))
                lines.append(line)
            self.read |= read
            if segment.loops and starts:
                yield Segment(tuple(starts))
                starts = []
            yield Segment((*starts, *lines), segment.loops)

    def _unguarded(self, line: Line) -> Line:
        """`T = e   if c`, where nothing has written T: `T = e if c else 0`, which writes all of T."""
        statement = line.statement
        if statement.guard is None or line.reduced:
            return line
        value = Conditional(statement.guard, statement.value, self._identity(line))
        whole = replace(line, statement=replace(statement, value=value, guard=None))
        return whole if covers(whole, self.tensors[line.written.tensor].extents) else line

    def _is_enough(self, line: Line, lines: Iterable[Line]) -> bool:
        """Does the line write every element that anyone uses: those with `u <= t`?"""
        tensor = line.written.tensor
        if tensor in self.results or tensor in self.seen:
            return False
        if line.statement.reduction is Reduction.SET and line.reduced:
            return False
        if line.statement.guard is not None and not line.reduced:
            return False
        if any(line.bound_by.get(i, frozenset()) & line.reduced for i in line.kept):
            return False  # no loop over its elements could start them, before those that add up
        if uses_alike(tensor, lines):
            self.context.whole.add(tensor)
            return True
        return False

    def _start(self, line: Line, lines: Iterable[Line]) -> Line:
        """A line that gives every element of the target its identity, with the lines' indices."""
        name, extents = line.written.tensor, self.tensors[line.written.tensor].extents
        known: dict[int, str] = {}
        # Not an index that a writer has for something else: they could share no loop.
        writing = [one for one in lines if one.written.tensor == name]
        elsewhere = [
            {i for one in writing for i in one.indices if one.written.bare[axis] != i}
            for axis in range(len(extents))
        ]
        for one in lines:
            for read in (one.written, *one.read):
                for axis, index in enumerate(read.bare if read.tensor == name else ()):
                    fits = index and one.bounds.get(index) == (Number(0), extents[axis])
                    fits = fits and index not in elsewhere[axis]
                    if index and fits and index not in known.values():
                        known.setdefault(axis, index)
        names = {
            axis: known.get(axis, f"{name}.{axis}")
            for axis, extent in enumerate(extents)
            if axis in known or extent != walk.ONE
        }
        ranges = tuple(Range(index, Number(0), extents[axis]) for axis, index in names.items())
        places = (
            Index(names[axis]) if axis in names else walk.ZERO for axis in range(len(extents))
        )
        whole = Read(name, tuple(places))
        start = Accumulate(whole, Reduction.SET, self._identity(line), ranges)
        return Line(start, first=True)

    def _identity(self, line: Line) -> Expression:
        """What the target's elements start from: where `=` sets some of them, that of the other operation."""
        name = line.written.tensor
        reduction = self.reductions.get(name, line.statement.reduction)
        return identity(reduction, self.tensors[name].element)


def _tensors(line: Line) -> set[str]:
    return {one.tensor for one in (line.written, *line.read)}


def _is_written_alike(line: Line, lines: Iterable[Line], loops: int) -> bool:
    """Does each iteration of a block's loops, as many as said, write elements that no other one writes?"""
    writers = [other for other in lines if other.written.tensor == line.written.tensor]
    if all(other.target.subscripts == line.target.subscripts for other in writers):
        return True
    places = {
        tuple(other.written.axis_of(r.index) for r in other.statement.ranges[:loops])
        for other in writers
    }
    return len(places) == 1 and None not in next(iter(places))


def _without_unread(lines: tuple[Line, ...], once: set[str]) -> tuple[Line, ...]:
    """The lines but for those that write what was read once, by them alone, and is not any more.

    Not those that look whether subscripts are in range, nor those that write more than one tensor.
    """
    while True:
        gone = once - _read_by(lines)
        kept = (x.unproved or x.stands_alone or x.written.tensor not in gone for x in lines)
        used = tuple(line for line, there in zip(lines, kept, strict=True) if there)
        if len(used) == len(lines):
            return lines
        lines = used


def _read_by(lines: Iterable[Line]) -> set[str]:
    return {one.tensor for line in lines for one in line.read}
