"""What components and objects are given: which argument is which, and is it what it has to be?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loopgrad.diagnostics import listing, suggestion

if TYPE_CHECKING:
    from loopgrad.edf.graph import Array, Component, Input, Step, Value


def bound(
    component: Component, positional: Sequence[Any], named: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The inputs in the component's order, and its constants.

    A mapping among the positional arguments, such as a package of parameters, gives those inputs that
    have its names; the other arguments are the remaining inputs, in order. Raises TypeError, naming
    the argument, for one too many, one given twice, an unknown, a missing one, and what is no object.
    """
    inputs, constants = component.inputs, component.constants
    given = {name: x for name, x in named.items() if name in inputs}
    for package in positional:
        if isinstance(package, Mapping):
            given = {name: package[name] for name in inputs if name in package} | given
    rest = [x for x in positional if not isinstance(x, Mapping)]
    free = [name for name in inputs if name not in given]
    if len(rest) > len(free):
        raise TypeError(
            f"{component.name} takes {listing(inputs)}: {len(rest)} arguments are given by place, where "
            f"{len(free)} are left"
        )
    given |= zip(free, rest, strict=False)
    unknown = [name for name in named if name not in inputs and name not in constants]
    if unknown:
        known = [*inputs, *constants]
        meant = suggestion(unknown[0], known)
        hint = f"did you mean `{meant}`?" if meant else f"it takes {listing(known)}"
        raise TypeError(f"{component.name} has no argument `{unknown[0]}`; {hint}")
    missing = [name for name in inputs if name not in given]
    if missing:
        raise TypeError(f"{component.name} needs {listing(missing)}, which it did not get")
    for name in inputs:
        if not hasattr(given[name], "add_grad"):
            raise TypeError(
                f"{component.name}: `{name}` has to be an Input, a Parameter or what a component "
                f"returned, got {type(given[name]).__name__}"
            )
    return [given[name] for name in inputs], {n: v for n, v in named.items() if n in constants}


def as_array(x: Input, value: Any) -> Array:
    """What the object is given as its value. Raises TypeError for what does not hold real numbers."""
    what = f"the value of {type(x).__name__} `{x.name}`"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{what} has to be an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} has to hold real numbers, got {array.dtype}: {value!r}")
    return array.astype(np.float64) if x.floating and array.dtype.kind != "f" else array


def described(x: Value, steps: Sequence[Step]) -> str:
    """Which object it is, and the first place that reads it."""
    what = f"{type(x).__name__} `{x.name}`" if x.name else f"an {type(x).__name__} without a name"
    step = next((step for step in steps if x in step.inputs), None)
    if step is None:
        return what
    return f"{what} (`{step.component.inputs[step.inputs.index(x)]}` of {step.component.name})"
