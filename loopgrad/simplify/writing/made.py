"""What extraction makes of sums: temporaries, and groups of terms that are one statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loopgrad.ir.nodes import (
    Accumulate,
    Statement,
)
from loopgrad.ir.printer import show_statement
from loopgrad.ir.walk import statement_reads
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.conditions import conditions_of, opposite
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.algebra.quotients import Powers
from loopgrad.simplify.reading.regions import Region


@dataclass
class Temporary:
    """`name[indices] = coefficient * sum over bound of the atoms`, made in a region's blocks."""

    name: str
    indices: tuple[str, ...]
    bound: nf.Bound
    atoms: Powers
    factor: Poly  # numbers and sizes
    region: Region


@dataclass(frozen=True)
class Target:
    """What a statement writes: a tensor, and its subscripts."""

    name: str
    subscripts: tuple[nf.Subscript, ...]
    sets: bool = False  # by `=`
    most: int = 0  # statements that it took before; 0 for one that is new


Part = tuple[nf.Bound, Powers, nf.Number]


@dataclass(frozen=True)
class Aligned:
    """A term of a statement: its loops, what it adds, where a scatter goes, bounds of its loops."""

    loops: Mapping[str, str]
    poly: Poly
    deltas: Mapping[str, nf.Subscript]
    bounds: tuple[Atom, ...]

    @property
    def sums(self) -> bool:
        return any(i.startswith("%") for i in self.loops)

    @property
    def kind(self) -> tuple[str, ...]:
        """Terms of one kind share a statement."""
        scatter = [f"{i} {d if isinstance(d, str) else d.key}" for i, d in self.deltas.items()]
        loops = [f"{i}<{e}" for i, e in self.loops.items() if i.startswith("%")]
        own = [c.key for c in self.bounds]
        return ("delta" if scatter else "", *sorted(scatter), *own, *loops)

    @property
    def guards(self) -> tuple[str, ...]:
        """What the term hangs on; the same for a condition and its opposite."""
        conditions = conditions_of(a for t, _ in self.poly.terms for a, _ in t.atoms)
        return tuple(sorted(min(c.key, opposite(c).key) for c in conditions))

    @property
    def alone(self) -> tuple[str, ...]:
        """The kind, for terms under the same conditions only; those under none come first."""
        first, *rest = self.kind
        loops = len([i for i in self.loops if i.startswith("%")])
        rest, last = rest[: len(rest) - loops], rest[len(rest) - loops :]
        return (first or ("if" if self.guards else ""), *rest, *self.guards, *last)


@dataclass(frozen=True)
class Group:
    """One statement before it is written: its sum, loops, and where it scatters and runs."""

    target: Target
    loops: Mapping[str, str]
    poly: Poly
    deltas: Mapping[str, nf.Subscript]
    conditions: tuple[Atom, ...]
    key: tuple[object, ...]


@dataclass(frozen=True)
class Piece:
    """The statements of a piece that has no temporaries, and itself as one that others may read."""

    groups: tuple[Group, ...]
    remembered: Temporary | None


@dataclass
class Made:
    """What was made before, by all that it follows from: most is the same in all candidates."""

    statements: dict[tuple[object, ...], Accumulate] = field(default_factory=dict)
    pieces: dict[tuple[object, ...], Piece] = field(default_factory=dict)
    costs: dict[tuple[int, frozenset[str]], float] = field(default_factory=dict)
    # By `id`, with the statements, which live as long as this does.
    texts: dict[int, tuple[Statement, str]] = field(default_factory=dict)
    reads: dict[int, tuple[Statement, frozenset[str]]] = field(default_factory=dict)

    def text_of(self, statement: Statement) -> str:
        if id(statement) not in self.texts:
            self.texts[id(statement)] = statement, show_statement(statement)
        return self.texts[id(statement)][1]

    def reads_of(self, statement: Statement) -> frozenset[str]:
        if id(statement) not in self.reads:
            found = frozenset(r.tensor for r in statement_reads(statement))
            self.reads[id(statement)] = statement, found
        return self.reads[id(statement)][1]
