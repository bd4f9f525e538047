"""The errors of a running program, the same words from every backend.

Each function returns the exception, for the backend to raise. `statement` is the Accumulate or
Block that was running; it is shown with its line, where it has one.
"""

from __future__ import annotations

from loopgrad.ir.nodes import Read, Statement
from loopgrad.ir.printer import show_expression, show_statement


def out_of_range(
    place: Read, axis: int, value: int, extent: int, statement: Statement
) -> IndexError:
    """`place` is the read or target, as written; `value` what its subscript `axis` came to."""
    limit = "which is negative" if value < 0 else f"whose extent is {extent}"
    return IndexError(
        f"subscript out of range: `{show_expression(place)}` needs element {value} along axis "
        f"{axis} of `{place.tensor}`, {limit}" + where(statement)
    )


def read_while_written(place: Read, element: tuple[int, ...], statement: Statement) -> ValueError:
    return ValueError(
        f"`{_element(place, element)}` is read by the statement that writes it; a recurrence is "
        f"written as a block, whose iterations run in order" + where(statement)
    )


def changed_after_read(place: Read, element: tuple[int, ...], statement: Statement) -> ValueError:
    return ValueError(
        f"`{_element(place, element)}` is changed after it was read; an element has to be complete "
        f"before any statement reads it" + where(statement)
    )


def written_twice(place: Read, element: tuple[int, ...], statement: Statement) -> ValueError:
    return ValueError(
        f"`{_element(place, element)}` is written by `=` a second time, or after an update; `=` "
        f"writes an element at most once, before any update of it" + where(statement)
    )


def floor_of(value: float, statement: Statement) -> ValueError:
    return ValueError(f"floor({value:g}) is no integer that fits int64" + where(statement))


def division_by_zero(operation: str, statement: Statement) -> ZeroDivisionError:
    """`operation` is `//` or `%`."""
    return ZeroDivisionError(f"integer `{operation}` by zero" + where(statement))


def negative_exponent(exponent: int, statement: Statement) -> ValueError:
    return ValueError(
        f"an integer to the power {exponent} is no integer; write one of the two as a real number "
        f"(`2.0`)" + where(statement)
    )


def integer_overflow(statement: Statement) -> ValueError:
    """The exact result of an integer operation does not fit int64."""
    return ValueError("an integer gets too large for int64" + where(statement))


def where(statement: Statement) -> str:
    """`, in line 3: for n:  y[n] += x[n+1]`; of a block, its head alone."""
    place = f"line {statement.span.line}: " if statement.span else ""
    return f"\n  in {place}{show_statement(statement).splitlines()[0]}"


def _element(place: Read, element: tuple[int, ...]) -> str:
    return place.tensor + (f"[{','.join(map(str, element))}]" if element else "")
