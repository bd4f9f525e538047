"""How much one program may hold: the same for what is typed and for what is derived.

So a text from a stranger is read in bounded time and memory, every pass can walk what it is given,
and each program that a pass makes prints as a text that can be read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.ir.nodes import Expression, Input, Local, Program, Result
from loopgrad.ir.printer import show
from loopgrad.ir.walk import (
    all_statements,
    children,
    names_in,
    statement_expressions,
    subexpressions,
)

LONGEST_TEXT = 1_000_000  # characters
LONGEST_NAME = 200  # characters
LARGEST_INTEGER = 2**63 - 1  # of those that are written
MOST_STATEMENTS = 10_000
MOST_INLINED = 5_000  # statements that the calls of a program stand for
MOST_ARGUMENTS = 1_000
MOST_AXES = 32
MOST_INDICES = 64  # of one `for`
DEEPEST_BLOCK = 32  # blocks inside each other
DEEPEST_EXPRESSION = 100  # operations inside each other
MOST_NODES = 200_000  # of all expressions of a derived program: a few seconds for the passes

SPLIT = "compute parts of it into tensors of their own"
_LONG = 5_000  # nodes: the text of a program with fewer is nowhere near the longest


def depth(expression: Expression) -> int:
    """How deep the tree is; a name or a number is 1 deep."""
    deepest, stack = 0, [(expression, 1)]
    while stack:
        node, level = stack.pop()
        deepest = max(deepest, level)
        stack.extend((child, level + 1) for child in children(node))
    return deepest


def count_nodes(*expressions: Expression) -> int:
    """How many nodes the trees have; counting stops beyond `MOST_NODES`."""
    nodes = (node for expression in expressions for node in subexpressions(expression))
    return sum(1 for _ in islice(nodes, MOST_NODES + 1))


def within_limits(program: Program) -> Program:
    """The program, made by a pass, if its text can be read; else raises ProgramError."""
    for found, help in _excesses(program):
        raise ProgramError(Diagnostic(f"`{program.name}` would have {found}", help=help))
    return program


def _excesses(program: Program) -> Iterator[tuple[str, str | None]]:
    """What the program has too much of, and a mend. Each is safe to look for after those above."""
    smaller = "derive it for fewer inputs, or for a part of the program at a time"
    statements = list(all_statements(program.statements))
    if len(statements) > MOST_STATEMENTS:
        yield f"{len(statements):,} statements; at most {MOST_STATEMENTS:,} can be read", smaller
    if (count := len(program.arguments)) > MOST_ARGUMENTS:
        yield f"{count:,} arguments; at most {MOST_ARGUMENTS:,} can be read", smaller
    expressions = [e for s in statements for e in statement_expressions(s)]
    nodes = count_nodes(*expressions)
    if nodes > MOST_NODES:
        yield f"more than {MOST_NODES:,} names, numbers and operations", SPLIT
    if any(depth(e) > DEEPEST_EXPRESSION for e in expressions):
        yield f"more than {DEEPEST_EXPRESSION} operations inside each other", SPLIT
    if longest := [name for name in names_in(program) if len(name) > LONGEST_NAME]:
        found = f"a name of {len(longest[0])} characters; it may have {LONGEST_NAME}"
        yield found, f"shorten what it is made from: `{longest[0][:40]}...`"
    declared: tuple[Input | Result | Local, ...]
    declared = (*program.inputs, *program.results, *program.locals)
    for tensor in declared:
        if (axes := len(tensor.extents)) > MOST_AXES:
            yield f"{axes} axes in `{tensor.name}`; a tensor has at most {MOST_AXES}", None
    if any(len(s.ranges) > MOST_INDICES for s in statements):
        yield f"more than {MOST_INDICES} indices in one `for`", "use a block for some of them"
    if nodes > _LONG and (length := len(show(program))) > LONGEST_TEXT:
        yield f"a text of {length:,} characters; it may have {LONGEST_TEXT:,}", SPLIT
