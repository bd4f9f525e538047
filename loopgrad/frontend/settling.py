"""After inlining: leaves out what `infer` finds by itself, and checks what calls need to agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis import extents as ext
from loopgrad.analysis.infer import Inference, inference_of
from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.frontend.binding import Agreement
from loopgrad.frontend.inline import FoundRange
from loopgrad.ir.nodes import Expression, Extent, Local, Program, Range, Read
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import accumulates, all_statements, map_ranges


def settle(program: Program, added: Sequence[Local], needed: Sequence[Agreement]) -> Program:
    """The inlined program with the bounds and the `local`s that it needs, and no others.

    Raises ProgramError where extents that a call needs to be equal are not, or where nothing would
    check it.
    """
    computed = {write.target.tensor for _, write in accumulates(program.statements)}
    added = [local for local in added if local.name in computed]
    wanted = Inference(_spelled(program, added, everything=True))
    found = [r for s in all_statements(program.statements) for r in s.ranges]
    keep = {i for i, r in enumerate(found) if not isinstance(r, FoundRange)}
    kept = [local for local in added if local.element is ElementType.INT]
    program, candidate = _checking(program, kept, keep, needed, wanted)
    while True:
        inference = inference_of(candidate)
        wrong, missing = _differences(inference, wanted, keep, added, kept)
        if not wrong and not missing:
            break
        keep |= wrong
        kept = [local for local in added if local in kept or local in missing]
        candidate = _spelled(program, kept, keep=keep)
    disagreeing = [d for one in needed if (d := _disagreement(one, _distance(one, inference)))]
    if disagreeing:
        raise ProgramError(list(dict.fromkeys(disagreeing)))
    return candidate


def _spelled(
    program: Program,
    added: Sequence[Local],
    everything: bool = False,
    keep: set[int] | frozenset[int] = frozenset(),
) -> Program:
    """The program as plain ranges, those numbered in `keep` with their bounds, the others bare."""

    def plain(number: int, r: Range) -> Range:
        if not isinstance(r, FoundRange):
            return r
        if everything or number in keep:
            return Range(r.index, r.lower, r.upper, r.descending, r.span)
        return Range(r.index, descending=r.descending, span=r.span)

    return replace(map_ranges(program, plain), locals=(*program.locals, *added))


def _differences(
    found: Inference,
    wanted: Inference,
    keep: set[int],
    added: Sequence[Local],
    kept: Sequence[Local],
) -> tuple[set[int], list[Local]]:
    """The ranges and locals that have to be spelled out."""
    if len(found.scopes) != len(wanted.scopes):
        return set(range(len(wanted.scopes))) - keep, [one for one in added if one not in kept]
    wrong = set()
    for i, (a, b) in enumerate(zip(found.scopes, wanted.scopes, strict=True)):
        if i not in keep and b.upper is not None and not _same(a.upper, b.upper, found):
            wrong.add(i)
    if wrong:
        return wrong, []
    missing = []
    for local in added:
        if local in kept:
            continue
        axes = found.computed.get(local.name, [])
        if len(axes) != len(local.extents) or not all(
            _same(a, b, found) for a, b in zip(axes, local.extents, strict=True)
        ):
            missing.append(local)
    return wrong, missing


def _same(found: Expression | None, wanted: Expression, inference: Inference) -> bool:
    if found is None:
        return False
    left, right = inference.names.apply(found), inference.names.apply(wanted)
    return left == right or ext.difference(left, right) == 0


def _checking(
    program: Program,
    kept: Sequence[Local],
    keep: set[int],
    needed: Sequence[Agreement],
    wanted: Inference,
) -> tuple[Program, Program]:
    """The program, with `local`s where they make `infer` note what a call has to check; and spelled out.

    An index that runs over an input and a tensor with declared extents has both for its range; the
    extents of other computed tensors give way to the input's.
    """
    candidate = _spelled(program, kept, keep=keep)
    for one in needed:
        for tensor in _undeclared_arguments(one, program):
            if _distance(one, inference_of(candidate)) is not None:
                break
            extents = wanted.computed.get(tensor, [])
            known = tuple(e for e in extents if e is not None)
            if known and len(known) == len(extents):
                declared = replace(program, locals=(*program.locals, Local(tensor, known)))
                better = _spelled(declared, kept, keep=keep)
                if _distance(one, inference_of(better)) == 0:
                    program, candidate = declared, better
    return program, candidate


def _undeclared_arguments(one: Agreement, program: Program) -> list[str]:
    declared = {r.name for r in program.results} | {local.name for local in program.locals}
    declared |= {i.name for i in program.inputs}
    arguments = (a.tensor for a in one.call.arguments if isinstance(a, Read))
    return [tensor for tensor in dict.fromkeys(arguments) if tensor not in declared]


def _distance(one: Agreement, inference: Inference) -> int | None:
    """How far apart the extents are: 0 where they are one, or every call will check that."""
    left, right = inference.names.apply(one.found), inference.names.apply(one.wanted)
    distance = ext.difference(left, right)
    return 0 if distance is None and _is_checked(left, right, inference) else distance


def _is_checked(left: Expression, right: Expression, inference: Inference) -> bool:
    """Is the equality among those that every call of the program will check?"""
    for equality in inference.equalities:
        pair = (inference.names.apply(equality.left), inference.names.apply(equality.right))
        if (left, right) == pair or (right, left) == pair:
            return True
    return False


def _disagreement(one: Agreement, distance: int | None) -> Diagnostic | None:
    if distance == 0:
        return None
    callee = one.call.callee.name
    found, wanted = show_expression(one.found), show_expression(one.wanted)
    meaning = f"`{one.formula}`" + ("" if one.formula == wanted else f", here `{wanted}`")
    if distance is None:
        said = f"`{callee}` needs {one.what} to be {meaning}; nothing would check that `{found}` is"
        fixed = isinstance(one.found, Extent)
        mend = f"write `{wanted}` for `{found}` " + (
            "where the tensor is declared" if fixed else "where it is computed"
        )
    else:
        said = f"`{callee}` needs {one.what} to be {meaning}, and it is `{found}`"
        mend = f"pass a tensor whose extent there is `{wanted}`"
    return Diagnostic(said, one.span or one.call.span, mend, context=show_statement(one.call))
