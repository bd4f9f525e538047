"""What becomes of a program's results when something is taken off an input.

That is asked of the program itself: it is run with and without constants, in floating point, and in decimals
where that does not tell. A result may stay as it is, move by a multiple of the constant, as a log of a sum of
exponentials does, or be divided by an exponential of it. The multiple is a simple number, or hangs on an
extent: T - 1 transitions in a chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Expression, Extent
from loopgrad.ir.walk import ONE, apply, plus_one
from loopgrad.simplify.numbers.evaluate import (
    Prepared,
    Setting,
    Tensor,
    TooLarge,
    Undefined,
    computed,
    integer,
    prepared_of,
    shape_of,
)
from loopgrad.simplify.numbers.exponentials import log
from loopgrad.simplify.numbers.floats import Floats, array, numbers
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.numbers.spaces import worlds

if TYPE_CHECKING:
    from loopgrad.stable.cases import Case
    from loopgrad.stable.shifting import Shifted

PAIRED = (0, 0, 1, 1, 2, 2)  # worlds whose inputs are run without and with a constant
ORDINARY = (0, 1, 4, 5)  # of these, those in which floating point loses next to nothing
EQUAL = Decimal("1e-20")
# In floating point, for numbers up to LARGE: what may be equal, and what is.
ROUGHLY, CLOSELY, LARGE = 1e-4, 1e-9, 1e6
NO_DIFFERENCE = Decimal("1e-35")  # rounding, where numbers near 1 cancel
LARGEST_MULTIPLE = 4


@dataclass(frozen=True)
class Moved:
    """What becomes of a result when x is less c: less multiple * times * c, or divided by exp of that.

    axes: for each axis of the constant, that of the result; None where it is summed over. times: of
    extents, if it is not 1.
    """

    kind: Literal["adds", "multiplies"]
    multiple: Fraction
    axes: tuple[int | None, ...] = ()
    times: Expression | None = None


STILL = Moved("adds", Fraction(0))


def moves(
    candidate: Shifted, cases: Iterator[Case], rng: np.random.Generator
) -> dict[str, Moved] | None:
    """What a constant does to each result; None where that is nothing simple.

    cases: of several sizes; further ones are asked for only where the first leaves a choice. At other
    sizes a constant may do something else: whether it does, the certificate says.
    """
    opened = infer(candidate.open())
    left: dict[str, list[Moved]] | None = None
    for case in cases:
        found = _moves(candidate, opened, case, rng)
        if found is None:
            return None
        before = left or found
        left = {name: [m for m in before[name] if m in found[name]] for name in before}
        if not all(left.values()):
            return None
        if all(len(choice) == 1 for choice in left.values()):
            break
    return None if left is None else {name: choice[0] for name, choice in left.items()}


def _moves(
    candidate: Shifted, opened: Facts, case: Case, rng: np.random.Generator
) -> dict[str, list[Moved]] | None:
    """For each result all that it may be, at the sizes of one case."""
    extents, constants, inputs = case.extents, case.constants, case.inputs
    known = {**extents, **constants}
    kept = shape_of(opened.tensors[candidate.constant].extents, known)
    drawn = np.round(rng.uniform(-2, 2, (len(PAIRED), *kept)), 6)
    drawn[::2] = 0
    reals = np.empty(drawn.shape, object)
    reals.reshape(-1)[:] = [Decimal(repr(float(v))) for v in drawn.flat]
    given = {i.name: inputs[i.name][list(PAIRED)] for i in candidate.facts.program.inputs}
    given[candidate.constant] = Numbers(None, reals)
    prepared, setting = prepared_of(opened), Setting(extents, constants, given)
    factors = [(None, 1), *((e, integer(e, known)) for e in _factors(opened))]
    try:
        guesses = _guesses(candidate, prepared, case, drawn[list(ORDINARY)])
        if guesses is None:
            return None
        sure = {name: how for name, how in guesses.items() if how is not None}
        if len(sure) < len(guesses):
            found = computed(prepared, setting, Lines(None), worlds(len(PAIRED)))
    except (Undefined, TooLarge):
        return None
    result: dict[str, list[Moved]] = {}
    for r in opened.program.results:
        own = opened.tensors[r.name].extents
        constant = opened.tensors[candidate.constant].extents
        how = sure.get(r.name) or _move(found[r.name], own, reals, constant)
        if how is None:
            return None
        result[r.name] = [how] if how == STILL else list(_told(how, factors))
    return result


def _guesses(
    candidate: Shifted, prepared: Prepared, case: Case, constant: NDArray[np.float64]
) -> dict[str, Moved | None] | None:
    """How each result moves, in floating point, which is many times as fast as decimals; None for one that
    decimals have to tell; None at all where one surely moves by nothing simple."""
    at = tuple(PAIRED[world] for world in ORDINARY)
    inputs = {**case.view(Floats, at).inputs, candidate.constant: numbers(constant)}
    setting = Setting(case.extents, case.constants, inputs)
    run = computed(prepared, setting, Floats(), worlds(len(at)))
    facts = prepared.facts
    kept = facts.tensors[candidate.constant].extents
    found: dict[str, Moved | None] = {}
    for r in facts.program.results:
        values = array(run[r.name])
        lost = not np.isfinite(values).all() or np.abs(values).max(initial=0) > LARGE
        if values.dtype.kind == "f" and lost:
            found[r.name] = None
            continue
        possible, found[r.name] = _guess(values, facts.tensors[r.name].extents, constant, kept)
        if not possible:
            return None
    return found


def _guess(
    values: NDArray[Any],
    own: Sequence[Expression],
    constant: NDArray[np.float64],
    kept: Sequence[Expression],
) -> tuple[bool, Moved | None]:
    """May it be that the values move by something simple, and if they surely do, how? As `_move`, of floats
    that are all finite."""
    before, after = values[::2], values[1::2]
    if values.dtype.kind != "f":
        still = np.array_equal(before, after)
        return still, STILL if still else None
    if not before.size:
        return False, None
    apart = before - after
    furthest, scale = np.abs(apart).max(), np.abs(before).max()
    if furthest <= max(ROUGHLY * scale, 1e-35):
        return True, STILL if furthest <= max(CLOSELY * scale, 1e-35) else None
    axes = _embedded(kept, own)
    added = _along(constant[1::2], axes, len(own))
    possible, ratio = _guessed_ratio(apart, added)
    if possible:
        return True, None if ratio is None else Moved("adds", ratio, axes)
    if None in axes or not ((before > 0) & (after > 0)).all():
        return False, None
    possible, ratio = _guessed_ratio(np.log(before / after), added)
    return possible, None if ratio is None else Moved("multiplies", ratio, axes)


def _guessed_ratio(
    apart: NDArray[np.float64], added: NDArray[np.float64]
) -> tuple[bool, Fraction | None]:
    """May the first be a simple multiple of the second, and if it surely is, which?"""
    added = np.broadcast_to(added, apart.shape)
    if not np.isfinite(apart).all() or not added.all():
        return False, None
    simple = Fraction(float(apart.flat[0] / added.flat[0])).limit_denominator(LARGEST_MULTIPLE)
    if not simple:
        return False, None
    wrong = (np.abs(apart - float(simple) * added) / np.maximum(np.abs(added), 1)).max()
    return bool(wrong <= ROUGHLY), simple if wrong <= CLOSELY else None


def _along(constants: NDArray[Any], axes: tuple[int | None, ...], rank: int) -> NDArray[Any]:
    """The constants along a result's axes, summed over those that it has not."""
    summed = tuple(1 + axis for axis, at in enumerate(axes) if at is None)
    constants = np.add.reduce(constants, axis=summed) if summed else constants
    shape = [len(constants), *[1] * rank]
    places = [at for at in axes if at is not None]
    for at, size in zip(places, constants.shape[1:], strict=True):
        shape[1 + at] = size
    return constants.reshape(shape)


def _factors(facts: Facts) -> list[Expression]:
    """An extent, one less and one more."""
    found: list[Expression] = []
    for name in facts.extents:
        extent = Extent(name)
        found += [extent, apply("-", extent, ONE), plus_one(extent)]
    return found


def _told(moved: Moved, factors: Sequence[tuple[Expression | None, int]]) -> Iterator[Moved]:
    """The ways to say how far a result moves: by a number, and by one times a size."""
    for times, value in factors:
        if times is None:
            if abs(moved.multiple) <= LARGEST_MULTIPLE:
                yield moved
        elif abs(moved.multiple) == value:
            yield Moved(moved.kind, moved.multiple / value, moved.axes, times)


def _move(
    tensor: Tensor,
    own: Sequence[Expression],
    constant: NDArray[Any],
    kept: Sequence[Expression],
) -> Moved | None:
    if not isinstance(tensor, Numbers):
        return STILL if np.array_equal(tensor[::2], tensor[1::2]) else None
    assert tensor.reals is not None
    whole = tensor.reals[::2].shape
    before: list[Decimal] = list(tensor.reals[::2].flat)  # type: ignore[arg-type]
    after: list[Decimal] = list(tensor.reals[1::2].flat)  # type: ignore[arg-type]
    numbers = [(x, y) for x, y in zip(before, after, strict=True) if x.is_finite()]
    scale = max((abs(x) for x, _ in numbers), default=Decimal(0))
    if not numbers:
        return None
    if all(y.is_finite() and abs(x - y) <= max(EQUAL * scale, NO_DIFFERENCE) for x, y in numbers):
        return STILL
    axes = _embedded(kept, own)
    constants = _along(constant[1::2], axes, len(own))
    added: list[Decimal] = list(np.broadcast_to(constants, whole).flat)
    ratio = _ratio([(x - y, c) for x, y, c in zip(before, after, added, strict=True)])
    if ratio is not None:
        return Moved("adds", ratio, axes)
    if None not in axes and all(x > 0 and y > 0 for x, y in zip(before, after, strict=True)):
        logs = [(log(x / y), c) for x, y, c in zip(before, after, added, strict=True)]
        ratio = _ratio(logs)
        if ratio is not None:
            return Moved("multiplies", ratio, axes)
    return None


def _ratio(pairs: Sequence[tuple[Decimal, Decimal]]) -> Fraction | None:
    """The simple number that the first of each pair is of the second."""
    if any(not a.is_finite() or not c for a, c in pairs) or not pairs:
        return None
    a, c = pairs[0]
    simple = Fraction(float(a / c)).limit_denominator(LARGEST_MULTIPLE)
    if not simple:
        return None
    exact = Decimal(simple.numerator) / Decimal(simple.denominator)
    if all(abs(a - exact * c) <= EQUAL * max(abs(c), Decimal(1)) for a, c in pairs):
        return simple
    return None


def _embedded(kept: Sequence[Expression], own: Sequence[Expression]) -> tuple[int | None, ...]:
    """For each of the constant's axes that of a tensor that is it, in order; None where there is none."""
    found: list[int | None] = []
    start = 0
    for extent in kept:
        at = next((a for a in range(start, len(own)) if own[a] == extent), None)
        found.append(at)
        start = start if at is None else at + 1
    return tuple(found)
