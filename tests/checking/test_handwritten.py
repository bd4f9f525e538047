"""Backwards as they are written by hand for kernels: right ones are right, and what they are known to
get wrong is found."""

from __future__ import annotations

import pytest

import loopgrad as lg
from tests.checking.handwritten import HANDWRITTEN
from tests.effort import by_name

FAULTS = {
    f"{name}: {what}": (name, what) for name in HANDWRITTEN for what in HANDWRITTEN[name].faults
}


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_right_ones_are_right(name: str) -> None:
    assert lg.check(HANDWRITTEN[name].forward, HANDWRITTEN[name].claimed)


def test_rows_that_are_ignored_are_drawn() -> None:
    case = HANDWRITTEN["cross entropy that ignores"]
    fault = case.faults["the rows that are ignored"]
    (finding,) = lg.check(case.forward, case.claimed.replace(fault.right, fault.wrong, 1)).findings
    assert (finding.line, finding.kind) == (3, "wrong condition")


def test_a_temporary_is_mended_where_it_is_made() -> None:
    case = HANDWRITTEN["layer norm"]
    fault = case.faults["the weight in a gradient"]
    answer = lg.check(case.forward, case.claimed.replace(fault.right, fault.wrong, 1))
    assert str(answer).startswith(
        "error: the factor `w[j]` is missing\n --> <claimed>:3:27\n  |\n"
        "3 |     for b, j:  wdy[b,j] = y.grad[b,j]\n  |                           ^^^^^^^^^^^\n"
        "   = help: right is `for b, j:  wdy[b,j] = y.grad[b,j] * w[j]`\n"
    )


@pytest.mark.parametrize("fault", by_name(list(FAULTS), 3))
def test_faults_are_found(fault: str) -> None:
    name, what = FAULTS[fault]
    case, of = HANDWRITTEN[name], HANDWRITTEN[name].faults[what]
    count = -1 if what == "a digit of a constant" else 1  # the same wherever it stands
    answer = lg.check(case.forward, case.claimed.replace(of.right, of.wrong, count))
    assert not answer and answer.findings[0].line is not None
    if of.found:
        assert tuple((f.line, f.kind) for f in answer.findings) == of.found, str(answer)
        assert of.mend in "\n".join(f.right or "" for f in answer.findings)
    assert answer.mended is not None and lg.check(case.forward, answer.mended)
