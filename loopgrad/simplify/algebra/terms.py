"""Terms: sums over bound indices of products of atoms, with canonical names for those indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import count, permutations
from itertools import product as combinations

from loopgrad.simplify.algebra.atoms import Atom, Keyed, Number, Subscript
from loopgrad.simplify.algebra.budget import spell, spend

MOST_ORDERS = 720  # of bound indices that look alike
FEW_ORDERS = 8  # from so many on they are work beside the term's own

Bound = tuple[tuple[str, str], ...]  # (index, text of its extent)
Powers = Mapping[Atom, Number]


class Term(Keyed):
    """`sum over bound of product of atoms`; made by `product` only."""

    def __init__(self, bound: Bound, atoms: tuple[tuple[Atom, Number], ...]):
        self.bound, self.atoms = bound, atoms
        self.key = _text(bound, atoms)
        own = {i for i, _ in bound}
        self.free = frozenset().union(*[a.free for a, _ in atoms]) - own
        self.conditional = any(a.kind == "indicator" for a, _ in atoms)

    @cached_property
    def tensors(self) -> frozenset[str]:
        return frozenset().union(*[a.tensors for a, _ in self.atoms])

    @cached_property
    def height(self) -> int:
        return max([a.height for a, _ in self.atoms], default=0) + bool(self.bound)

    @cached_property
    def shape(self) -> str:
        shapes = sorted([f"{a.shape}^{p}" for a, p in self.atoms])
        return f"[{','.join(sorted([e for _, e in self.bound]))}]{'*'.join(shapes)}"

    def opened(self) -> tuple[Bound, dict[Atom, Number]]:
        """The bound indices under fresh names, and the powers of the atoms."""
        if not self.bound:
            return (), dict(self.atoms)
        names: dict[str, Subscript] = {i: fresh_index() for i, _ in self.bound}
        bound = tuple((str(names[i]), e) for i, e in self.bound)
        return bound, {a.renamed(names): p for a, p in self.atoms}


def _text(bound: Bound, atoms: Iterable[tuple[Atom, Number]]) -> str:
    inside = "*".join([a.key if p == 1 else f"{a.key}^{p}" for a, p in atoms]) or "1"
    return f"sum[{','.join(f'{i}<{e}' for i, e in bound)}]({inside})" if bound else inside


_counter = count()


def fresh_index() -> str:
    return f"#{next(_counter):06d}"


def restart_names(first: int = 0) -> None:
    """Fresh names from the first on."""
    global _counter
    _counter = count(first)


def closed(ranges: Mapping[str, str], atoms: Mapping[Atom, Number]) -> Term:
    """The term with canonical names: of the orders of its bound indices, the one of least text."""
    if not ranges:
        return Term((), tuple(sorted(atoms.items(), key=lambda t: t[0].key)))
    spend()
    height = 1 + max((a.height for a in atoms), default=0)
    if len(ranges) == 1:
        return _counted(_named(list(ranges), ranges, atoms, height))

    def signature(index: str) -> tuple[str, list[str]]:
        marks = []
        for atom, power in atoms.items():
            if index in atom.free:
                others: dict[str, Subscript] = {i: "?" for i in atom.free if i != index}
                marks.append(f"{atom.renamed({**others, index: '!'}).key}^{power}")
        return ranges[index], sorted(marks)

    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for index in ranges:
        extent, marks = signature(index)
        groups.setdefault((extent, tuple(marks)), []).append(index)
    ordered = [groups[key] for key in sorted(groups)]
    orders = 1
    for group in ordered:
        for n in range(2, len(group) + 1):
            orders *= n
    if orders > MOST_ORDERS:
        return _counted(_named([i for g in ordered for i in g], ranges, atoms, height))
    spend(orders // FEW_ORDERS)
    choices = combinations(*(list(permutations(g)) for g in ordered))
    named = (_named([i for g in choice for i in g], ranges, atoms, height) for choice in choices)
    return min(((key, _counted((key, term))) for key, term in named), key=lambda t: t[0])[1]


def _counted(named: tuple[str, Term]) -> Term:
    key, term = named
    spell(len(key))
    return term


def _named(
    order: Sequence[str], ranges: Mapping[str, str], atoms: Mapping[Atom, Number], height: int
) -> tuple[str, Term]:
    names: dict[str, Subscript] = {i: f"${height}.{n}" for n, i in enumerate(order)}
    renamed: dict[Atom, Number] = {}
    for atom, power in atoms.items():
        new = atom.renamed(names)
        renamed[new] = renamed.get(new, 0) + power
    term = Term(
        tuple((str(names[i]), ranges[i]) for i in order),
        tuple(sorted(((a, p) for a, p in renamed.items() if p), key=lambda t: t[0].key)),
    )
    return term.key, term
