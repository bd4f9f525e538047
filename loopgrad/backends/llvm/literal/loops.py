"""The one form of loop that is emitted, which LLVM's passes know well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loopgrad.backends.llvm.literal.function import PhaseFunction, Value
from loopgrad.backends.llvm.writing.text import I64, RARE, SINGLE
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Loop


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values of a loop's bounds: `lower <= index < upper`."""

    lower: Value
    upper: Value

    @property
    def bits(self) -> int:
        return max(self.lower.bits, self.upper.bits)


@dataclass(frozen=True)
class Carried:
    """A value that a loop carries in a register: made before it, and of no use if it never runs."""

    kind: str
    enter: Callable[[], str]
    leave: Callable[[str], None]


def runs(function: PhaseFunction, bounds: Bounds) -> str:
    """The i1 that tells whether a loop runs at all."""
    return function.body.value(f"icmp slt i64 {bounds.lower.text}, {bounds.upper.text}")


def where(function: PhaseFunction, condition: str, write: Callable[[], None]) -> None:
    """Code that runs where the i1 holds."""
    at = function.body
    mark = at.fresh("where")
    at.branch(condition, f"{mark}.then", f"{mark}.end")
    at.start(f"{mark}.then")
    write()
    at.jump(f"{mark}.end")
    at.start(f"{mark}.end")


def counted(
    function: PhaseFunction,
    loop: Loop,
    bounds: Bounds,
    body: Callable[[str], str],
    carried: Carried | None = None,
    rare: bool = False,
) -> None:
    """A loop that is tested at its end: it has to run at least once.

    `body` gets the carried value ("" without one) and returns the next. `rare`: it seldom runs.
    """
    at, lower, upper = function.body, bounds.lower.text, bounds.upper.text
    mark = at.fresh("loop")
    first = at.value(f"sub nsw i64 {upper}, 1") if loop.descending else lower
    before_loop = carried.enter() if carried else ""
    preheader = at.block
    at.jump(mark)
    at.start(mark)
    index, complete_index = at.phi_later(I64)
    now, complete_carried = at.phi_later(carried.kind) if carried else ("", None)
    long_before = at.long_calls
    with function.index(loop.index, Value(index, ElementType.INT, bounds.bits)):
        after = body(now)
    step = "sub" if loop.descending else "add"
    following = at.value(f"{step} nsw i64 {index}, 1")
    order, limit = ("sge", lower) if loop.descending else ("slt", upper)
    more = at.value(f"icmp {order} i64 {following}, {limit}")
    complete_index((first, preheader), (following, at.block))
    if complete_carried:
        complete_carried((before_loop, preheader), (after, at.block))
    single = carried is not None and at.long_calls > long_before
    at.branch(more, mark, f"{mark}.leave", RARE if rare else SINGLE if single else "")
    at.start(f"{mark}.leave")
    if carried:
        carried.leave(after)
