"""Integer constants and extents for whose values code is made (`schedule/specializing.py`).

Apart from what makes it: a call whose code is known already asks for no more than this, and reads it from
the disk, so that nobody looks at the statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from math import prod
from typing import Any

from loopgrad.analysis.facts import Facts, outgrows
from loopgrad.backends.kernel import Task
from loopgrad.backends.llvm.calling.images import Images, images
from loopgrad.backends.llvm.calling.savings import Saving, contracts, savings
from loopgrad.backends.llvm.writing import layout
from loopgrad.cache.answers import kept
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Constant,
    Expression,
    Extent,
    Index,
    Read,
    Statement,
)
from loopgrad.ir.operations import ElementType

# The extent of a window, and of the rows of many, up to which code is made for it.
SMALL_WINDOW, SHORT_ROW = 8, 8
# The same of rows that sums of pairs are added to: those of more are half a register, which is quicker.
NARROW_ROW = 4

# The extent of rows up to which code takes several of them at a time (`fused/abreast.py`): where one sum
# along them waits for another, or data pick them one by one, and where there is one sum or none, beside which
# longer rows have enough to do.
ABREAST, ABREAST_ONCE = 128, 32

# Rows of products up to which each has all threads (`schedule/loops/few.py`); of those with a large side.
FEW_ROWS, FEW_BESIDE, LARGE_SIDE = 16, 64, 1 << 18
# Elements of the other side for each square of rows from which on that pays: to pack fewer takes less than to
# read them for each few rows anew.
FEW_SIDE = 1 << 8


Values = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """For what code is made: the values of constants and extents, about how large others are, the extents of
    indices that threads share at the price of copies, of rows of products that are few, and of rows of which
    several run at a time; and the tensors that products of all images write.
    """

    constants: Values = ()
    about: Values = ()
    copies: tuple[str, ...] = ()
    few: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    abreast: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(astuple(self))


@dataclass(frozen=True, slots=True)
class Shaping:
    """For whose values code is made: constants, and the extents of windows and of rows that are small.

    ordering: the extents on whose magnitudes it hangs in which order sums of several factors are added up.
    batches: those of which threads would share the values; of a single one there is nothing to share.
    sides: those of products of matrices: one with a single row is a loop over memory.
    narrow: those of the rows that are short only up to `NARROW_ROW`.
    lines: those of rows of products that other statements share loops with, and of the products' other sides.
    savings: what copies for each thread of sums over rows would save (`schedule/threads/copies.py`).
    images: what products write that may be of all images.
    summed: the extents of rows that are summed along or added to one by one, and whether a row waits.
    pairs: those of rows of which a recurrence evaluates functions of pairs, and those of its other indices.
    """

    constants: tuple[str, ...]
    windows: tuple[str, ...]
    rows: frozenset[str]
    ordering: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()
    savings: tuple[Saving, ...] = ()
    lines: tuple[tuple[str, tuple[str, ...]], ...] = ()
    images: tuple[Images, ...] = ()
    summed: tuple[tuple[str, bool], ...] = ()
    pairs: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def fitted(self, sizes: Mapping[str, int | float], elements: int, threads: int) -> Fitted:
        """For what code is made for a call. elements: of the largest tensor; where there are few, what code
        for a call's sizes saves is less than what it costs.
        """
        paying = [one for one in self.savings if one.pays(sizes, threads)]
        losing = {one.extent for one in self.savings if one not in paying}
        paying = [one for one in paying if one.extent not in losing]
        copies = tuple(sorted({one.extent for one in paying}))
        lone = {name for one in paying for name in one.batch}
        plenty = elements >= layout.PLENTY
        few = tuple(self.few(sizes)) if plenty else ()
        together = (
            tuple(one.target for one in self.images if one.are_small(sizes)) if plenty else ()
        )
        values = self.values(sizes, elements, lone)
        abreast = tuple(self.abreast(sizes, dict(values))) if plenty else ()
        return Fitted(values, self.about(sizes), copies, few, together, abreast)

    def abreast(self, sizes: Mapping[str, int | float], known: Collection[str]) -> Iterator[str]:
        """The extents of rows so short that several run at a time."""
        names = (*sorted(self.rows), *(name for name, _ in self.summed))
        most = dict.fromkeys(names, ABREAST_ONCE)
        most |= {name: ABREAST for name, again in self.summed if again}
        for name, limit in most.items():
            if name not in known and 1 < sizes.get(name, 0) <= limit:
                yield name

    def few(self, sizes: Mapping[str, int | float]) -> Iterator[str]:
        """The extents of rows that are few beside what they are multiplied by."""
        beside: dict[str, float] = {}
        for name, others in self.lines:
            size = _times(others, sizes)
            beside[name] = max(size, beside.get(name, 0))
        for name, size in beside.items():
            most = FEW_BESIDE if size >= LARGE_SIDE else FEW_ROWS
            rows = sizes.get(name, 0)
            if 1 < rows <= most and (rows > FEW_ROWS or FEW_SIDE * rows**2 <= size):
                yield name

    def values(
        self, sizes: Mapping[str, int | float], elements: int, lone: Collection[str] = ()
    ) -> Values:
        """Those of them that are known. lone: further batches, of a single one."""
        some, many = elements >= layout.SOME, elements >= layout.MANY
        limits = [(name, SMALL_WINDOW) for name in self.windows]
        # Lanes go over rows then, of which there have to be as many as in a row.
        short = {name for name in self.rows if sizes.get(name, 0) <= SHORT_ROW}
        counts = [(name, _times({*others} - short, sizes)) for name, others in self.pairs]
        alone = {name for name, count in counts if count < sizes.get(name, 0)}
        for name in sorted(self.rows - alone) if some else ():
            most = NARROW_ROW if name in self.narrow else SHORT_ROW
            limits.append((name, most if many else 1))
        single = dict.fromkeys((*self.batches, *self.sides, *sorted(lone)))
        limits += [(name, 1) for name in single if some and name not in self.rows]
        small = (name for name, most in limits if 0 < sizes.get(name, 0) <= most)
        return tuple((name, int(sizes[name])) for name in (*self.constants, *small))

    def about(self, sizes: Mapping[str, int | float]) -> Values:
        """A power of four near each extent of `ordering`; nothing where one is not known."""
        if any(name not in sizes for name in self.ordering):
            return ()
        return tuple((name, magnitude(int(sizes[name]))) for name in self.ordering)


def _times(names: Iterable[str], sizes: Mapping[str, int | float]) -> float:
    return prod(sizes.get(name, 1) for name in names)


def magnitude(size: int) -> int:
    """The greatest power of four that is not above twice the size.

    >>> [magnitude(n) for n in (0, 1, 2, 7, 8, 31, 32, 1000)]
    [1, 1, 4, 4, 16, 16, 64, 1024]
    """
    return 1 << ((2 * max(size, 1)).bit_length() - 1) // 2 * 2


def shaping_of(task: Task) -> Shaping:
    """From an earlier process, where the program is known by a name and one has found it."""
    facts = task.facts

    def found() -> tuple[Any, ...]:
        rows = tuple(sorted(short_rows(facts)))
        saved = tuple(map(astuple, savings(facts)))
        single = batches(facts), sides(facts), narrow_rows(facts)
        small = tuple(map(_fields, images(facts)))
        order = ordering(facts)
        several = lines(facts), small, summed_rows(facts), pairs(facts)
        return shaping(facts), windows(facts), rows, order, *single, saved, *several

    # Some results may count as temporaries, for which the task may be made.
    given = task.origin, [t.name for t in facts.tensors.values() if t.role == "temporary"]
    constants, small, rows, order, lone, matrices, narrow, saved, several, joint, *last = (
        kept("shaping", given, found) if task.origin else found()
    )
    saving = tuple(Saving(*one) for one in saved)
    return Shaping(
        constants,
        small,
        frozenset(rows),
        order,
        lone,
        matrices,
        narrow,
        saving,
        several,
        tuple(Images(*one) for one in joint),
        *last,
    )


def _fields(one: Images) -> tuple[Any, ...]:
    return one.target, one.images, one.places, one.other, one.most


def known_shapes(facts: Facts, sizes: Mapping[str, int | float]) -> Iterator[list[int]]:
    """Of the tensors all of whose extents are told."""
    from loopgrad.backends.formulas import evaluate

    for tensor in facts.tensors.values():
        with suppress(KeyError, ValueError):
            yield [evaluate(extent, sizes) for extent in tensor.extents]


def shaping(facts: Facts) -> tuple[str, ...]:
    """The integer constants on which it hangs what a statement reads and writes, and when."""
    whole = {name for name, element in facts.constants.items() if element is ElementType.INT}
    found: dict[str, None] = {}
    if whole:
        for statement in walk.all_statements(facts.program.statements):
            for expression in _places(statement):
                for node in walk.subexpressions(expression):
                    if isinstance(node, Constant) and node.name in whole:
                        found.setdefault(node.name)
    return tuple(found)


def windows(facts: Facts) -> tuple[str, ...]:
    """The extents of windows: DX of `y[n] += k[dx] * x[n+dx]`, n being below `X-DX+1`. They seldom change."""
    found: dict[str, None] = {}
    for statement in facts.program.statements:
        if isinstance(statement, Accumulate):
            ranges = {r.index: r for r in statement.ranges}
            for subscript in _subscripts(statement):
                inside = [ranges[i] for i in walk.indices_of(subscript) if i in ranges]
                extents = [r.upper for r in inside if isinstance(r.upper, Extent)]
                if len(extents) > 1 or any(isinstance(r.upper, Apply) for r in inside):
                    found.update((e.name, None) for e in extents)
    given = {axis for t in facts.tensors.values() if t.role == "input" for axis in t.extents}
    return tuple(name for name in sorted(found) if Extent(name) in given)


def short_rows(facts: Facts) -> frozenset[str]:
    """The extents of axes along which memory is contiguous, of tensors with further ones.

    Not those of windows, and not where a contraction runs over them: that has tiles of its own.
    """
    last = (t.extents[-1] for t in facts.tensors.values() if t.rank > 1)
    found = {e.name for e in last if isinstance(e, Extent)}
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate) and _multiplies_sides(statement):
            parts = (e for r in statement.ranges if r.upper for e in walk.subexpressions(r.upper))
            found -= {e.name for e in parts if isinstance(e, Extent)}
    return frozenset(found - {*windows(facts)})


def narrow_rows(facts: Facts) -> tuple[str, ...]:
    """The extents of short rows that a sum over pairs adds to: `g[n,d] += s[n,m] * (x[n,d] - y[m,d])`."""
    rows, found = short_rows(facts), set[str]()
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate) and contracts(statement):
            kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
            bounds = (r.upper for r in statement.ranges if r.index in kept)
            found |= {e.name for e in bounds if isinstance(e, Extent)}
    return tuple(sorted(rows & found))


def summed_rows(facts: Facts) -> tuple[tuple[str, bool], ...]:
    """The extents of last axes along which something is added up, or the greatest looked for, for each of
    several rows: `Z[b] += exp(s[b,j] - m[b])`; and whether one such sum is of what hangs on another. Not
    those of products of matrices. And those of rows that data pick, where one is added to after the other:
    `y[w[n],k] += x[n,k]`.
    """
    found: dict[str, bool] = {}
    behind: dict[str, set[str]] = {}  # tensors, with the extents of the sums that they hang on
    for statement in walk.all_statements(facts.program.statements):
        if not isinstance(statement, Accumulate):
            continue
        reads = list(walk.statement_reads(statement))
        waits = set[str]().union(*(behind.get(read.tensor, ()) for read in reads))
        along = _along(statement, reads)
        for name in along:
            found[name] = found.get(name, False) or name in waits
        found |= dict.fromkeys(_picked(statement), True)
        behind.setdefault(statement.target.tensor, set()).update(waits, along)
    return tuple(sorted(found.items()))


def _picked(statement: Accumulate) -> Iterator[str]:
    """The extent of the last axis of rows that data pick, to which the statement adds."""
    match statement.target.subscripts:
        case (*before, Index(name)) if any(True for s in before for _ in walk.reads(s)):
            bounds = (r.upper for r in statement.ranges if r.index == name)
            yield from (bound.name for bound in bounds if isinstance(bound, Extent))


def _along(statement: Accumulate, reads: Collection[Read]) -> set[str]:
    """The extents of the last axes of what it reads that it sums over."""
    kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
    upper = {r.index: r.upper for r in statement.ranges if r.index not in kept}
    if not kept or contracts(statement):
        return set()
    last = (read.subscripts[-1] for read in reads if kept & walk.indices_of(read))
    bounds = (upper.get(s.name) for s in last if isinstance(s, Index))
    return {extent.name for extent in bounds if isinstance(extent, Extent)}


def pairs(facts: Facts) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The extents of short rows of whose pairs a recurrence evaluates functions, `exp(l[t-1,b,i] + A[i,j])`,
    with those of the other indices within a turn.
    """
    from loopgrad.schedule.costs import FUNCTION, cost

    rows, found = short_rows(facts), dict[tuple[str, tuple[str, ...]], None]()
    for statement in walk.all_statements(facts.program.statements):
        if not isinstance(statement, Block):
            continue
        for inner in walk.all_statements(statement.body):
            if isinstance(inner, Accumulate) and cost(inner.value) >= FUNCTION:
                names = [r.upper.name for r in inner.ranges if isinstance(r.upper, Extent)]
                short = [name for name in names if name in rows]
                for name in short if len(short) > 1 else ():
                    found[name, tuple(sorted({*names} - {name}))] = None
    return tuple(found)


def _multiplies_sides(statement: Accumulate) -> bool:
    """Is it a contraction of factors none of which has all indices? `(x[n,d] - y[m,d])**2` is one factor."""
    from loopgrad.schedule.sums.sides import factors

    if not contracts(statement):
        return False
    indices = {r.index for r in statement.ranges}
    return not any(indices <= walk.indices_of(factor) for factor in factors(statement.value))


def ordering(facts: Facts) -> tuple[str, ...]:
    """The extents over which sums of three factors or more run that several orders make products of."""
    from loopgrad.schedule.sums.sides import factors

    found: dict[str, None] = {}
    for statement in walk.all_statements(facts.program.statements):
        if not isinstance(statement, Accumulate) or not contracts(statement):
            continue
        kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
        reduced = {r.index for r in statement.ranges} - kept
        parts = list(factors(statement.value))
        sides = [f for f in parts if walk.indices_of(f)]
        first = [i for i in reduced if any(i not in walk.indices_of(f) for f in sides)]
        if len(sides) > 2 and len(first) > 1:
            uppers = (r.upper for r in statement.ranges)
            found.update((u.name, None) for u in uppers if isinstance(u, Extent))
    return tuple(sorted(found))


def batches(facts: Facts) -> tuple[str, ...]:
    """The extents of first axes alone, of arrays with rows and columns besides, where products go over them:
    threads take pairs of indices elsewhere.

    Not where a temporary is larger than all that is given and wanted, as attention's scores are: threads that
    share its rows would need all of them. But heads can be shared that add to the same `k.grad[b,h//2,u,d]`.
    """
    statements = [
        s for s in walk.all_statements(facts.program.statements) if isinstance(s, Accumulate)
    ]
    products = list(filter(contracts, statements))
    if not products:
        return ()
    large = any(outgrows(name, facts.tensors) for name in facts.tensors)
    if large and not any(map(_adds_in_groups, statements)):
        return ()
    given = [t.extents for t in facts.tensors.values() if t.role != "temporary"]
    first = {axes[0] for axes in given if len(axes) > 2}
    later = {extent for axes in given for extent in axes[1:]}
    return tuple(sorted(e.name for e in first - later if isinstance(e, Extent)))


def _adds_in_groups(statement: Accumulate) -> bool:
    """Do several values of an index add to the same row: is it divided in the target?"""
    return any(isinstance(s, Apply) and s.operation == "//" for s in statement.target.subscripts)


def sides(facts: Facts) -> tuple[str, ...]:
    """The extents of the indices of products, but for those that both sides and the target have: of a batch
    of one there is no less to do.
    """
    from loopgrad.schedule.sums.sides import factors

    found: dict[str, None] = {}
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate) and contracts(statement):
            parts = [*map(walk.indices_of, factors(statement.value))]
            kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
            batch = kept.intersection(*filter(None, parts))
            uppers = (r.upper for r in statement.ranges if r.index not in batch)
            found.update((u.name, None) for u in uppers if isinstance(u, Extent))
    return tuple(sorted(found))


def lines(facts: Facts) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The extents of rows of products of matrices, in programs of several statements: what one side has, and
    the target elsewhere than along memory; and those of the product's other indices.
    """
    from loopgrad.schedule.sums.sides import factors

    statements = list(walk.all_statements(facts.program.statements))
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for statement in statements if len(statements) > 1 else ():
        if isinstance(statement, Accumulate) and contracts(statement):
            axes = [*map(walk.indices_of, statement.target.subscripts)]
            if not axes:  # a sum of everything
                continue
            *before, last = axes
            parts = [*map(walk.indices_of, factors(statement.value))]
            batch = last.union(*before).intersection(*filter(None, parts))
            rows = frozenset().union(*before) - last - batch
            upper = {r.index: r.upper for r in statement.ranges if isinstance(r.upper, Extent)}
            others = tuple(sorted(e.name for i, e in upper.items() if i not in rows | batch))
            found.update(((upper[i].name, others), None) for i in rows & upper.keys())
    return tuple(sorted(found))


def _subscripts(statement: Accumulate) -> Iterator[Expression]:
    for read in (statement.target, *walk.statement_reads(statement)):
        yield from (s for s in read.subscripts if not any(True for _ in walk.reads(s)))


def _places(statement: Statement) -> Iterator[Expression]:
    """Bounds, conditions and subscripts."""
    yield from walk.bounds(statement.ranges)
    for expression in walk.statement_expressions(statement):
        for node in walk.subexpressions(expression):
            match node:
                case Read(_, subscripts):
                    yield from subscripts
                case Compare() | Apply("**"):
                    yield node
    for target in (getattr(statement, "target", None),):
        if target is not None:
            yield from target.subscripts
