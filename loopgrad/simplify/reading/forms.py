"""Are two programs the same sums? Proved where the difference of their normal forms is zero."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import combinations

from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Block, Program
from loopgrad.ir.operations import ElementType
from loopgrad.simplify.algebra import atoms
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.budget import limited
from loopgrad.simplify.algebra.conditions import at_least, conditions_of, form_of, opposite
from loopgrad.simplify.algebra.integers import UNIT, combined
from loopgrad.simplify.algebra.normal_form import Atom, Poly
from loopgrad.simplify.algebra.terms import closed
from loopgrad.simplify.reading.alike import alike
from loopgrad.simplify.reading.contributions import Unsupported
from loopgrad.simplify.reading.domains import Domains
from loopgrad.simplify.reading.equations import equations
from loopgrad.simplify.reading.labels import label, labelled
from loopgrad.simplify.reading.logs import split_logs
from loopgrad.simplify.reading.statements import Definition, Reading
from loopgrad.simplify.searching.rewrite import divided, learn

ROUNDS = 40
MOST_GUARDS = 6


def equal_forms(
    p: Program,
    q: Program,
    forward: Program | None = None,
    *,
    work: int | None = None,
    total: Collection[str] = (),
) -> bool:
    """True if the normal forms prove that both give the same results for all sizes, in real numbers.

    Inputs and results are matched by name. forward: the program whose tensors a backward reads, by
    default the one that either was derived from; where it is no number, nothing is asked. work: how
    many terms may be made before it gives up (`budget`). total: results that have to be numbers wherever
    the forward is. False says nothing: the programs may be equal
    in a way that normal forms do not show.

    >>> import loopgrad as lg
    >>> from loopgrad.simplify.reading.forms import equal_forms
    >>> one = lg.program("f(x[N]) -> y:\\n    for n:  y += 2 * x[n]")
    >>> other = lg.program("f(x[N]) -> y:\\n    for n:  s += x[n]\\n    y = s + s")
    >>> equal_forms(one, other)
    True
    >>> equal_forms(lg.program("f(x) -> y:\\n    y = x * x / x"), lg.program("f(x) -> y:\\n    y = x"))
    False
    """
    forward = forward or p.primal or q.primal
    try:
        both = alike(p, q, forward)
        if both is None:
            return False
        limit = limited(work) if work is not None else nullcontext()
        with nf.WORKING, limit, atoms.loosely(bool(total)):
            return _equal(*both, forward, total)
    except (Unsupported, nf.TooLarge, ProgramError, RecursionError):
        return False


def _equal(p: Program, q: Program, forward: Program | None, total: Collection[str] = ()) -> bool:
    if {r.name for r in p.results} != {r.name for r in q.results}:
        return False
    if any(map(has_blocks, (p, q))):
        return False
    nf.restart_names()
    known = Reading(forward, naming="sums") if forward is not None else None
    one = Side(Reading(p, naming="none", names=known.names if known else None))
    other = Side(Reading(q, naming="none", names=known.names if known else None))
    given = Side(Reading(forward, naming="none")) if forward is not None else None
    pairs = [_pair(one, other, r.name) for r in p.results]
    definitions: Mapping[str, Definition] = {}
    if known is not None:
        definitions = equations(known, one.reading, one.reading.regions[0])
    for poly in pairs:
        if poly is None or not any(map(_is_zero, _forms(poly, definitions, given))):
            return False
    return all(_same_domain(one, other, given, r.name, r.name in total) for r in p.results)


def has_blocks(program: Program) -> bool:
    return any(isinstance(s, Block) for s in program.unfold().statements)


class Side:
    """A program as sums in its inputs; what is no sum has a label that says what computes it.

    What a block computes keeps its name: two programs that read it read it of one forward.
    """

    def __init__(self, reading: Reading):
        self.reading = reading
        self.labels: dict[str, str] = {}
        self.made: dict[str, Poly] = {}
        for tensor in reading.complete:
            definition = reading.definitions[tensor]
            if any(reading.definitions[key].region.ranges for key in reading.pieces[tensor]):
                continue
            poly = None
            if definition.whole and definition.poly is not None:
                poly = self.made[tensor] = self.whole(definition.poly)
            self.labels[tensor] = label(reading, tensor, poly, self.labels)

    def whole(self, poly: Poly) -> Poly:
        return labelled(put_in(poly, self.reading.definitions, self.made), self.labels)


def _pair(one: Side, other: Side, name: str) -> Poly | None:
    """The difference of one result, all temporaries put in; None where the shapes differ."""
    left, right = one.reading.definitions.get(name), other.reading.definitions.get(name)
    if left is None or right is None or left.extents != right.extents:
        return None
    if not left.whole or not right.whole:
        return None
    if left.element is not ElementType.FLOAT or right.element is not ElementType.FLOAT:
        return None
    first, second = one.made.get(name), other.made.get(name)
    if first is None or second is None:
        return None
    return nf.plus(first, nf.scaled(_with_indices(second, right.indices, left.indices), -1))


def _given(forward: Side | None, conditions: Callable[[Side, str], dict[str, Poly]]) -> set[str]:
    """The conditions under which all results of the forward are numbers."""
    if forward is None or has_blocks(forward.reading.facts.program):
        return set()
    results = forward.reading.facts.program.results
    return {_anywhere(c) for r in results for c in conditions(forward, r.name).values()}


def _anywhere(condition: Poly) -> str:
    """The condition for all indices, over whatever extents."""
    _, powers = condition.terms[0][0].opened()
    return _for_all(powers)


def _for_all(powers: nf.Powers) -> str:
    indices = frozenset().union(*(a.free for a in powers))
    return closed(dict.fromkeys(sorted(indices), "any"), powers).key


def _granted(condition: Poly, given: Collection[str]) -> bool:
    """Whether it is one of those given, or one of them under more conditions."""
    _, powers = condition.terms[0][0].opened()
    guards = [a for a in powers if a.kind == "indicator"][:MOST_GUARDS]
    return any(
        _for_all({a: p for a, p in powers.items() if a not in dropped}) in given
        for count in range(len(guards) + 1)
        for dropped in combinations(guards, count)
    )


def _with_indices(poly: Poly, old: Sequence[str], new: Sequence[str]) -> Poly:
    fresh = {i: nf.fresh_index() for i in old}
    names: dict[str, nf.Subscript] = {fresh[i]: n for i, n in zip(old, new, strict=True)}
    return poly.renamed(dict(fresh)).renamed(names)


def _same_domain(
    one: Side, other: Side, forward: Side | None, name: str, total: bool = False
) -> bool:
    """Are both numbers under the same conditions, where the forward is a number? If `total`, under none?"""

    def conditions(side: Side, tensor: str) -> dict[str, Poly]:
        def form(poly: Poly) -> Poly:
            poly = side.whole(poly)
            return expanded(forward.whole(poly) if forward is not None else poly)

        return Domains(side.reading, form).of(tensor)

    given = _given(forward, conditions)
    left, right = one.reading.definitions[name], other.reading.definitions[name]
    first = conditions(one, name).values()
    second = [
        _with_indices(c, right.indices, left.indices) for c in conditions(other, name).values()
    ]
    asked = [{c.key for c in found if not _granted(c, given)} for found in (first, second)]
    return asked[0] == asked[1] and not (total and asked[0])


def put_in(poly: Poly, definitions: Mapping[str, Definition], made: Mapping[str, Poly]) -> Poly:
    """The sum with every read of a tensor that has been made replaced by what it is."""

    def change(atom: Atom) -> Poly | None:
        if atom.kind != "read" or atom.name not in made:
            return None
        indices = definitions[atom.name].indices
        return made[atom.name].renamed(dict(zip(indices, atom.parts, strict=True)))  # type: ignore[arg-type]

    return nf.map_atoms(poly, change)


def _forms(
    poly: Poly, definitions: Mapping[str, Definition], forward: Side | None
) -> Iterator[Poly]:
    """The difference, reduced in several ways: it is zero if one of them is."""
    yield expanded(poly)
    if forward is None:
        return
    for aliases, folds in ((False, True), (True, True), (False, False), (True, False)):
        yield expanded(learn(definitions, aliases, folds).reduce(poly))
    yield expanded(forward.whole(poly))


def _is_zero(poly: Poly) -> bool:
    return not poly.terms or not decided(poly).terms


def decided(poly: Poly) -> Poly:
    """Conditions as factors 0 and 1, with one of each condition and its opposite: `1 - [u <= t]`."""
    parts = []
    for term, coefficient in poly.terms:
        bound, powers = term.opened()
        conditions = list(conditions_of(powers))
        if len(conditions) > MOST_GUARDS:
            raise nf.TooLarge
        rest = {a: p for a, p in powers.items() if a not in conditions}
        factors = [(truth(condition), 1) for condition in conditions]
        parts.append(nf.multiplied(bound, rest, coefficient, factors))
    return nf.plus(*parts)


def truth(condition: Atom) -> Poly:
    """The condition as a number."""
    match condition.name:
        case atoms.IS_ZERO:
            form = form_of(condition)
            both = (*at_least(form), *at_least(combined({}, form, -1)))  # one of them holds anyway
            return nf.plus(*map(truth, both), nf.number(-1))
        case atoms.AT_LEAST:  # of `e >= 0` and `-e - 1 >= 0` one has a number below 0
            plain = form_of(condition).get(UNIT, 0) >= 0
        case name:
            plain = name == atoms.HOLDS
    if plain:
        return nf.of_atom(Atom("truth", condition.name, condition.parts))
    return nf.plus(nf.ONE, nf.scaled(truth(opposite(condition)), -1))


def expanded(poly: Poly) -> Poly:
    """Brackets multiplied out, exponentials of sums and logarithms of products taken apart, fractions
    of sums cancelled."""
    for _ in range(ROUNDS):
        following = divided(split_logs(_split_exponentials(nf.map_atoms(poly, _unnamed))))
        if following.key == poly.key:
            break
        poly = following
    return poly


def _unnamed(atom: Atom) -> Poly | None:
    # Under a power that is not whole and positive, `power` names the sum again.
    return atom.parts[0] if atom.kind == "sum" else None  # type: ignore[return-value]


def _split_exponentials(poly: Poly) -> Poly:
    """`exp(a + 2 b)` as `exp(a) exp(b)**2`, so that each leaves a sum that does not touch it."""

    def change(atom: Atom) -> Poly | None:
        if atom.kind != "function" or atom.name != "exp":
            return None
        inside = expanded(atom.parts[0])  # type: ignore[arg-type]
        if len(inside.terms) == 1 and inside.terms[0][1] == 1:
            same = inside.key == atom.parts[0].key  # type: ignore[attr-defined]
            return nf.KEEP if same else nf.function("exp", inside)
        factors = [nf.power(nf.function("exp", Poly({term: 1})), c) for term, c in inside.terms]
        return nf.times(*factors)

    return nf.map_atoms(poly, change)
