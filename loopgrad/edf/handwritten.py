"""A component in NumPy, with a backward that somebody wrote."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loopgrad.edf.documentation import Documentation
from loopgrad.edf.graph import Array, Component, Pullback

BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class HandWritten(Component):
    __doc__ = Documentation("""A class with the methods `forward` and `backward`, as a component.

    The inputs are the arguments of `forward`, the constants those that have a default. Each forward
    pass makes an object of the class, for `forward` to keep on it what `backward` needs.
    """)

    def __init__(self, made: type, name: str = "") -> None:
        self.made = made
        self.name = name or made.__name__
        for method in ("forward", "backward"):
            if not callable(getattr(made, method, None)):
                raise TypeError(f"the component {self.name} needs a method `{method}`")
        arguments = list(inspect.signature(made.forward).parameters.values())[1:]  # type: ignore[attr-defined]
        none = inspect.Parameter.empty
        self.inputs = [a.name for a in arguments if a.kind in BY_PLACE and a.default is none]
        self.constants = [a.name for a in arguments if a.default is not none]
        self.several = any(a.kind is inspect.Parameter.VAR_POSITIONAL for a in arguments)
        results = getattr(made, "results", ("y",))
        self.results = [results] if isinstance(results, str) else list(results)

    def __call__(self, *positional: Any, **named: Any) -> Any:
        if not self.several:
            return super().__call__(*positional, **named)
        more = len(positional) - len(self.inputs)
        use = copy.copy(self)
        use.inputs = [*self.inputs, *(f"x{n}" for n in range(1, more + 1))]
        use.several = False
        return use(*positional, **named)

    def vjp(
        self, inputs: Sequence[Array], constants: Mapping[str, Any]
    ) -> tuple[Sequence[Array], Pullback]:
        made = self.made()
        found = made.forward(*map(_read_only, inputs), **constants)
        values = self._several("forward", found, self.results)

        def pullback(gradients: Sequence[Any]) -> list[Array | None]:
            mine = [None if g is None else g.copy() for g in gradients]  # to do with what it likes
            found = self._several("backward", made.backward(*mine), self.inputs)
            return [
                None if g is None else self._fitting(name, g, x)
                for name, g, x in zip(self.inputs, found, inputs, strict=True)
            ]

        return [np.array(value) for value in values], pullback

    def _several(self, method: str, found: Any, names: Sequence[str]) -> Sequence[Any]:
        several = found if isinstance(found, tuple | list) else (found,)
        if len(several) != len(names):
            raise ValueError(
                f"{self.name}.{method} has to return {len(names)} arrays, for {', '.join(names)}, and "
                f"returned {len(several)}"
            )
        return several

    def _fitting(self, name: str, gradient: Any, x: Array) -> Array:
        """A copy: the same array may be the gradient of two inputs, and others are added to it."""
        array = np.array(gradient)
        if array.shape != x.shape:
            raise ValueError(
                f"{self.name}.backward returned a gradient of shape {array.shape} for `{name}`, whose "
                f"shape is {x.shape}"
            )
        return array

    def __repr__(self) -> str:
        try:
            return inspect.getsource(self.made)
        except (OSError, TypeError):  # made at the prompt
            return f"<component {self.name}, written by hand>"


def _read_only(x: Array) -> Array:
    """The array, as one that a component cannot change under the hands of others."""
    view = x.view()
    view.flags.writeable = False
    return view
