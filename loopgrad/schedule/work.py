"""How long a phase takes, roughly: a formula in the extents, in nanoseconds of one thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

from loopgrad.ir import walk
from loopgrad.ir.nodes import Conditional, Expression, Number
from loopgrad.schedule.costs import cost
from loopgrad.schedule.tree import Blocks, Made, Mark, Node, Over, Pack, Product, Step

# A read or a write, and how much longer all takes outside of lanes. In units of which a nanosecond has so
# many: as measured with 16 lanes, of what a cache holds.
_MEMORY, _SINGLY, UNIT = 2, 8, 64

# To begin and end a loop over lanes, in the same; and what a scan takes for each step of its kind.
_STARTING, _SCAN = 128, 3

# To pack an element, in the same.
_PACK = Number(8)


def work(nodes: Iterable[Node]) -> Expression:
    total = _sum([_work(node, False, {}) for node in nodes])
    return walk.apply("//", total, Number(UNIT))


def _work(node: Node, lanes: bool, largest: Mapping[str, Expression]) -> Expression:
    match node:
        case Step(statement):
            parts = (statement.value, *([statement.guard] if statement.guard else []))
            reads = sum(1 for read in walk.statement_reads(statement) if read.subscripts)
            total = _MEMORY * (1 + reads) + sum(map(cost, parts))
            return Number(total if lanes else total * _SINGLY)
        case Over(index, lower, upper, body, mark) | Blocks(index, lower, upper, _, body, mark):
            low, high = walk.substitute(lower, largest), walk.substitute(upper, largest)
            blocks = isinstance(node, Blocks)
            inside = {**largest, index: high}
            if blocks:
                inside = {**inside, f"{index}.from": low, f"{index}.to": high}
            within = _sum(
                [_work(n, lanes or mark in (Mark.VECTOR, Mark.SCAN), inside) for n in body]
            )
            length = high if low == Number(0) or walk.indices_of(low) else _less(high, low)
            if blocks:
                return within
            if mark is Mark.SCAN:
                within = walk.apply("*", Number(_SCAN), within)
            whole = walk.apply("*", length, within)
            return _sum([whole, Number(_STARTING)]) if mark in (Mark.VECTOR, Mark.SCAN) else whole
        case Pack(_, _, n, k, Made.TOGETHER, large):
            return Conditional(large, _product([_PACK, *(d.upper for d in (*n, *k))]), Number(0))
        case Pack():
            return Number(0)  # small beside the products
        case Product(m=m, n=n, k=k, packed=packed):
            rows, *side = (
                _product([walk.substitute(d.upper, largest) for d in each]) for each in (m, n, k)
            )
            every = walk.apply("//", _product([rows, *side]), Number(2))
            return every if packed else _sum([every, _product([_PACK, *side])])


def _product(factors: Iterable[Expression]) -> Expression:
    return reduce(lambda a, b: walk.apply("*", a, b), factors)


def _less(high: Expression, low: Expression) -> Expression:
    return walk.apply("-", high, low)


def _sum(terms: list[Expression]) -> Expression:
    """Numbers together, the rest in pairs of pairs: that of a long program is not deep."""
    number = sum(t.value for t in terms if isinstance(t, Number) and isinstance(t.value, int))
    rest: list[Expression] = [t for t in terms if not isinstance(t, Number)]
    if number or not rest:
        rest.append(Number(number))
    while len(rest) > 1:
        pairs = [rest[i : i + 2] for i in range(0, len(rest), 2)]
        rest = [pair[0] if len(pair) == 1 else walk.apply("+", *pair) for pair in pairs]
    return rest[0]
