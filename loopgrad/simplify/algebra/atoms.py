"""Atoms: the factors that are not taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Union

from loopgrad.ir.nodes import Expression, Index
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import indices_of, reads, substitute
from loopgrad.simplify.algebra.integers import (
    canonical,
    canonical_inside,
    combined,
    expression_of,
    linear,
    shape,
    shape_inside,
)

if TYPE_CHECKING:
    from loopgrad.simplify.algebra.sums import Poly

Number = int | Fraction
AT_LEAST, IS_ZERO, NOT_ZERO, HOLDS, FAILS = ">=0", "==0", "!=0", "holds", "fails"
EITHER_SIGN = (IS_ZERO, NOT_ZERO)
Subscript = Union[str, "Atom"]  # an index, or an integer formula as an opaque atom


def exact(value: Number) -> Number:
    """An int where it is one."""
    return int(value) if value.denominator == 1 else value


class Keyed:
    """Equal, hashed and ordered by its text."""

    __slots__ = ("__dict__", "key")
    key: str

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Keyed) and self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key


_loose = False


@contextmanager
def loosely(loose: bool) -> Iterator[None]:
    """Within, shapes do not tell `a[t+1]` from `a[t]`, so that a relation of one is tried on the other.

    For proofs: a simplification would have too many forms to choose from. Under `normal_form.WORKING`.
    """
    global _loose
    before, _loose = _loose, loose
    try:
        yield
    finally:
        _loose = before


class Atom(Keyed):
    """A factor that is not taken apart. `shape` is the text without the names of free indices.

    kind      name        parts
    read      tensor      subscripts
    name      B, eps                         (an extent or constant; `node` is its expression)
    index                 the index          (as a number)
    function  exp, max    Polys
    sum                   one Poly           (under a power, or named: `x[b,j] - mu[j]`)
    delta                 two subscripts     (1 where they are equal, else 0)
    indicator   >=0       an integer form    (also ==0, !=0; conditions.py)
                holds     a condition        (also fails)
    truth                 as an indicator    (the same as a number, for equality: forms.py)
    integer               an integer form    (in a subscript)
    opaque                an expression

    A term with an indicator is *nothing* where that does not hold: its other factors are not
    evaluated there. A truth is a factor 0 or 1.
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
                texts = [p if isinstance(p, str) else p.key for p in parts]  # type: ignore[attr-defined]
                shapes = [_shape_of(p) for p in parts]
                self.free = frozenset(p for p in parts if isinstance(p, str)).union(
                    *(p.free for p in parts if isinstance(p, Atom))
                )
                self.tensors = frozenset({name} if kind == "read" else ()).union(
                    *(p.tensors for p in parts if isinstance(p, Atom))
                )
                head = name if kind == "read" else "delta "  # no tensor's name
                self.key = f"{head}[{','.join(texts)}]"
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
                head = f"{kind} {name}".rstrip()
                self.key = f"{head}<{show_expression(expression)}>"
                blank = shape if self.integer else shape_inside
                shown = blank(expression)
                if name in EITHER_SIGN:
                    shown = min(shown, blank(negated(expression)))
                self.shape = f"{head}<{shown}>"
                self.tensors = frozenset(r.tensor for r in reads(expression))

    def _read(self, indices: tuple[str, ...]) -> Atom:
        """The read at other plain indices; most of all atoms that are made."""
        made = object.__new__(Atom)
        made.kind, made.name, made.parts, made.node = "read", self.name, indices, None
        made.height, made.free = 0, frozenset(indices)
        made.key = f"{self.name}[{','.join(indices)}]"
        if _plain(self.parts):
            made.shape, made.tensors = self.shape, self.tensors
        else:
            made.shape = f"{self.name}[{','.join(['?'] * len(indices))}]"
            made.tensors = frozenset({self.name})
        return made

    @property
    def indices(self) -> list[str]:
        """The free indices, those of a read in the order of its axes."""
        plain = [p for p in self.parts if isinstance(p, str)]
        return [*dict.fromkeys(plain), *sorted(self.free.difference(plain))]

    def renamed(self, names: Mapping[str, Subscript]) -> Atom:
        """With free indices replaced; only meaningful where `as_poly` need not simplify."""
        if self.free.isdisjoint(names):
            return self
        match self.kind:
            case "read" | "delta":
                parts = tuple([rename(p, names) for p in self.parts])  # type: ignore[arg-type]
                if self.kind == "read" and _plain(parts):
                    return self._read(parts)  # type: ignore[arg-type]
                return Atom(self.kind, self.name, parts)
            case "index":
                new = rename(self.parts[0], names)  # type: ignore[arg-type]
                return Atom("index", "", (new,)) if isinstance(new, str) else new
            case "function" | "sum":
                return Atom(self.kind, self.name, tuple(p.renamed(names) for p in self.parts))  # type: ignore[attr-defined]
        into = {i: as_expression(names[i]) for i in self.free if i in names}
        expression = substitute(self.parts[0], into)  # type: ignore[arg-type]
        changed = (canonical if self.integer else canonical_inside)(expression)
        if self.name in EITHER_SIGN:
            changed = signed(changed)
        return Atom(self.kind, self.name, (changed,))

    @property
    def integer(self) -> bool:
        """Is its part a sum of integers?"""
        return self.kind == "integer" or self.name in (AT_LEAST, *EITHER_SIGN)


def _shape_of(subscript: object) -> str:
    if not isinstance(subscript, Atom) or (_loose and subscript.free):
        return "?"
    return subscript.shape


def signed(expression: Expression) -> Expression:
    """Of `e` and `-e` the one that is written first."""
    both = (expression, negated(expression))
    return min(both, key=lambda e: (shape(e), show_expression(e)))


def negated(expression: Expression) -> Expression:
    """`-e` of an integer form."""
    return expression_of(combined({}, linear(expression), -1))


_TEXT = frozenset({str})


def _plain(parts: tuple[object, ...]) -> bool:
    """Are all of them indices?"""
    return _TEXT.issuperset(map(type, parts))


def rename(subscript: Subscript, names: Mapping[str, Subscript]) -> Subscript:
    if isinstance(subscript, str):
        return names.get(subscript, subscript)
    renamed = subscript.renamed(names)
    part = renamed.parts[0]
    return part.name if isinstance(part, Index) else renamed


def subscript_of(expression: Expression) -> Subscript:
    """A plain index, or an integer form."""
    part = canonical(expression)
    return part.name if isinstance(part, Index) else Atom("integer", "", (part,))


def as_expression(subscript: Subscript) -> Expression:
    if isinstance(subscript, str):
        return Index(subscript)
    return subscript.parts[0]  # type: ignore[return-value]


def read(tensor: str, subscripts: Sequence[Subscript]) -> Atom:
    return Atom("read", tensor, tuple(subscripts))


def key_of(thing: Keyed) -> str:
    return thing.key


def free_of(subscript: Subscript) -> frozenset[str]:
    return frozenset({subscript}) if isinstance(subscript, str) else subscript.free
