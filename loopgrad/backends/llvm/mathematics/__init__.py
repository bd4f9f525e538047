"""Our own functions on floats, of any width.

No tables in memory, no fast-math flags, fused multiply-adds written out: vectors and single values give the
same bits (but for the sign of NaN), and special values come out right. All is straight-line code, but for
the arguments of sin and cos that are huge, and those of exp whose results are no normal numbers.
docs/mathematics.md has the errors.
"""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm.mathematics.erf import erf
from loopgrad.backends.llvm.mathematics.exponential import exp, expm1, softplus, tanh
from loopgrad.backends.llvm.mathematics.logarithm import log, log1p
from loopgrad.backends.llvm.mathematics.power import power
from loopgrad.backends.llvm.mathematics.trigonometric import cos, sin

OWN: dict[str, Callable[..., str]] = {
    "exp": exp,
    "expm1": expm1,
    "tanh": tanh,
    "softplus": softplus,
    "log": log,
    "log1p": log1p,
    "erf": erf,
    "sin": sin,
    "cos": cos,
    "**": power,
}
