"""`%%loops` in a notebook: programs in a cell.

    %load_ext loopgrad

    %%loops
    double(x[N]) -> y[N]:
        for n:  y[n] = 2 * x[n]

Each program becomes a variable, and is shown in the notation and as LaTeX. A program may call those above
it, those of cells before, and the standard library. A mistake is shown at its place, without a traceback.
"""

from __future__ import annotations

import keyword
import sys
import warnings
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from loopgrad.diagnostics import ProgramError, ProgramWarning
from loopgrad.frontend.library import lib, read_programs
from loopgrad.ir.nodes import Program
from loopgrad.printers.identifiers import legal


class CellError(ProgramError):
    """The mistakes of a cell, which IPython shows as they are."""

    def _render_traceback_(self) -> list[str]:
        return str(self).split("\n")


def register(shell: Any) -> None:
    """Makes the magic known to a shell of IPython."""

    def loops(line: str, cell: str) -> None:
        """Programs in loopgrad's notation, one or several: each becomes a variable."""
        run(shell, line, cell)

    shell.register_magic_function(loops, magic_kind="cell", magic_name="loops")


def run(shell: Any, line: str, cell: str) -> None:
    """Reads the programs of a cell, puts them into the shell's variables, and shows them."""
    if line.strip():
        from IPython.core.error import UsageError

        raise UsageError(f"%%loops takes no arguments, got `{line.strip()}`")
    known: Mapping[str, Program] = ChainMap(_programs(shell.user_ns), lib)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ProgramWarning)
            found = read_programs(cell, "<cell>", known)
    except ProgramError as error:
        raise CellError(error.diagnostics) from None
    for warning in said:
        print(warning.message, file=sys.stderr)
    for program in found:
        variable = _variable(program.name)
        shell.user_ns[variable] = program
        if variable != program.name:
            print(f"{program.name} is the variable {variable}")
        _show(program)


def _programs(variables: Mapping[str, Any]) -> dict[str, Program]:
    """Those of earlier cells, by their own names."""
    found = (value for value in variables.values() if isinstance(value, Program))
    return {program.name: program for program in found}


def _variable(name: str) -> str:
    """The name as Python has it: `f'` is f_prime.

    >>> from loopgrad.interop.notebook import _variable
    >>> _variable("softmax"), _variable("f'"), _variable("softmax.backward"), _variable("lambda")
    ('softmax', 'f_prime', 'softmax_backward', 'lambda_')
    """
    spelled = legal(name)
    return f"{spelled}_" if keyword.iskeyword(spelled) else spelled


def _show(program: Program) -> None:
    from IPython.display import display

    display({"text/plain": str(program), "text/latex": program._repr_latex_()}, raw=True)
