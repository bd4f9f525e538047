"""The same program with other results: how to get at forward-computed tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis.infer import Inference, infer
from loopgrad.diagnostics import listing, suggestion
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.nodes import Local, Program, Result
from loopgrad.ir.walk import computed_tensors


def returning(program: Program, names: Sequence[str]) -> Program:
    """The program with the computed tensors `names` as its results, in that order.

    The temporaries that equations and calls unfold into can be named too; the program is then
    returned unfolded. Raises ValueError for a name that the program does not compute, for one named
    twice, and where none is named.
    """
    if not names:
        raise ValueError("returning() needs the name of at least one computed tensor")
    if not set(names) <= set(computed_tensors(program)):
        program = unfold(program)
    known = computed_tensors(program)
    for name in names:
        if name not in known:
            meant = suggestion(name, known)
            what = "is an input" if name in {i.name for i in program.inputs} else "is not computed"
            raise ValueError(
                f"`{name}` {what} by `{program.name}`, which computes {listing(known)}"
                + (f"; did you mean `{meant}`?" if meant else "")
            )
        if list(names).count(name) > 1:
            raise ValueError(f"`{name}` is named twice")
    tensors = infer(program).tensors
    declared = {r.name: r.extents for r in (*program.results, *program.locals)}
    results = tuple(Result(n, declared.get(n, tensors[n].extents)) for n in names)
    other = replace(
        program,
        results=results,
        locals=tuple(local for local in program.locals if local.name not in names),
    )
    former = [Local(r.name, r.extents) for r in program.results if r.name not in names]
    return other if _same_extents(other, program) else replace(other, locals=(*other.locals, *former))


def _same_extents(candidate: Program, program: Program) -> bool:
    inference = Inference(unfold(candidate))
    if inference.diagnostics:
        return False
    found, wanted = inference.facts(), infer(program)
    return (
        all(found.tensors[n].extents == t.extents for n, t in wanted.tensors.items())
        and found.program.statements == wanted.program.statements
    )
