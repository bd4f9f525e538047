"""All mistakes of a text are reported at once, and none that only follow from another."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.lexer import MOST_DIAGNOSTICS
from loopgrad.frontend.parser import parse


def places(text: str) -> list[tuple[int | None, int | None]]:
    with pytest.raises(ProgramError) as caught:
        parse(text)
    return [(d.line, d.column) for d in caught.value.diagnostics]


def test_mistakes_of_all_lines_and_programs_in_the_order_of_the_text() -> None:
    text = (
        "f(x[N]) -> y[N], z:\n"
        "    for n:  y[n] = x[m] + q[n]\n"  # two in one line
        "    for n:  y[n = 3\n"
        "    for t:\n"
        "        z += x[t] ^ 2\n"
        "        for t:  z += 1\n"
        "\n"
        "g(x[N]) -> y\n"
        "    y += x[n] +\n"
        "h(x[N) -> y:\n"
        "    y += x[n] ~ 2\n"
    )
    assert places(text) == [
        (2, 22), (2, 27), (3, 14), (5, 19), (6, 13), (8, 13), (9, 16), (10, 6), (11, 15),
    ]  # fmt: skip


def test_a_mistake_is_at_the_error_itself_and_first_of_all() -> None:
    with pytest.raises(ProgramError) as caught:
        parse("f(x[N]) -> y:\n    y += x[n] ^ 2\n    y += x[n,n]")
    assert (caught.value.line, caught.value.column) == (2, 15)


@pytest.mark.parametrize(
    "broken",
    [
        "for n:  Z[n] = exp(x[n]",
        "for n:  Z[n] = exp(x[n)",
        "for n:  Z[n] = x[n] ^ 2",
        "for n:  Z[n] + = x[n]",
        "for n:  Z[n] == x[n]",
        "for n  Z[n] = x[n]",
        "for n in range(N):  Z[n] = x[n]",
        "for n:  Z[n] = x[n] − 1",
        "Z[n] = nothing(x)",
        "Z = nothing(x)",
        "for n:  Z[n] x[n]",  # here nothing says that Z is written
        "Z[n = x[n]",
        "local Z[N",
    ],
)
def test_a_tensor_whose_only_statement_is_broken_is_not_unknown(broken: str) -> None:
    text = f"f(x[N]) -> y[N]:\n    {broken}\n    for n:  y[n] = Z[n] + Z[0]\n"
    assert [line for line, _ in places(text)] == [2]


@pytest.mark.parametrize(
    "header",
    [
        "f(x[N] y[M]) -> z:",
        "f(x[N], int q) - z:",
        "f(x[N], y[M] -> z:",
        "f(x[N, y[M]) -> z:",
        "f(x[N], y[M]):",
        "f(x[N], y[M]) -> z",
        "f(x[N], y[M]) -> z, if:",
        "f(x[N], €y[M]) -> z:",
    ],
)
def test_a_broken_header_makes_no_name_below_it_unknown(header: str) -> None:
    text = f"{header}\n    for n, m < M:  z += x[n] * y[m] * eps\n    for n:  z += x[n]\n"
    assert [line for line, _ in places(text)] == [1]


def test_a_broken_line_of_a_block_spares_what_stands_in_it() -> None:
    for opening in ("for t ^ 2:", "for t in range(T):", "for t", "for 1 <= t < T", "if t > 0:"):
        text = (
            f"f(x[T]) -> y:\n    {opening}\n        for u:  h[t,u] = x[t]\n        y += h[t,0]\n"
            "    y += x[t]\n"
        )
        assert [line for line, _ in places(text)] == [2], opening


def test_a_call_of_a_program_with_mistakes_is_not_judged() -> None:
    text = "g(x[N]) -> y:\n    y = x[\nf(x[N]) -> z:\n    y = g(x, 3)\n    z = y"
    assert [line for line, _ in places(text)] == [2]


def test_an_unknown_name_is_reported_once_a_line() -> None:
    assert places("f(x[N]) -> y:\n    for n:  y += m * m + q[m] * q[n]") == [(2, 18), (2, 26)]


def test_an_unindented_body_is_one_mistake() -> None:
    assert places("f(x[N]) -> y:\nfor n:  y += x[n]\nfor n:  y += 1\ny += 3") == [(2, 1)]


def test_no_more_than_the_first_mistakes_are_shown_and_the_others_counted() -> None:
    lines = MOST_DIAGNOSTICS + 7
    with pytest.raises(ProgramError) as caught:
        parse("f(x[N]) -> y:\n" + "    y + x[n]\n" * lines)
    assert len(caught.value.diagnostics) == MOST_DIAGNOSTICS + 1
    assert "7 more" in caught.value.diagnostics[-1].found


def test_mistakes_of_meaning_come_together_with_those_of_reading() -> None:
    with pytest.raises(ProgramError) as caught:
        lg.program(
            "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] ^ 2\n"
            "g(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + y[n]\n"
        )
    assert [d.line for d in caught.value.diagnostics] == [2, 4]


def test_what_calls_a_program_that_breaks_a_rule_is_not_judged() -> None:
    with pytest.raises(ProgramError) as caught:
        lg.program(
            "g(x[N]) -> y[N]:\n    for n:  y[n] = x[n] + y[n]\nf(x[N]) -> y[N]:\n    y = g(x)\n"
        )
    assert [d.line for d in caught.value.diagnostics] == [2]
