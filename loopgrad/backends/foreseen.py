"""Code is generated while Python still derives the program that a first call is of.

The shared products of matrices, while the first program that calls them is being derived: that is so once
on a machine, then the products are on the disk. And the program's own code, while its stable form is
certified. LLVM needs no Python meanwhile, so that on two processors a first call takes as much less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from loopgrad.backends.thread_count import get_num_threads
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Program, Reduction
from loopgrad.ir.walk import all_statements, reads, subexpressions

SUMS = Reduction.ADD, Reduction.SUBTRACT


def _nothing(_: Program) -> None:
    pass


@dataclass(frozen=True)
class Expected:
    """A call. real: the type of its products, "float" or "double"; "" where nobody said.
    begin: begins with the code of a program that it may run. call: its arguments, by place and by name.
    """

    real: str = ""
    begin: Callable[[Program], None] = _nothing
    call: tuple[Sequence[Any], Mapping[str, Any]] | None = None


_NOBODY = Expected()
_expected: ContextVar[Expected] = ContextVar("expected", default=_NOBODY)


@contextmanager
def expecting(
    arguments: Sequence[Any],
    named: Mapping[str, Any],
    begin_code: Callable[[Program], None] = _nothing,
) -> Iterator[None]:
    """Inside, programs are made ready that will be called with these."""
    given = (*arguments, *named.values())
    types = {str(argument.dtype)[-7:] for argument in given if hasattr(argument, "dtype")}
    single = "float32" in types and "float64" not in types
    real = "float" if single else "double"
    before = _expected.set(Expected(real, begin_code, (arguments, named)))
    try:
        yield
    finally:
        _expected.reset(before)


def begin(program: Program) -> None:
    """Begins with the products, if the program will call them; its code is not there yet."""
    real = _expected.get().real
    if real and get_num_threads() > 1 and any(map(_contracts, all_statements(program.statements))):
        from loopgrad.backends.llvm.products import library

        library.begin(real, "product")


def begin_code(form: Program) -> None:
    """Begins with the code of a form in which the program will run, if its certificate agrees."""
    if get_num_threads() > 1:
        with suppress(Exception):  # the call says what is wrong with it
            _expected.get().begin(form)


def expected_call() -> tuple[Sequence[Any], Mapping[str, Any]] | None:
    """The arguments of the call that programs are made ready for, if code is generated meanwhile."""
    return _expected.get().call if get_num_threads() > 1 else None


def _contracts(statement: object) -> bool:
    from loopgrad.backends.llvm.calling.savings import contracts

    if not isinstance(statement, Accumulate) or statement.reduction not in SUMS:
        return False
    return contracts(statement) and any(map(_multiplies, subexpressions(statement.value)))


def _multiplies(expression: Expression) -> bool:
    """One read by another?"""
    if not isinstance(expression, Apply) or expression.operation not in ("*", "/"):
        return False
    return all(any(reads(operand)) for operand in expression.operands)
