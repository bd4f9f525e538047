"""How many levels of the chain of finite fields the run of a program needs."""

from __future__ import annotations

from collections.abc import Mapping

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Apply, Block, Expression, Read
from loopgrad.ir.walk import accumulates, all_statements, children, reads, statement_expressions
from loopgrad.simplify.numbers.fields import LONGEST


def depth(facts: Facts) -> int:
    """The levels of the chain that a run needs: how deep exps and logs stand in one another. Where it is
    more than LONGEST, some residues are unknown in every run.
    """
    # For a tensor (lost above, lost below): the levels at which its residues are unknown.
    lost: dict[str, tuple[int, int]] = {}
    deepest = 0
    blocks = any(isinstance(s, Block) for s in all_statements(facts.program.statements))
    for _ in range(3 if blocks else 1):
        for _, statement in accumulates(facts.program.statements):
            above = below = 0
            for expression in statement_expressions(statement):
                levels = _lost(expression, lost)
                above, below = max(above, levels[0]), max(below, levels[1])
            old = lost.get(statement.target.tensor, (0, 0))
            new = max(above, old[0]), max(below, old[1])
            lost[statement.target.tensor] = min(new[0], LONGEST), min(new[1], LONGEST)
            deepest = max(deepest, sum(new))
    return deepest + 1


def _lost(expression: Expression, tensors: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    inner = [_lost(child, tensors) for child in children(expression)]
    above = max((i[0] for i in inner), default=0)
    below = max((i[1] for i in inner), default=0)
    match expression:
        case Read(name):
            own = tensors.get(name, (0, 0))
            return max(above, own[0]), max(below, own[1])
        case Apply("exp" | "expm1" | "tanh" | "sigmoid"):
            return max(above - 1, 0), below + 1
        case Apply("log" | "log1p"):
            return above + 1, max(below - 1, 0)
        case Apply("softplus"):
            return max(above - 1, 0) + 1, below
        case Apply("**", (_, exponent)) if any(True for _ in reads(exponent)):
            return above, below + 1
    return above, below
