"""A derived program can be read back, or is refused: each derivation multiplies what it is given."""

# ruff: noqa: B008 (a default holds a declaration of the notation)
from __future__ import annotations

import time

import pytest

import loopgrad as lg
from loopgrad.ir.limits import DEEPEST_EXPRESSION, LONGEST_NAME, MOST_AXES

HEADER = "f(x[N]) -> y[N]:\n    for n:  y[n] = "


def nested(function: str, times: int) -> lg.Program:
    expression = "x[n]"
    for _ in range(times):
        expression = function.format(expression)
    return lg.program(HEADER + expression)


@pytest.mark.parametrize("times", range(24, 33))
@pytest.mark.parametrize("derive", [lg.Program.backward, lg.Program.forward_mode])
def test_a_deep_derivative_reads_back_or_is_refused_at_its_statement(derive, times: int) -> None:
    program = nested("tanh({} * 2 + 1)", times)
    try:
        made = derive(program)
    except lg.ProgramError as error:
        assert times > 24
        assert (error.line, error.column) == (2, 5)
        assert f"more than {DEEPEST_EXPRESSION} operations" in error.diagnostics[0].found
    else:
        assert times < 32
        assert lg.program(str(made)) == made


def test_a_statement_that_is_split_as_the_mend_says_can_be_differentiated() -> None:
    lines = [f"for n:  h{i + 1}[n] = tanh(h{i}[n] * 2 + 1)" for i in range(60)]
    program = lg.program("f(h0[N]) -> h60[N]:\n    " + "\n    ".join(lines))
    made = program.backward()
    assert lg.program(str(made)) == made


@pytest.mark.parametrize(
    ("function", "times"),
    [("tanh({} * 2 + 1)", 5), ("({0}) * exp({0})", 5), ("{0} / (1 + {0})", 6)],
)
def test_higher_derivatives_end_in_bounded_time(function: str, times: int) -> None:
    program = nested(function, times)
    start = time.perf_counter()
    with pytest.raises(lg.ProgramError, match="names, numbers and operations"):
        for _ in range(20):
            program = program.backward(recompute=True)
    assert time.perf_counter() - start < 60  # of some seconds


def test_names_and_axes_that_could_not_be_read_are_refused() -> None:
    name = "x" * (LONGEST_NAME - 2)
    with pytest.raises(lg.ProgramError, match=f"a name of {LONGEST_NAME + 3} characters"):
        lg.program(f"f({name}[N]) -> y[N]:\n    for n:  y[n] = {name}[n]").backward()
    axes = ",".join(f"N{i}" for i in range(MOST_AXES))
    first = ",".join("0" * MOST_AXES)
    program = lg.program(f"f(x[{axes}], s) -> y:\n    y = s + x[{first}]")
    with pytest.raises(lg.ProgramError, match=f"{MOST_AXES + 1} axes in `x`"):
        program.batched("batch_size")


def test_a_deep_expression_traced_from_python_is_refused_at_its_line() -> None:
    def deep(x=lg.tensor("N")):
        n = lg.index("n")
        y = lg.tensor("N")
        value = x[n]
        for _ in range(1000):
            value = lg.tanh(value)
        y[n] = value
        return y

    with pytest.raises(lg.ProgramError, match=f"more than {DEEPEST_EXPRESSION} operations"):
        lg.program(deep)
