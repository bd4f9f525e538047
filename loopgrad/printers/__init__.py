"""A program in other notations: one file a notation, and the table of what there is."""

from __future__ import annotations

from loopgrad.diagnostics import suggestion
from loopgrad.ir.nodes import Program

NOTATIONS = ("text", "latex", "python")


def convert(program: Program, notation: str) -> str:
    """The program as "text" (canonical notation), "latex" or "python" (runs under NumPy alone).

    Raises ValueError for a notation there is none of, ProgramError where "python" needs to know
    what cannot be inferred.

    >>> import loopgrad as lg
    >>> double = lg.program("double(x[N]) -> y[N]:\\n    for n:  y[n] += 2 * x[n]")
    >>> convert(double, "text") == str(double)
    True
    """
    match notation:
        case "text":
            return str(program)
        case "latex":
            from loopgrad.printers.latex import latex

            return latex(program)
        case "python":
            from loopgrad.printers.python import python

            return python(program)
    meant = suggestion(str(notation), NOTATIONS)
    hint = f'; did you mean "{meant}"?' if meant else ""
    there_are = ", ".join(f'"{name}"' for name in NOTATIONS)
    raise ValueError(f"no notation {notation!r}: there are {there_are}{hint}")
