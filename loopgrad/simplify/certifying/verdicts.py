"""What a comparison of two programs says, and the call by which it refutes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Counterexample:
    """A call whose results differ.

    sizes, constants and inputs are those of the call (arrays by name; among the inputs of a backward
    the forward-computed tensors that it reads). `result[element]` is `before` in the first program
    and `after` in the second, as arrays of shape () or as "an error: ..." in words.
    """

    sizes: Mapping[str, int]
    constants: Mapping[str, int | float]
    inputs: Mapping[str, NDArray[Any]]
    result: str
    element: tuple[int, ...]
    before: float | int | str
    after: float | int | str

    def __str__(self) -> str:
        where = self.result + (f"[{','.join(map(str, self.element))}]" if self.element else "")
        given = [
            f"{name} = {value}" for name, value in (*self.sizes.items(), *self.constants.items())
        ]
        given += [
            f"{name} = {np.array2string(np.asarray(value), precision=4, separator=', ')}"
            for name, value in self.inputs.items()
        ]
        lines = "\n".join("  " + line.replace("\n", "\n  ") for line in given)
        return f"`{where}` is {self.before} in one, {self.after} in the other, with\n{lines}"


@dataclass(frozen=True)
class Verdict:
    """What running two programs showed.

    kind: "differ", with a counterexample; "agree", on both lines, or on the reals alone where `lines`
    says so; "undecided", for the `reason`. known: the residues compared, for each result.
    True where the programs agree.
    """

    kind: Literal["agree", "differ", "undecided"]
    counterexample: Counterexample | None = None
    trials: int = 0
    lines: Literal["both", "reals"] = "both"
    known: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    def __bool__(self) -> bool:
        return self.kind == "agree"


def same_difference(one: Counterexample, other: Counterexample) -> bool:
    """Whether both say the same of the same element, as far as a float tells."""
    if (one.result, one.element) != (other.result, other.element):
        return False
    pairs = ((one.before, other.before), (one.after, other.after))
    return all(a == b or _close(a, b) for a, b in pairs)


def _close(a: float | int | str, b: float | int | str) -> bool:
    try:
        return bool(np.isclose(float(a), float(b), rtol=1e-9, atol=0, equal_nan=True))
    except ValueError:  # words
        return False
