"""What is equal to 50 digits may have lost all of those that a float has."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.simplify.certificate import Certifier

PLAIN = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]")
VARIANCE = lg.program(
    "f(x[N]) -> v:\n    m = mean[n](x[n] + 1e9)\n    v = mean[n]((x[n] + 1e9 - m)**2)"
)
CASES = {
    "the same": (PLAIN, PLAIN, True),
    "half a digit": (PLAIN, "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + 10 - 10", True),
    "twelve digits": (PLAIN, "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + 1e12 - 1e12", False),
    "an overflow": (
        PLAIN,
        "f(x[N]) -> y[N]:\n    for n:  y[n] = log(exp(x[n] + 800)) - 800",
        False,
    ),
    "a variance with an offset": (
        VARIANCE,
        "f(x[N]) -> v:\n    m = mean[n](x[n] + 1e9)\n    v = mean[n]((x[n] + 1e9)**2) - m**2",
        False,
    ),
    "the literal one is as bad": (
        lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + 1e12 - 1e12"),
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] - 1e12 + 1e12",
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_digits_are_kept(name: str) -> None:
    before, text, keeps = CASES[name]
    after = text if isinstance(text, lg.Program) else lg.program(text)
    certifier = Certifier(before)
    assert certifier.compare(after).kind == "agree"
    assert certifier.keeps_digits(after) == keeps
