"""Programs that break a rule for every input: where the caret stands, what is said, and the mend.

Each mend is tried: `mended` is the text with the advice taken, and is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from loopgrad.analysis.unused import unused
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.parser import parse


@dataclass
class Case:
    text: str
    line: int
    column: int
    found: str
    help: str
    mended: str | None = None


SUBSCRIPTS = [
    Case(
        "f(x[T,B]) -> h[T,B]:\n    for t:\n        for b:  h[t,b] = tanh(h[t-1,b]) + x[t,b]",
        3,
        33,
        "`h[t-1,b]` reads axis 0 of `h` at -1 for t = 0; its extent is `T`",
        "rule it out, as in `h[t-1,b] if t > 0 else 0`",
        "f(x[T,B]) -> h[T,B]:\n    for t:\n"
        "        for b:  h[t,b] = tanh(h[t-1,b] if t > 0 else 0) + x[t,b]",
    ),
    Case(
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n+1] - x[n]",
        2,
        22,
        "`x[n+1]` reads axis 0 of `x` at",
        "or narrow the range, as in `for n < N-1`",
        "f(x[N]) -> y[N]:\n    for n < N-1:  y[n] = x[n+1] - x[n]",
    ),
    Case(
        "f(x[X], k[D]) -> y[X]:\n    for i, d:  y[i] += x[i+d] * k[d]",
        2,
        26,
        "`x[i+d]` reads axis 0 of `x` at",
        "`x[i+d] if 0 <= i+d < X else 0`",
        "f(x[X], k[D]) -> y[X]:\n    for i, d:  y[i] += (x[i+d] if 0 <= i+d < X else 0) * k[d]",
    ),
    Case(
        "f(x[N]) -> y[N]:\n    for n:  y[n+1] = x[n]",
        2,
        15,
        "`y[n+1]` writes axis 0 of `y` at",
        "guard the statement: `... if n < N-1`",
        "f(x[N]) -> y[N]:\n    for n:  y[n+1] = x[n]   if n < N-1",
    ),
    Case(
        "f(x[3]) -> y:\n    y = x[5]", 2, 11, "at 5; its extent is `3`", "the last one here is `2`"
    ),
    Case("f(x[N]) -> y:\n    y = x[-1]", 2, 11, "at -1", "`N-1`", "f(x[N]) -> y:\n    y = x[N-1]"),
]

DIVISORS = [
    Case(
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n % 0]",
        2,
        26,
        "`%` by zero, whatever the input",
        "divide by a number that is not 0",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n % 3]   if n % 3 < N",
    ),
]

ORDER = [
    # For T = 2 nothing is wrong with it; for all others there is.
    Case(
        "f(x[T]) -> h[T]:\n    h[0] = x[0]\n    for 1 <= t < T:  h[t] = tanh(h[t-1]) + x[t]",
        3,
        34,
        "`h[t-1]` is read while this statement is still writing `h`: a one-line `for` has no order",
        "make it a block, which runs in order: `for 1 <= t < T:` on a line of its own",
        "f(x[T]) -> h[T]:\n    h[0] = x[0]\n    for 1 <= t < T:\n"
        "        h[t] = tanh(h[t-1]) + x[t]",
    ),
    Case(
        "f(x[T]) -> h[T]:\n    for t:  h[t] = x[t] + (h[t-1] if t > 0 else 0)",
        2,
        28,
        "`h[t-1]` is read while this statement is still writing `h`: a one-line `for` has no order",
        "make it a block, which runs in order: `for t:` on a line of its own",
        "f(x[T]) -> h[T]:\n    for t:\n        h[t] = x[t] + (h[t-1] if t > 0 else 0)",
    ),
    Case(
        "f(x[T,B]) -> h[T,B]:\n    for t, b:  h[t,b] = x[t,b] + (h[t+1,b] if t < T-1 else 0)",
        2,
        35,
        "a one-line `for` has no order",
        "`for t descending:` on a line of its own, and `for b: h[t,b] = ...` indented below it",
        "f(x[T,B]) -> h[T,B]:\n    for t descending:\n"
        "        for b:  h[t,b] = x[t,b] + (h[t+1,b] if t < T-1 else 0)",
    ),
    Case(
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]\n    for n:  y[n] += 2 * y[n]",
        3,
        25,
        "`y[n]` is read by the statement that changes it",
        "give the new values a name of their own, as in `y2[n] =",
        "f(x[N]) -> y2[N]:\n    for n:  y[n] = x[n]\n    for n:  y2[n] = y[n] + 2 * y[n]",
    ),
    Case(
        "f(s[B,J]) -> p[B,J]:\n    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]\n"
        "    for b, j:  Z[b] += exp(s[b,j])",
        2,
        40,
        "`Z[b]` is read before it is complete",
        "put this statement below the one that finishes the tensor",
        "f(s[B,J]) -> p[B,J]:\n    for b, j:  Z[b] += exp(s[b,j])\n"
        "    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]",
    ),
    Case(
        "f(x[T]) -> y[T]:\n    for t:\n        p *= x[t]\n        y[t] = p",
        4,
        16,
        "`p` is read while later turns of `for t` still change it",
        "give it an axis for `t`, as in `p[t]`",
        "f(x[T]) -> y[T]:\n    for t:\n        p[t] = x[t] * (p[t-1] if t > 0 else 1)\n"
        "        y[t] = p[t]",
    ),
    Case(
        "f(x[T]) -> h[T]:\n    for t:\n        h[t] = x[t] + (h[t+1] if t < T-1 else 0)",
        3,
        24,
        "`h[t+1]` is read while later turns of `for t` still change it",
        "run the block downwards, as in `for t descending:`, where `h[t+1]` is of an earlier turn",
        "f(x[T]) -> h[T]:\n    for t descending:\n        h[t] = x[t] + (h[t+1] if t < T-1 else 0)",
    ),
    Case(
        "f(x[T]) -> h[T]:\n    for t descending:\n        h[t] = x[t] + (h[t-1] if t > 0 else 0)",
        3,
        24,
        "`h[t-1]` is read while later turns of `for t` still change it",
        "run the block upwards, as in `for t:`, where `h[t-1]` is of an earlier turn",
        "f(x[T]) -> h[T]:\n    for t:\n        h[t] = x[t] + (h[t-1] if t > 0 else 0)",
    ),
]

SETS = [
    Case(
        "f(x[B,J]) -> y[B]:\n    for b, j:  y[b] = x[b,j]",
        2,
        16,
        "`=` writes `y[0]` more than once: for j = 0 and again for j = 1",
        "`y[b] += ...` accumulates over `j`; to keep each value, write to `y[b,j]`",
        "f(x[B,J]) -> y[B]:\n    for b, j:  y[b] += x[b,j]",
    ),
    Case(
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]\n    for n:  y[n] = 2 * x[n]",
        3,
        13,
        "`=` writes `y[0]` a second time",
        "or use `+=` in the second",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]\n    for n:  y[n] += 2 * x[n]",
    ),
    Case(
        "f(x[N], b[N]) -> y[N]:\n    for n:  y[n] += x[n]\n    for n:  y[n] = b[n]",
        3,
        13,
        "after an update of it: `=` sets the value that `+=` starts from",
        "put this statement before the update",
        "f(x[N], b[N]) -> y[N]:\n    for n:  y[n] = b[n]\n    for n:  y[n] += x[n]",
    ),
]


@pytest.mark.parametrize("case", SUBSCRIPTS + DIVISORS + ORDER + SETS, ids=lambda c: c.found)
def test_refused_at_the_place_and_mended(case: Case) -> None:
    [program] = parse(case.text)
    with pytest.raises(ProgramError) as caught:
        validate(program)
    [diagnostic] = caught.value.diagnostics
    assert (diagnostic.line, diagnostic.column) == (case.line, case.column)
    assert case.found in diagnostic.found
    assert case.help in (diagnostic.help or "")
    if case.mended is not None:
        [mended] = parse(case.mended)
        assert not validate(mended).tracked


def test_the_note_stands_at_the_write() -> None:
    [program] = parse(ORDER[4].text)
    with pytest.raises(ProgramError) as caught:
        validate(program)
    [(span, words)] = caught.value.diagnostics[0].notes
    assert span is not None
    assert (span.line, span.text) == (3, "Z[b]")
    assert "is written here" in words


def test_all_faults_in_the_order_of_the_text() -> None:
    text = (
        "f(x[N,M]) -> y[N], z[N]:\n"
        "    for n, m:  z[n] = x[n,m]\n"
        "    for n:     y[n] = x[n,-1]\n"
        "    for n:     y[n] += y[N-1-n]\n"
    )
    with pytest.raises(ProgramError) as caught:
        validate(parse(text)[0])
    assert [d.line for d in caught.value.diagnostics] == [2, 3, 4]


def test_a_derived_statement_is_shown_in_place_of_a_line() -> None:
    from loopgrad.ir.nodes import (
        Accumulate,
        Extent,
        Index,
        Input,
        Program,
        Range,
        Read,
        Reduction,
        Result,
    )

    n = Extent("N")
    statement = Accumulate(
        Read("y"), Reduction.SET, Read("x", (Index("n"),)), (Range("n", None, n),)
    )
    program = Program("f", (Input("x", (n,)),), (Result("y"),), (statement,))
    with pytest.raises(ProgramError) as caught:
        validate(program)
    assert caught.value.line is None
    assert "for n < N:  y = x[n]" in str(caught.value)


LEFT_TO_RUN_TIME = [
    # sizes decide
    ("f(x[N]) -> y:\n    y = x[10]", frozenset()),
    ("f(x[M], size N) -> y[N]:\n    for n:  y[n] = x[2*n]", frozenset()),
    ("f(x[T]) -> y:\n    y = x[T-1]", frozenset()),
    ("f(x[N,M], S = 2) -> y[S*N+M]:\n    for n, m:  y[S*n+m] = x[n,m]", {"y"}),
    # data decide
    ("f(x[N], int w[N]) -> y[N]:\n    for n:  y[w[n]] = x[n]", {"y"}),
    (
        "f(int par[N], x[N]) -> G[N]:\n    for n:\n        G[n] = x[n] + G[par[n]]",
        {"G"},
    ),
    (
        "f(x[N], m[N]) -> y[N]:\n    for n:  y[n] = x[n]\n    for n:  y[n] = -x[n]   if m[n] > 0",
        {"y"},
    ),
]


@pytest.mark.parametrize("text, tracked", LEFT_TO_RUN_TIME)
def test_what_hangs_on_sizes_or_data_is_left_to_run_time(
    text: str, tracked: frozenset[str]
) -> None:
    [program] = parse(text)
    safety = validate(program)
    assert safety.tracked == tracked
    if not tracked:
        assert all(read.tensor != "x" for _, read in safety.in_range)


def test_warnings_name_what_is_never_read() -> None:
    text = (
        "f(x[N], q[N]) -> y[N]:\n"
        "    for n:  a[n] = x[n]\n"
        "    for n:  c[n] = a[n]\n"
        "    for n:  y[n] = x[n]\n"
    )
    found = {d.found: d.line for d in unused(parse(text)[0])}
    assert found == {
        "input `q` is never used": 1,
        "tensor `c` is computed and never read": 3,
    }
