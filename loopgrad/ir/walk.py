"""The recursion over programs that every pass shares, and small constructors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from itertools import count
from operator import attrgetter
from typing import Any

from loopgrad.ir.memo import by_identity
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Call,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Input,
    Number,
    Program,
    Range,
    Read,
    Reduce,
    Reduction,
    Statement,
)

# ------------------------------------------------------------------------------------ constructors

ZERO, ONE = Number(0), Number(1)


def number(value: int | float) -> Expression:
    """A literal of any sign."""
    return Apply("neg", (Number(-value),)) if value < 0 else Number(value)


def without_neutral(e: Expression) -> Expression:
    """An operation of integers without what adds 0 or multiplies by 1, and with numbers worked out."""
    match e:
        case Apply("*", (Number(int(1)), other)) | Apply("*" | "//", (other, Number(int(1)))):
            return other
        case Apply("+", (Number(int(0)), other)) | Apply("+" | "-", (other, Number(int(0)))):
            return other
        case Apply("+" | "-" | "*" as operation, (Number(int(a)), Number(int(b)))):
            return number({"+": a + b, "-": a - b, "*": a * b}[operation])
    return e


def apply(operation: str, *operands: Expression) -> Apply:
    return Apply(operation, operands)


def compare(operator: str, left: Expression, right: Expression) -> Compare:
    return Compare((operator,), (left, right))


def conjunction(conditions: Iterable[Expression | None]) -> Expression | None:
    """`c1 and c2 and ...` without the Nones and repeated ones; None for no condition at all."""
    distinct = list(dict.fromkeys(c for c in conditions if c is not None))
    return reduce(lambda a, b: Apply("and", (a, b)), distinct) if distinct else None


def conjuncts(condition: Expression | None) -> Iterator[Expression]:
    """The conditions that have to hold together, in order; chains of comparisons taken apart."""
    match condition:
        case None:
            return
        case Apply("and", (left, right)):
            yield from conjuncts(left)
            yield from conjuncts(right)
        case Compare(operators, operands) if len(operators) > 1:
            for i, operator in enumerate(operators):
                yield Compare((operator,), operands[i : i + 2], condition.span)
        case _:
            yield condition


def plus_one(bound: Expression) -> Expression:
    """`bound + 1`, folded: the exclusive form of an inclusive upper bound."""
    match bound:
        case Number(int(value)):
            return Number(value + 1, bound.span)
        case Apply("neg", (Number(int(value)),)):
            return number(1 - value)
        case Apply("-", (base, Number(1))):
            return base
        case Apply("-", (base, Number(int(value)))):
            return Apply("-", (base, Number(value - 1)), bound.span)
        case Apply("+", (base, Number(int(value)))):
            return Apply("+", (base, Number(value + 1)), bound.span)
    return Apply("+", (bound, ONE), bound.span)


# --------------------------------------------------------------------------------------- traversal


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct subexpressions, bounds of a reduction's ranges included."""
    below = _CHILDREN.get(type(expression))
    return () if below is None else below(expression)


def _of_reduce(expression: Reduce) -> tuple[Expression, ...]:
    return (*bounds(expression.ranges), expression.body)


# By type: what is asked most often of programs is what stands in them.
_CHILDREN: dict[type, Callable[[Any], tuple[Expression, ...]]] = {
    Read: attrgetter("subscripts"),
    Apply: attrgetter("operands"),
    Compare: attrgetter("operands"),
    Conditional: attrgetter("condition", "then", "otherwise"),
    Reduce: _of_reduce,
}


def rebuild(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with `change` made to each direct subexpression; itself if none changed."""
    match expression:
        case Read(tensor, subscripts, span):
            new = tuple(map(change, subscripts))
            return expression if _same(new, subscripts) else Read(tensor, new, span)
        case Apply(operation, operands, span):
            new = tuple(map(change, operands))
            return expression if _same(new, operands) else Apply(operation, new, span)
        case Compare(operators, operands, span):
            new = tuple(map(change, operands))
            return expression if _same(new, operands) else Compare(operators, new, span)
        case Conditional(condition, then, otherwise, span):
            old = (condition, then, otherwise)
            new = tuple(map(change, old))
            return expression if _same(new, old) else Conditional(new[0], new[1], new[2], span)
        case Reduce(name, ranges, body, span):
            new_ranges = tuple(rebuild_range(r, change) for r in ranges)
            return Reduce(name, new_ranges, change(body), span)
    return expression


def _same(new: tuple[Expression, ...], old: tuple[Expression, ...]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))


def rebuild_range(r: Range, change: Callable[[Expression], Expression]) -> Range:
    """The range with `change` made to each bound that it has."""
    if r.lower is None and r.upper is None:
        return r
    return replace(
        r,
        lower=None if r.lower is None else change(r.lower),
        upper=None if r.upper is None else change(r.upper),
    )


def subexpressions(expression: Expression) -> Iterator[Expression]:
    """The expression and all below it, parents first, left to right."""
    return iter(_subexpressions(expression) if type(expression) in _CHILDREN else (expression,))


@by_identity
def _subexpressions(expression: Expression) -> tuple[Expression, ...]:
    found, stack = [], [expression]
    while stack:
        node = stack.pop()
        found.append(node)
        below = _CHILDREN.get(type(node))
        if below is not None:
            stack.extend(below(node)[::-1])
    return tuple(found)


def reads(expression: Expression | None) -> Iterator[Read]:
    """Every read in the expression, those in subscripts and conditions included."""
    if expression is None or type(expression) not in _CHILDREN:
        return iter(())
    return iter(_reads(expression))


@by_identity
def _reads(expression: Expression) -> tuple[Read, ...]:
    return tuple(node for node in subexpressions(expression) if isinstance(node, Read))


def bounds(ranges: Iterable[Range]) -> Iterator[Expression]:
    for r in ranges:
        if r.lower is not None:
            yield r.lower
        if r.upper is not None:
            yield r.upper


def is_fixed(expression: Expression) -> bool:
    """Is it the same whatever the indices and the data are: known before any loop, by sizes and constants?"""
    return not indices_of(expression) and not any(True for _ in reads(expression))


def indices_of(expression: Expression) -> frozenset[str]:
    """The indices that occur in the expression (a reduction's own ones included)."""
    try:
        return expression._indices
    except AttributeError:
        names = (n.name for n in subexpressions(expression) if isinstance(n, Index))
        found = frozenset(names)
        object.__setattr__(expression, "_indices", found)
        return found


def tensors_in(expression: Expression) -> frozenset[str]:
    """The tensors that are read in the expression."""
    try:
        return expression._tensors
    except AttributeError:
        found = frozenset(read.tensor for read in reads(expression))
        object.__setattr__(expression, "_tensors", found)
        return found


def statement_expressions(statement: Statement) -> Iterator[Expression]:
    """The expressions that stand in the statement itself, a block's body not included.

    In order of evaluation: bounds, guard, the target's subscripts, value.
    """
    yield from bounds(statement.ranges)
    match statement:
        case Accumulate(target, _, value, _, guard):
            if guard is not None:
                yield guard
            yield from target.subscripts
            yield value
        case Call(targets, _, arguments, keywords):
            for target in targets:
                yield from target.subscripts
            yield from arguments
            yield from (value for _, value in keywords)


@by_identity
def statement_reads(statement: Statement) -> tuple[Read, ...]:
    """Every read that the statement itself makes; its target is none, the target's subscripts may."""
    return tuple(r for expression in statement_expressions(statement) for r in reads(expression))


def accumulates(statements: Iterable[Statement]) -> Iterator[tuple[tuple[Block, ...], Accumulate]]:
    """Every accumulate in program order, with the blocks around it, outermost first."""

    def inside(
        body: Iterable[Statement], around: tuple[Block, ...]
    ) -> Iterator[tuple[tuple[Block, ...], Accumulate]]:
        for statement in body:
            match statement:
                case Accumulate():
                    yield around, statement
                case Block():
                    yield from inside(statement.body, (*around, statement))
                case Call():
                    pass

    return inside(statements, ())


def all_statements(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Every statement, blocks before their bodies."""
    for statement in statements:
        yield statement
        if isinstance(statement, Block):
            yield from all_statements(statement.body)


def computed_tensors(program: Program) -> tuple[str, ...]:
    """The names that statements write, in the order of their first statement."""
    names: dict[str, None] = {}
    for statement in all_statements(program.statements):
        match statement:
            case Accumulate(target):
                names.setdefault(target.tensor)
            case Call(targets):
                for target in targets:
                    names.setdefault(target.tensor)
    return tuple(names)


def declared_extents(program: Program) -> Iterator[Expression]:
    """The extents of inputs, results and locals, in this order."""
    for given in program.inputs:
        yield from given.extents
    for result in program.results:
        yield from result.extents
    for local in program.locals:
        yield from local.extents


def sizes_in(program: Program) -> set[str]:
    """The names of all extents and constants that stand anywhere in it, its header's arguments aside."""
    expressions = (
        *declared_extents(program),
        *(e for s in all_statements(program.statements) for e in statement_expressions(s)),
    )
    nodes = (node for e in expressions for node in subexpressions(e))
    return {node.name for node in nodes if isinstance(node, Extent | Constant)}


def map_declared(program: Program, change: Callable[[Expression], Expression]) -> Program:
    """The program with `change` made to each extent of its inputs, results and locals."""

    def changed(extents: tuple[Expression, ...]) -> tuple[Expression, ...]:
        return tuple(map(change, extents))

    return replace(
        program,
        arguments=tuple(
            replace(a, extents=changed(a.extents)) if isinstance(a, Input) else a
            for a in program.arguments
        ),
        results=tuple(replace(r, extents=changed(r.extents)) for r in program.results),
        locals=tuple(replace(one, extents=changed(one.extents)) for one in program.locals),
    )


def names_in(program: Program) -> set[str]:
    """Every name the program uses for anything; a fresh one has to differ from all of them."""
    names = {program.name, *(a.name for a in program.arguments)}
    names.update(r.name for r in program.results)
    names.update(local.name for local in program.locals)
    names.update(computed_tensors(program))

    def visit(expression: Expression) -> None:
        for node in subexpressions(expression):
            match node:
                case Index(name) | Extent(name) | Constant(name) | Read(name):
                    names.add(name)
                case Reduce(_, ranges):
                    names.update(r.index for r in ranges)

    for extent in declared_extents(program):
        visit(extent)
    for statement in all_statements(program.statements):
        names.update(r.index for r in statement.ranges)
        for expression in statement_expressions(statement):
            visit(expression)
    return names


def fresh_name(wanted: str, taken: set[str] | frozenset[str]) -> str:
    """`wanted`, or `wanted2`, `wanted3`, ... if it is taken."""
    if wanted not in taken:
        return wanted
    count = 2
    while f"{wanted}{count}" in taken:
        count += 1
    return f"{wanted}{count}"


# ------------------------------------------------------------------------------------ substitution


def substitute(expression: Expression, indices: Mapping[str, Expression]) -> Expression:
    """The expression with indices replaced; the indices of its own reductions are left alone."""
    if not indices:
        return expression

    def change(node: Expression) -> Expression:
        match node:
            case Index(name):
                return indices.get(name, node)
            case Reduce(_, ranges):
                inner = {k: v for k, v in indices.items() if all(k != r.index for r in ranges)}
                return rebuild(node, lambda e: substitute(e, inner))
        return rebuild(node, change)

    return change(expression)


def rename_tensors(expression: Expression, names: Mapping[str, str]) -> Expression:
    """The expression with the tensors it reads renamed."""

    def change(node: Expression) -> Expression:
        node = rebuild(node, change)
        if isinstance(node, Read) and node.tensor in names:
            return Read(names[node.tensor], node.subscripts, node.span)
        return node

    return change(expression)


def renamed(statement: Statement, names: Mapping[str, str]) -> Statement:
    """The statement with the tensors renamed that it reads and writes, in blocks all the way down."""
    if not names:
        return statement
    return _retargeted(map_statement(statement, lambda e: rename_tensors(e, names)), names)


def _retargeted(statement: Statement, names: Mapping[str, str]) -> Statement:
    match statement:
        case Accumulate(target):
            name = names.get(target.tensor, target.tensor)
            return replace(statement, target=replace(target, tensor=name))
        case Block(_, body):
            return replace(statement, body=tuple(_retargeted(s, names) for s in body))
    return statement


def without_bounds(expression: Expression) -> Expression:
    """With sums over a whole axis as `sum[j]`, as people write them; other bounds stay."""

    def change(node: Expression) -> Expression:
        node = rebuild(node, change)
        if isinstance(node, Reduce):
            return replace(node, ranges=tuple(map(_without_bounds, node.ranges)))
        return node

    return change(expression)


def _without_bounds(r: Range) -> Range:
    return Range(r.index) if r.lower in (None, ZERO) and isinstance(r.upper, Extent) else r


def summands(expression: Expression) -> list[tuple[bool, Expression]]:
    """The terms of a sum, left to right, each with whether it is taken away."""
    match expression:
        case Apply("+" | "-" as operation, (left, right)):
            return [*summands(left), (operation == "-", right)]
    return [(False, expression)]


def multiplicands(expression: Expression) -> list[Expression]:
    """The factors of a product, left to right."""
    if isinstance(expression, Apply) and expression.operation == "*":
        return [f for operand in expression.operands for f in multiplicands(operand)]
    return [expression]


def reductions_of(statements: Iterable[Statement]) -> dict[str, Reduction]:
    """The operation of each computed tensor, beside `=`: what it starts from is its identity."""
    found: dict[str, Reduction] = {}
    for s in all_statements(statements):
        if isinstance(s, Accumulate) and found.get(s.target.tensor, Reduction.SET) is Reduction.SET:
            found[s.target.tensor] = s.reduction
    return found


def map_ranges(program: Program, change: Callable[[int, Range], Range]) -> Program:
    """The program with each range changed; they are numbered as `all_statements` meets them."""
    numbers = count()

    def changed(statement: Statement) -> Statement:
        ranges = tuple(change(next(numbers), r) for r in statement.ranges)
        if isinstance(statement, Block):
            return replace(statement, ranges=ranges, body=tuple(map(changed, statement.body)))
        return replace(statement, ranges=ranges)

    return replace(program, statements=tuple(map(changed, program.statements)))


def map_statement(statement: Statement, change: Callable[[Expression], Expression]) -> Statement:
    """The statement with `change` made to each of its expressions, in blocks all the way down.

    `change` gets whole expressions: bounds, guard, value, and each subscript of a target.
    """
    ranges = tuple(rebuild_range(r, change) for r in statement.ranges)
    match statement:
        case Accumulate():
            return replace(
                statement,
                ranges=ranges,
                target=replace(
                    statement.target, subscripts=tuple(map(change, statement.target.subscripts))
                ),
                guard=None if statement.guard is None else change(statement.guard),
                value=change(statement.value),
            )
        case Block():
            return replace(
                statement,
                ranges=ranges,
                body=tuple(map_statement(s, change) for s in statement.body),
            )
        case Call():
            return replace(
                statement,
                ranges=ranges,
                targets=tuple(
                    replace(t, subscripts=tuple(map(change, t.subscripts)))
                    for t in statement.targets
                ),
                arguments=tuple(map(change, statement.arguments)),
                keywords=tuple((k, change(v)) for k, v in statement.keywords),
            )
