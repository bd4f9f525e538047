"""The heart of EDF: objects with a `value` and a `grad`, and two passes over them.

The forward pass fills in the value of each computed object, in the order in which they were built;
the backward pass the gradient of the loss in each object, in the opposite order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.edf.arguments import as_array, bound, described

Array = NDArray[Any]
Constants = Mapping[str, Any]
Pullback = Callable[[Sequence[Any]], Sequence[Array | None]]


class Value:
    """An object of a graph: its value, and the gradient of the loss in it, of the same shape."""

    value: Any  # an array; None before there is one
    grad: Any = None  # stays None for labels and the like

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.value = None

    def add_grad(self, gradient: Array) -> None:
        """What one place contributes where this object is read; there may be several."""
        if self.grad is None:
            dtype = self.value.dtype
            same = gradient.dtype is dtype or dtype.kind != "f"
            self.grad = gradient if same else gradient.astype(dtype)
        else:
            self.grad += gradient

    def __repr__(self) -> str:
        shape = "no value" if self.value is None else f"{self.value.dtype}{self.value.shape}"
        return f"<{type(self).__name__} {self.name or '?'}: {shape}>"


class Input(Value):
    """An object whose value is given: `x = Input("x")`, then `x.value = ...` before a forward."""

    floating = False

    def __init__(self, name: Any = "", value: Any = None) -> None:
        if not isinstance(name, str):  # `Input(array)`, `Input(array, "x")`
            name, value = value or "", name
        super().__init__(name)
        self.value = value

    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = None if value is None else as_array(self, value)


class Parameter(Input):
    """An object that is learnt. It has no batch index: its gradient is averaged over the batch."""

    floating = True

    def __init__(self, value: Any, name: str = "") -> None:
        super().__init__(name)
        self.value = as_array(self, value).copy()


class Computed(Value):
    """An object that a step computes."""

    def __init__(self, name: str, step: Step) -> None:
        super().__init__(name)
        self.step = step


class Component:
    """What can be computed. Called with objects of a graph it returns those that it computes.

    `vjp` takes arrays, and returns the results, and what takes their gradients to those of the
    inputs: new arrays, None for an input that has none.
    """

    name: str
    inputs: Sequence[str]
    results: Sequence[str]
    constants: Sequence[str]

    def vjp(self, inputs: Sequence[Array], constants: Constants) -> tuple[Any, Pullback]:
        raise NotImplementedError

    def __call__(self, *positional: Any, **named: Any) -> Any:
        results = Step(self, *bound(self, positional, named)).results
        return results if len(results) > 1 else results[0]


class Step:
    """One use of a component in a graph."""

    numbers = count(1)
    pullback: Pullback

    def __init__(self, component: Component, inputs: Sequence[Value], constants: Constants) -> None:
        self.component, self.inputs, self.constants = component, tuple(inputs), constants
        self.results = tuple(Computed(name, self) for name in component.results)
        self.number = next(self.numbers)  # greater than that of any step whose results it reads
        self.last_forward: object = None  # the model whose forward pass came last

    def forward(self) -> None:
        """Computes the values of the results."""
        given = [x.value for x in self.inputs]
        try:
            values, self.pullback = self.component.vjp(given, self.constants)
        except Exception as error:
            error.add_note(f"in a forward pass, at {self!r}")
            raise
        for y, value in zip(self.results, values, strict=True):
            y.value = value

    def backward(self) -> None:
        """Adds to the gradients of the inputs, given those of the results."""
        gradients = self.pullback([zeros_if_none(y).grad for y in self.results])
        for x, gradient in zip(self.inputs, gradients, strict=True):
            if gradient is not None:
                x.add_grad(gradient)

    def __repr__(self) -> str:
        named = zip(self.component.inputs, self.inputs, strict=True)
        return f"{self.component.name}({', '.join(f'{name}={x!r}' for name, x in named)})"


class Model:
    """The graph below a loss: one number, or one for each example of the batch, `loss.value[b]`.

    After `backward`, the `grad` of a value is the gradient of the sum of the losses, so that each
    example has its own; that of a parameter is the gradient of their mean.
    """

    def __init__(self, loss: Value) -> None:
        self.loss = loss
        self.steps = steps_below(loss)
        objects = [x for step in self.steps for x in (*step.inputs, *step.results)]
        self.values = list(dict.fromkeys([*objects, loss]))
        self.inputs = [x for x in self.values if isinstance(x, Input)]
        self.parameters = [x for x in self.inputs if isinstance(x, Parameter)]

    def forward(self) -> Any:
        """Computes the value of every object, and returns the loss's."""
        for x in self.inputs:
            if x.value is None:
                which = described(x, self.steps)
                raise ValueError(f"{which} has no value: set it before `forward`")
        for step in self.steps:
            step.last_forward = None
            step.forward()
            step.last_forward = self
        return self.loss.value

    def backward(self) -> None:
        """Computes the gradient of every object, at the values of the last `forward`."""
        loss = self.loss.value
        if loss is None or any(step.last_forward is not self for step in self.steps):
            raise RuntimeError("`backward` needs a `forward` of this model before it")
        if loss.ndim > 1 or loss.dtype.kind != "f":
            raise ValueError(f"a loss is a real number, or one for each example, not {self.loss!r}")
        for x in self.values:
            x.grad = None
        self.loss.grad = np.ones_like(loss)
        try:
            for step in reversed(self.steps):
                step.backward()
        except BaseException:
            for x in self.values:
                x.grad = None  # rather than half of it
            raise
        for x in self.values:
            zeros_if_none(x)
        for p in self.parameters:
            p.grad /= max(loss.size, 1)

    def update(self, rule: float | Callable[[Parameter], Array]) -> None:
        """A step against the gradients: by a rate, or whatever the rule makes of each parameter."""
        if any(p.grad is None for p in self.parameters):
            raise RuntimeError("`update` needs a `backward` of this model before it")
        for p in self.parameters:
            p.value = rule(p) if callable(rule) else p.value - float(rule) * p.grad


def steps_below(loss: Value) -> list[Step]:
    """The steps that it is computed by, in the order in which they were built."""
    found: set[Step] = set()
    unseen = [loss]
    while unseen:
        x = unseen.pop()
        if isinstance(x, Computed) and x.step not in found:
            found.add(x.step)
            unseen += x.step.inputs
    return sorted(found, key=lambda step: step.number)


def zeros_if_none(x: Value) -> Value:
    """The object, with a gradient: zeros where the loss does not depend on it."""
    if x.grad is None and x.value.dtype.kind == "f":
        x.grad = np.zeros_like(x.value)
    return x
