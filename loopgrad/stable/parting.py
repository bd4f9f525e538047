"""A tensor that some statements scale up and others down, taken apart into two.

Of `softmax(s) -> p, Z` the gradient of Z is a seed, and what p adds: that is times 1/Z. With a scale for the
one the other overflows. What reads the sum reads both; where one is 0, nothing is added, however large the
rest of the product (0 * inf is no number, and 0 in the reals).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Expression,
    Local,
    Number,
    Program,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    compare,
    conjunction,
    fresh_name,
    names_in,
    reads,
    rename_tensors,
    statement_reads,
)

ADDING = (Reduction.ADD, Reduction.SUBTRACT)


def parted(facts: Facts, name: str, first: Sequence[Accumulate]) -> Program | None:
    """The program with two tensors for `name`, the first made by these statements.

    None where a statement reads it otherwise than as a factor of what it adds, or it is made in a block.
    """
    places = [p for p in accumulates(facts.program.statements) if p[1].target.tensor == name]
    if any(blocks for blocks, _ in places):
        return None
    own = [statement for _, statement in places]
    apart = {id(s) for s in first}
    if not 0 < len(apart) < len(own) or any(s.reduction is Reduction.SET for s in own[1:]):
        return None
    for statement in all_statements(facts.program.statements):
        if any(r.tensor == name for r in statement_reads(statement)) and not (
            isinstance(statement, Accumulate)
            and statement.reduction in ADDING
            and sum(r.tensor == name for r in statement_reads(statement)) == 1
            and _is_factor(statement.value, name)
        ):
            return None
    other = fresh_name(f"{name}.rest", names_in(facts.program))
    fact = facts.tensors[name]

    def change(body: Sequence[Statement]) -> Iterator[Statement]:
        for statement in body:
            match statement:
                case Block():
                    yield replace(statement, body=tuple(change(statement.body)))
                case Accumulate(target) if target.tensor == name:
                    new = name if id(statement) in apart else other
                    yield replace(statement, target=Read(new, target.subscripts))
                case Accumulate() if any(r.tensor == name for r in statement_reads(statement)):
                    yield _guarded(statement, name)
                    yield _guarded(_reading(statement, name, other), other)
                case _:
                    yield statement

    locals_ = [local for local in facts.program.locals if local.name != name]
    locals_ += [Local(n, fact.extents, fact.element) for n in (name, other)]
    return replace(
        facts.program, statements=tuple(change(facts.program.statements)), locals=tuple(locals_)
    )


def _is_factor(value: Expression, name: str) -> bool:
    match value:
        case Read(tensor):
            return tensor == name
        case Apply("*", (left, right)):
            return _is_factor(left, name) or _is_factor(right, name)
        case Apply("/", (above, _)) | Apply("neg", (above,)):
            return _is_factor(above, name)
    return False


def _reading(statement: Accumulate, name: str, other: str) -> Accumulate:
    return replace(statement, value=rename_tensors(statement.value, {name: other}))


def _guarded(statement: Accumulate, name: str) -> Accumulate:
    read = next(r for r in reads(statement.value) if r.tensor == name)
    guard = conjunction((statement.guard, compare("!=", read, Number(0))))
    return replace(statement, guard=guard)
