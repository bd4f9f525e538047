"""A backward that computes its forward again: the two as one program, with all of the forward in it.

`backward(recompute=True)` holds what the literal backward reads; what a simplified one would rather read
(softmax's `p`) has been left out. Here it is back, so that the forward's equations can be put to use; what
is not read in the end is left out again.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Accumulate, Local, Program, Statement
from loopgrad.ir.walk import all_statements, computed_tensors


def completed(program: Program, forward: Program) -> Program | None:
    """The program with the whole forward before it; None where it does not compute the forward."""
    own, whole = infer(program).program, infer(forward).program
    made = set(computed_tensors(whole))
    again = made & set(computed_tensors(own))
    if not again or made & {i.name for i in own.inputs}:
        return None
    if not {i.name for i in whole.inputs} <= {i.name for i in own.inputs}:
        return None
    rest = [s for s in own.statements if not _targets(s) <= made]
    names = {argument.name for argument in own.arguments}
    declared = {x.name for x in own.locals} | {r.name for r in own.results}
    tensors = (infer(forward).tensors[name] for name in computed_tensors(whole))
    return replace(
        own,
        arguments=(*own.arguments, *(a for a in whole.arguments if a.name not in names)),
        statements=(*whole.statements, *rest),
        locals=(
            *own.locals,
            *(Local(t.name, t.extents, t.element) for t in tensors if t.name not in declared),
        ),
        primal=program.primal,
    )


def _targets(statement: Statement) -> set[str]:
    return {s.target.tensor for s in all_statements((statement,)) if isinstance(s, Accumulate)}
