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


def test_terms_that_are_missing_inside_are_put_there() -> None:
    """Though a derived statement adds just what is missing, and all else is right."""
    for name, what, term in (
        ("SwiGLU", "a term", "+ sig[n,j]"),
        ("batch norm", "the term through the mean", "- dbeta[j] / B"),
    ):
        case = HANDWRITTEN[name]
        fault = case.faults[what]
        answer = lg.check(case.forward, case.claimed.replace(fault.right, fault.wrong, 1))
        (finding,) = answer.findings
        assert finding.message == f"the term `{term}` is missing"


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


@pytest.mark.parametrize("fault", by_name(list(FAULTS), 13))
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


def test_an_operation_is_not_changed_beside_what_is_said() -> None:
    """A term was found to be missing, and the mend had `*=` besides, which starts at 1."""
    forward = """\
std(x[B,J], eps = 1e-5) -> y[B,J]:
    for b, j:  m[j] += x[b,j] / B
    for b, j:  v[j] += (x[b,j] - m[j])**2 / (B - 1)
    for b, j:  y[b,j] = (x[b,j] - m[j]) / (sqrt(v[j]) + eps)
"""
    rest = "(x[b,j] - m[j]) * q[j] / ((B - 1) * sd[j] * (sd[j] + eps)**2)"
    claimed = f"""\
std.backward(x[B,J], m[J], v[J], y.grad[B,J], eps = 1e-5) -> x.grad[B,J]:
    for j:     sd[j] = sqrt(v[j])
    for b, j:  a[j] += y.grad[b,j] / B
    for b, j:  q[j] += y.grad[b,j] * (x[b,j] - m[j])
    for b, j:  x.grad[b,j] = (y.grad[b,j] - a[j]) / (sd[j] + eps) - {rest}
"""
    assert lg.check(forward, claimed)
    (finding,) = lg.check(forward, claimed.replace("(y.grad[b,j] - a[j])", "y.grad[b,j]")).findings
    assert (finding.line, finding.message) == (5, "the term `- a[j]` is missing")
    assert (
        finding.right == f"for b, j:  x.grad[b,j] = (y.grad[b,j] - a[j]) / (sd[j] + eps) - {rest}"
    )


def test_ranges_that_are_not_known_are_put_in() -> None:
    """Of a temporary of numbers; each line with its own mend, though the messages are alike."""
    forward = "f(x[B,J]) -> y[B]:\n    for b, j:  y[b] += 2 * x[b,j]\n"
    claimed = """\
f.backward(y.grad[B], size J) -> x.grad[B,J]:
    for b, j:  one[b,j] = 1
    for b, j:  two[b,j] = 2
    for b, j:  x.grad[b,j] = y.grad[b] * one[b,j] * two[b,j]
"""
    answer = lg.check(forward, claimed)
    assert [(f.line, f.kind, f.right) for f in answer.findings] == [
        (2, "wrong range", "for b < B, j < J:  one[b,j] = 1"),
        (3, "wrong range", "for b < B, j < J:  two[b,j] = 2"),
    ]
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_a_kind_of_an_input_is_mended() -> None:
    forward = "f(x[B], int k[B]) -> y:\n    for b:  n += 1   if k[b] != 0\n    for b:  y += x[b] / n   if k[b] != 0\n"
    claimed = (
        "g(n, int k[B], y.grad) -> x.grad[B]:\n    for b:  x.grad[b] += y.grad / n   if k[b] != 0\n"
    )
    answer = lg.check(forward, claimed)
    (finding,) = answer.findings
    assert (finding.line, finding.right) == (1, "int n")
    assert answer.mended is not None and lg.check(forward, answer.mended)
