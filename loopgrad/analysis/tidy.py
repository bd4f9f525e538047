"""Takes out of a derived program what a reader would not have written: bounds and `local`s.

`infer` finds them again, which is checked before each is dropped.
"""

from __future__ import annotations

from dataclasses import replace

from loopgrad.analysis import extents as ext
from loopgrad.analysis.infer import Inference
from loopgrad.ir.nodes import Block, Expression, Local, Program, Range, Statement
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import ZERO


def tidy(program: Program) -> Program:
    """An equal program in which every range and `local` that `infer` would find is left out.

    The program has to be unfolded. A `local int` stays: it says that the tensor is an index.
    """
    ranges = _ranges(program.statements)
    keep: set[int] = {i for i, r in enumerate(ranges) if not _may_be_bare(r)}
    kept_locals = {local for local in program.locals if local.element is ElementType.INT}
    while True:
        candidate = _with_ranges(program, keep, kept_locals)
        wrong, missing = _differences(program, candidate, ranges, keep, kept_locals)
        if not wrong and not missing:
            return candidate
        keep |= wrong
        kept_locals |= missing


def _may_be_bare(r: Range) -> bool:
    return r.lower in (None, ZERO) and r.upper is not None


def _ranges(body: tuple[Statement, ...]) -> list[Range]:
    found: list[Range] = []
    for statement in body:
        found.extend(statement.ranges)
        if isinstance(statement, Block):
            found.extend(_ranges(statement.body))
    return found


def _with_ranges(program: Program, keep: set[int], locals_kept: set[Local]) -> Program:
    count = iter(range(10**9))

    def bare(r: Range) -> Range:
        return r if next(count) in keep else replace(r, lower=None, upper=None)

    def change(statement: Statement) -> Statement:
        ranges = tuple(map(bare, statement.ranges))
        if isinstance(statement, Block):
            return replace(statement, ranges=ranges, body=tuple(map(change, statement.body)))
        return replace(statement, ranges=ranges)

    return replace(
        program,
        statements=tuple(map(change, program.statements)),
        locals=tuple(local for local in program.locals if local in locals_kept),
    )


def _differences(
    program: Program,
    candidate: Program,
    ranges: list[Range],
    keep: set[int],
    kept_locals: set[Local],
) -> tuple[set[int], set[Local]]:
    """The ranges and locals that inference does not find again in the candidate."""
    inference = Inference(candidate)
    if len(inference.scopes) != len(ranges):  # it stopped early
        everything = set(range(len(ranges))) - keep
        return everything, set(program.locals) - kept_locals
    wrong = set()
    for i, (_, found) in enumerate(inference.ranges()):
        if i not in keep and (
            found is None
            or found.upper is None
            or not _same(found.upper, ranges[i].upper, inference)
        ):
            wrong.add(i)
    missing: set[Local] = set()
    if not wrong:
        for local in set(program.locals) - kept_locals:
            axes = inference.computed.get(local.name, [])
            agree = len(axes) == len(local.extents) and all(
                a is not None and _same(a, b, inference)
                for a, b in zip(axes, local.extents, strict=True)
            )
            if not agree:
                missing.add(local)
        if inference.diagnostics and not missing:
            return set(range(len(ranges))) - keep, set(program.locals) - kept_locals
    return wrong, missing


def _same(found: Expression, wanted: Expression | None, inference: Inference) -> bool:
    if wanted is None:
        return True
    left, right = inference.names.apply(found), inference.names.apply(wanted)
    return left == right or ext.difference(left, right) == 0
