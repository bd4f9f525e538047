"""A scheduled program in words: the notation, with its loops marked and its buffers named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Range, Read, Reduction
from loopgrad.ir.printer import show_expression, show_range, show_statement
from loopgrad.schedule import Nest, Phase, Scheduled, Sequence
from loopgrad.schedule.showing.naming import named
from loopgrad.schedule.tree import (
    Axis,
    Blocks,
    Buffer,
    Fused,
    Node,
    Over,
    Pack,
    Picks,
    Product,
    Scope,
    Step,
)

INDENT = "    "


def show(scheduled: Scheduled) -> str:
    """The phases, in order."""
    return "\n".join(line for phase in scheduled.phases for line in show_phase(phase))


def show_phase(phase: Phase, buffers: bool = True) -> Iterator[str]:
    """Its lines; with `buffers`, comments that say where its tensors are."""
    match phase:
        case Nest(_, statement):
            yield show_statement(statement)
        case Sequence(_, loops, body):
            shown = ", ".join(_range(o.index, o.lower, o.upper, o.descending) for o in loops)
            yield f"for {shown}:"
            for inner in body:
                yield from (INDENT + line for line in show_phase(inner))
        case Fused(body, own):
            names, body = named(body)
            yield from (f"where {name} = {show_expression(e, compact=True)}" for name, e in names)
            yield from _nodes(body)
            yield from (f"  # {_buffer(b)}" for b in own if buffers)


def _nodes(nodes: Iterable[Node], innermost: str | None = None) -> Iterator[str]:
    """`innermost`: the index of the loop around them."""
    for node in nodes:
        match node:
            case Step(statement, first):
                yield _step(statement, first and innermost in (None, *_indices(statement.target)))
            case Over(index, lower, upper, body, mark, descending, _, picks):
                word = mark.value if picks is None else _picks(picks)
                shown = f"for {_range(index, lower, upper, descending)} {word}".rstrip() + ":"
                inner = list(_nodes(body, index))
                if len(inner) == 1:
                    yield f"{shown}  {inner[0]}"
                    continue
                yield shown
                yield from (INDENT + line for line in inner)
            case Blocks(index, lower, upper, size, body, mark, shares, _, grid):
                count = show_expression(size) if isinstance(size, Expression) else size
                what = f"in blocks of {count}" if count else "in blocks"
                words = (what, mark.value, shares.value, grid.value)
                shared = " ".join(word for word in words if word)
                yield f"for {_range(index, lower, upper, False)} {shared}:"
                yield from (INDENT + line for line in _nodes(body))
            case Pack(name, right, made=made):
                yield f"pack{made.value}:  {name} = {show_expression(right)}"
            case Product(target, first=first, guard=guard, borders=borders, update=update):
                how = Reduction.SET if first and _adds(node) else node.reduction
                statement = Accumulate(target, how, node.value, (), guard)
                known = ", zeros left out" if borders else ""
                word = "product" if update is None else "pairs"
                yield f"{word}{known}:  {show_statement(statement)}"


def _adds(product: Product) -> bool:
    return product.reduction in (Reduction.ADD, Reduction.SUBTRACT)


def _step(statement: Accumulate, stores: bool) -> str:
    if stores:
        negative = statement.reduction is Reduction.SUBTRACT
        value = walk.apply("neg", statement.value) if negative else statement.value
        statement = replace(statement, reduction=Reduction.SET, value=value)
    return show_statement(statement)


def _indices(target: Read) -> frozenset[str]:
    return frozenset().union(*map(walk.indices_of, target.subscripts))


def _range(index: str, lower: Expression, upper: Expression, descending: bool) -> str:
    return show_range(Range(index, lower, upper, descending))


def _picks(picks: Picks) -> str:
    row = show_expression(picks.row, compact=True)
    return f"where {picks.rows}.from <= {row} < {picks.rows}.to"


def _buffer(buffer: Buffer) -> str:
    axes = ",".join(_axis(a) for a in buffer.axes)
    where = {
        Scope.REGISTER: "in registers",
        Scope.ROW: "in a row of each thread",
        Scope.PARTIAL: "a copy for each thread",
        Scope.SPLIT: "a copy for each thread that goes on with a row",
        Scope.SUMMED: "a copy for each part of the sums but the first",
        Scope.PROGRAM: "in memory",
    }[buffer.scope]
    return f"{buffer.tensor}[{axes}] {where}" if axes else f"{buffer.tensor} {where}"


def _axis(axis: Axis) -> str:
    return show_expression(axis.extent)
