"""Long bounds by name, for a reader: `min(32, max(1, (B+63)//64))`, six times in a phase, is `part.count`.

A name stands for its text, wherever that stands; nothing but what is printed knows of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Constant, Expression, Extent, Index, Number, Read
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.sums.integral import as_written
from loopgrad.schedule.tree import ZERO, Blocks, Node, Over, Pack, Product, Step

INTEGER = {"+", "-", "*", "//", "%", "min", "max", "neg"}
SPLITTING = {"//", "min", "max"}  # what no subscript that somebody wrote is likely to have
# What is named has this many characters at least, and its name saves this many in the phase.
LONG, SAVED = 16, 32

Definition = tuple[str, Expression]


def named(nodes: tuple[Node, ...]) -> tuple[list[Definition], tuple[Node, ...]]:
    """The names, each after those that it is made of, and the nodes with them."""
    nodes = tuple(_map(node, as_written) for node in nodes)
    taken = {loop.index for loop in _loops(nodes)}
    taken |= {name for e in _expressions(nodes) for name in walk.indices_of(e)}
    found: list[Definition] = []
    while (long := _most_saved(nodes)) is not None:
        name = _name(long, nodes, taken | {name for name, _ in found})
        nodes = tuple(_map(node, partial(_put, long, Index(name))) for node in nodes)
        found = [(name, long), *((n, _put(long, Index(name), e)) for n, e in found)]
    return _ordered(found), nodes


def _most_saved(nodes: Iterable[Node]) -> Expression | None:
    counts = Counter(
        part
        for e in _expressions(nodes)
        for part in walk.subexpressions(e)
        if _is_integer(part) and _splits(part)
    )
    saved = {e: (n - 1) * len(_text(e)) for e, n in counts.items() if len(_text(e)) >= LONG}
    best = max(saved, key=saved.__getitem__, default=None)
    return best if best is not None and saved[best] >= SAVED else None


def _text(e: Expression) -> str:
    return show_expression(e, compact=True)


def _is_integer(e: Expression) -> bool:
    match e:
        case Apply(operation, operands):
            return operation in INTEGER and all(map(_is_integer, operands))
        case Number(value):
            return isinstance(value, int)
    return isinstance(e, Index | Extent | Constant)


def _splits(e: Expression) -> bool:
    return any(isinstance(p, Apply) and p.operation in SPLITTING for p in walk.subexpressions(e))


def _name(e: Expression, nodes: Iterable[Node], taken: set[str]) -> str:
    """What it is to the loop that has it as a bound; `bound` for what bounds none."""
    wanted = "bound"
    for loop in _loops(nodes):
        if loop.upper == e:
            wanted = f"{loop.index}.count" if loop.lower == ZERO else f"{loop.index}.end"
            break
        if loop.lower == e:
            wanted = f"{loop.index}.begin"
            break
    return walk.fresh_name(wanted, taken)


def _ordered(found: Iterable[Definition]) -> list[Definition]:
    """Definitions after those that they name."""
    left = dict(found)
    done: list[Definition] = []
    while left:
        ready = next(n for n, e in left.items() if not walk.indices_of(e) & left.keys())
        done.append((ready, left.pop(ready)))
    return done


# ----------------------------------------------------------------------------------------- trees


def _loops(nodes: Iterable[Node]) -> Iterator[Over | Blocks]:
    for node in nodes:
        if isinstance(node, Over | Blocks):
            yield node
            yield from _loops(node.body)


def _expressions(nodes: Iterable[Node]) -> Iterator[Expression]:
    found: list[Expression] = []

    def keep(e: Expression) -> Expression:
        found.append(e)
        return e

    for node in nodes:
        _map(node, keep)
    return iter(found)


def _map(node: Node, change: Callable[[Expression], Expression]) -> Node:
    """The node with each expression that is printed of it changed."""
    match node:
        case Step(Accumulate(target, _, value, _, guard) as old):
            guard = None if guard is None else change(guard)
            new = replace(old, target=_target(target, change), value=change(value), guard=guard)
            return replace(node, statement=new)
        case Over(_, lower, upper, body) | Blocks(_, lower, upper, _, body):
            inner = tuple(_map(n, change) for n in body)
            return replace(node, lower=change(lower), upper=change(upper), body=inner)
        case Product(target, left, right):
            new_target = _target(target, change)
            return replace(node, target=new_target, left=change(left), right=change(right))
        case Pack():
            return replace(node, right=change(node.right))


def _target(target: Read, change: Callable[[Expression], Expression]) -> Read:
    return replace(target, subscripts=tuple(map(change, target.subscripts)))


def _put(old: Expression, new: Expression, e: Expression) -> Expression:
    return new if e == old else walk.rebuild(e, partial(_put, old, new))
