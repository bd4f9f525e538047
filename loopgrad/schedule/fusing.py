"""A program -> phases in which statements share loops, as far as they may (docs/decisions/0009)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Conditional, Index, Number, Range, Read, Reduction
from loopgrad.schedule import Nest, Phase, Scheduled, tensors_of
from loopgrad.schedule.buffers import buffers_of
from loopgrad.schedule.contractions import with_roles
from loopgrad.schedule.lines import Line, aligned, covers, maps_first, mark_first
from loopgrad.schedule.nesting import IDENTITY
from loopgrad.schedule.phases import trees
from loopgrad.schedule.sharing import Names, hoisted, with_reciprocals
from loopgrad.schedule.supported import Support
from loopgrad.schedule.tree import Fused
from loopgrad.schedule.work import work


def fused(literal: Scheduled) -> Scheduled:
    """The schedule with its nests fused, as far as code for it can be generated."""
    return _Fusing(literal).scheduled()


class _Fusing:
    def __init__(self, literal: Scheduled):
        self.literal = literal
        self.facts: Facts = literal.facts
        self.safety: Safety = literal.safety
        self.tensors = dict(literal.facts.tensors)
        program = literal.facts.program
        self.names = Names(self.tensors, dict(literal.facts.constants), walk.names_in(program))
        self.support = Support(literal.facts, literal.safety)
        self.touched: set[str] = set()
        self.started: set[str] = set()

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
        )

    def _is_able(self, phase: Phase) -> bool:
        return isinstance(phase, Nest) and not self.support.reason_against(phase.statement)

    def _as_written(self, phases: Iterable[Phase]) -> Iterator[Phase]:
        for phase in phases:
            if isinstance(phase, Nest) and phase.starts:
                self.started.add(phase.statement.target.tensor)
            self.touched |= tensors_of(phase)
            yield phase

    def _fused(self, phases: Sequence[Phase], seen: frozenset[str]) -> Iterator[Phase]:
        """The phases as trees. `seen`: the tensors of all others."""
        nests = [phase for phase in phases if isinstance(phase, Nest)]
        lines = self._lines(nests)
        results = {r.name for r in self.facts.program.results}
        lines = with_roles(hoisted(with_reciprocals(lines), self.names))
        made = list(trees(lines, self.names))
        buffers = buffers_of(made, self.tensors, seen | results)
        for tree, own in zip(made, buffers, strict=True):
            first = {x.written.tensor for x in lines if x.first}
            whole = (replace(b, first=b.tensor in first and b.tensor in tree.copied) for b in own)
            yield Fused(tree.nodes, tuple(whole), work(tree.nodes))

    def _lines(self, nests: Sequence[Nest]) -> tuple[Line, ...]:
        """The lines of the nests, and those that give a tensor its identity before it is used."""
        written = aligned(Line(nest.statement, self._unproved(nest)) for nest in nests)
        written = maps_first(written, self.tensors, self.touched)
        lines: list[Line] = []
        touched = set(self.touched)
        for line in written:
            tensor = line.target.tensor
            if tensor not in touched:
                line = self._unguarded(line)
                if not covers(line, self.tensors[tensor].extents):
                    lines.append(self._start(line, written))
                self.started.add(tensor)
            lines.append(line)
            touched.update(one.tensor for one in (line.written, *line.read))
        marked = mark_first(lines, self.tensors, self.touched)
        self.touched = touched
        return marked

    def _unguarded(self, line: Line) -> Line:
        """`T = e   if c`, where nothing has written T: `T = e if c else 0`, which writes all of T."""
        statement = line.statement
        if statement.guard is None:
            return line
        value = Conditional(statement.guard, statement.value, IDENTITY[statement.reduction])
        whole = replace(line, statement=replace(statement, value=value, guard=None))
        return whole if covers(whole, self.tensors[line.target.tensor].extents) else line

    def _unproved(self, nest: Nest) -> tuple[Read, ...]:
        statement = nest.statement
        reads = dict.fromkeys((statement.target, *walk.statement_reads(statement)))
        return tuple(
            r for r in reads if r.subscripts and (nest.number, r) not in self.safety.in_range
        )

    def _start(self, line: Line, lines: Iterable[Line]) -> Line:
        """A line that gives every element of the target its identity, with the lines' indices."""
        name, extents = line.target.tensor, self.tensors[line.target.tensor].extents
        known: dict[int, str] = {}
        for one in lines:
            bounds = one.bounds
            for read in (one.written, *one.read):
                for axis, index in enumerate(read.bare if read.tensor == name else ()):
                    fits = index and bounds.get(index) == (Number(0), extents[axis])
                    if index and fits and index not in known.values():
                        known.setdefault(axis, index)
        names = [known.get(axis, f"{name}.{axis}") for axis in range(len(extents))]
        ranges = tuple(
            Range(index, Number(0), extent) for index, extent in zip(names, extents, strict=True)
        )
        whole = Read(name, tuple(map(Index, names)))
        value = IDENTITY[line.statement.reduction]
        return Line(Accumulate(whole, Reduction.SET, value, ranges))
