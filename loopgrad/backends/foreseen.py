"""The shared products of matrices are compiled while the first program that calls them is being derived.

LLVM needs no Python meanwhile, so that on two processors a first call takes as much less. That is so once
on a machine: then the products are on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from loopgrad.backends.thread_count import get_num_threads
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Program, Reduction
from loopgrad.ir.walk import all_statements, reads, subexpressions

SUMS = Reduction.ADD, Reduction.SUBTRACT

# The type of the products that are going to be called: "float", "double", or "" where nobody said.
_expected: ContextVar[str] = ContextVar("expected", default="")


@contextmanager
def expecting(arguments: Iterable[Any]) -> Iterator[None]:
    """Inside, programs are made ready that will be called with these."""
    types = {str(argument.dtype)[-7:] for argument in arguments if hasattr(argument, "dtype")}
    single = "float32" in types and "float64" not in types
    before = _expected.set("float" if single else "double")
    try:
        yield
    finally:
        _expected.reset(before)


def begin(program: Program) -> None:
    """Begins with the products, if the program will call them; its code is not there yet."""
    real = _expected.get()
    if real and get_num_threads() > 1 and any(map(_contracts, all_statements(program.statements))):
        from loopgrad.backends.llvm.products import library

        library.begin(real, "product")


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
