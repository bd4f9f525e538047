"""All mistakes of a program at once: those that are read, those of ranges, those of meaning."""

from __future__ import annotations

import pytest

import loopgrad as lg


def places(text: str) -> list[tuple[int | None, int | None, str]]:
    with pytest.raises(lg.ProgramError) as caught:
        lg.program(text)
    return [(d.line, d.column, d.found.partition(":")[0]) for d in caught.value.diagnostics]


def test_mistakes_of_every_pass_are_reported_together() -> None:
    found = places(
        """\
f(x[T], s[B,J]) -> h[T], p[B,J]:
    for t: h[t] = tanh(h[t-1]) + x[t]
    for b, j:  Z[b]   += exp(s[b,k])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
    for b, j:  q[b] = s[b,j]
    for t: r[t] = x[t+1]
    for b, j: u[b,j] = Y[b] * expp(s[b,j])
"""
    )
    assert [(line, column) for line, column, _ in found] == [
        (2, 24),  # a one-line recurrence
        (2, 26),  # that reads h[-1]
        (3, 34),  # an index that is not bound
        (5, 16),  # `=` more than once
        (6, 9),  # a range that nothing gives
        (7, 24),  # an unknown tensor
        (7, 31),  # an unknown function
    ]


def test_a_mistake_that_concerns_no_tensor_ends_the_search() -> None:
    """The line `for t:` names nothing that a statement could be left out for."""
    assert places("f(x) -> y:\n    for t:\n        for n:  y += x") == [
        (2, 9, "the range of index `t` is not known")
    ]


def test_what_follows_from_a_mistake_is_not_reported() -> None:
    """Without its first statement `a` has no known extent, and `y` is not computed."""
    found = places(
        """\
f(x[N], int w[N]) -> y[N], z[N]:
    local a[N]
    for n:  a[w[n]] += x[n] * oops
    for n:  b[n] = a[n]
    for n:  y[n] = b[n] + a[n]
    for n:  z[n] = x[n]
"""
    )
    assert [(line, column) for line, column, _ in found] == [(3, 31)]


def test_a_mistake_in_the_header_stands_alone() -> None:
    assert [line for line, _, _ in places("f(x[N] y[N]) -> z[N]:\n    for n: z[n] = x[n-1]\n")] == [
        1
    ]


def test_a_block_is_judged_without_its_broken_lines() -> None:
    found = places(
        """\
f(x[T]) -> h[T]:
    for t:
        a[t] = x[t] * f(3)
        h[t] = x[t] + h[t+1]
        c[t] = x[t-1]
        d[t] = a[t] + d[t+2]
"""
    )
    assert {line for line, _, _ in found} == {3, 4, 5}


@pytest.mark.parametrize(
    "text",
    [
        "f(x[N]) -> y:\n    for t > N:\n        h[t] = x[t]\n    y = h[0]\n",
        "f(x[N])\n    y = h[0]\n",
        "f(q[N])\n    for t < N:\n        for n < N:  y[n] = x[t]\n",
    ],
)
def test_what_is_read_of_a_statement_that_could_not_be_is_no_mistake(text: str) -> None:
    assert len(places(text)) == 1
    assert not lg.check("f(x[N]) -> y:\n    y += x[n]\n", text)
