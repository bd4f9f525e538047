"""Two programs that compute the same: a chain of equalities from the statements of one to the other's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Number, Program, Range, Read
from loopgrad.ir.walk import ZERO, compare
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.algebra.normal_form import Poly
from loopgrad.simplify.reading.alike import alike
from loopgrad.simplify.reading.contributions import Unsupported
from loopgrad.simplify.reading.forms import expanded, put_in
from loopgrad.simplify.reading.logs import Split, split_once
from loopgrad.simplify.reading.statements import Definition, Reading
from loopgrad.simplify.telling.bits import stored
from loopgrad.simplify.telling.derivation import Chain, Derivation, Words
from loopgrad.simplify.telling.steps import certified
from loopgrad.simplify.telling.telling import Lines, as_sum
from loopgrad.simplify.writing.expressions import Writer
from loopgrad.simplify.writing.loop_names import index_names

Line = tuple[Poly, Words, tuple[str, ...]]  # a sum, and by which rule it follows on the one before


def identity(p: Program, q: Program) -> Derivation | None:
    """Why the two give the same results, for each a chain; None where their sums are not found equal.

    Every line is certified, as those of `simplify` are.

    >>> import loopgrad as lg
    >>> from loopgrad.simplify.telling.identities import identity
    >>> p = lg.program("f(x[N]) -> y:\\n    for n:  s += x[n]\\n    y = s * s - s**2 + s")
    >>> q = lg.program("g(x[N]) -> y:\\n    for n:  y += x[n]")
    >>> print(identity(p, q))
    y = s * s - s**2 + s
          (put in s)
      = sum[n](x[n])
        for n:  y += x[n]
    """
    both = alike(p, q, None)
    if both is None:
        return None
    try:
        with nf.WORKING:
            nf.restart_names()
            one = Reading(both[0], naming="none")
            other = Reading(both[1], naming="none", names=one.names)
            chains = [_chain(one, other, r.name) for r in p.results]
    except (Unsupported, nf.TooLarge, ProgramError):
        return None
    found = tuple(chain for chain in chains if chain is not None)
    return certified(Derivation(found), *both, None) if len(found) == len(chains) else None


class _Side:
    """A program's sums, one rule after the other applied."""

    def __init__(self, reading: Reading, names: Mapping[str, list[str]]):
        self.reading, self.names = reading, names

    def lines(self, definition: Definition) -> Iterator[Line]:
        """The sum of a result as it is written, and each line that follows on it."""
        assert definition.poly is not None
        current = definition.poly
        yield current, (), ()
        for tensor in reversed(self.reading.complete):
            other = self.reading.definitions[tensor]
            if tensor in current.tensors and other.whole and other.poly is not None:
                current = put_in(current, self.reading.definitions, {tensor: other.poly})
                yield current, ("put in ", Read(tensor, ())), ("put in", "distribute")
        while (found := split_once(current)) is not None:
            current = found.after
            yield current, self._says(found), ("log",)
        yield expanded(current), ("collect",), ("collect",)

    def _says(self, found: Split) -> Words:
        names: dict[str, str] = {}
        pool = [n for same in self.names.values() for n in same]
        for index in sorted(found.logarithm.free):
            names[index] = index if index[0] != "#" else next(n for n in pool if n not in names)
        writer = Writer(names, {}, self.names, plain=True)
        above = [writer.atom(a) for a in found.above_zero]
        where = [w for a in above for w in (", where ", compare(">", a, Number(0)))]
        return writer.atom(found.logarithm), " = ", writer.expression(found.apart), *where


def _chain(one: Reading, other: Reading, name: str) -> Chain | None:
    left, right = one.definitions.get(name), other.definitions.get(name)
    if left is None or right is None or not (left.whole and right.whole):
        return None
    if left.extents != right.extents or left.poly is None or right.poly is None:
        return None
    named = index_names(one, other)
    there = list(_Side(one, named).lines(left))
    back = list(_Side(other, named).lines(replace(right, poly=_renamed(right, left))))
    if there[-1][0].key != back[-1][0].key:
        return None
    target = Read(name, tuple(map(nf.as_expression, left.indices)))
    order = {i.name: n for n, i in enumerate(one.facts.program.inputs)}
    writer = Writer({i: i for i in left.indices}, order, named, plain=True)
    known = stored((*one.facts.program.statements, *other.facts.program.statements))
    start = as_sum(one.statements[name], target, left)
    lines = Lines(target, start or writer.expression(left.poly), known)
    for poly, says, rules in there[1:]:
        lines.reach(writer.expression(poly), says, *rules)
    for (_, says, rules), (poly, _, _) in zip(back[:0:-1], back[-2::-1], strict=True):
        lines.reach(writer.expression(poly), says, *rules)
    end = as_sum(other.statements[name], target, right)
    if end is not None and right.indices == left.indices:
        lines.reach(end, ("collect",), "collect")
    extents = tuple(map(nf.extent_expression, left.extents))
    ranges = tuple(Range(i, ZERO, e) for i, e in zip(left.indices, extents, strict=True))
    statements = tuple(other.statements[name])
    return Chain(target, lines.start, tuple(lines.steps), statements, ranges, extents)


def _renamed(definition: Definition, like: Definition) -> Poly:
    """Its sum, with the indices of the other's axes."""
    assert definition.poly is not None
    fresh: dict[str, nf.Subscript] = {i: nf.fresh_index() for i in definition.indices}
    names: dict[str, nf.Subscript] = {
        str(fresh[i]): n for i, n in zip(definition.indices, like.indices, strict=True)
    }
    return definition.poly.renamed(fresh).renamed(names)
