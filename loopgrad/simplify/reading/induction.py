"""Equality of recurrences, by induction over the order in which their elements are computed.

A program with blocks is cut where a block reads what an earlier turn computed: the tensors that are read
there become inputs, anything at all, and what the block makes of them a result. What is left has no
recurrence, and sums prove that two such programs are equal. docs/decisions/0005 says why the programs
that were cut then are equal, and what has to hold besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Index,
    Input,
    Number,
    Program,
    Read,
    Reduction,
    Result,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    map_statement,
    rename_tensors,
    statement_expressions,
    statement_reads,
    subexpressions,
)
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.reading.forms import equal_forms, has_blocks

SUMS = (Reduction.ADD, Reduction.SUBTRACT, Reduction.SET)
PAIRINGS = 24  # ways to pair the tensors of one program with the other's


def equal_by_induction(
    p: Program, q: Program, forward: Program | None = None, *, work: int | None = None
) -> bool:
    """Whether the two, which have blocks, are proved equal for all sizes and inputs; see `equal_forms`.

    >>> import loopgrad as lg
    >>> from loopgrad.simplify.reading.induction import equal_by_induction
    >>> one = "f(x[T]) -> h[T]:\\n    for t:\\n        h[t] = x[t] + (tanh(h[t-1]) if t > 0 else 0)"
    >>> other = one.replace("x[t] + (tanh(h[t-1]) if t > 0 else 0)", "tanh(h[t-1]) + x[t] if t > 0 else x[t]")
    >>> equal_by_induction(lg.program(one), lg.program(other))
    True
    """
    forward = forward or p.primal or q.primal
    if not has_blocks(p) and not has_blocks(q):
        return False
    try:
        first, second = _Recurrence(infer(p)), _Recurrence(infer(q))
        if not (first.is_proper() and second.is_proper()):
            return False
        for names in _pairings(first, second):
            mine, states = first.cut({name: name for name in first.passed})
            theirs, others = second.cut(names)
            if states == others and equal_forms(mine, theirs, forward, work=work, total=states):
                # A proof alone is not believed: the cut programs have to agree on both lines as well.
                verdict = certify(mine, theirs, forward, symmetric=True)
                return verdict.kind == "agree" and verdict.lines == "both"
    except (ProgramError, ValueError):
        return False
    return False


def _pairings(first: _Recurrence, second: _Recurrence) -> Iterator[dict[str, str]]:
    """For the second's tensors the names of the first's: those of one name, and the others in any order."""
    if len(first.passed) != len(second.passed):
        return
    same = [n for n in second.passed if n in first.passed]
    mine = [n for n in first.passed if n not in same]
    theirs = [n for n in second.passed if n not in same]
    for order in islice(permutations(mine), PAIRINGS):
        pairs = list(zip(theirs, order, strict=True))
        if all(first.rank(b) == second.rank(a) for a, b in pairs):
            yield {**{name: name for name in same}, **dict(pairs)}


@dataclass(frozen=True)
class _Recurrence:
    facts: Facts

    def rank(self, name: str) -> int:
        return self.facts.tensors[name].rank

    @property
    def statements(self) -> list[Accumulate]:
        """Without blocks: each as loops over all turns."""
        found = []
        for blocks, statement in accumulates(self.facts.program.statements):
            around = tuple(r for block in blocks for r in block.ranges)
            ranges = tuple(replace(r, descending=False) for r in (*around, *statement.ranges))
            found.append(replace(statement, ranges=ranges))
        return found

    @property
    def passed(self) -> Sequence[str]:
        """The tensors that are read before all that writes them has been met, were there no blocks."""
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        for place, statement in enumerate(self.statements):
            last[statement.target.tensor] = place
            for read in statement_reads(statement):
                first.setdefault(read.tensor, place)
        return [name for name, place in last.items() if first.get(name, place + 1) <= place]

    def is_proper(self) -> bool:
        """Is each element complete where it is read, and each subscript in range, whatever the inputs?
        Are all that blocks compute finite sums of numbers?"""
        program = self.facts.program
        safety = validate(program)
        if safety.tracked:
            return False
        for number, statement in enumerate(all_statements(program.statements)):
            if isinstance(statement, Accumulate):
                places = (statement.target, *statement_reads(statement))
                if any((number, place) not in safety.in_range for place in places):
                    return False
            if any(_is_infinite(n) for e in statement_expressions(statement) for n in _nodes(e)):
                return False
        inside = [s for blocks, s in accumulates(program.statements) if blocks]
        return all(
            s.reduction in SUMS and self.facts.tensors[s.target.tensor].element is ElementType.FLOAT
            for s in inside
        )

    def cut(self, names: Mapping[str, str]) -> tuple[Program, frozenset[str]]:
        """The program that is given what is passed on, and what it returns in place of that, under these
        names: what it adds to `h[t]` and to `h[t-1]` apart, each by the index."""
        program, tensors = self.facts.program, self.facts.tensors
        given = {old: f"{new}..given" for old, new in names.items()}  # no tensor has two dots
        made: dict[str, Result] = {}
        statements = []
        for statement in self.statements:
            changed = map_statement(statement, lambda e: rename_tensors(e, given))
            assert isinstance(changed, Accumulate)
            target = statement.target
            subscripts = tuple(rename_tensors(s, given) for s in target.subscripts)
            name = target.tensor
            if name in names:
                apart = [_apart(s) for s in subscripts]
                subscripts = tuple(index for index, _ in apart)
                offsets = ",".join(str(offset) for _, offset in apart)
                name = f"{names[name]}..made {offsets}"
                made[name] = Result(name, tensors[target.tensor].extents)
            statements.append(replace(changed, target=Read(name, subscripts)))
        inputs = [Input(given[name], tensors[name].extents) for name in names]
        cut = replace(
            program,
            arguments=(*inputs, *program.arguments),
            results=(*(r for r in program.results if r.name not in names), *made.values()),
            statements=tuple(statements),
            locals=tuple(x for x in program.locals if x.name not in names),
        )
        return cut, frozenset(made)


def _apart(subscript: Expression) -> tuple[Expression, int]:
    """An index, and the number that is added to it."""
    match subscript:
        case Apply("+", (Index() as index, Number(int(offset)))):
            return index, offset
        case Apply("-", (Index() as index, Number(int(offset)))):
            return index, -offset
    return subscript, 0


def _nodes(expression: Expression) -> Iterator[Expression]:
    yield from subexpressions(expression)


def _is_infinite(node: Expression) -> bool:
    return isinstance(node, Number) and abs(node.value) == float("inf")
