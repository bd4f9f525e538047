"""`stabilize`: a program to an equal one that neither overflows nor cancels."""

from __future__ import annotations

from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import tidy
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.limits import within_limits
from loopgrad.ir.memo import once_per_program
from loopgrad.ir.nodes import Apply, Program
from loopgrad.ir.walk import all_statements, statement_expressions, subexpressions
from loopgrad.stable.gate import Gate
from loopgrad.stable.scaling import scaled

KEPT = f"_{__name__}.stabilized"  # where `once_per_program` keeps the answer
EXPONENTIALS = frozenset(("exp", "sigmoid"))


def stabilize(program: Program) -> Program:
    """The program as `compile` runs it: equal to it in real numbers, accurate in floating point.

    The program itself where it is as good as any form that is known.

    >>> import loopgrad as lg
    >>> from loopgrad.stable import stabilize
    >>> print(stabilize(lg.lib.softmax))
    softmax(s[B,J]) -> p[B,J]:
        for b, j:  Z.max[b]   max= s[b,j]
        for b:     Z.shift[b] = Z.max[b] if abs(Z.max[b]) < inf else 0.0
        for b, j:  Z'[b]      += exp(s[b,j] - Z.shift[b])
        for b, j:  p[b,j]     += exp(s[b,j] - Z.shift[b]) / Z'[b]
    """
    found = stabilized(program)
    return program if found is None else tidy(found, infer(found))


@once_per_program
def stabilized(program: Program) -> Program | None:
    """The program as `compile` runs it, with every range written; None for the program itself."""
    facts = infer(program)
    if not may_gain(facts.program):
        return None
    try:
        found = scaled(facts)
        if found is None:
            return None
        validate(within_limits(found))
        return found if Gate(facts).passes(found) else None
    except (ProgramError, RecursionError):
        return None


def settled(program: Program) -> Program:
    """The program, marked as one that is stable as it is."""
    program.__dict__[KEPT] = None
    return program


def may_gain(program: Program) -> bool:
    """Whether something in the program overflows, as far as one sees at once."""
    return any(
        isinstance(node, Apply) and node.operation in EXPONENTIALS
        for statement in all_statements(program.statements)
        for expression in statement_expressions(statement)
        for node in subexpressions(expression)
    )
