"""What a block computes for its state, computed again where what follows the block sums it.

    for t descending:
        for b, j, i:  e[t,b,j,i]    = g[t,b,j] * exp(l[t-1,b,i] + A[i,j])
        for b, j, i:  l.grad[t-1,b,i] += e[t,b,j,i]
        for b, j, i:  A.grad[i,j]   += e[t,b,j,i]

The last line needs no order, so that it follows for all times at once, and e would be kept for it: more
than all that it is made of. Computed again, nothing of e is ever in memory. Where one line of the block sums
it as well, it is that line's value there, whose lanes the axes of e, in memory, must not decide.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Range, Read, Reduction
from loopgrad.schedule import Loop, Nest
from loopgrad.schedule.recurrences.fission import Fission
from loopgrad.schedule.recurrences.unwinding import Place

_SUMS = (Reduction.ADD, Reduction.SUBTRACT)


def computed_again(
    parts: Fission,
    loops: Sequence[Loop],
    written_once: Container[str],
    seen: Container[str],
    in_range: Container[Place],
) -> tuple[Fission, frozenset[Place]]:
    """The parts of a block, what follows it with values of the core put in; and reads that are in range.

    written_once: tensors that one statement of the program writes. seen: those that others than these
    read. in_range: reads that are.
    """
    known = {loop.index for loop in loops}
    after = {nest.number: nest for nest in parts.after}
    core = {nest.number: nest for nest in parts.core}
    proved: set[Place] = set()
    for definition in parts.core:
        tensor = definition.statement.target.tensor
        if tensor not in written_once or tensor in seen:
            continue
        if not _is_map_of_less(definition, known):
            continue
        readers = [n for n in parts.after if any(r.tensor == tensor for r in _reads(n))]
        within = [n for n in parts.core if any(r.tensor == tensor for r in _reads(n))]
        names = [_naming(definition, nest, known) for nest in (*readers, *within)]
        if None in names[: len(readers)]:
            continue
        alone = len(within) == 1 and names[-1] is not None and _is_new(definition, core)
        changing = (*readers, *within) if alone else readers
        for nest, naming in zip(changing, names, strict=False):
            assert naming is not None
            place = after if nest.number in after else core
            place[nest.number] = _put_in(nest, definition, naming)
            fine = (read for read in _reads(definition) if (definition.number, read) in in_range)
            renamed = (walk.substitute(read, naming) for read in fine)
            proved |= {(nest.number, r) for r in renamed if isinstance(r, Read)}
        if alone:
            del core[definition.number]
    found = replace(parts, core=tuple(core.values()), after=tuple(after.values()))
    return found, frozenset(proved)


def _is_new(definition: Nest, core: Mapping[int, Nest]) -> bool:
    """Is it as it was: has nothing been put into it?"""
    return core[definition.number] is definition


def _reads(nest: Nest) -> Iterator[Read]:
    yield from walk.statement_reads(nest.statement)


def _is_map_of_less(nest: Nest, block: set[str]) -> bool:
    """Does it compute each element once, of tensors with fewer axes?"""
    statement = nest.statement
    subscripts = statement.target.subscripts
    names = sorted(s.name for s in subscripts if isinstance(s, Index))
    whole = len(names) == len(subscripts) and names == sorted(
        block | {r.index for r in statement.ranges}
    )
    plain = statement.guard is None and statement.reduction in (*_SUMS, Reduction.SET)
    return whole and plain and all(len(r.subscripts) < len(subscripts) for r in _reads(nest))


def _naming(definition: Nest, nest: Nest, block: set[str]) -> Mapping[str, Expression] | None:
    """The definition's indices as the nest calls them, where the nest sums all that is defined, and
    nothing else; None otherwise."""
    statement = nest.statement
    value, target = statement.value, definition.statement.target
    if not isinstance(value, Read) or value.tensor != target.tensor or statement.guard is not None:
        return None
    if statement.reduction not in _SUMS or len(list(_reads(nest))) > 1:
        return None
    own, other = _ranges(definition.statement), _ranges(statement)
    names: dict[str, Expression] = {}
    for defined, used in zip(target.subscripts, value.subscripts, strict=True):
        if not isinstance(defined, Index) or not isinstance(used, Index):
            return None
        if defined.name in block or used.name in block:
            if defined != used:
                return None
        elif _bounds(own, defined) != _bounds(other, used):
            return None
        names[defined.name] = used
    return names if len({*names.values()}) == len(names) else None


def _ranges(statement: Accumulate) -> dict[str, Range]:
    return {r.index: r for r in statement.ranges}


def _bounds(ranges: Mapping[str, Range], index: Index) -> object:
    """Those that hang on no index; something that nothing is like otherwise."""
    r = ranges[index.name]
    free = not any(walk.indices_of(bound) for bound in (r.lower, r.upper) if bound is not None)
    return (r.lower, r.upper) if free and r.lower is not None else object()


def _put_in(nest: Nest, definition: Nest, names: Mapping[str, Expression]) -> Nest:
    value = walk.substitute(definition.statement.value, names)
    if definition.statement.reduction is Reduction.SUBTRACT:
        value = walk.apply("neg", value)
    return replace(nest, statement=replace(nest.statement, value=value))
