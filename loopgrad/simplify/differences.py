"""Where the results of two runs differ: on the reals, or as integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.decimals import CONTEXT
from loopgrad.simplify.evaluate import Tensor
from loopgrad.simplify.lines import Lines, Numbers

# Reals agree when they differ by less: relative to the larger; near 0, to the tensor's largest. Where
# the residues differ, a smaller difference counts, if it is no rounding.
RELATIVE, ABSOLUTE = 1e-20, 1e-30
STRICT = 1e-12  # times these


def difference(
    before: Tensor, after: Tensor, symmetric: bool, tolerance: float, infinities: bool = True
) -> tuple[int, ...] | None:
    """The first element at which the reals, or the integers, differ.

    Where `before` is no number `after` may be any, unless `symmetric`; without `infinities` also
    where it is infinite.
    """
    if not isinstance(before, Numbers) or not isinstance(after, Numbers):
        assert not isinstance(before, Numbers) and not isinstance(after, Numbers)
        if before.shape != after.shape:
            return ()
        wrong = np.argwhere(before != after)
        return tuple(map(int, wrong[0])) if len(wrong) else None
    if before.reals.shape != after.reals.shape:
        return ()
    if not before.reals.size:
        return None
    old, new = before.reals, after.reals
    finite_old, finite_new = finite(before), finite(after)
    one_sided = finite_old & ~finite_new
    licensed = _flags(
        old, lambda v: (v.is_nan() and not symmetric) or (v.is_infinite() and not infinities)
    )
    one_sided |= ~finite_old & finite_new & ~licensed
    both = finite_old & finite_new
    scale = max((abs(v) for v in (*old[both].flat, *new[both].flat)), default=_decimal(0)) + 1
    wrong = np.array(one_sided)
    relative, absolute = _decimal(RELATIVE * tolerance), _decimal(ABSOLUTE * tolerance)
    for place in np.argwhere(both):
        at = tuple(map(int, place))
        a, b = old[at], new[at]
        wrong[at] = abs(a - b) > relative * max(abs(a), abs(b)) + absolute * scale
    places = np.argwhere(wrong)
    return tuple(map(int, places[0])) if len(places) else None


def _decimal(value: float) -> Any:
    return CONTEXT.create_decimal_from_float(value)


def finite(tensor: Numbers) -> NDArray[np.bool_]:
    return _flags(tensor.reals, lambda value: value.is_finite())


def _flags(values: NDArray[np.object_], question: Callable[[Any], bool]) -> NDArray[np.bool_]:
    flags: list[bool] = [question(value) for value in values.flat]
    return np.array(flags, np.bool_).reshape(values.shape)


def real(tensor: Tensor, lines: Lines) -> Numbers:
    """Integers as numbers, where the other program's are."""
    if isinstance(tensor, Numbers):
        return tensor
    flat = lines.of_integers(tensor.reshape(-1))
    rows = len(flat.residues)
    return Numbers(flat.residues.reshape(rows, *tensor.shape), flat.reals.reshape(tensor.shape))


def elements_at(
    before: Tensor, after: Tensor, at: tuple[int, ...]
) -> tuple[float | int | str, float | int | str]:
    """Both values; in words where floats do not tell them apart, or the shapes differ."""
    old, new = (t.reals if isinstance(t, Numbers) else t for t in (before, after))
    if old.shape != new.shape:
        return f"of shape {old.shape}", f"of shape {new.shape}"
    if not isinstance(before, Numbers) or not isinstance(after, Numbers):
        return int(old[at]), int(new[at])
    if float(old[at]) == float(new[at]):
        return str(old[at]), str(new[at])
    return float(old[at]), float(new[at])
