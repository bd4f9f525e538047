"""Recurrent networks, of any cell: problem 5a of the source problems, and what is built of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loopgrad.diagnostics import listing
from loopgrad.edf.component import component
from loopgrad.edf.graph import Component, Value
from loopgrad.edf.parts import Add, Concat
from loopgrad.edf.programs import Derived
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import infer

Cell = Callable[[Any, Any, Any], Any]
CellLike = Cell | Program | Component | str


def RNN(CELL: CellLike, Phi: Any, X: Sequence[Any], ZERO: Any) -> list[Any]:
    """h_0 = CELL(Phi, X[0], ZERO) and h_t = CELL(Phi, X[t], h_(t-1)), as a list of what CELL returns.

    CELL: any function that makes an object of a package of parameters, an input and a state, or several
        objects, as a tuple, where the state is several. Or a program, of which `cell` makes a function.

    >>> import numpy as np
    >>> from loopgrad import edf, lib
    >>> Phi = edf.initial(lib.ugrnn_cell, J=3, K=2)
    >>> X = [edf.Input(f"x{t}", np.ones((5, 2))) for t in range(4)]
    >>> H = edf.RNN(lib.ugrnn_cell, Phi, X, edf.Input("zero", np.zeros((5, 3))))
    >>> edf.Model(H[3]).forward().shape
    (5, 3)
    """
    CELL = cell(CELL)
    H = []
    h = ZERO
    for x in X:
        h = CELL(Phi, x, h)
        H.append(h)
    return H


def cell(program: CellLike, state: Sequence[str] = ()) -> Cell:
    """CELL(Phi, X, H), from a program such as `lg.lib.gru_cell`, its text, or a component; a function is one.

    Phi gives the arguments that have its names. H is the state: one object, or a tuple of them where the
    program returns several, as `lstm_cell` does, in the order of its results; one object is then the
    state of each. X is what is left, one object, or a tuple of them.

    state: the inputs that are the state, one for each result. By default the input `h` for a result
        `h'`; where no name fits, the only input that has the extents of the result.

    Raises ValueError where it is not plain what the state is.
    """
    if callable(program) and not isinstance(program, Program | Component):
        return program
    made = program if isinstance(program, Component) else component(program)
    names = [state] if isinstance(state, str) else list(state) or _state(made)
    if len(names) != len(made.results) or not set(names) <= set(made.inputs):
        raise ValueError(
            f"{made.name}: the state has to be an input for each of {listing(made.results)}, got "
            f"{listing(names)}"
        )

    def CELL(Phi: Any, X: Any, H: Any) -> Any:
        states = H if isinstance(H, tuple | list) else [H] * len(names)
        inputs = X if isinstance(X, tuple | list) else [X]
        return made(Phi, *inputs, **dict(zip(names, states, strict=True)))

    return CELL


def _state(made: Component) -> list[str]:
    """The input that each result is the next of."""
    program = made.program if isinstance(made, Derived) else None
    free = [i.name for i in program.inputs if i.kind == "input"] if program else list(made.inputs)
    found: list[str] = []
    for result in made.results:
        before = result.removesuffix("'")
        if before == result or before not in free:
            before = _alike(program, result, free)
        if not before:
            raise ValueError(
                f"{made.name}: it is not plain which of {listing(free)} is the state before "
                f"`{result}`; say so: `cell(..., state=[...])`"
            )
        free.remove(before)
        found.append(before)
    return found


def _alike(program: Program | None, result: str, free: Sequence[str]) -> str:
    """The only input with the extents of the result; empty where there is none or several."""
    if program is None:
        return ""
    tensors = infer(program).tensors
    alike = [name for name in free if tensors[name].extents == tensors[result].extents]
    return alike[0] if len(alike) == 1 else ""


def outputs(H: Sequence[Any]) -> list[Any]:
    """Of states that are several objects, the first of each: `h` of the LSTM's `h` and `c`."""
    return [h[0] if isinstance(h, tuple) else h for h in H]


def residual(X: Sequence[Value], H: Sequence[Value]) -> list[Value]:
    """x_t + h_t, for objects of shape [B,J]."""
    return [Add(x, h) for x, h in zip(X, H, strict=True)]


def stacked(
    CELL: Any, PHIS: Sequence[Any], X: Sequence[Any], ZERO: Any, *, skip: bool = False
) -> list[Any]:
    """Networks on top of each other, each reading what the one below puts out; what the last puts out.

    CELL and ZERO are for all of them, or lists with one for each package of PHIS.
    skip: each adds what it reads to what it puts out (He et al. 2016), where it is of the same shape.
    """
    layers = len(PHIS)
    cells = CELL if isinstance(CELL, list) else [CELL] * layers
    zeros = ZERO if isinstance(ZERO, list) else [ZERO] * layers
    for cell_, Phi, zero in zip(cells, PHIS, zeros, strict=True):
        H = outputs(RNN(cell_, Phi, X, zero))
        X = residual(X, H) if skip else H
    return list(X)


def bidirectional(CELL: Any, PHIS: Sequence[Any], X: Sequence[Any], ZERO: Any) -> list[Any]:
    """Two networks, the second from the end to the start (Schuster, Paliwal 1997): for each t the
    outputs of both, side by side, of shape [B,2J]. PHIS: the packages of the two.
    """
    Phi_ahead, Phi_back = PHIS
    ahead = outputs(RNN(CELL, Phi_ahead, X, ZERO))
    back = outputs(RNN(CELL, Phi_back, list(reversed(X)), ZERO))
    return [Concat(one, other) for one, other in zip(ahead, reversed(back), strict=True)]
