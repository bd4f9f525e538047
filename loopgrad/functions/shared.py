"""What derivatives of every kind need: types, kept answers, arguments of a call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from typing import Any, Literal, TypeVar

from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.backends.binding import Arguments, array_of
from loopgrad.ir.nodes import Program
from loopgrad.ir.operations import ElementType
from loopgrad.pipeline import BUILDING
from loopgrad.tuning import Tuned

Array = NDArray[Any]
Batch = str | Literal[False] | None
Answer = TypeVar("Answer")


def integer_tensors(facts: Facts) -> frozenset[str]:
    tensors = facts.tensors.values()
    return frozenset(t.name for t in tensors if t.element is not ElementType.FLOAT)


def kept_with(program: Program, make: Callable[..., Answer], *arguments: Hashable) -> Answer:
    """`make(program, *arguments)`, made once, for as long as the program lives."""
    key = (make, *arguments)
    try:
        found: Answer = program.__dict__["_derived"][key]
        return found
    except KeyError:
        pass
    with BUILDING, Tuned():
        known: dict[Hashable, Any] = program.__dict__.setdefault("_derived", {})
        if key not in known:
            known[key] = make(program, *arguments)
        answer: Answer = known[key]
        return answer


def picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes the items at the places."""
    match places:
        case []:
            return lambda items: ()
        case [place]:
            return lambda items: (items[place],)
    return itemgetter(*places)


def unpacked(arrays: Sequence[Any]) -> Any:
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def cast_to(kind: str, name: str, value: Any, bound: Arguments) -> Array:
    """A seed or a tangent of a floating tensor, in the type of the call."""
    shape, dtype = bound.shapes[name], bound.dtype
    what = f"the {kind} of `{name}`"
    if value is None:
        raise TypeError(f"{what} has to be an array of shape {shape}, got None")
    array = array_of(what, value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} has to hold real numbers, got {array.dtype.name}")
    if array.shape != shape:
        raise ValueError(f"{what} has to have shape {shape}, got {array.shape}")
    return array.astype(dtype, copy=False)
