"""Where a program is a number: what it must not divide by, or take a root or logarithm of.

Two formulas that are equal by algebra may differ in this: `x / x` and 1 do at 0 alone, which no random
input shows. So equality is proved only of programs that are numbers under the same conditions.

A condition is kept as a sum of products, like all else: `sum[j](nonzero(Z[b] - a[j]))` says that
`Z[b] - a[j]` is not 0 for any j; the sum gives its bound indices their canonical names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from loopgrad.analysis.validity import safety_of
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Extent,
    Number,
    Read,
)
from loopgrad.ir.walk import all_statements, apply, children, conjuncts
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Atom, Poly, Term
from loopgrad.simplify.reading.contributions import Target, place
from loopgrad.simplify.reading.statements import Reading

Context = tuple[Expression, ...]  # conditions under which an expression is evaluated
Form = Callable[[Poly], Poly]  # a sum in terms of inputs alone
NONNEGATIVE, NONZERO = "nonnegative", "nonzero"
POSITIVE = frozenset(("exp", "sigmoid", "softplus"))


class Domains:
    """The conditions under which each element of each tensor of a program is a number."""

    def __init__(self, reading: Reading, form: Form):
        self.reading, self.form = reading, form
        self.known: dict[str, dict[str, Poly]] = {}
        facts = reading.facts
        safety = safety_of(facts)
        statements = all_statements(facts.program.statements)
        self.numbers = {id(s): n for n, s in enumerate(statements)}
        # Where a constant may be set to less than the proofs took it to be, nothing is proved.
        self.in_range = safety.in_range if not safety.positive else frozenset()

    def of(self, tensor: str) -> dict[str, Poly]:
        """By their texts; free indices are those of the tensor's definition."""
        if tensor not in self.known:
            self.known[tensor] = {}
            found: dict[str, Poly] = {}
            for key in self.reading.pieces.get(tensor, ()):
                for statement in self.reading.statements[key]:
                    for poly in _Statement(self, tensor, statement).conditions():
                        found[poly.key] = poly
            self.known[tensor] = found
        return self.known[tensor]

    def indices(self, tensor: str) -> tuple[str, ...]:
        """Names for the tensor's axes: those of its definition, where it has one."""
        definition = self.reading.definitions[tensor]
        if definition.whole:
            return definition.indices
        return tuple(f"axis {n}" for n in range(len(definition.subscripts)))


class _Statement:
    """The conditions that one statement adds."""

    def __init__(self, domains: Domains, tensor: str, statement: Accumulate):
        self.domains, self.statement = domains, statement
        reading = domains.reading
        axes = reading.extents(tensor)
        target = Target(("",) * len(axes), domains.indices(tensor), axes)
        self.place = place(reading, statement, target)
        self.reader = replace(reading.reader(self.place.names), naming="none")

    def conditions(self) -> Iterator[Poly]:
        statement = self.statement
        for condition in conjuncts(statement.guard):
            yield from self._of(condition, ())
        guard = tuple(conjuncts(statement.guard))
        yield from self._of(statement.value, guard)
        for subscript in statement.target.subscripts:
            yield from self._of(subscript, guard)
        yield from self._inside(statement.target, guard)

    def _of(self, expression: Expression, context: Context) -> Iterator[Poly]:
        match expression:
            case Conditional(condition, then, otherwise):
                yield from self._of(condition, context)
                yield from self._of(then, (*context, condition))
                yield from self._of(otherwise, (*context, apply("not", condition)))
                return
            case Read():
                yield from self._read(expression, context)
            case Apply("/" | "//" | "%", (_, divisor)):
                yield from self._need(NONZERO, divisor, context)
            case Apply("**", (base, exponent)):
                yield from self._power(base, exponent, context)
            case Apply("log", (argument,)):
                yield from self._need(NONNEGATIVE, argument, context)
                yield from self._need(NONZERO, argument, context)
            case Apply("log1p", (argument,)):
                yield from self._need(NONNEGATIVE, apply("+", argument, Number(1)), context)
                yield from self._need(NONZERO, apply("+", argument, Number(1)), context)
            case Apply("sqrt" | "rsqrt" as name, (argument,)):
                yield from self._need(NONNEGATIVE, argument, context)
                if name == "rsqrt":
                    yield from self._need(NONZERO, argument, context)
        for child in children(expression):
            yield from self._of(child, context)

    def _power(self, base: Expression, exponent: Expression, context: Context) -> Iterator[Poly]:
        value = self.reader.value(exponent).constant
        if value is None:
            both = nf.of_atom(
                Atom("opaque", "", (self.reader.renamed(apply("**", base, exponent)),))
            )
            yield from self._closed(NONNEGATIVE, self.domains.form(both), context)
            return
        if value.denominator != 1:
            yield from self._need(NONNEGATIVE, base, context)
        if value < 0:
            yield from self._need(NONZERO, base, context)

    def _read(self, read: Read, context: Context) -> Iterator[Poly]:
        """What the element that is read needs; and, of an input, that there is such an element."""
        reading = self.domains.reading
        subscripts = [self.reader.subscript(s) for s in read.subscripts]
        if read.tensor in reading.computed:
            names = dict(zip(self.domains.indices(read.tensor), subscripts, strict=True))
            for poly in self.domains.of(read.tensor).values():
                yield from self._under(poly.renamed(names), context)
            return
        yield from self._inside(read, context)

    def _inside(self, read: Read, context: Context) -> Iterator[Poly]:
        """That there is such an element, where it is not proved."""
        reading = self.domains.reading
        if (self.domains.numbers[id(self.statement)], read) in self.domains.in_range:
            return
        for subscript, extent in zip(
            read.subscripts, reading.facts.tensors[read.tensor].extents, strict=True
        ):
            label = f"an element of [{reading.extent(extent)}]"
            atom = Atom("read", label, (self.reader.subscript(subscript),))
            yield from self._closed("is", self.domains.form(nf.of_atom(atom)), context)

    def _need(self, kind: str, expression: Expression, context: Context) -> Iterator[Poly]:
        match expression:  # factors as they are written: multiplied out they are hard to find
            case Apply("neg", (inside,)) if kind == NONZERO:
                yield from self._need(kind, inside, context)
                return
            case Apply("*" | "/", (left, right)) if kind == NONZERO:
                yield from self._need(kind, left, context)
                yield from self._need(kind, right, context)
                return
            case Apply("**", (base, Number())) | Apply("sqrt", (base,)) if kind == NONZERO:
                yield from self._need(kind, base, context)
                return
        poly = self.domains.form(self.reader.value(expression))
        positive = frozenset(self._positive(context))
        for primitive, factor in primitives(kind, poly, positive):
            yield from self._closed(primitive, factor, context)

    def _positive(self, context: Context) -> Iterator[str]:
        """The texts of what is above 0 where the context holds."""
        for condition in context:
            match condition:
                case Compare((">",), (value, Number(0))) | Compare(("<",), (Number(0), value)):
                    poly = self.domains.form(self.reader.value(value))
                    if len(poly.terms) == 1 and len(poly.terms[0][0].atoms) == 1:
                        yield poly.terms[0][0].atoms[0][0].key

    def _closed(self, kind: str, poly: Poly, context: Context) -> Iterator[Poly]:
        yield from self._under(nf.of_atom(Atom("function", kind, (poly,))), context)

    def _under(self, condition: Poly, context: Context) -> Iterator[Poly]:
        """The condition for all iterations in which the context holds."""
        cases = [dict(self.place.atoms)]
        for each in context:
            cases = [
                {**atoms, **dict.fromkeys(map(self._formed, case), 1)}
                for atoms in cases
                for case in self.reader.cases(each)
            ]
        for atoms in cases:
            whole = nf.multiplied((), atoms, 1, [(condition, 1)])
            if whole.terms:  # else the context never holds
                inner, powers = whole.terms[0][0].opened()
                yield from _condition((*inner, *self.place.bound), powers)

    def _formed(self, indicator: Atom) -> Atom:
        """The condition in terms of inputs."""
        return self.domains.form(nf.of_atom(indicator)).terms[0][0].atoms[0][0]


def _condition(
    bound: Iterable[tuple[str, str]], powers: Mapping[Atom, nf.Number]
) -> Iterator[Poly]:
    """What a size or a number multiplies is the same condition, and so is one said twice."""
    kept = {a: 1 for a in powers if not (a.kind == "name" and isinstance(a.node, Extent))}
    used = frozenset().union(*(a.free for a in kept))
    poly = nf.product([(i, e) for i, e in bound if i in used], kept)
    for term, _ in poly.terms:
        plain = all(p == 1 and not isinstance(a.node, Extent) for a, p in term.atoms)
        if plain:
            yield Poly({term: 1})
        else:
            yield from _condition(*term.opened())


# ---------------------------------------------------------------------------------- what is never so


def primitives(kind: str, poly: Poly, positive: frozenset[str]) -> Iterator[tuple[str, Poly]]:
    """The condition as conditions on factors; none where it always holds.

    positive: the texts of atoms that are above 0.
    """
    if _is_positive(poly, positive) or (kind == NONNEGATIVE and is_nonnegative(poly, positive)):
        return
    if len(poly.terms) == 1 and not poly.terms[0][0].bound:
        term, coefficient = poly.terms[0]
        rest = [(a, p) for a, p in term.atoms if not is_positive_atom(a, positive)]
        if kind == NONZERO and coefficient:
            for atom, _ in rest:
                yield from _factor(kind, atom)
            return
        odd = [a for a, p in rest if p.denominator == 1 and p % 2]
        if not odd and coefficient > 0:
            return
        if len(odd) == 1 and coefficient > 0:
            yield from _factor(kind, odd[0])
            return
        sign = 1 if coefficient > 0 else -1
        yield kind, nf.product((), dict.fromkeys(odd, 1), sign)
        return
    poly = _without_sizes(poly)
    leading = poly.terms[0][1] if poly.terms else 1
    scale = leading if kind == NONZERO else max(leading, -leading)
    yield kind, nf.scaled(poly, Fraction(1) / scale)


def _without_sizes(poly: Poly) -> Poly:
    """Divided by the sizes that all terms share, and not by any: `eps + s / J` is `J * eps + s`."""
    least: dict[Atom, nf.Number] = {}
    for term, _ in poly.terms:
        for atom, p in term.atoms:
            if isinstance(atom.node, Extent):
                least[atom] = min(least.get(atom, p), p)
    for atom in least:
        least[atom] = min(least[atom], *(dict(t.atoms).get(atom, 0) for t, _ in poly.terms))
    return nf.times(poly, nf.product((), {a: -p for a, p in least.items()})) if least else poly


def _factor(kind: str, atom: Atom) -> Iterator[tuple[str, Poly]]:
    if atom.kind == "sum":
        inside: Poly = atom.parts[0]  # type: ignore[assignment]
        yield from primitives(kind, inside, frozenset())
    else:
        yield kind, nf.of_atom(atom)


def _is_positive(poly: Poly, positive: frozenset[str]) -> bool:
    return is_nonnegative(poly, positive) and any(
        all(is_positive_atom(a, positive) for a, _ in term.atoms) for term, _ in poly.terms
    )


def is_nonnegative(poly: Poly, positive: frozenset[str]) -> bool:
    return all(c > 0 and _term_nonnegative(t, positive) for t, c in poly.terms)


def _term_nonnegative(term: Term, positive: frozenset[str]) -> bool:
    return all(
        p.denominator != 1
        or p % 2 == 0
        or is_positive_atom(a, positive)
        or a.kind in ("index", "indicator", "truth", "delta")
        or (a.kind == "function" and a.name in ("abs", "relu"))
        for a, p in term.atoms
    )


def is_positive_atom(atom: Atom, positive: frozenset[str]) -> bool:
    """Whether the atom is above 0 wherever it is a number; sizes are at least 1."""
    match atom.kind:
        case "name":
            return isinstance(atom.node, Extent)
        case "function":
            return atom.name in POSITIVE or atom.key in positive
        case "sum":
            return _is_positive(atom.parts[0], positive)  # type: ignore[arg-type]
    return atom.key in positive
