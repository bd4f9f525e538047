"""What a program costs: operations, transcendental calls, bytes, as formulas in its extents.

Each operation counts once for every value of the indices that it depends on: loop-invariant parts
are computed outside, and once for every turn of the blocks around its statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Program,
    Range,
    Read,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import children, indices_of, subexpressions

Formula = dict[tuple[str, ...], float]  # products of extents -> how often

SIZE = 64  # of every extent, where two programs are compared
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

    @property
    def value(self) -> float:
        """One number to compare by."""
        return sum(c * float(SIZE) ** len(k) for k, c in self.weighted.items())

    def __str__(self) -> str:
        return (
            f"operations {show_formula(self.operations)}, "
            f"transcendental {show_formula(self.transcendental)}, bytes {show_formula(self.bytes)}"
        )


def show_formula(formula: Mapping[tuple[str, ...], float]) -> str:
    """`3*B*J + 2*B`; 0 for nothing."""
    ordered = sorted(((k, c) for k, c in formula.items() if c), key=lambda t: (-len(t[0]), t[0]))
    return " + ".join("*".join([f"{c:g}", *k]) for k, c in ordered) or "0"


def cost(program: Program) -> Cost:
    """The cost of a program for all sizes."""
    facts = infer(program)
    inner = {t.name for t in facts.tensors.values() if t.role == "temporary"}
    return cost_of(facts.program.statements, inner)


def cost_of(
    statements: Iterable[Statement], temporaries: Collection[str], around: Sequence[Range] = ()
) -> Cost:
    """The cost of statements with both bounds on every range, in blocks over the ranges around."""
    total = Cost()

    def visit(body: Iterable[Statement], turns: Sequence[Range]) -> None:
        for statement in body:
            if isinstance(statement, Accumulate):
                _statement(statement, temporaries, turns, total)
            elif isinstance(statement, Block):
                visit(statement.body, (*turns, *statement.ranges))

    visit(statements, around)
    return total


def _statement(
    statement: Accumulate, temporaries: Collection[str], around: Sequence[Range], total: Cost
) -> None:
    turns = tuple(show_expression(r.upper, True) for r in around if r.upper)
    extents = {r.index: show_expression(r.upper, True) for r in statement.ranges if r.upper}

    def size(expression: Expression) -> tuple[str, ...]:
        own = (extents[i] for i in indices_of(expression) if i in extents)
        return tuple(sorted((*turns, *own)))

    whole = tuple(sorted((*turns, *extents.values())))
    total.statements += 1
    total.weighted[tuple(sorted(turns))] += STATEMENT
    total.weighted[whole] += 2  # the loop, the update
    total.operations[whole] += statement.reduction.value != "="
    read: dict[Read, None] = {}
    roots = [statement.value, *([statement.guard] if statement.guard is not None else [])]
    for root in roots:
        _expression(root, size, total)
        for node in subexpressions(root):
            if isinstance(node, Read):
                read[node] = None
                key = size(node)
                if key:
                    total.weighted[key] += 1.5 if node.tensor in temporaries else 1
    written = size(statement.target)
    total.weighted[written] += 1
    total.bytes[written] += 4
    for node in read:
        total.bytes[size(node)] += 4


def _expression(
    expression: Expression, size: Callable[[Expression], tuple[str, ...]], total: Cost
) -> None:
    stack = [expression]
    while stack:
        node = stack.pop()
        key = size(node)
        match node:
            case Apply(name, operands) if operands:
                calls = name in TRANSCENDENTAL and not (
                    name == "**" and isinstance(operands[1], Number) and operands[1].value in (2, 3)
                )
                total.operations[key] += name != "neg"
                total.transcendental[key] += calls
                if name == "/" and size(operands[1]) != key:
                    total.weighted[size(operands[1])] += WEIGHTS["/"]
                    total.weighted[key] += WEIGHTS["*"]  # by the reciprocal, computed outside
                else:
                    total.weighted[key] += CALL if calls else WEIGHTS.get(name, 1)
            case Compare() | Conditional():
                total.operations[key] += 1
                total.weighted[key] += 2
            case Index() | Read():
                continue
        stack.extend(children(node))
