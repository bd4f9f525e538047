"""`Program.to`: which notations there are."""

from __future__ import annotations

import pytest

import loopgrad as lg

DOUBLE = lg.program("double(x[N]) -> y[N]:\n    for n:  y[n] += 2 * x[n]")


def test_text_is_the_notation_itself() -> None:
    assert DOUBLE.to("text") == str(DOUBLE)
    assert lg.program(DOUBLE.to("text")) == DOUBLE


@pytest.mark.parametrize("asked", ["LaTeX", "pythn", "c", ""])
def test_another_notation_is_refused_with_those_there_are(asked: str) -> None:
    with pytest.raises(ValueError) as caught:
        DOUBLE.to(asked)
    message = str(caught.value)
    assert repr(asked) in message
    assert '"text", "latex", "python"' in message
    assert ("did you mean" in message) == (asked in ("LaTeX", "pythn"))
