"""What a program names and never uses: allowed, and probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.diagnostics import Diagnostic, Span
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Call,
    Constant,
    Expression,
    Extent,
    Input,
    Program,
    Read,
    Size,
)
from loopgrad.ir.walk import all_statements, statement_expressions, subexpressions


def unused(program: Program) -> list[Diagnostic]:
    """A warning for each argument and each computed tensor that nothing reads.

    An input that alone fixes an extent which the program uses is of use by its shape. A program
    with a dotted name was derived, and has the arguments of its source for the sake of callers.
    """
    read, extents, constants = _uses(program)
    arguments = program.arguments if "." not in program.name else ()
    results = {result.name for result in program.results}
    found = []
    for argument in arguments:
        match argument:
            case Input(name):
                if name not in read and not _fixes_alone(argument, program, extents):
                    found.append(_warning("input", name, argument.span))
            case Size(name):
                if name not in extents:
                    found.append(_warning("size", name, argument.span))
            case _:
                if argument.name not in constants:
                    found.append(_warning("constant", argument.name, argument.span))
    written: dict[str, Span | None] = {}
    for target in _targets(program):
        written.setdefault(target.tensor, target.span)
    found += [
        _warning("tensor", name, span, "computed and never read")
        for name, span in written.items()
        if name not in read | results
    ]
    return found


def _warning(what: str, name: str, span: Span | None, found: str = "never used") -> Diagnostic:
    return Diagnostic(
        f"{what} `{name}` is {found}",
        span,
        help="leave it out" if what != "tensor" else "leave it out, or make it a result",
        severity="warning",
    )


def _uses(program: Program) -> tuple[set[str], set[str], set[str]]:
    """The tensors read, and the extents and constants used anywhere but in an input's axes."""
    read: set[str] = set()
    extents = {program.batch} if program.batch else set()
    constants: set[str] = set()
    for expression in _expressions(program):
        for node in subexpressions(expression):
            match node:
                case Read(tensor):
                    read.add(tensor)
                case Extent(name):
                    extents.add(name)
                case Constant(name):
                    constants.add(name)
    for i in program.inputs:  # a formula uses names; a bare name defines one
        for extent in i.extents:
            for node in subexpressions(extent):
                if isinstance(node, Constant):
                    constants.add(node.name)
                elif isinstance(node, Extent) and node is not extent:
                    extents.add(node.name)
    extents.update(
        extent.name
        for i in program.inputs
        for extent in i.extents
        if isinstance(extent, Extent) and any(extent.name == s.name for s in program.sizes)
    )
    return read, extents, constants


def _expressions(program: Program) -> Iterator[Expression]:
    for result in program.results:
        yield from result.extents
    for local in program.locals:
        yield from local.extents
    for statement in all_statements(program.statements):
        yield from statement_expressions(statement)


def _targets(program: Program) -> Iterator[Read]:
    """Each target; of a call for several results, none, as one may be all that is wanted."""
    for statement in all_statements(program.statements):
        match statement:
            case Accumulate(target):
                yield target
            case Call(targets):
                if len(targets) == 1:
                    yield targets[0]
            case Block():
                pass


def _fixes_alone(candidate: Input, program: Program, extents: set[str]) -> bool:
    mine = {e.name for e in candidate.extents if isinstance(e, Extent)} & extents
    others = {
        e.name
        for i in program.inputs
        if i is not candidate
        for e in i.extents
        if isinstance(e, Extent)
    }
    return bool(mine - others)
