"""Adds a batch index: the same program for many inputs at once.

Every tensor computed from a batched one is batched; the others stay as they are. The new index
comes first, in subscripts and in loops. Where the bounds of a block hang on batched data
(`for t < length[b]:`), the block runs for one element of the batch after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import tidy
from loopgrad.diagnostics import listing, suggestion
from loopgrad.grad.activity import mapped_ranges
from loopgrad.ir.limits import within_limits
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Extent,
    Index,
    Input,
    Local,
    Program,
    Range,
    Read,
    Statement,
)
from loopgrad.ir.operations import RESERVED, ElementType
from loopgrad.ir.walk import (
    ZERO,
    bounds,
    map_statement,
    names_in,
    reads,
    rebuild,
    statement_reads,
)


def batched(program: Program, extent: str, inputs: Sequence[str] | None = None) -> Program:
    """The program with a leading axis of length `extent`; see `Program.batched`.

    The axis is added to `inputs`, by default to all but parameters, and to all that is computed
    from them; a result that does not depend on them stays as it is.
    Raises ValueError where the name of the extent is taken, or an input is unknown.

    >>> import loopgrad as lg
    >>> total = lg.program("total(x[N]) -> y:\\n    for n:  y += x[n]**2")
    >>> print(total.batched("B"))
    total(x[B,N]) -> y[B]:
        for b, n:  y[b] += x[b,n]**2
    """
    facts = infer(program)
    explicit = facts.program
    chosen = _chosen(explicit, inputs)
    _check_extent(explicit, extent)
    axis = _Axis(extent, _fresh_index(explicit, extent), _spread(explicit, chosen))
    made = replace(
        explicit,
        arguments=tuple(
            axis.declared(a) if isinstance(a, Input) else a for a in explicit.arguments
        ),
        results=tuple(
            replace(r, extents=axis.extents(r.name, r.extents)) for r in explicit.results
        ),
        locals=tuple(
            replace(local, extents=axis.extents(local.name, local.extents))
            for local in _locals(facts)
        ),
        statements=tuple(axis.statement(s) for s in explicit.statements),
        primal=None,  # the tensors of a backward's forward have no batch axis
    )
    return within_limits(tidy(made, facts))


def _locals(facts: Facts) -> list[Local]:
    """A declaration of every computed tensor that is no result."""
    declared = {local.name: local.element for local in facts.program.locals}
    results = {r.name for r in facts.program.results} - set(declared)
    return [
        Local(t.name, t.extents, declared.get(t.name, ElementType.FLOAT))
        for t in facts.tensors.values()
        if t.role != "input" and t.name not in results
    ]


def _chosen(program: Program, inputs: Sequence[str] | None) -> frozenset[str]:
    if inputs is None:
        chosen = [i.name for i in program.inputs if i.kind != "param"]
    else:
        chosen = [inputs] if isinstance(inputs, str) else list(inputs)
    known = [i.name for i in program.inputs]
    for name in chosen:
        if name not in known:
            close = suggestion(str(name), known)
            meant = f"did you mean `{close}`?" if close else f"it has {listing(known)}"
            raise ValueError(f"batched: `{program.name}` has no input `{name}`; {meant}")
    if not chosen:
        raise ValueError(f"batched: `{program.name}` has no input to add a batch index to")
    return frozenset(chosen)


def _check_extent(program: Program, extent: str) -> None:
    if not isinstance(extent, str) or not extent.rstrip("'").isidentifier() or extent in RESERVED:
        raise ValueError(f"batched: the extent needs a name such as 'B', and got {extent!r}")
    if extent in names_in(program):
        raise ValueError(
            f"batched: `{program.name}` already uses the name `{extent}`; take another"
        )


def _fresh_index(program: Program, extent: str) -> str:
    """The extent's name in lower case, with as many primes as it takes."""
    taken = names_in(program) | {extent} | RESERVED
    name = extent.lower()
    while name in taken:
        name += "'"
    return name


def _spread(program: Program, chosen: frozenset[str]) -> frozenset[str]:
    """The tensors that depend on the chosen inputs in any way, bounds and conditions included."""
    found = set(chosen)

    def visit(body: Iterable[Statement], inside: bool) -> None:
        for statement in body:
            hangs = inside or any(r.tensor in found for r in statement_reads(statement))
            match statement:
                case Accumulate(target):
                    if hangs:
                        found.add(target.tensor)
                case Block():
                    visit(statement.body, hangs)

    before = -1
    while before != len(found):
        before = len(found)
        visit(program.statements, False)
    return frozenset(found)


class _Axis:
    """The new axis: the tensors that have it, and the index that runs over it."""

    def __init__(self, extent: str, index: str, tensors: frozenset[str]):
        self.extent = Extent(extent)
        self.index = Index(index)
        self.range = Range(index, ZERO, self.extent)
        self.tensors = tensors

    def extents(self, tensor: str, extents: tuple[Expression, ...]) -> tuple[Expression, ...]:
        return (self.extent, *extents) if tensor in self.tensors else extents

    def declared(self, given: Input) -> Input:
        if given.name not in self.tensors:
            return given
        # A parameter has no batch index; one that gets it is an input like others.
        kind = "input" if given.kind == "param" else given.kind
        return replace(given, extents=(self.extent, *given.extents), kind=kind)

    def expression(self, expression: Expression) -> Expression:
        """The expression with the index put into every read of a batched tensor."""
        node = rebuild(expression, self.expression)
        if isinstance(node, Read) and node.tensor in self.tensors:
            return Read(node.tensor, (self.index, *node.subscripts), node.span)
        return node

    def statement(self, statement: Statement, bound: bool = False) -> Statement:
        """The statement under the new loop, unless a block around it has that loop: `bound`."""
        match statement:
            case Accumulate(target):
                changed = map_statement(statement, self.expression)
                assert isinstance(changed, Accumulate)
                if target.tensor not in self.tensors:
                    return changed
                subscripts = (self.index, *changed.target.subscripts)
                ranges = changed.ranges if bound else (self.range, *changed.ranges)
                return replace(
                    changed, target=replace(target, subscripts=subscripts), ranges=ranges
                )
            case Block(ranges, body):
                hangs = any(
                    read.tensor in self.tensors for b in bounds(ranges) for read in reads(b)
                )
                inner = bound or hangs
                new = tuple(self.range_(r) for r in ranges)
                if hangs and not bound:
                    new = (self.range, *new)
                return Block(new, tuple(self.statement(s, inner) for s in body), statement.span)
        raise AssertionError("batched needs an unfolded program")

    def range_(self, r: Range) -> Range:
        return mapped_ranges([r], self.expression)[0]
