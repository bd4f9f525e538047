"""Branches and loops in a function's text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loopgrad.backends.llvm.writing.text import I64, Body


def where(body: Body, condition: str, write: Callable[[], None]) -> None:
    """Code that runs where the i1 holds; in it the comparison that the i1 comes from is known to."""
    if condition == "true":
        write()
        return
    mark = body.fresh("where")
    body.branch(condition, f"{mark}.then", f"{mark}.end")
    body.start(f"{mark}.then")
    with body.given(condition):
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

    def once(index: str, given: Sequence[str]) -> Sequence[str]:
        write(index)
        return given

    handing(body, lower, upper, once, (), descending, step)


def handing(
    body: Body,
    lower: str,
    upper: str,
    write: Callable[[str, Sequence[str]], Sequence[str]],
    given: Sequence[tuple[str, str]],
    descending: bool = False,
    step: int | str = 1,
) -> Sequence[str]:
    """The same for a loop whose turns hand values on. `given`: their kinds, and what the first turn gets.

    `write` gets the index and the values, and returns what the next turn gets; so does this, of the last.
    """
    first = body.value(f"sub nsw i64 {upper}, 1") if descending else lower
    mark, preheader = body.fresh("loop"), body.block
    body.jump(mark)
    body.start(mark)
    index, complete = body.phi_later(I64)
    phis = [body.phi_later(kind) for kind, _ in given]
    then = write(index, [value for value, _ in phis])
    instruction = "sub" if descending else "add"
    following = body.value(f"{instruction} nsw i64 {index}, {step}")
    order, limit = ("sge", lower) if descending else ("slt", upper)
    more = body.value(f"icmp {order} i64 {following}, {limit}")
    complete((first, preheader), (following, body.block))
    for (_, value), (_, complete_value), next_one in zip(given, phis, then, strict=True):
        complete_value((value, preheader), (next_one, body.block))
    body.branch(more, mark, f"{mark}.leave", body.loops)
    body.start(f"{mark}.leave")
    return then


def while_any(
    body: Body, lower: str, upper: str, step: int | str, write: Callable[[str], None]
) -> None:
    """A loop upwards, if there is anything to run it for."""
    some = body.value(f"icmp slt i64 {lower}, {upper}")
    where(body, some, lambda: counted(body, lower, upper, step, write))


def whole_groups(body: Body, lower: str, upper: str, size: int) -> str:
    """Where the iterations end that are in whole groups of `size`, a power of two.

    That is at `lower` where the upper one is below it, as from j to B where j is beyond: then there are
    fewer than none, and to mask how many there are would give some that do not exist.
    """
    assert size > 0 and not size & (size - 1), size
    some = body.value(f"icmp slt i64 {lower}, {upper}")
    length = body.value(f"sub nsw i64 {upper}, {lower}")
    grouped = body.select(some, I64, body.value(f"and i64 {length}, {-size}"), "0")
    return body.value(f"add nsw i64 {lower}, {grouped}")


def found(body: Body, lower: str, upper: str, places: str, holds: Callable[[str], str]) -> str:
    """Writes to `places` those from `lower` up to `upper`, which is above, for which `holds` gives a true i1,
    without a branch; how many there are."""
    mark, preheader = body.fresh("look"), body.block
    body.jump(mark)
    body.start(mark)
    index, index_complete = body.phi_later(I64)
    count, count_complete = body.phi_later(I64)
    one = body.value(f"zext i1 {holds(index)} to i64")
    body.store(I64, index, body.element(I64, places, count))
    more = body.value(f"add nsw i64 {count}, {one}")
    following = body.value(f"add nsw i64 {index}, 1")
    left = body.value(f"icmp slt i64 {following}, {upper}")
    index_complete((lower, preheader), (following, body.block))
    count_complete(("0", preheader), (more, body.block))
    body.branch(left, mark, f"{mark}.leave", body.loops)
    body.start(f"{mark}.leave")
    return more


def each_bit(body: Body, kind: str, bits: str, write: Callable[[str], None]) -> None:
    """A loop over the bits of an integer that are set, the lowest first. `write` gets their numbers."""
    name = f"@llvm.cttz.{kind}"
    body.module.declare(f"declare {kind} {name}({kind}, i1)")

    def run() -> None:
        mark, preheader = body.fresh("bits"), body.block
        body.jump(mark)
        body.start(mark)
        left, complete = body.phi_later(kind)
        lowest = body.value(f"call {kind} {name}({kind} {left}, i1 true)")
        write(body.value(f"zext {kind} {lowest} to i64"))
        less = body.value(f"sub {kind} {left}, 1")
        following = body.value(f"and {kind} {left}, {less}")
        more = body.value(f"icmp ne {kind} {following}, 0")
        complete((bits, preheader), (following, body.block))
        body.branch(more, mark, f"{mark}.leave", body.loops)
        body.start(f"{mark}.leave")

    where(body, body.value(f"icmp ne {kind} {bits}, 0"), run)


def in_pieces(
    body: Body, lower: str, middle: str, upper: str, write: Callable[[str, str], None]
) -> None:
    """Code for the values from `lower` to `middle`, if there are any, and then for those up to `upper`, which
    is above: written once, as a loop. `write` gets where they begin and end."""
    mark, preheader = body.fresh("piece"), body.block
    some = body.value(f"icmp slt i64 {lower}, {middle}")
    first_end = body.select(some, I64, middle, upper)
    body.jump(mark)
    body.start(mark)
    begin, begin_complete = body.phi_later(I64)
    end, end_complete = body.phi_later(I64)
    write(begin, end)
    more = body.value(f"icmp slt i64 {end}, {upper}")
    begin_complete((lower, preheader), (end, body.block))
    end_complete((first_end, preheader), (upper, body.block))
    body.branch(more, mark, f"{mark}.leave", body.loops)
    body.start(f"{mark}.leave")
