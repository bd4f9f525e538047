"""Rules of learning for `Model.update`: programs that take a parameter to its next value."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from loopgrad.diagnostics import listing
from loopgrad.edf.graph import Array, Parameter
from loopgrad.frontend.library import lib
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import as_program, compile


class Rule:
    """A program of `optimizers.loops`, or one like it, as a rule: `model.update(rule)`.

    program: its inputs are a parameter, its gradient, and what is remembered of the steps before, all
        flat, of one axis; its results the next value of each but the gradient, by its name with a prime.
        What is remembered starts at 0. An `int` input is the number of the step, from 1.
    constants: the program's, by name. They may be changed: `rule.constants["rate"] *= 0.5`.

    A rule remembers each parameter apart, so that one serves a whole model.

    Raises ValueError for a program of another form, TypeError for a constant that it has not.

    >>> from loopgrad import edf, lib
    >>> rule = edf.Rule(lib.rmsprop, rate=0.1)
    >>> rule
    Rule(rmsprop, rate=0.1)
    """

    def __init__(self, program: Program | str, /, **constants: float) -> None:
        self.program = program = as_program(program)
        self.constants = constants
        arrays = [i.name for i in program.inputs if i.kind == "input"]
        self._remembered = arrays[2:]
        self._counted = [i.name for i in program.inputs if i.kind == "int"]
        next_values = [f"{name}'" for name in (*arrays[:1], *self._remembered)]
        results = [r.name for r in program.results]
        known = [c.name for c in program.constants]
        if len(arrays) < 2 or results != next_values or len(self._counted) > 1 or program.sizes:
            raise ValueError(
                f"{program.name} is no rule of learning: of a parameter, its gradient and what it "
                f"remembers ({listing(arrays)}) it has to return {listing(next_values)}"
            )
        unknown = [name for name in constants if name not in known]
        if unknown:
            raise TypeError(
                f"{program.name} has no constant {listing(unknown)}; it has {listing(known)}"
            )
        self._parameter, self._gradient = arrays[:2]
        self._kept: WeakKeyDictionary[Parameter, tuple[int, list[Array]]] = WeakKeyDictionary()

    def __call__(self, p: Parameter) -> Array:
        """The next value of a parameter that has a gradient."""
        w, g = p.value.reshape(-1), p.grad.reshape(-1)
        step, memory = self._kept.get(p) or (0, [np.zeros_like(w) for _ in self._remembered])
        given: dict[str, Any] = {self._parameter: w, self._gradient: g}
        given |= zip(self._remembered, memory, strict=True)
        given |= {name: np.int64(step + 1) for name in self._counted}
        found = compile(self.program)(**given, **self.constants)
        new, *memory = found if self._remembered else [found]
        self._kept[p] = step + 1, memory
        return np.reshape(new, p.value.shape)

    def __repr__(self) -> str:
        constants = (f"{name}={value!r}" for name, value in self.constants.items())
        return f"Rule({', '.join((self.program.name, *constants))})"


def Momentum(rate: float, momentum: float = 0.9, **constants: float) -> Rule:
    """Gradient descent with momentum, `lg.lib.momentum_sgd`: one object for all steps.

    >>> from loopgrad import edf
    >>> edf.Momentum(rate=0.1)
    Rule(momentum_sgd, rate=0.1, momentum=0.9)
    """
    return Rule(lib["momentum_sgd"], rate=rate, momentum=momentum, **constants)


def Adam(rate: float = 0.001, **constants: float) -> Rule:
    """Adam, `lg.lib.adam`: one object for all steps.

    >>> from loopgrad import edf
    >>> edf.Adam(rate=0.01, beta1=0.8)
    Rule(adam, rate=0.01, beta1=0.8)
    """
    return Rule(lib["adam"], rate=rate, **constants)
