"""Which functions a program is exported as: itself; with gradients, a forward and a backward too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from loopgrad.analysis.infer import infer
from loopgrad.functions.derived import derived_pair
from loopgrad.ir.nodes import Program
from loopgrad.ir.operations import ElementType
from loopgrad.pipeline import stable, verify
from loopgrad.printers.c_functions import Exported
from loopgrad.printers.c_names import Names

SUFFIX = {"double": "", "float": "_f32"}  # of functions' names, by the floating type


def functions_of(
    program: Program,
    gradients: bool = False,
    wrt: Sequence[str] | None = None,
    batch: str | Literal[False] | None = None,
    literal: bool = False,
    real: str = "double",
) -> list[Exported]:
    """The functions, in the order in which they are to be called.

    gradients: whether there is a backward, of the inputs `wrt`. Where it reads what is computed on the way,
        a forward that delivers that comes before it.
    literal: the loops as they are written and as the rule gives them; otherwise in a form that neither
        overflows nor cancels, the backward simplified.
    Raises ProgramError where a program breaks a rule or cannot be differentiated, ValueError for a name in
    `wrt` or `batch` that there is none of.

    >>> import loopgrad as lg
    >>> from loopgrad.exporting.functions import functions_of
    >>> [each.name for each in functions_of(lg.lib.softmax, gradients=True)]
    ['softmax', 'softmax_backward']
    """
    name = Names().of("program", program.name) + SUFFIX[real]
    plain = program if literal else stable(program)
    found = [Exported(name, plain, "Its results.")]
    if not gradients:
        return found
    forward, backward = _pair(program, tuple(wrt) if wrt else None, batch, literal)
    known = infer(forward).tensors
    given = {*(i.name for i in forward.inputs), *(r.name for r in forward.results)}
    kept = tuple(i.name for i in backward.inputs if i.name in known and i.name not in given)
    about = _about(program, backward, batch)
    if kept:
        results = [r.name for r in forward.results]
        keeping = verify(forward.returning(*results, *kept), warn=False)
        words = f"The same, and what {name}_backward reads of what is computed on the way."
        found.append(Exported(f"{name}_forward", keeping, words, kept))
    elif any(i.name in {r.name for r in program.results} for i in backward.inputs):
        about += f" What it reads of results is what {name} wrote."
    found.append(Exported(f"{name}_backward", backward, about))
    return found


def _pair(
    program: Program, wrt: tuple[str, ...] | None, batch: str | Literal[False] | None, literal: bool
) -> tuple[Program, Program]:
    """What runs as forward and as backward."""
    if literal:
        return program, verify(program.backward(wrt, batch), warn=False)
    forward, backward = derived_pair(program, wrt, batch)
    simplified = backward.simplify(forward)
    return forward, verify(stable(simplified), warn=False)


def _about(program: Program, backward: Program, batch: str | Literal[False] | None) -> str:
    """What the gradients are."""
    extent = program.batch if batch is None else batch
    seeds = [
        f"{r.name}.grad"
        for r in program.results
        if infer(program).tensors[r.name].element is ElementType.FLOAT
    ]
    of = f"Gradients, from those of the results ({', '.join(seeds)})."
    if extent and any(i.kind == "param" for i in program.inputs):
        return f"{of} Those of parameters are averaged over {extent}."
    return of
