"""A large program made stable piece by piece.

    for b, t, e, d:  q[b,t,e] += W[e,d] * x[b,t,d]
    for b, t, u, e:  s[b,t,u] += q[b,t,e] * k[b,u,e]
    for b, t, u:     Z[b,t]   += exp(s[b,t,u])                      a piece, of s and v
    for b, t, u, e:  o[b,t,e] += exp(s[b,t,u]) / Z[b,t] * v[b,u,e]  that returns o
    ..               the rest of a network, and its backward

What overflows or cancels is in a few statements; to run and to prove all others each time that a form of
these is tried takes seconds. So each piece is a program of its own, whose inputs are tensors that others
compute, and stands in the whole afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Input, Local, Program, Statement
from loopgrad.ir.walk import computed_tensors, fresh_name, names_in, renamed
from loopgrad.stable.differing import Unit, length, parts, units_of

MANY = 8  # statements of a program, from which on it may be large
FEW = 0.5  # of them, at most, may be in pieces
STEM = "·"  # no name of the notation has it


@dataclass(frozen=True)
class Piece:
    """Statements of a program, as one of their own.

    alike: the same with other names, which pieces have in common that differ in names alone. stems: the
    beginnings of names there, and here.
    """

    program: Program
    alike: Program
    stems: Mapping[str, str]

    def named(self, name: str) -> str:
        """The name here of a tensor of a form of `alike`."""
        stem, rest = _parted(name)
        return self.stems.get(stem, stem) + rest


@dataclass(frozen=True)
class Pieced:
    """A program, and pieces of it."""

    facts: Facts
    pieces: tuple[Piece, ...]

    def with_forms(self, forms: Mapping[Program, Program | None]) -> Program | None:
        """The program with forms of the pieces in their places; None where there is no order in which all is
        computed before it is read.

        forms: of what pieces that are alike have in common; None where they stay.
        """
        program, tensors = self.facts.program, self.facts.tensors
        taken, gone = names_in(program), set[str]()
        made = dict[str, Local]()
        groups: list[list[Statement]] = []
        for piece in self.pieces:
            form = forms[piece.alike]
            if form is not None:
                statements, locals_ = _placed(piece, form, taken)
                groups.append(statements)
                made |= locals_
                gone |= {*computed_tensors(piece.program)}

        def is_temporary(name: str) -> bool:
            return name not in tensors or tensors[name].role == "temporary"

        rest = [unit.statement for unit in units_of(program) if unit.written.isdisjoint(gone)]
        ordered = _merged(rest, groups)
        if ordered is None:
            return None
        lost = gone - made.keys()
        own = {name: m for name, m in made.items() if is_temporary(name)}
        kept = {local.name: local for local in program.locals if local.name not in lost}
        return replace(program, statements=tuple(ordered), locals=tuple({**own, **kept}.values()))


def pieced(facts: Facts, forms: Sequence[Program]) -> Pieced | None:
    """The program in pieces, where some forms of it say which statements they have, and most are in none."""
    try:
        found = parts([facts, *map(infer, forms)])
    except ProgramError:
        return None
    if not found:
        return None
    pieces = [literal for literal, *_ in found]
    if sum(map(length, pieces)) > FEW * length(facts.program):
        return None
    return Pieced(facts, tuple(map(_piece, pieces)))


def _piece(program: Program) -> Piece:
    given = [*(i.name for i in program.inputs), *computed_tensors(program)]
    stems = {
        stem: f"{STEM}{place}"
        for place, stem in enumerate(dict.fromkeys(_parted(n)[0] for n in given))
    }
    names = {name: stems[_parted(name)[0]] + _parted(name)[1] for name in given}
    alike = Program(
        "",
        tuple(
            replace(a, name=names[a.name]) if isinstance(a, Input) else a for a in program.arguments
        ),
        tuple(replace(r, name=names[r.name]) for r in program.results),
        tuple(renamed(s, names) for s in program.statements),
        tuple(replace(local, name=names[local.name]) for local in program.locals),
    )
    return Piece(program, alike, {new: stem for stem, new in stems.items()})


def _parted(name: str) -> tuple[str, str]:
    """`Z` and `.shift` of `Z.shift`, `x` and `'.grad` of `x'.grad`."""
    end = next((place for place, letter in enumerate(name) if letter in ".'"), len(name))
    return name[:end], name[end:]


def _placed(
    piece: Piece, form: Program, taken: set[str]
) -> tuple[list[Statement], dict[str, Local]]:
    """A form's statements, and what they compute, as the piece has it; what is new there gets names that are
    not taken."""
    facts = infer(form)
    known = {*computed_tensors(piece.program)}
    names = {name: piece.named(name) for name in facts.tensors}
    for name in computed_tensors(facts.program):
        if names[name] not in known:
            names[name] = fresh_name(names[name], taken)
            taken.add(names[name])
    made = {}
    for name in computed_tensors(facts.program):
        tensor = facts.tensors[name]
        made[names[name]] = Local(names[name], tensor.extents, tensor.element)
    return [renamed(s, names) for s in facts.program.statements], made


class _Group:
    """Statements that are not in the whole yet.

    keeps: whether they stay in their order; else each stands behind those that write what it reads.
    """

    def __init__(self, statements: Sequence[Statement], keeps: bool):
        self.left = [Unit(place, statement) for place, statement in enumerate(statements)]
        self.unwritten = Counter(name for unit in self.left for name in unit.written)
        last = {name: unit.place for unit in self.left for name in unit.written}
        self.keeps = keeps or any(
            last.get(name, -1) > unit.place for unit in self.left for name in unit.read
        )

    def next(self, others: Sequence[_Group]) -> Unit | None:
        """One that may come now."""
        for unit in self.left[:1] if self.keeps else self.left:
            if self._may_come(unit) and not any(
                group.unwritten[name] for group in others for name in unit.read
            ):
                return unit
        return None

    def _may_come(self, unit: Unit) -> bool:
        if self.keeps:
            return True
        before = {n for u in self.left if u.place < unit.place for n in u.written}
        return before.isdisjoint(unit.written) and not any(
            self.unwritten[name] > (name in unit.written) for name in unit.read
        )

    def take(self, unit: Unit) -> Statement:
        self.left.remove(unit)
        self.unwritten.subtract(unit.written)
        return unit.statement


def _merged(
    rest: Sequence[Statement], others: Sequence[Sequence[Statement]]
) -> list[Statement] | None:
    """All in one order, in which the rest stays in its own. Others come as soon as they may: what a backward
    reads of a forward, before what the forward itself goes on with."""
    groups = [*(_Group(statements, False) for statements in others), _Group(rest, True)]
    found: list[Statement] = []
    while any(group.left for group in groups):
        for group in groups:
            unit = group.next([other for other in groups if other is not group])
            if unit is not None:
                found.append(group.take(unit))
                break
        else:
            return None
    return found
