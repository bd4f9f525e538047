"""Loops over few values inside of vector loops, written out: `for dx < 3` as three steps.

So what is the same in all of them is computed once, and what they add to stays in a register. Each value
is an index of its own, `dx#2`, which is that number throughout; conditions that it decides are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.backends.llvm.fused.sizes import computed
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Number, Read
from loopgrad.schedule.limits import holds
from loopgrad.schedule.lines import Bounds
from loopgrad.schedule.tree import Blocks, Mark, Node, Over, Step, steps

MOST_TURNS = 16  # of all loops around a step
MOST_PLAIN = 64  # of those around steps without guards
MOST_PARTS = 640  # of the expressions of all steps that come of a loop


@dataclass
class Unrolling:
    """Rewrites trees. `turns`: the indices that are numbers, with these."""

    turns: dict[str, int] = field(default_factory=dict)

    def nodes(
        self, nodes: Sequence[Node], bounds: Mapping[str, Bounds], lanes: bool = False
    ) -> tuple[Node, ...]:
        """`bounds`: of the loops around. `lanes`: whether one of them is a vector loop."""
        return tuple(new for node in nodes for new in self._node(node, bounds, lanes))

    def _node(self, node: Node, bounds: Mapping[str, Bounds], lanes: bool) -> Iterator[Node]:
        match node:
            case Over(index, lower, upper, body, mark):
                if lanes and _turns(node) and _fits(node):
                    yield from self._written_out(node, bounds)
                    return
                inner = {**bounds, index: (lower, upper)}
                lanes = lanes or mark is Mark.VECTOR
                yield replace(node, body=self.nodes(body, inner, lanes))
            case Blocks(index, lower, upper, _, body):
                inner = {i: b for i, b in bounds.items() if i != index}
                yield replace(node, body=self.nodes(body, inner, lanes))
            case _:
                yield node

    def _written_out(self, loop: Over, bounds: Mapping[str, Bounds]) -> Iterator[Node]:
        for number, value in enumerate(_values(loop)):
            name = f"{loop.index}#{value}"
            self.turns[name] = value
            for node in loop.body:
                if isinstance(node, Step):
                    # What a loop starts from its first turn does.
                    reduces = loop.index not in _kept(node)
                    first = node.first and (number == 0 or not reduces)
                    node = replace(_with(node, loop.index, name), first=first)
                else:
                    assert isinstance(node, Over)
                    node = replace(node, body=tuple(_renamed(node.body, loop.index, name)))
                known = {**bounds, **{n: (Number(v), Number(v + 1)) for n, v in self.turns.items()}}
                for new in self._node(node, known, True):
                    yield _decided(new, known) if isinstance(new, Step) else new


def _values(loop: Over) -> range:
    match loop.lower, loop.upper:
        case Number(int(low)), Number(int(high)):
            return range(low, high)
    return range(0)


def _turns(node: Node) -> int:
    """How often steps in it run, at most; 0 where a loop is none over few known values."""
    match node:
        case Step():
            return 1
        case Over(mark=Mark.SEQUENTIAL, descending=False, body=body):
            inner = [_turns(each) for each in body]
            count = len(_values(node)) * max(inner, default=0) if all(inner) else 0
            plain = all(
                step.statement.guard is None for step in steps(body) if isinstance(step, Step)
            )
            return count if count <= (MOST_PLAIN if plain else MOST_TURNS) else 0
    return 0


def _fits(node: Node) -> bool:
    return _parts(node) <= MOST_PARTS


def _parts(node: Node) -> int:
    match node:
        case Step(statement):
            parts = (statement.value, statement.guard, statement.target)
            return sum(computed(part) for part in parts if part is not None)
        case Over(body=body):
            return len(_values(node)) * sum(map(_parts, body))
    return MOST_PARTS + 1


def _kept(step: Step) -> frozenset[str]:
    return frozenset().union(*map(walk.indices_of, step.statement.target.subscripts))


def _renamed(nodes: Sequence[Node], index: str, name: str) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, Step):
            yield _with(node, index, name)
        else:
            assert isinstance(node, Over)
            yield replace(node, body=tuple(_renamed(node.body, index, name)))


def _with(step: Step, index: str, name: str) -> Step:
    at = {index: Index(name)}

    def change(expression: Expression) -> Expression:
        return walk.substitute(expression, at)

    statement = walk.map_statement(step.statement, change)
    assert isinstance(statement, Accumulate)
    unproved = tuple(r for r in map(change, step.unproved) if isinstance(r, Read))
    return replace(step, statement=statement, unproved=unproved)


def _decided(step: Step, bounds: Mapping[str, Bounds]) -> Step:
    """The step without conditions that hold whatever the indices are."""
    guard = step.statement.guard
    if guard is None:
        return step
    rest = [part for part in walk.conjuncts(guard) if not holds(part, bounds)]
    return replace(step, statement=replace(step.statement, guard=walk.conjunction(rest)))
