"""What functions should give, and how far a result is from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Exact = Callable[[Any], Any]

ROOT_OF_PI = np.sqrt(np.longdouble("3.14159265358979323846264338327950288"))


def sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def erf(x: Any) -> Any:
    """A series without cancellation: 2/sqrt(pi) exp(-x**2) sum of x (2 x**2)**n / (2n + 1)!!."""
    x = x.astype(np.longdouble)
    y = np.clip(x, -7, 7)
    z = 2 * y * y
    term, total, n = np.ones_like(y), np.ones_like(y), 0
    while (term > total * 1e-21).any():
        n += 1
        term = term * z / (2 * n + 1)
        total = total + term
    return np.where(abs(x) > 7, np.sign(x), 2 / ROOT_OF_PI * y * np.exp(-y * y) * total)


# Of float64 or longdouble arrays.
FUNCTIONS: dict[str, Exact] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}


def deviation(found: Any, wanted: Any) -> tuple[Any, Any]:
    """Errors in units in the last place, and where a value is wrong altogether.

    found: of the dtype that is tested. wanted: of a more precise one.
    The units of denormals are the smallest number. Where infinities, NaNs and signs of zero are not
    those that are wanted, a value is wrong.
    """
    rounded = wanted.astype(found.dtype)
    finite = np.isfinite(rounded)
    errors = np.where(finite, abs(found - wanted) / np.spacing(abs(rounded)), 0)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    zero = rounded == 0
    sign = zero & (found == 0) & (np.signbit(found) != np.signbit(rounded))
    return errors, ~np.where(finite, np.isfinite(found), same) | sign
