"""Elements of tensors: where they lie, whether they exist, whether they are complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends import errors
from loopgrad.backends.llvm.literal.function import PhaseFunction, Value
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir.nodes import Read, Reduction, Statement

READ_STATE = -1  # of a tracked element, once something has read it


@dataclass(frozen=True, slots=True)
class Place:
    """An element's address, and that of its state if the tensor is tracked."""

    address: str
    state: str | None
    subscripts: tuple[str, ...]


def locate(function: PhaseFunction, read: Read, subscripts: Sequence[Value]) -> Place:
    """The address of an element, its subscripts checked unless they are proved in range."""
    layout = function.layout
    extents = [function.axis_extent(e) for e in layout.task.facts.tensors[read.tensor].extents]
    proved = (function.number, read) in layout.task.safety.in_range
    if layout.variant.checked or not proved:
        for axis, (subscript, extent) in enumerate(zip(subscripts, extents, strict=True)):
            if (read, axis) not in function.trusted:
                _check_range(function, read, axis, subscript.text, extent)
    offset = _offset(function, subscripts, extents)
    address = function.body.element(
        layout.element(read.tensor), function.pointer(read.tensor), offset
    )
    state = function.state_pointer(read.tensor)
    if state is not None:
        state = function.body.element(I64, state, offset)
    return Place(address, state, tuple(s.text for s in subscripts))


def unchecked_address(function: PhaseFunction, read: Read, subscripts: Sequence[Value]) -> str:
    """The address that an element has, or would have if it were there."""
    layout = function.layout
    extents = [function.axis_extent(e) for e in layout.task.facts.tensors[read.tensor].extents]
    kind, offset = layout.element(read.tensor), _offset(function, subscripts, extents, "")
    at = function.module.pointer(kind)
    return function.body.value(
        f"getelementptr {kind}, {at} {function.pointer(read.tensor)}, i64 {offset}"
    )


def _offset(
    function: PhaseFunction, subscripts: Sequence[Value], extents: Sequence[str], flag: str = " nsw"
) -> str:
    """Row-major."""
    offset = "0"
    for axis, (subscript, extent) in enumerate(zip(subscripts, extents, strict=True)):
        if axis == 0:
            offset = subscript.text
        else:
            offset = function.body.value(f"mul{flag} i64 {offset}, {extent}")
            offset = function.body.value(f"add{flag} i64 {offset}, {subscript.text}")
    return offset


def is_inside(function: PhaseFunction, read: Read, subscripts: Sequence[Value]) -> str:
    """The i1 that tells whether all subscripts are in range."""
    inside = "true"
    for subscript, extent in zip(
        subscripts, function.layout.task.facts.tensors[read.tensor].extents, strict=True
    ):
        limit = function.axis_extent(extent)
        fits = function.body.value(f"icmp ult i64 {subscript.text}, {limit}")
        inside = function.body.value(f"and i1 {inside}, {fits}")
    return inside


def _check_range(
    function: PhaseFunction, read: Read, axis: int, subscript: str, extent: str
) -> None:
    # One unsigned comparison: a negative subscript counts as a huge one.
    fits = function.body.value(f"icmp ult i64 {subscript}, {extent}")
    statement = function.running()

    def error(details: NDArray[np.int64]) -> Exception:
        return errors.out_of_range(read, axis, int(details[0]), int(details[1]), statement)

    function.require(fits, error, [subscript, extent])


def watch_read(function: PhaseFunction, read: Read, place: Place) -> None:
    if place.state is None:
        return
    if function.executed is not None:
        state = function.body.load(I64, place.state)
        other = function.body.value(f"icmp ne i64 {state}, {function.executed}")
        _require_state(function, other, errors.read_while_written, read, place)
    function.body.store(I64, str(READ_STATE), place.state)


def watch_write(function: PhaseFunction, target: Read, reduction: Reduction, place: Place) -> None:
    if place.state is None:
        return
    assert function.executed is not None
    state = function.body.load(I64, place.state)
    unread = function.body.value(f"icmp ne i64 {state}, {READ_STATE}")
    _require_state(function, unread, errors.changed_after_read, target, place)
    if reduction is Reduction.SET:
        unwritten = function.body.value(f"icmp eq i64 {state}, 0")
        _require_state(function, unwritten, errors.written_twice, target, place)
    function.body.store(I64, function.executed, place.state)


def _require_state(
    function: PhaseFunction,
    condition: str,
    error: Callable[[Read, tuple[int, ...], Statement], Exception],
    read: Read,
    place: Place,
) -> None:
    statement, rank = function.running(), len(place.subscripts)

    def make(details: NDArray[np.int64]) -> Exception:
        return error(read, tuple(map(int, details[:rank])), statement)

    function.require(condition, make, place.subscripts)
