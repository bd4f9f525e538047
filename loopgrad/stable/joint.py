"""A program and its backward made stable together, then parted again.

What the forward overflows in (`Z`), its backward cannot be given: so both are rewritten as one, and the
forward part hands over what the backward part reads by then (`Z'`, `Z.shift`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeAlias

from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import asking_for
from loopgrad.grad.assembly import needed, tensors_read
from loopgrad.grad.joining import joined
from loopgrad.ir.memo import final
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Extent,
    Input,
    Local,
    Program,
    Size,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    all_statements,
    computed_tensors,
    sizes_in,
    statement_reads,
)
from loopgrad.stable.stabilize import may_gain, stabilized

Meanwhile: TypeAlias = Callable[[Program, Program], None]


def stable_pair(
    program: Program, backward: Program, meanwhile: Meanwhile | None = None
) -> tuple[Program | None, Program]:
    """The two in a form in which neither overflows; None for the first where they are as good as they are.

    The first has the program's results, and computes all that the second reads. Where the two together
    have no better form, none is looked for of the second alone, which is asked of numbers that no forward
    computes.
    meanwhile: is told of the pair that they will be unless the certificate refuses it.
    """
    facts = infer(program)
    alone = replace(backward, primal=None)
    if not may_gain(facts.program):
        return None, alone
    seeds = [i for i in backward.inputs if i.name not in facts.tensors]

    @cache
    def parted(form: Program) -> tuple[Program, Program]:
        return _parted(program, backward, form, seeds)

    def told(form: Program) -> None:
        if meanwhile is not None:
            meanwhile(*parted(form))

    found = stabilized(joined(program, backward), told)
    return (None, final(alone)) if found is None else parted(found)


def waits(program: Program, backward: Program) -> bool:
    """Does the backward compute anything that no seed reaches, so that the forward could?"""
    known = set(infer(program).tensors)
    seeds = {i.name for i in backward.inputs} - known
    statements = infer(backward).program.statements
    late = _reached(statements, seeds | {r.name for r in backward.results})
    written = (s.target.tensor for s in all_statements(statements) if isinstance(s, Accumulate))
    return any(tensor not in late for tensor in written)


def ahead(program: Program, backward: Program) -> tuple[Program, Program]:
    """The program with what of the backward no seed reaches, and the rest of that, which reads it."""
    facts = infer(program)
    seeds = [i for i in backward.inputs if i.name not in facts.tensors]
    return _parted(program, backward, joined(program, backward), seeds)


def _parted(
    program: Program, backward: Program, joint: Program, seeds: Sequence[Input]
) -> tuple[Program, Program]:
    """The statements that no seed reaches, and those that one does."""
    statements = infer(joint).program.statements
    # A gradient that no seed reaches is all zeros, and the backward's own.
    own = {r.name for r in backward.results}
    late = _reached(statements, own | {s.name for s in seeds})
    before = tuple(_only(statements, late, wanted=False))
    after = tuple(_only(statements, late, wanted=True))
    after = needed(after, [r.name for r in backward.results])
    facts = infer(joint)
    made = set(computed_tensors(replace(joint, statements=before)))
    returned = {r.name for r in program.results}
    first = Program(
        program.name,
        program.arguments,
        program.results,
        before,
        _locals(joint, before, returned),
        batch=program.batch,
    )
    read = tensors_read(after)
    inputs = [i for i in program.inputs if i.name in read]
    for name in facts.tensors:
        if name in read and name in made:
            tensor = facts.tensors[name]
            kind = "input" if tensor.element is ElementType.FLOAT else "int"
            inputs.append(Input(name, tensor.extents, kind))  # type: ignore[arg-type]
    inputs += seeds
    draft = Program(
        backward.name,
        tuple(inputs),
        backward.results,
        after,
        _locals(joint, after, {r.name for r in backward.results}),
        primal=first,
    )
    used = sizes_in(draft)
    fixed = {e.name for i in inputs for e in i.extents if isinstance(e, Extent)}
    sizes = [Size(e) for e in facts.extents if e in used and e not in fixed]
    constants = [c for c in program.constants if c.name in used]
    second = replace(draft, arguments=(*inputs, *sizes, *constants))
    return final(asking_for(first, infer(program))), final(second)


def _locals(joint: Program, statements: Sequence[Statement], apart: set[str]) -> tuple[Local, ...]:
    made = set(computed_tensors(replace(joint, statements=tuple(statements)))) - apart
    known = {local.name: local for local in joint.locals}
    facts = infer(joint)
    return tuple(
        known.get(name, Local(name, facts.tensors[name].extents, facts.tensors[name].element))
        for name in facts.tensors
        if name in made
    )


def _reached(statements: Sequence[Statement], seeds: set[str]) -> set[str]:
    """The tensors that hang on the seeds."""
    late = set(seeds)
    while True:
        found = {
            s.target.tensor
            for s in all_statements(statements)
            if isinstance(s, Accumulate) and any(r.tensor in late for r in statement_reads(s))
        }
        if found <= late:
            return late
        late |= found


def _only(statements: Sequence[Statement], late: set[str], wanted: bool) -> Iterator[Statement]:
    for statement in statements:
        match statement:
            case Accumulate(target):
                if (target.tensor in late) == wanted:
                    yield statement
            case Block():
                body = tuple(_only(statement.body, late, wanted))
                if body:
                    yield replace(statement, body=body)
