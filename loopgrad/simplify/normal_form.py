"""Sums of products with bound indices, in a form in which equal things are equal texts.

    Poly   a sum of terms with rational coefficients
    Term   sum over bound indices of a product of atoms to rational powers
    Atom   a read, a size, a function of sums, a sum under a power, `delta(i, e)`, an indicator

Bound indices have canonical names (`$1.0`): the number before the point is one more than that of
every sum inside the term's atoms, so an index put into an atom is never captured there. A term that
is being worked on is *opened*: its bound indices get fresh names (`#12`), and `product` closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import count, permutations
from itertools import product as combinations
from threading import RLock
from typing import Union

from loopgrad.ir.nodes import Expression, Extent, Index, Program
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import indices_of, reads, substitute

Number = int | Fraction
Subscript = Union[str, "Atom"]  # an index, or an integer formula as an opaque atom
MOST_ORDERS = 720  # of bound indices that look alike
MOST_TERMS = 4_000


# Names and extents belong to the program that is being worked on: one at a time.
WORKING = RLock()


class TooLarge(Exception):
    """A form grew beyond what is worth working on."""


def exact(value: Number) -> Number:
    """An int where it is one."""
    return int(value) if value.denominator == 1 else value


class _Keyed:
    """Equal, hashed and ordered by its text."""

    __slots__ = ("__dict__", "key")
    key: str

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Keyed) and self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key


# --------------------------------------------------------------------------------------------- atoms


class Atom(_Keyed):
    """A factor that is not taken apart. `shape` is the text without the names of free indices.

    kind      name        parts
    read      tensor      subscripts
    name      B, eps                         (an extent or constant; `node` is its expression)
    index                 the index          (as a number)
    function  exp, max    Polys
    sum                   one Poly           (under a power, or named: `x[b,j] - mu[j]`)
    delta                 two subscripts     (1 where they are equal, else 0)
    indicator             an expression      (1 where it holds, else 0)
    opaque                an expression
    """

    __slots__ = ("free", "height", "kind", "name", "node", "parts", "shape", "tensors")
    free: frozenset[str]
    tensors: frozenset[str]
    shape: str
    height: int

    def __init__(
        self, kind: str, name: str = "", parts: tuple[object, ...] = (), node: object = None
    ):
        self.kind, self.name, self.parts, self.node = kind, name, parts, node
        self.height = 0
        match kind:
            case "read" | "delta":
                shown = [p if isinstance(p, str) else p.key for p in parts]  # type: ignore[attr-defined]
                shapes = ["?" if isinstance(p, str) else p.shape for p in parts]  # type: ignore[attr-defined]
                self.free = frozenset(p for p in parts if isinstance(p, str)).union(
                    *(p.free for p in parts if isinstance(p, Atom))
                )
                self.tensors = frozenset({name} if kind == "read" else ()).union(
                    *(p.tensors for p in parts if isinstance(p, Atom))
                )
                head = name if kind == "read" else "delta "  # no tensor's name
                self.key = f"{head}[{','.join(shown)}]"
                self.shape = f"{head}[{','.join(shapes)}]"
            case "name":
                self.key = self.shape = name
                self.free, self.tensors = frozenset(), frozenset()
            case "index":
                self.key, self.shape = f"index({parts[0]})", "index(?)"
                self.free, self.tensors = frozenset(parts), frozenset()  # type: ignore[arg-type]
            case "function" | "sum":
                polys: tuple[Poly, ...] = parts  # type: ignore[assignment]
                self.key = f"{name}({'; '.join(p.key for p in polys)})"
                self.shape = f"{name}({'; '.join(p.shape for p in polys)})"
                self.free = frozenset().union(*(p.free for p in polys))
                self.tensors = frozenset().union(*(p.tensors for p in polys))
                self.height = max((p.height for p in polys), default=0)
            case _:
                expression: Expression = parts[0]  # type: ignore[assignment]
                self.free = indices_of(expression)
                self.key = f"{kind}<{show_expression(expression)}>"
                blank = substitute(expression, {i: Index("?") for i in self.free})
                self.shape = f"{kind}<{show_expression(blank)}>"
                self.tensors = frozenset(r.tensor for r in reads(expression))

    def renamed(self, names: Mapping[str, Subscript]) -> Atom:
        """With free indices replaced; only meaningful where `as_poly` need not simplify."""
        if self.free.isdisjoint(names):
            return self
        match self.kind:
            case "read" | "delta":
                return Atom(self.kind, self.name, tuple(rename(p, names) for p in self.parts))  # type: ignore[arg-type]
            case "index":
                new = rename(self.parts[0], names)  # type: ignore[arg-type]
                return Atom("index", "", (new,)) if isinstance(new, str) else new
            case "function" | "sum":
                return Atom(self.kind, self.name, tuple(p.renamed(names) for p in self.parts))  # type: ignore[attr-defined]
        into = {i: as_expression(names[i]) for i in self.free if i in names}
        return Atom(self.kind, self.name, (substitute(self.parts[0], into),))  # type: ignore[arg-type]


def rename(subscript: Subscript, names: Mapping[str, Subscript]) -> Subscript:
    if isinstance(subscript, str):
        return names.get(subscript, subscript)
    return subscript.renamed(names)


def as_expression(subscript: Subscript) -> Expression:
    if isinstance(subscript, str):
        return Index(subscript)
    return subscript.parts[0]  # type: ignore[return-value]


def read(tensor: str, subscripts: Sequence[Subscript]) -> Atom:
    return Atom("read", tensor, tuple(subscripts))


# --------------------------------------------------------------------------------------------- terms

Bound = tuple[tuple[str, str], ...]  # (index, text of its extent)
Powers = Mapping[Atom, Number]


class Term(_Keyed):
    """`sum over bound of product of atoms`; made by `product` only."""

    __slots__ = ("atoms", "bound", "free", "height", "shape", "tensors")

    def __init__(self, bound: Bound, atoms: tuple[tuple[Atom, Number], ...]):
        self.bound, self.atoms = bound, atoms
        self.key = _text(bound, atoms)
        own = {i for i, _ in bound}
        self.free = frozenset().union(*(a.free for a, _ in atoms)) - own
        self.tensors = frozenset().union(*(a.tensors for a, _ in atoms))
        self.height = max((a.height for a, _ in atoms), default=0) + bool(bound)
        shapes = sorted(f"{a.shape}^{p}" for a, p in atoms)
        self.shape = f"[{','.join(sorted(e for _, e in bound))}]{'*'.join(shapes)}"

    def opened(self) -> tuple[Bound, dict[Atom, Number]]:
        """The bound indices under fresh names, and the powers of the atoms."""
        if not self.bound:
            return (), dict(self.atoms)
        names: dict[str, Subscript] = {i: fresh_index() for i, _ in self.bound}
        bound = tuple((str(names[i]), e) for i, e in self.bound)
        return bound, {a.renamed(names): p for a, p in self.atoms}


def _text(bound: Bound, atoms: Iterable[tuple[Atom, Number]]) -> str:
    inside = "*".join(a.key if p == 1 else f"{a.key}^{p}" for a, p in atoms) or "1"
    return f"sum[{','.join(f'{i}<{e}' for i, e in bound)}]({inside})" if bound else inside


_counter = count()


def fresh_index() -> str:
    return f"#{next(_counter):06d}"


def restart_names() -> None:
    """Fresh names from the first on, and no extents: a run does not depend on those before it."""
    global _counter
    _counter = count()
    _EXTENTS.clear()
    extent_poly.cache_clear()


def product(bound: Iterable[tuple[str, str]], powers: Powers, coefficient: Number = 1) -> Poly:
    """The sum over opened indices of a product, in normal form."""
    if not coefficient:
        return ZERO
    ranges, atoms = dict(bound), {a: p for a, p in powers.items() if p}
    delta = next((a for a in sorted(atoms, key=_key) if a.kind == "delta"), None)
    while delta is not None:
        left, right = delta.parts
        names: dict[str, Subscript] = {}
        if left == right:
            pass
        elif isinstance(left, str) and left in ranges and left not in _free(right):  # type: ignore[arg-type]
            names = {left: right}  # type: ignore[dict-item]
        elif isinstance(right, str) and right in ranges and right not in _free(left):  # type: ignore[arg-type]
            names = {right: left}  # type: ignore[dict-item]
        else:
            break
        del atoms[delta]
        for index in names:
            del ranges[index]
        again: dict[Atom, Number] = {}
        for atom, power in atoms.items():
            new = atom.renamed(names)
            again[new] = again.get(new, 0) + power
        atoms = {a: p for a, p in again.items() if p}
        delta = next((a for a in sorted(atoms, key=_key) if a.kind == "delta"), None)
    atoms = _along_deltas(atoms)
    for atom in atoms:
        if atom.kind == "indicator":
            atoms[atom] = 1
    result_sizes: list[str] = []
    if ranges:
        used = frozenset().union(*(a.free for a in atoms))
        for index in [i for i in ranges if i not in used]:
            result_sizes.append(ranges.pop(index))
    term = Poly({_closed(ranges, atoms): exact(coefficient)})
    for size in sorted(result_sizes):
        term = times(term, extent_poly(size))
    return term


def _along_deltas(atoms: dict[Atom, Number]) -> dict[Atom, Number]:
    """`f(j) delta(j, e)` is `f(e) delta(j, e)`."""
    for delta in sorted((a for a in atoms if a.kind == "delta"), key=_key):
        left, right = delta.parts
        if not isinstance(left, str) or left in _free(right):  # type: ignore[arg-type]
            continue
        moved: dict[Atom, Number] = {}
        for atom, power in atoms.items():
            new = atom if atom is delta else atom.renamed({left: right})  # type: ignore[dict-item]
            moved[new] = moved.get(new, 0) + power
        atoms = {a: p for a, p in moved.items() if p}
    return atoms


def _key(thing: _Keyed) -> str:
    return thing.key


def _free(subscript: Subscript) -> frozenset[str]:
    return frozenset({subscript}) if isinstance(subscript, str) else subscript.free


def _closed(ranges: Mapping[str, str], atoms: Mapping[Atom, Number]) -> Term:
    """The term with canonical names: of the orders of its bound indices, the one of least text."""
    if not ranges:
        return Term((), tuple(sorted(atoms.items(), key=lambda t: t[0].key)))
    height = 1 + max((a.height for a in atoms), default=0)
    if len(ranges) == 1:
        return _named(list(ranges), ranges, atoms, height)[1]

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
        return _named([i for g in ordered for i in g], ranges, atoms, height)[1]
    choices = combinations(*(list(permutations(g)) for g in ordered))
    named = (_named([i for g in choice for i in g], ranges, atoms, height) for choice in choices)
    return min(named, key=lambda t: t[0])[1]


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


# --------------------------------------------------------------------------------------------- sums


class Poly(_Keyed):
    """A sum of terms; zero coefficients are left out, terms sorted by their text."""

    __slots__ = ("free", "height", "shape", "tensors", "terms")

    def __init__(self, terms: Mapping[Term, Number]):
        if len(terms) > MOST_TERMS:
            raise TooLarge
        kept = sorted(((t, c) for t, c in terms.items() if c), key=lambda t: t[0].key)
        self.terms: tuple[tuple[Term, Number], ...] = tuple(kept)
        self.key = " + ".join(t.key if c == 1 else f"{c} {t.key}" for t, c in kept) or "0"
        self.shape = " + ".join(sorted(f"{c} {t.shape}" for t, c in kept))
        self.free = frozenset().union(*(t.free for t, _ in kept))
        self.tensors = frozenset().union(*(t.tensors for t, _ in kept))
        self.height = max((t.height for t, _ in kept), default=0)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def renamed(self, names: Mapping[str, Subscript]) -> Poly:
        if self.free.isdisjoint(names):
            return self
        opened = ((t.opened(), c) for t, c in self.terms)
        return plus(*(product(b, _renamed(p, names), c) for (b, p), c in opened))

    @cached_property
    def constant(self) -> Number | None:
        """Its value, where it is a number."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0].atoms and not self.terms[0][0].bound:
            return self.terms[0][1]
        return None


def _renamed(powers: Powers, names: Mapping[str, Subscript]) -> dict[Atom, Number]:
    found: dict[Atom, Number] = {}
    for atom, power in powers.items():
        new = atom.renamed(names)
        found[new] = found.get(new, 0) + power
    return found


UNIT = Term((), ())
ZERO = Poly({})
ONE = Poly({UNIT: 1})


KEEP = Poly({UNIT: 2})  # known by identity


def number(value: Number) -> Poly:
    return Poly({UNIT: exact(value)})


def of_atom(atom: Atom, power: Number = 1) -> Poly:
    return product((), {atom: power})


def plus(*polys: Poly) -> Poly:
    total: dict[Term, Number] = {}
    for poly in polys:
        for term, coefficient in poly.terms:
            total[term] = total.get(term, 0) + coefficient
    return Poly({t: exact(c) for t, c in total.items() if c})


def scaled(poly: Poly, factor: Number) -> Poly:
    return Poly({t: exact(c * factor) for t, c in poly.terms})


def times(*polys: Poly) -> Poly:
    """The product, distributed. Whole sums of sizes stay atoms: `(B - 1)` meets `1 / (B - 1)`."""
    result = ONE
    for poly in polys:
        if len(result.terms) * len(poly.terms) > MOST_TERMS:
            raise TooLarge
        if poly is ONE or not result.terms:
            continue
        if result is ONE:
            result = poly
            continue
        result = plus(
            *(_times_term(t, c, u, d) for t, c in _factors(result) for u, d in _factors(poly))
        )
    return result


def _factors(poly: Poly) -> Sequence[tuple[Term, Number]]:
    if len(poly.terms) > 1 and _of_sizes(poly):
        whole = powered_sum(poly, 1)
        return whole.terms
    return poly.terms


def _of_sizes(poly: Poly) -> bool:
    if poly.tensors or poly.free:
        return False
    return any(isinstance(a.node, Extent) for t, _ in poly.terms for a, _ in t.atoms)


def _times_term(t: Term, c: Number, u: Term, d: Number) -> Poly:
    if not t.atoms and not t.bound:
        return Poly({u: exact(c * d)})
    (left, powers), (right, more) = t.opened(), u.opened()
    for atom, power in more.items():
        powers[atom] = powers.get(atom, 0) + power
    return product((*left, *right), powers, c * d)


# -------------------------------------------------------------------------------- powers, functions


def power(poly: Poly, exponent: Number) -> Poly:
    """`poly ** exponent` for a rational exponent."""
    exponent = exact(exponent)
    if exponent == 0:
        return ONE
    if exponent == 1:
        return poly
    value = poly.constant
    if value is not None and value and exponent.denominator == 1:
        return number(exact(Fraction(value) ** int(exponent)))
    if value == 1 or (value == 0 and exponent > 0):
        return poly
    if len(poly.terms) == 1 and not poly.terms[0][0].bound:
        (term, coefficient) = poly.terms[0]
        if exponent.denominator == 1:
            whole = {a: p * exponent for a, p in term.atoms}
            return product((), whole, Fraction(coefficient) ** int(exponent))
        if coefficient == 1 and len(term.atoms) == 1:
            ((atom, p),) = term.atoms
            if p == 1 or _positive(atom) or p.denominator != 1:
                return product((), {atom: exact(p * exponent)}, 1)
    if exponent.denominator == 1 and exponent > 0:
        return times(*([poly] * int(exponent)))
    if len(poly.terms) == 1 and exponent.denominator == 1:
        outside, inside = _split(poly.terms[0][0])
        if outside:
            whole = {a: p * exponent for a, p in outside.items()}
            factor = Fraction(poly.terms[0][1]) ** int(exponent)
            return times(product((), whole, factor), powered_sum(inside, exponent))
    return powered_sum(poly, exponent)


def _split(term: Term) -> tuple[dict[Atom, Number], Poly]:
    """A sum as the factors that its bound indices do not touch, and the rest."""
    bound, powers = term.opened()
    inner = {i for i, _ in bound}
    outside = {a: p for a, p in powers.items() if not a.free & inner}
    return outside, product(bound, {a: p for a, p in powers.items() if a not in outside})


def _positive(atom: Atom) -> bool:
    return (atom.kind == "name" and isinstance(atom.node, Extent)) or (
        atom.kind == "function" and atom.name in ("exp", "sigmoid", "softplus")
    )


def powered_sum(poly: Poly, exponent: Number) -> Poly:
    """A sum as one factor, under a power; its leading coefficient is 1 where the power is whole."""
    leading: Number = 1
    if exponent.denominator == 1 and poly.terms:
        leading = min(poly.terms, key=lambda t: (not t[0].atoms, t[0].shape))[1]
    inside = scaled(poly, Fraction(1) / leading)
    atom = Atom("sum", "", (inside,))
    return product((), {atom: exponent}, Fraction(leading) ** int(exponent) if leading != 1 else 1)


def function(name: str, *arguments: Poly) -> Poly:
    """`exp(a)`, `max(a, b)`: with what is known of exp, log and odd functions."""
    argument = arguments[0]
    match name:
        case "sqrt":
            return power(argument, Fraction(1, 2))
        case "rsqrt":
            return power(argument, Fraction(-1, 2))
        case "exp":
            return _exp(argument)
        case "log":
            return _log(argument)
        case "sigmoid" if _negative(argument):
            return plus(ONE, scaled(function("sigmoid", scaled(argument, -1)), -1))
        case "tanh" if _negative(argument):
            return scaled(function("tanh", scaled(argument, -1)), -1)
        case "tanh" if not argument:
            return ZERO
    return of_atom(Atom("function", name, arguments))


def _negative(poly: Poly) -> bool:
    """Is the leading coefficient below 0? Asked by shape, so that renaming does not change it."""
    return bool(poly.terms) and min(poly.terms, key=lambda t: t[0].shape)[1] < 0


def _exp(argument: Poly) -> Poly:
    if not argument:
        return ONE
    for term, coefficient in argument.terms:
        if not term.bound and len(term.atoms) == 1:
            ((atom, p),) = term.atoms
            if atom.kind == "function" and atom.name == "log" and p == 1:
                rest = plus(argument, Poly({term: -coefficient}))
                return times(_exp(rest), power(atom.parts[0], coefficient))  # type: ignore[arg-type]
    return of_atom(Atom("function", "exp", (argument,)))


def _log(argument: Poly) -> Poly:
    if argument.constant == 1:
        return ZERO
    if len(argument.terms) == 1:
        term, coefficient = argument.terms[0]
        bound, powers = term.opened()
        inner = {i for i, _ in bound}
        outside, inside = ZERO, {}
        for atom, p in powers.items():
            if atom.kind == "function" and atom.name == "exp" and not atom.free & inner:
                outside = plus(outside, scaled(atom.parts[0], p))  # type: ignore[arg-type]
            else:
                inside[atom] = p
        if outside.terms:
            return plus(outside, _log(product(bound, inside, coefficient)))
    return of_atom(Atom("function", "log", (argument,)))


# ------------------------------------------------------------------------------- extents as numbers

_EXTENTS: dict[str, Expression] = {}


def extent_text(extent: Expression) -> str:
    text = show_expression(extent, True)
    _EXTENTS.setdefault(text, extent)
    return text


def extent_expression(text: str) -> Expression:
    return _EXTENTS[text]


@lru_cache(maxsize=1024)
def extent_poly(text: str) -> Poly:
    from loopgrad.simplify.reading import Reader

    return Reader({}).value(_EXTENTS[text])


# --------------------------------------------------------------------------------------- traversal


def map_atoms(poly: Poly, change: Callable[[Atom], Poly | None]) -> Poly:
    """The sum with atoms replaced, those inside functions first; None leaves an atom as it is."""
    parts: list[Poly] = []
    changed = False
    for term, coefficient in poly.terms:
        replaced: list[tuple[Poly, Number]] = []
        kept: dict[Atom, Number] = {}
        bound: Bound = ()
        powers = dict(term.atoms)
        if term.bound:
            if all(_same(a, change) for a, _ in term.atoms):
                parts.append(Poly({term: coefficient}))
                continue
            bound, powers = term.opened()
        for atom, p in powers.items():
            new = map_atom(atom, change)
            if new is None:
                kept[atom] = p
            else:
                replaced.append((new, p))
        if not replaced:
            parts.append(Poly({term: coefficient}))
            continue
        changed = True
        parts.append(multiplied(bound, kept, coefficient, replaced))
    return plus(*parts) if changed else poly


def _same(atom: Atom, change: Callable[[Atom], Poly | None]) -> bool:
    return map_atom(atom, change) is None


def map_atom(atom: Atom, change: Callable[[Atom], Poly | None]) -> Poly | None:
    """What becomes of the atom; None where that is itself. `change` gives KEEP for one to leave."""
    new = change(atom)
    if new is KEEP:
        return None
    if new is not None:
        return new
    if atom.kind in ("function", "sum"):
        arguments: tuple[Poly, ...] = atom.parts  # type: ignore[assignment]
        mapped = tuple(map_atoms(a, change) for a in arguments)
        if any(a is not b for a, b in zip(mapped, arguments, strict=True)):
            return function(atom.name, *mapped) if atom.kind == "function" else mapped[0]
    return None


def multiplied(
    bound: Bound, kept: Powers, coefficient: Number, factors: Iterable[tuple[Poly, Number]]
) -> Poly:
    """An open product times powers of sums, which may read the open indices."""
    states: list[tuple[Bound, dict[Atom, Number], Number]] = [(bound, dict(kept), coefficient)]
    for poly, exponent in factors:
        whole = power(poly, exponent)
        following = []
        for ranges, powers, c in states:
            for term, d in _factors(whole):
                more, atoms = term.opened()
                joined = dict(powers)
                for atom, p in atoms.items():
                    joined[atom] = joined.get(atom, 0) + p
                following.append(((*ranges, *more), joined, c * d))
        states = following
        if len(states) > MOST_TERMS:
            raise TooLarge
    return plus(*(product(b, p, c) for b, p, c in states))


def atoms_of(poly: Poly) -> Iterator[Atom]:
    """Every atom, those inside functions and sums included."""
    for term, _ in poly.terms:
        for atom, _ in term.atoms:
            yield atom
            if atom.kind in ("function", "sum"):
                for inside in atom.parts:
                    yield from atoms_of(inside)  # type: ignore[arg-type]


def equal_forms(p: Program, q: Program, forward: Program | None = None) -> bool:
    """See `loopgrad.simplify.forms.equal_forms`."""
    from loopgrad.simplify.forms import equal_forms as decide

    return decide(p, q, forward)
