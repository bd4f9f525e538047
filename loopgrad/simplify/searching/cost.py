"""What a program costs: operations, transcendental calls, bytes, as formulas in its extents.

Each operation counts once for every value of the indices that it depends on: loop-invariant parts
are computed outside, and once for every turn of the blocks around its statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Range,
    Read,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import (
    ZERO,
    accumulates,
    bounds,
    children,
    conjuncts,
    indices_of,
    reads,
    subexpressions,
)

Formula = dict[tuple[str, ...], float]  # products of extents -> how often

SIZE = 64  # of every extent, where two programs are compared
LENGTH = 256  # of one with triangular loops, such as `u <= t`: the length of a sequence
WEIGHTS = {"+": 1, "-": 1, "*": 1, "neg": 0, "/": 4, "sqrt": 8, "rsqrt": 10, "max": 1, "min": 1}
TRANSCENDENTAL = frozenset("exp log log1p expm1 tanh sigmoid softplus erf sin cos **".split())
CALL = 20  # a transcendental call, in operations
STATEMENT = 16  # a loop nest of its own


@dataclass
class Cost:
    """`operations` and `bytes` count what is written; `weighted` what it takes."""

    operations: Formula = field(default_factory=lambda: defaultdict(float))
    transcendental: Formula = field(default_factory=lambda: defaultdict(float))
    bytes: Formula = field(default_factory=lambda: defaultdict(float))
    weighted: Formula = field(default_factory=lambda: defaultdict(float))
    statements: int = 0

    lengths: frozenset[str] = frozenset()  # extents with triangular loops

    @property
    def value(self) -> float:
        """One number to compare by."""
        return sum(c * self._size(k) for k, c in self.weighted.items())

    def _size(self, extents: tuple[str, ...]) -> float:
        return prod(float(LENGTH if e in self.lengths else SIZE) for e in extents)

    def __str__(self) -> str:
        return (
            f"operations {show_formula(self.operations)}, "
            f"transcendental {show_formula(self.transcendental)}, bytes {show_formula(self.bytes)}"
        )


def show_formula(formula: Mapping[tuple[str, ...], float]) -> str:
    """`3*B*J + 2*B`; 0 for nothing."""
    ordered = sorted(((k, c) for k, c in formula.items() if c), key=lambda t: (-len(t[0]), t[0]))
    return " + ".join("*".join([f"{c:g}", *k]) for k, c in ordered) or "0"


def cost(program: Program, hoisted: bool = True) -> Cost:
    """The cost of a program for all sizes.

    hoisted: where False, everything in a statement counts once for each of its iterations.
    """
    facts = infer(program)
    inner = {t.name for t in facts.tensors.values() if t.role == "temporary"}
    statements = facts.program.statements
    return cost_of(statements, inner, lengths=lengths_of(statements), hoisted=hoisted)


def cost_of(
    statements: Iterable[Statement],
    temporaries: Collection[str],
    around: Sequence[Range] = (),
    lengths: frozenset[str] = frozenset(),
    hoisted: bool = True,
) -> Cost:
    """The cost of statements with both bounds on every range, in blocks over the ranges around.

    lengths: extents with triangular loops (`lengths_of`).
    """
    total = Cost(lengths=lengths)

    def visit(body: Iterable[Statement], turns: Sequence[Range]) -> None:
        for statement in body:
            if isinstance(statement, Accumulate):
                _statement(statement, temporaries, turns, total, hoisted)
            elif isinstance(statement, Block):
                visit(statement.body, (*turns, *statement.ranges))

    visit(statements, around)
    return total


def _statement(
    statement: Accumulate,
    temporaries: Collection[str],
    around: Sequence[Range],
    total: Cost,
    hoisted: bool,
) -> None:
    spans = spans_of((*around, *statement.ranges))
    turns = frozenset(r.index for r in around)

    def size(expression: Expression) -> Often:
        return _often(spans, indices_of(expression) | turns if hoisted else spans)

    whole = _often(spans, spans)
    total.statements += 1
    _add(total.weighted, _often(spans, turns), STATEMENT)
    _add(total.weighted, whole, 2)  # the loop, the update
    _add(total.operations, whole, statement.reduction.value != "=")
    read: dict[Read, None] = {}
    roots = [statement.value, *([statement.guard] if statement.guard is not None else [])]
    for root in roots:
        _expression(root, size, total)
        for node in subexpressions(root):
            if isinstance(node, Read):
                read[node] = None
                key = size(node)
                if key[0]:
                    _add(total.weighted, key, 1.5 if node.tensor in temporaries else 1)
    written = size(statement.target)
    _add(total.weighted, written, 1)
    _add(total.bytes, written, 4)
    for node in read:
        _add(total.bytes, size(node), 4)


@dataclass(frozen=True)
class Span:
    """The values of an index: an extent, and the part of it that is run."""

    extent: str
    part: float


Often = tuple[tuple[str, ...], float]  # a product of extents, and the part of it that is run


def _add(formula: Formula, often: Often, count: float) -> None:
    formula[often[0]] += often[1] * count


def _often(spans: Mapping[str, Span], indices: Collection[str]) -> Often:
    """How often what hangs on these indices is computed."""
    inside = set(indices) & set(spans)
    keys, part = [], 1.0
    for index in sorted(inside):
        keys.append(spans[index].extent)
        part *= spans[index].part
    return tuple(sorted(keys)), part


def lengths_of(statements: Iterable[Statement]) -> frozenset[str]:
    """The extents of which a loop runs through a part that hangs on another index over them."""
    found: set[str] = set()
    for blocks, statement in accumulates(statements):
        ranges = (*(r for b in blocks for r in b.ranges), *statement.ranges)
        spans = spans_of(ranges)
        for r in ranges:
            if any(i != r.index and i in spans for b in bounds([r]) for i in indices_of(b)):
                found.add(spans[r.index].extent)
        for condition in conjuncts(statement.guard):
            indices = sorted(indices_of(condition) & set(spans))
            if isinstance(condition, Compare) and len(indices) == 2 and not any(reads(condition)):
                found.update(spans[i].extent for i in indices)
    return frozenset(found)


def spans_of(ranges: Iterable[Range]) -> dict[str, Span]:
    """`u <= t` is half of t's extent; what the sizes do not tell is half of what it is called."""
    spans: dict[str, Span] = {}
    middle: dict[str, float] = {}
    for r in ranges:
        if r.upper is None:
            continue
        lower = _value(r.lower or ZERO, middle)
        upper = _value(r.upper, middle)
        outer = sorted((indices_of(r.upper) | indices_of(r.lower or ZERO)) & set(spans))
        own = [i for i in outer if i in indices_of(r.upper)]
        extent = spans[own[-1]].extent if own else show_expression(r.upper, True)
        varies = outer or any(reads(r.upper)) or any(reads(r.lower))
        part = max(upper - lower, 0.0) / SIZE if varies else 1.0
        spans[r.index] = Span(extent, part)
        middle[r.index] = (lower + upper) / 2 if varies else SIZE / 2
    return spans


def _value(bound: Expression, middle: Mapping[str, float]) -> float:
    """About what a bound is, where all extents are the same and indices in the middle."""
    match bound:
        case Number() | Constant():
            return 0.0
        case Extent():
            return float(SIZE)
        case Index(name):
            return middle.get(name, SIZE / 2)
        case Apply("neg", (operand,)):
            return -_value(operand, middle)
        case Apply("+" | "-" | "max" | "min" as name, (left, right)):
            one, other = _value(left, middle), _value(right, middle)
            operations = {"+": one + other, "-": one - other}
            operations |= {"max": max(one, other), "min": min(one, other)}
            return operations[name]
    return SIZE / 2


def _expression(expression: Expression, size: Callable[[Expression], Often], total: Cost) -> None:
    stack = [expression]
    while stack:
        node = stack.pop()
        key = size(node)
        match node:
            case Apply(name, operands) if operands:
                calls = name in TRANSCENDENTAL and not (
                    name == "**" and isinstance(operands[1], Number) and operands[1].value in (2, 3)
                )
                _add(total.operations, key, name != "neg")
                _add(total.transcendental, key, calls)
                if name == "/" and size(operands[1]) != key:
                    _add(total.weighted, size(operands[1]), WEIGHTS["/"])
                    _add(total.weighted, key, WEIGHTS["*"])  # by the reciprocal, computed outside
                else:
                    _add(total.weighted, key, CALL if calls else WEIGHTS.get(name, 1))
            case Compare() | Conditional():
                _add(total.operations, key, 1)
                _add(total.weighted, key, 2)
            case Index() | Read():
                continue
        stack.extend(children(node))
