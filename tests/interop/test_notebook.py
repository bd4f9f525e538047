"""`%%loops`, in a shell of IPython."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg

pytest.importorskip("IPython")

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

DOUBLE = "double(x[N]) -> y[N]:\n    for n:  y[n] = 2 * x[n]\n"


@pytest.fixture
def shell() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        InteractiveShell.clear_instance()
        made = InteractiveShell.instance(history_load_length=0)
        made.history_manager.enabled = False
        made.run_line_magic("load_ext", "loopgrad")
        yield made
        InteractiveShell.clear_instance()


def cell(shell: Any, text: str) -> tuple[Any, Any]:
    """What a cell comes to, and what it shows."""
    with capture_output() as shown:
        result = shell.run_cell(text, store_history=True)
    return result, shown


def test_programs_become_variables_and_are_shown(shell: Any) -> None:
    result, shown = cell(
        shell, f"%%loops\n{DOUBLE}twice(x[N]) -> z[N]:\n    y = double(x)\n    z = double(y)\n"
    )
    assert result.success
    assert shell.user_ns["double"] == lg.program(DOUBLE)
    np.testing.assert_array_equal(shell.user_ns["twice"]([1.0, 2.0]), [4, 8])
    texts = [output.data["text/plain"] for output in shown.outputs]
    assert texts[0] == str(lg.program(DOUBLE))
    assert all("\\begin" in output.data["text/latex"] for output in shown.outputs)
    assert len(texts) == 2


def test_a_cell_may_call_programs_of_cells_before_and_the_library(shell: Any) -> None:
    cell(shell, f"%%loops\n{DOUBLE}")
    result, _ = cell(
        shell,
        "%%loops\nf(s[B,J]) -> p[B,J]:\n    t = softmax(s)\n    for b:  p[b,J] = double(t[b,J])\n",
    )
    assert result.success
    s = np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_allclose(shell.user_ns["f"](s), 2 * lg.lib.softmax(s))


def test_a_mistake_is_shown_at_its_place_without_a_traceback(shell: Any) -> None:
    result, shown = cell(shell, "%%loops\nf(x[N]) -> y[N]:\n    for n:  y[n] = x[m]\n")
    assert not result.success
    assert isinstance(result.error_in_exec, lg.ProgramError)
    said = shown.stdout + shown.stderr
    assert "error: `m` is neither an index" in said
    assert "--> <cell>:2:22" in said
    assert "                     ^" in said
    assert "Traceback" not in said and ".py" not in said
    assert "f" not in shell.user_ns


def test_nothing_is_defined_where_one_of_several_is_wrong(shell: Any) -> None:
    result, _ = cell(shell, f"%%loops\n{DOUBLE}g(x[N]) -> y[N]:\n    for n:  y[n] = x[n+1]\n")
    assert not result.success
    assert "double" not in shell.user_ns


def test_an_empty_cell_and_arguments_are_mistakes(shell: Any) -> None:
    result, shown = cell(shell, "%%loops\n# nothing\n")
    assert not result.success
    assert "holds no program" in shown.stdout + shown.stderr
    result, shown = cell(shell, f"%%loops now\n{DOUBLE}")
    assert not result.success
    assert "%%loops takes no arguments, got `now`" in shown.stdout + shown.stderr


def test_names_that_python_has_not_and_warnings(shell: Any) -> None:
    result, shown = cell(shell, "%%loops\nf'(x[N], z) -> y[N]:\n    for n:  y[n] = 2 * x[n]\n")
    assert result.success
    assert "f' is the variable f_prime" in shown.stdout
    assert "`z`" in shown.stderr and "Traceback" not in shown.stderr
    assert shell.user_ns["f_prime"].name == "f'"


def test_a_program_at_the_end_of_a_cell_is_shown_in_the_notation(shell: Any) -> None:
    cell(shell, f"%%loops\n{DOUBLE}")
    backward = lg.program(DOUBLE).backward()
    _, shown = cell(shell, "double.backward()")
    assert str(backward) in shown.stdout
    data, _ = shell.display_formatter.format(backward)
    assert data["text/plain"] == str(backward)
    assert "\\begin" in data["text/latex"]
