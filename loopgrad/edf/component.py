"""`component`: what makes a component of a program, or of a class."""

from __future__ import annotations

from typing import Any

from loopgrad.edf.graph import Component
from loopgrad.edf.handwritten import HandWritten
from loopgrad.edf.programs import Claimed, Derived
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import as_program


def component(forward: Any, backward: Program | str | None = None, *, name: str = "") -> Component:
    """A component, to be called with objects of a graph.

    forward: a program, or its text; its backward is derived. Or, for a backward in NumPy, a class
        (so that this is its decorator): `forward(self, *inputs)` takes arrays and returns the
        result, or several; `backward(self, *gradients)` takes the gradients of the results and returns
        that of the input, or several, None for an input that has none. Arguments of `forward` with a
        default are constants. Each forward pass makes an object of the class, for `forward` to keep on
        it what `backward` needs. Several results are named by the class: `results = ("y", "z")`.
    backward: loops written by hand, a program or its text, to be run in place of the derived ones.
        Whether they are right, `Model.verify` says, and the component's `check`.
    name: what errors and pictures call it, by default the program's name, or the class's.

    Calling it takes the inputs in order or by name, and constants and sizes by name. A package of parameters
    among them gives those inputs that have its names: `Affine(Phi, x)`.

    Raises ProgramError for a text that is no program, ValueError for a backward that is none of the
    program, TypeError for what is no component.

    >>> import loopgrad as lg
    >>> Softmax = lg.edf.component(lg.lib.softmax)
    >>> s = lg.edf.Input("s", [[0.0, 0.0]])
    >>> lg.edf.Model(Softmax(s)).forward()
    array([[0.5, 0.5]])
    """
    if isinstance(forward, type):
        if backward is not None:
            raise TypeError(
                f"{forward.__name__} has a method `backward`, so that none can be given"
            )
        return HandWritten(forward, name)
    program = as_program(forward)
    if backward is None:
        return Derived(program, name)
    return Claimed(program, as_program(backward), name)
