"""`Model`: the heart's, with a judge, a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Real

from loopgrad.edf import graph
from loopgrad.edf.picture import Picture
from loopgrad.edf.verify import Report, verify

Rule = float | Callable[[graph.Parameter], graph.Array]

MOST_DRAWN = 200  # steps, in a notebook


class Model(graph.Model):
    """The graph below a loss, which is one number, or one for each example of the batch.

    `forward()` computes all values and returns the loss's; `backward()` all gradients; `update(rate)`
    takes a step against those of the parameters. The `grad` of a parameter is averaged over the batch;
    that of any other object is the gradient of the sum of the losses, so that each example has its own.
    `steps`, `inputs`, `parameters` and `values` list what the graph is made of.

    >>> from loopgrad import edf, lib
    >>> x, y = edf.Input("x", [[1.0, 2.0]]), edf.Input("y", [[0.0, 0.0]])
    >>> model = edf.Model(edf.component(lib.squared_error)(x, y))
    >>> model.forward()
    array([2.5])
    >>> model.backward()
    >>> x.grad
    array([[1., 2.]])
    """

    def __init__(self, loss: graph.Value) -> None:
        if not isinstance(loss, graph.Value):
            what = f"one of {len(loss)} objects" if isinstance(loss, tuple) else "an object"
            raise TypeError(f"a Model needs {what} of a graph, its loss, got {type(loss).__name__}")
        super().__init__(loss)

    def update(self, rule: Rule) -> None:
        """A step of learning: against the gradients by a rate, a number; or by a rule, such as `Momentum`
        or any function that makes the next value of each parameter.
        """
        if not callable(rule) and not isinstance(rule, Real):
            raise TypeError(f"`update` needs a rate, or a function of a parameter, got {rule!r}")
        super().update(rule)

    def verify(self, seed: int = 0) -> Report:
        """Compares the gradients of each component with numerical derivatives, and those of the whole.

        The inputs have to have values: that is where it compares, in double precision, with random
        gradients for the results of each component (of many uses with the same shapes, three). The report
        is true where all is right; printed, it names the component and the entry of a gradient that is
        wrong. Loops written by hand are judged by `lg.check` too. Runs a forward and a backward.
        """
        return verify(self, seed)

    def to_dot(self) -> str:
        """The graph in the language of Graphviz, with shapes, and norms where there are values."""
        return Picture(self).to_dot()

    def to_svg(self) -> str:
        """The graph as a drawing, with shapes, and norms where there are values."""
        return Picture(self).to_svg()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the drawing: an `.svg`, a `.dot`, or, with matplotlib, a `.png` or `.pdf`.

        Raises ValueError for another ending, ImportError where matplotlib is missing.
        """
        Picture(self).save(path)

    def _repr_svg_(self) -> str | None:
        return self.to_svg() if len(self.steps) <= MOST_DRAWN else None

    def __repr__(self) -> str:
        return "\n".join(f"{n:4}  {step!r}" for n, step in enumerate(self.steps, 1))
