"""The rules that hold for a program as a whole, once its lines are read."""

from __future__ import annotations

from loopgrad.frontend.cursor import place
from loopgrad.frontend.statements import Statements
from loopgrad.frontend.symbols import Symbols, did_you_mean
from loopgrad.ir.nodes import (
    Accumulate,
    Call,
    Extent,
    Index,
    Local,
    Program,
    Read,
    Reduction,
    Result,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import all_statements


def check_whole(program: Program, symbols: Symbols, written: set[str], reader: Statements) -> None:
    """Reports to the reader; `written` are the targets of all lines, broken ones too."""
    if not symbols.unsure:
        _check_written(program, written, reader)
    _check_operations(program, reader)
    _check_ranks(program, symbols, reader)


def _check_written(program: Program, written: set[str], reader: Statements) -> None:
    assert program.span is not None
    if not written:
        found = f"the program `{program.name}` has no statements"
        reader.wrong(found, place(program.span), "put them below the header, indented")
        return
    declared = _declared(program)
    things: tuple[Result | Local, ...] = (*program.results, *program.locals)
    for thing in things:
        what = "result" if isinstance(thing, Result) else "`local`"
        if thing.name not in written and thing.span:
            reader.wrong(
                f"no statement computes the {what} `{thing.name}`",
                place(thing.span),
                did_you_mean(thing.name, written - declared)
                or f"write it in a statement: `{_as_target(thing)} = ...`",
            )


def _as_target(thing: Result | Local) -> str:
    """`y[b,j]` for the declared `y[B,J]`: a target names indices, not extents."""
    if not all(isinstance(e, Extent) for e in thing.extents):
        return f"{thing.name}[...]"
    indices = tuple(Index(e.name.lower()) for e in thing.extents if isinstance(e, Extent))
    return show_expression(Read(thing.name, indices))


def _declared(program: Program) -> set[str]:
    """The names of results and locals: none of these is a typo of another."""
    return {r.name for r in program.results} | {local.name for local in program.locals}


def _check_operations(program: Program, reader: Statements) -> None:
    """A tensor has one operation beside `=`; `+=` and `-=` count as one."""
    first: dict[str, Accumulate] = {}
    for statement in all_statements(program.statements):
        if not isinstance(statement, Accumulate) or statement.reduction is Reduction.SET:
            continue
        name = statement.target.tensor
        before = first.setdefault(name, statement)
        if _family(before.reduction) is not _family(statement.reduction):
            assert statement.target.span and before.target.span
            reader.wrong(
                f"`{name}` is updated with `{statement.reduction.value}` here, and with "
                f"`{before.reduction.value}` above: a tensor has one operation beside `=`",
                place(statement.target.span),
                "compute the two into tensors of their own, and a third from both",
                (place(before.target.span), f"`{before.reduction.value}` here"),
            )


def _family(reduction: Reduction) -> Reduction:
    return Reduction.ADD if reduction is Reduction.SUBTRACT else reduction


def _check_ranks(program: Program, symbols: Symbols, reader: Statements) -> None:
    """Every target has as many subscripts as its tensor has axes."""
    for statement in all_statements(program.statements):
        targets: tuple[Read, ...] = ()
        if isinstance(statement, Accumulate):
            targets = (statement.target,)
        elif isinstance(statement, Call):
            targets = tuple(t for t in statement.targets if t.subscripts)
        for target in targets:
            tensor = symbols.tensors.get(target.tensor)
            if tensor and target.span:
                reader.check_rank(tensor, len(target.subscripts), place(target.span))
