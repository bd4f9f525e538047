"""Are two programs the same sums? Proved where the difference of their normal forms is zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Accumulate, Block, Program
from loopgrad.ir.operations import ElementType
from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.equations import equations
from loopgrad.simplify.normal_form import Atom, Poly
from loopgrad.simplify.reading import Definition, Reading, Unsupported
from loopgrad.simplify.rewrite import divided, learn

ROUNDS = 40


def equal_forms(p: Program, q: Program, forward: Program | None = None) -> bool:
    """True if the normal forms prove that both give the same results for all sizes, in real numbers.

    Inputs and results are matched by name. forward: the program whose tensors a backward reads, by
    default the one that either was derived from. False says nothing: the programs may be equal in a
    way that normal forms do not show.

    >>> import loopgrad as lg
    >>> from loopgrad.simplify.forms import equal_forms
    >>> one = lg.program("f(x[N]) -> y:\\n    for n:  y += 2 * x[n]")
    >>> other = lg.program("f(x[N]) -> y:\\n    for n:  s += x[n]\\n    y = s + s")
    >>> equal_forms(one, other)
    True
    """
    forward = forward or p.primal or q.primal
    try:
        with nf.WORKING:
            return _equal(p, q, forward)
    except (Unsupported, nf.TooLarge, ProgramError):
        return False


def _equal(p: Program, q: Program, forward: Program | None) -> bool:
    if {r.name for r in p.results} != {r.name for r in q.results}:
        return False
    if any(isinstance(s, Block) for program in (p, q) for s in program.statements):
        return False
    nf.restart_names()
    known = Reading(forward, naming="sums") if forward is not None else None
    one = Reading(p, naming="none", names=known.names if known else None)
    other = Reading(q, naming="none", names=known.names if known else one.names)
    pairs = [_pair(one, other, r.name) for r in p.results]
    definitions: Mapping[str, Definition] = equations(known, one, one.regions[0]) if known else {}
    for poly in pairs:
        if poly is None or not any(not form.terms for form in _forms(poly, definitions)):
            return False
    return True


def _pair(one: Reading, other: Reading, name: str) -> Poly | None:
    """The difference of one result, all temporaries put in; None where the shapes differ."""
    left, right = one.definitions.get(name), other.definitions.get(name)
    if left is None or right is None or left.extents != right.extents:
        return None
    if left.element is not ElementType.FLOAT or right.element is not ElementType.FLOAT:
        return None
    first, second = _whole(one, name), _whole(other, name)
    if first is None or second is None:
        return None
    names = dict(zip(right.indices, left.indices, strict=True))
    fresh = {i: nf.fresh_index() for i in names}
    second = second.renamed(dict(fresh)).renamed({fresh[i]: n for i, n in names.items()})
    return nf.plus(first, nf.scaled(second, -1))


def _whole(reading: Reading, name: str) -> Poly | None:
    """The result in terms of inputs; opaque tensors under a name that says what computes them."""
    made: dict[str, Poly] = {}
    for tensor, definition in reading.definitions.items():
        if definition.poly is not None:
            made[tensor] = put_in(definition.poly, reading.definitions, made)
    whole = made.get(name)
    opaque = {t for t, d in reading.definitions.items() if d.poly is None}
    if whole is not None and any(_mentions(whole, t) for t in opaque):
        return nf.map_atoms(whole, lambda a: _labelled(a, reading) if a.name in opaque else None)
    return whole


def _mentions(poly: Poly, tensor: str) -> bool:
    return tensor in poly.tensors


def _labelled(atom: Atom, reading: Reading) -> Poly | None:
    """`m[b]` of one program is that of another only where the same statements compute both."""
    if atom.kind != "read":
        return None
    label = f"{atom.name} by " + "; ".join(_text(s) for s in reading.statements[atom.name])
    return nf.of_atom(nf.read(label, atom.parts)) if label != atom.name else None  # type: ignore[arg-type]


def _text(statement: Accumulate) -> str:
    from loopgrad.ir.printer import show_statement

    return show_statement(statement)


def put_in(poly: Poly, definitions: Mapping[str, Definition], made: Mapping[str, Poly]) -> Poly:
    """The sum with every read of a tensor that has been made replaced by what it is."""

    def change(atom: Atom) -> Poly | None:
        if atom.kind != "read" or atom.name not in made:
            return None
        indices = definitions[atom.name].indices
        return made[atom.name].renamed(dict(zip(indices, atom.parts, strict=True)))  # type: ignore[arg-type]

    return nf.map_atoms(poly, change)


def _forms(poly: Poly, definitions: Mapping[str, Definition]) -> Iterator[Poly]:
    """The difference, reduced in several ways: it is zero if one of them is."""
    yield expanded(poly)
    if not definitions:
        return
    for aliases, folds in ((False, True), (True, True), (False, False), (True, False)):
        yield expanded(learn(definitions, aliases, folds).reduce(poly))
    made: dict[str, Poly] = {}
    for tensor, definition in definitions.items():
        if definition.poly is not None and definition.element is ElementType.FLOAT:
            made[tensor] = put_in(definition.poly, definitions, made)
    yield expanded(put_in(poly, definitions, made))


def expanded(poly: Poly) -> Poly:
    """Brackets multiplied out, exponentials of sums taken apart, fractions of sums cancelled."""
    for _ in range(ROUNDS):
        following = divided(_split_exponentials(nf.map_atoms(poly, _unnamed)))
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
