"""Two accesses of one element in the wrong order, shown to happen whatever the input; in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from loopgrad.analysis.accesses import Access, Turn
from loopgrad.analysis.completeness import never_changed_after
from loopgrad.analysis.enumeration import (
    Environment,
    Sizes,
    Unknown,
    element,
    moment,
    turns_of,
)
from loopgrad.analysis.places import diagnostic, note_on, values_in_words
from loopgrad.analysis.prover import Prover
from loopgrad.diagnostics import Diagnostic
from loopgrad.ir.nodes import Accumulate, Compare, Index, Program, Range, Read, Reduction
from loopgrad.ir.printer import show_expression, show_range
from loopgrad.ir.walk import accumulates, conjuncts, indices_of, reads, statement_reads

NEIGHBOURS = 3  # at an extent of 2, `for 1 <= t < T` has one turn, and no other to read from
FEWEST_SIZES = 3  # admissible sizes that have to show a fault, where sizes are free at all


@dataclass(frozen=True, slots=True)
class Conflict:
    """An element that `first` and then `second` touch, and the values of indices in each."""

    first: Access
    second: Access
    place: tuple[int, ...]
    values: Environment
    others: Environment


# ------------------------------------------------------------------------------------- refutations


def changed_after(read: Access, write: Access, sizes: Sizes) -> Conflict | None:
    """Where the write changes an element that was read, at all sizes at which both happen."""
    if _hangs_on_data(read) or _hangs_on_data(write):
        return None

    def at(assignment: Environment) -> tuple[Conflict | None, bool]:
        latest: dict[tuple[int, ...], tuple[tuple[int, ...], Environment]] = {}
        for values in sizes.iterations(write, assignment, _matter(write)):
            where = _element(write, values)
            when = moment(write, values)
            if where is not None and (where not in latest or latest[where][0] < when):
                latest[where] = when, values
        happens = False
        for values in sizes.iterations(read, assignment, _matter(read)):
            where = _element(read, values)
            if where is None:
                continue
            happens = True
            if where in latest and latest[where][0] >= moment(read, values):
                return Conflict(read, write, where, values, latest[where][1]), True
        return None, happens and bool(latest)

    return _always(at, sizes, NEIGHBOURS)


def written_twice(one: Access, other: Access, sizes: Sizes) -> Conflict | None:
    """Where the two `=` (perhaps the same) write one element, at all sizes at which both happen."""
    if _hangs_on_data(one) or _hangs_on_data(other):
        return None

    def at(assignment: Environment) -> tuple[Conflict | None, bool]:
        first: dict[tuple[int, ...], Environment] = {}
        for values in sizes.iterations(one, assignment):
            where = _element(one, values)
            if where is None:
                continue
            if one is other and where in first:
                return Conflict(one, one, where, first[where], values), True
            first.setdefault(where, values)
        happens = one is other and bool(first)
        for values in sizes.iterations(other, assignment) if one is not other else ():
            where = _element(other, values)
            if where is not None:
                happens = True
                if where in first:
                    return Conflict(one, other, where, first[where], values), True
        return None, happens and bool(first)

    return _always(at, sizes, 2)


def _always(
    at: Callable[[Environment], tuple[Conflict | None, bool]], sizes: Sizes, smallest: int
) -> Conflict | None:
    """The first conflict, where there is one whenever both accesses happen.

    Tried at assignments with no extent below `smallest`.
    """
    found, count = None, 0
    try:
        for assignment in sizes:
            if any(assignment[name] < smallest for name in sizes.free):
                continue
            conflict, happen = at(assignment)
            if conflict is not None:
                found = found or conflict
                count += 1
            elif happen:
                return None
    except Unknown:
        return None
    return found if count >= (FEWEST_SIZES if sizes.free else 1) else None


def _hangs_on_data(access: Access) -> bool:
    """Whether, at first sight, data decide which element is touched or whether one is."""
    needed = [c for condition, truth in access.path if truth for c in conjuncts(condition)]
    decisive = [c for c in needed if isinstance(c, Compare | Read)]
    return any(True for e in (*access.read.subscripts, *decisive) for _ in reads(e))


def _matter(access: Access) -> frozenset[str]:
    return turns_of(access).union(*map(indices_of, access.read.subscripts))


def _element(access: Access, values: Environment) -> tuple[int, ...] | None:
    try:
        return element(access, values)
    except Unknown:
        return None


# ---------------------------------------------------------------------------- reads that come early


def describe_early_read(conflict: Conflict, program: Program, prover: Prover) -> Diagnostic:
    read, write = conflict.first, conflict.second
    shown = show_expression(read.read)
    turn = _turn_between(conflict)
    if turn is None and read.number == write.number:
        found, help = _same_statement(conflict, prover)
    elif turn is not None:
        found = f"`{shown}` is read while later turns of `for {turn.index}` still change it"
        help = _mend_turn(read, write, turn, prover)
    else:
        found = f"`{shown}` is read before it is complete"
        help = _mend_order(read, write, program)
    witness = f"`{_at(read.read.tensor, conflict.place)}`, read{_where(conflict.values, read)}, "
    witness += f"is written here{_where(conflict.others, write)}"
    return diagnostic(read, found, read.read.span, help, (note_on(write, witness),))


def _turn_between(conflict: Conflict) -> Turn | None:
    """The block's index whose later value changes the element, if that is why it changes."""
    read, write = conflict.first, conflict.second
    for a, b in zip(read.time, write.time, strict=False):
        if a != b:
            return None
        if isinstance(a, Turn) and conflict.values[a.index] != conflict.others[a.index]:
            return a
    return None


def _same_statement(conflict: Conflict, prover: Prover) -> tuple[str, str]:
    read, write = conflict.first, conflict.second
    shown, tensor = show_expression(read.read), read.read.tensor
    assert isinstance(write.statement, Accumulate)
    block = _as_block(read, write, prover)
    if block is not None:
        rest = [_said(r) for r in write.statement.ranges if r.index != block.index]
        inner = f"for {', '.join(rest)}: " if rest else ""
        inner += f"{show_expression(write.read)} {write.statement.reduction.value} ..."
        return (
            f"`{shown}` is read while this statement is still writing `{tensor}`: "
            "a one-line `for` has no order",
            f"make it a block, which runs in order: `for {_said(block)}:` on a line of its own, "
            f"and `{inner}` indented below it",
        )
    return (
        f"`{shown}` is read by the statement that changes it",
        f"give the new values a name of their own, as in `{_renamed(write.read)} "
        f"= ... {shown} ...`, and read that one from here on",
    )


def _as_block(read: Access, write: Access, prover: Prover) -> Range | None:
    """The range that, as a block around the statement, puts its reads behind its writes."""
    for r in write.statement.ranges:
        for descending in (False, True):
            turn = Turn(-1, r.index, descending)
            later_read = replace(read, time=(*read.time, turn, 0))
            later_write = replace(write, time=(*write.time, turn, 0))
            if never_changed_after(later_read, later_write, prover):
                return replace(r, descending=descending)
    return None


def _mend_turn(read: Access, write: Access, turn: Turn, prover: Prover) -> str:
    target = write.read
    shown = show_expression(read.read)
    if never_changed_after(_reversed(read, turn), _reversed(write, turn), prover):
        way = "upwards" if turn.descending else "downwards"
        order = f"{turn.index} descending" if not turn.descending else turn.index
        return f"run the block {way}, as in `for {order}:`, where `{shown}` is of an earlier turn"
    wider = show_expression(Read(target.tensor, (_index(turn.index), *target.subscripts)))
    if turn.index in indices_of_read(target):
        return f"read `{shown}` behind the block, or only what an earlier turn finished"
    axis = (
        f"give it an axis for `{turn.index}`, as in `{wider}`, and make each turn's from the last"
    )
    return axis if read.number == write.number else f"read it behind the block; or {axis}"


def _reversed(access: Access, turn: Turn) -> Access:
    """The access, were the block to run the other way."""
    other = replace(turn, descending=not turn.descending)
    return replace(access, time=tuple(other if step == turn else step for step in access.time))


def _mend_order(read: Access, write: Access, program: Program) -> str:
    moved = isinstance(read.statement, Accumulate) and not _hangs_on(write, read, program)
    if moved and len(read.time) == len(write.time) and read.time[:-1] == write.time[:-1]:
        return "put this statement below the one that finishes the tensor"
    return f"give the later values a name of their own, as in `{_renamed(write.read)}`"


def _hangs_on(write: Access, read: Access, program: Program) -> bool:
    """Whether the writing statement reads, perhaps through others, what the reading one writes."""
    assert isinstance(read.statement, Accumulate)
    goal, seen = read.statement.target.tensor, {write.read.tensor}
    pending = [write.read.tensor]
    sources: dict[str, set[str]] = {}
    for _, statement in accumulates(program.statements):
        names = {r.tensor for r in statement_reads(statement)}
        sources.setdefault(statement.target.tensor, set()).update(names)
    while pending:
        for name in sources.get(pending.pop(), ()):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return False


# ------------------------------------------------------------------------------ `=` that comes late


def describe_second_set(conflict: Conflict, operation: Reduction) -> Diagnostic:
    write = conflict.second
    shown, place = show_expression(write.read), _at(write.read.tensor, conflict.place)
    if conflict.first is not write:
        return diagnostic(
            write,
            f"`=` writes `{place}` a second time{_where(conflict.others, write)}",
            write.read.span,
            "let one statement write each element: narrow a range or add a guard, or use "
            f"`{operation.value}` in the second",
            (note_on(conflict.first, f"first written here{_where(conflict.values, write)}"),),
        )
    differ = [r.index for r in write.ranges if conflict.values[r.index] != conflict.others[r.index]]
    one, two = (values_in_words(v, differ) for v in (conflict.values, conflict.others))
    missing = [r.index for r in write.ranges if r.index not in indices_of_read(write.read)]
    found = f"`=` writes `{place}` more than once:{one} and again{two}"
    if missing:
        over = ", ".join(f"`{i}`" for i in missing)
        wider = Read(write.read.tensor, (*write.read.subscripts, *map(_index, missing)))
        help = (
            f"`{shown} {operation.value} ...` accumulates over {over}; "
            f"to keep each value, write to `{show_expression(wider)}`"
        )
    else:
        help = f"`{shown} {operation.value} ...` accumulates; or guard all but one of the writes"
    return diagnostic(write, found, write.read.span, help)


def describe_late_set(conflict: Conflict, operation: Reduction) -> Diagnostic:
    update, write = conflict.first, conflict.second
    place = _at(write.read.tensor, conflict.place)
    before = isinstance(update.time[-1], int) and update.time[:-1] == write.time[:-1]
    return diagnostic(
        write,
        f"`=` writes `{place}`{_where(conflict.others, write)} after an update of it: "
        f"`=` sets the value that `{operation.value}` starts from",
        write.read.span,
        "put this statement before the update"
        if before and _turn_between(conflict) is None
        else f"use `{operation.value}` here too, or a tensor of another name",
        (note_on(update, f"updated here{_where(conflict.values, update)}"),),
    )


# -------------------------------------------------------------------------------------------- words


def indices_of_read(read: Read) -> frozenset[str]:
    return frozenset().union(*map(indices_of, read.subscripts))


def _index(name: str) -> Index:
    return Index(name)


def _at(tensor: str, place: tuple[int, ...]) -> str:
    return f"{tensor}[{','.join(map(str, place))}]" if place else tensor


def _said(r: Range) -> str:
    """The range as it was written, where it was."""
    if r.span is None:
        return show_range(r)
    text = r.span.text
    return f"{text} descending" if r.descending and "descending" not in text else text


def _where(values: Environment, access: Access) -> str:
    named = indices_of_read(access.read) | turns_of(access)
    return values_in_words(values, named)


def _renamed(target: Read) -> str:
    return show_expression(Read(f"{target.tensor}2", target.subscripts))
