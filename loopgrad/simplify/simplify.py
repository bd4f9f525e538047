"""`simplify`: a program to an equal one that costs less, certified before it is returned.

What an earlier process found is on disk; its steps are found once more, if somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from loopgrad.analysis.infer import infer
from loopgrad.cache.answers import kept
from loopgrad.ir.nodes import Program

if TYPE_CHECKING:
    from loopgrad.simplify.telling.derivation import Derivation

TOLD = "_told"  # on a program that `simplify` made: its derivation, or what tells that


def simplify(program: Program, forward: Program | None = None) -> Program:
    """The optimised program; see `Program.simplify`.

    >>> import loopgrad as lg
    >>> print(lg.lib.softmax.backward().simplify())
    softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])
    """
    forward = forward if forward is not None else program.primal
    infer(program)
    found = kept("simplified", (program, forward), lambda: _improved(program, forward))
    if found is None:
        return program
    object.__setattr__(found, "primal", program.primal)  # with all that is known of it
    found.__dict__.setdefault(TOLD, lambda: _told_again(program, forward))
    return found


def _improved(program: Program, forward: Program | None) -> Program | None:
    from loopgrad.simplify.improving import improved  # not needed where the disk has the answer

    found = improved(program, forward)
    if found is None:
        return None
    result, story = found
    result.__dict__[TOLD] = story.told
    return result


def _told_again(program: Program, forward: Program | None) -> Derivation:
    found = _improved(program, forward)
    assert found is not None
    return derivation(found)


def derivation(program: Program) -> Derivation:
    """The steps by which `simplify` made the program; none for a program that it did not make."""
    from loopgrad.simplify.telling.derivation import Derivation

    known: Derivation | Callable[[], Derivation] = program.__dict__.get(TOLD, Derivation)
    if not isinstance(known, Derivation):
        known = program.__dict__[TOLD] = known()
    return known
