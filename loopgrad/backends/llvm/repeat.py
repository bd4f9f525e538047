"""Branches and loops in a function's text."""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm.text import I64, Body


def where(body: Body, condition: str, write: Callable[[], None]) -> None:
    """Code that runs where the i1 holds."""
    mark = body.fresh("where")
    body.branch(condition, f"{mark}.then", f"{mark}.end")
    body.start(f"{mark}.then")
    write()
    body.jump(f"{mark}.end")
    body.start(f"{mark}.end")


def counted(
    body: Body,
    lower: str,
    upper: str,
    step: int | str,
    write: Callable[[str], None],
    descending: bool = False,
) -> None:
    """A loop that is tested at its end: it has to run at least once. `write` gets the index.

    Upwards from `lower` while below `upper`; or downwards, by 1, from `upper - 1`.
    """
    first = body.value(f"sub nsw i64 {upper}, 1") if descending else lower
    mark, preheader = body.fresh("loop"), body.fresh("enter")
    body.jump(preheader)
    body.start(preheader)
    body.jump(mark)
    body.start(mark)
    index, complete = body.phi_later(I64)
    write(index)
    instruction = "sub" if descending else "add"
    following = body.value(f"{instruction} nsw i64 {index}, {step}")
    order, limit = ("sge", lower) if descending else ("slt", upper)
    more = body.value(f"icmp {order} i64 {following}, {limit}")
    complete((first, preheader), (following, body.block))
    body.branch(more, mark, f"{mark}.leave", body.loops)
    body.start(f"{mark}.leave")
