"""The programs that run as derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from loopgrad.backends import foreseen
from loopgrad.cache.answers import kept, name_by_contents
from loopgrad.functions.shared import Batch
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import infer, validate


def derived_pair(
    program: Program,
    wrt: tuple[str, ...] | None,
    batch: Batch,
    meanwhile: Callable[[Program, Program], None] | None = None,
) -> tuple[Program, Program]:
    """What runs as forward and as backward; from an earlier process, where one has derived them.

    meanwhile: is told of the two that it will be unless a certificate refuses them, which takes a while.
    """

    def made() -> tuple[Program | None, Program]:
        return _derived_pair(program, wrt, batch, meanwhile)

    first, second = kept("pair", (program, wrt, batch), made)
    if first is None:
        object.__setattr__(
            second, "primal", program
        )  # ours alone so far, and all known of it stays
    return first or program, second


def ahead_pair(
    program: Program, wrt: tuple[str, ...] | None, batch: Batch
) -> tuple[Program, Program]:
    """The same, where the forward computes what of the backward hangs on no seed, such as winners."""

    def made() -> tuple[Program, Program]:
        from loopgrad.stable.joint import ahead

        pair = ahead(program, derived_pair(program, wrt, batch)[1])
        for each in pair:
            validate(each)  # kept with it
        return pair

    return kept("ahead", (program, wrt, batch), made)


def may_go_ahead(program: Program, backward: Program) -> bool:
    """Has a derived pair an `ahead_pair`? What has a stable form is in one already."""

    def found() -> bool:
        from loopgrad.stable.joint import waits
        from loopgrad.stable.stabilize import may_gain

        return not may_gain(infer(program).program) and waits(program, backward)

    return kept("waits", (program, backward), found)


def loss_with_gradients(program: Program, names: tuple[str, ...], batch: Batch) -> Program | None:
    """The loss and its gradients, in the order of the names; None where some are always zero."""
    from loopgrad.grad.seeding import loss_and_gradients  # loaded by those who differentiate

    backward = program.returning(program.results[0].name).backward(names, batch)
    gradients = [derived_name(name, "grad", [r.name for r in backward.results]) for name in names]
    if None in gradients or len(gradients) != len(backward.results):
        return None
    both = loss_and_gradients(program, backward)
    ordered = {r.name: r for r in both.results}
    wanted = (*(r.name for r in program.results), *(name for name in gradients if name))
    both = replace(both, results=tuple(ordered[name] for name in wanted))
    validate(both)  # kept with it
    return both


def _derived_pair(
    program: Program,
    wrt: tuple[str, ...] | None,
    batch: Batch,
    meanwhile: Callable[[Program, Program], None] | None,
) -> tuple[Program | None, Program]:
    """No first program where it is the one given, which its backward then does not name."""
    from loopgrad.stable.joint import stable_pair  # loaded by those who differentiate

    def told(first: Program, second: Program) -> None:
        if meanwhile is not None:
            for each in (first, second):
                name_by_contents(each)
            meanwhile(first, second)

    foreseen.begin(infer(program).program)
    backward = program.backward(wrt, batch)
    # Stable together: the backward reads what the forward may hold, such as `Z'` for `Z`.
    first, second = stable_pair(program, backward, told)
    for each in (first, second):
        if each is not None:
            validate(each)  # kept with it
    return first, second


def derived_name(name: str, suffix: str, among: Sequence[str]) -> str | None:
    """`x.grad`, or `x.grad2`, ... where that was taken, of the names; None without one."""
    stem = f"{name}.{suffix}"
    found = (n for n in among if (n.startswith(stem) and n[len(stem) :].isdecimal()) or n == stem)
    return next(found, None)
