"""Derived programs put together: the forward that they need, headers, locals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from loopgrad.analysis.facts import Facts
from loopgrad.grad.activity import Primal, reachable
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Extent,
    Index,
    Input,
    Local,
    Number,
    Program,
    Range,
    Read,
    Reduction,
    Result,
    Size,
    Statement,
)
from loopgrad.ir.operations import RESERVED, ElementType
from loopgrad.ir.walk import (
    ZERO,
    map_declared,
    map_statement,
    rebuild,
    sizes_in,
    statement_reads,
    subexpressions,
)


def needed(statements: Sequence[Statement], wanted: Iterable[str]) -> tuple[Statement, ...]:
    """The statements that compute the wanted tensors, and what those are computed from."""
    reads: dict[str, set[str]] = {}

    def collect(body: Sequence[Statement], around: frozenset[str]) -> None:
        for statement in body:
            own = around | {read.tensor for read in statement_reads(statement)}
            match statement:
                case Accumulate(target):
                    reads.setdefault(target.tensor, set()).update(own)
                case Block():
                    collect(statement.body, own)

    collect(statements, frozenset())
    alive = reachable(wanted, reads)

    def keep(body: Sequence[Statement]) -> Iterator[Statement]:
        for statement in body:
            match statement:
                case Accumulate(target):
                    if target.tensor in alive:
                        yield statement
                case Block():
                    kept = tuple(keep(statement.body))
                    if kept:
                        yield Block(statement.ranges, kept, statement.span)

    return tuple(keep(statements))


def tensors_read(statements: Iterable[Statement]) -> set[str]:
    """Every tensor that the statements read, blocks all the way down."""
    names: set[str] = set()
    for statement in statements:
        names.update(read.tensor for read in statement_reads(statement))
        if isinstance(statement, Block):
            names |= tensors_read(statement.body)
    return names


def assemble(
    primal: Primal,
    name: str,
    inputs: Sequence[Input],
    results: Sequence[Result],
    statements: Sequence[Statement],
    locals: Sequence[Local],
    keep_all: bool,
) -> Program:
    """The derived program: its header has the constants and sizes that are used, or all of them.

    An extent that no input fixes any more is replaced by one that equals it, or becomes a `size`.
    """
    draft = Program(
        name,
        tuple(inputs),
        tuple(results),
        tuple(statements),
        tuple(locals),
        primal=primal.given,
    )
    known = {e.name for i in inputs for e in i.extents if isinstance(e, Extent)}
    if keep_all:
        known |= {size.name for size in primal.program.sizes}
    used = sizes_in(draft)
    unknown = used - known
    replacements = _known_equals(primal.facts, unknown, known)
    draft = _with_extents(draft, replacements)
    used = sizes_in(draft) if replacements else used
    sizes = [s for s in primal.program.sizes if keep_all or s.name in used - known]
    listed = {s.name for s in sizes}
    sizes += [Size(extent) for extent in primal.facts.extents if extent in used - known - listed]
    constants = [c for c in primal.program.constants if keep_all or c.name in used]
    return Program(
        name,
        (*draft.inputs, *sizes, *constants),
        draft.results,
        draft.statements,
        draft.locals,
        primal=primal.given,
    )


def _known_equals(facts: Facts, unknown: set[str], known: set[str]) -> dict[str, Expression]:
    """Formulas in known extents for unknown ones, from what `infer` found equal."""
    found: dict[str, Expression] = {}
    pairs = [(Extent(name), formula) for name, formula in facts.defined.items()]
    for equality in facts.equalities:
        pairs += [(equality.left, equality.right), (equality.right, equality.left)]  # type: ignore[list-item]
    for left, right in pairs:
        if isinstance(left, Extent) and left.name in unknown and left.name not in found:
            names = {n.name for n in subexpressions(right) if isinstance(n, Extent)}
            if names <= known:
                found[left.name] = right
    return found


def _with_extents(program: Program, replacements: Mapping[str, Expression]) -> Program:
    if not replacements:
        return program

    def change(node: Expression) -> Expression:
        if isinstance(node, Extent):
            return replacements.get(node.name, node)
        return rebuild(node, change)

    changed = map_declared(program, change)
    return replace(changed, statements=tuple(map_statement(s, change) for s in program.statements))


# ------------------------------------------------------------------------------- tensors as wholes


def loops_over(primal: Primal, extents: Sequence[Expression]) -> tuple[Range, ...]:
    """Loops over all elements of a tensor, their indices named after the extents."""
    facts = primal.facts
    taken = {*facts.tensors, *facts.extents, *facts.constants}
    ranges: list[Range] = []
    for extent in extents:
        name = extent.name.lower() if isinstance(extent, Extent) else "i"
        if name in RESERVED or not name.rstrip("'").isidentifier():
            name = "i"
        while name in taken:
            name += "'"
        taken.add(name)
        ranges.append(Range(name, ZERO, extent))
    return tuple(ranges)


def set_whole(
    primal: Primal, tensor: str, extents: Sequence[Expression], source: str | None
) -> Accumulate:
    """`tensor[...] = source[...]` for all elements; 0 without a source."""
    ranges = loops_over(primal, extents)
    subscripts = tuple(Index(r.index) for r in ranges)
    value = Number(0.0) if source is None else Read(source, subscripts)
    return Accumulate(Read(tensor, subscripts), Reduction.SET, value, ranges)


def locals_of(
    primal: Primal, derivatives: Mapping[str, str], prepared: Iterable[Local], made: set[str]
) -> list[Local]:
    """Declarations of all that a derivative computes (`made`) and does not return.

    `derivatives` has the gradient or tangent of each tensor that has one but is not wanted.
    """
    declared = {local.name: local.element for local in primal.program.locals}
    return [
        *(
            # The forward's own tensors, for a program that has the forward inside.
            Local(name, primal.extents(name), declared.get(name, ElementType.FLOAT))
            for name in primal.leaves_of
            if name in made
        ),
        *prepared,
        *(
            Local(derivative, primal.extents(tensor))
            for tensor, derivative in derivatives.items()
            if derivative in made
        ),
    ]


def written(statements: Iterable[Statement]) -> set[str]:
    """Every tensor that the statements write."""
    found: set[str] = set()
    for statement in statements:
        match statement:
            case Accumulate(target):
                found.add(target.tensor)
            case Block(_, body):
                found |= written(body)
    return found
