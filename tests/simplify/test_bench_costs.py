"""The benchmark of costs says what `cost` says, and counts right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import loopgrad as lg
from loopgrad.simplify.searching.cost import cost

PATH = Path(__file__).parents[2] / "benchmarks" / "bench_costs.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_costs", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_costs"] = module
    spec.loader.exec_module(module)
    return module


def test_a_row(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    row = bench.measure("softmax.backward", lg.lib.softmax.backward())
    bench.show(row, 10)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("softmax.backward  (") and first.endswith(" ms)")
    assert lines == [
        "    literal     operations 11*B*J + 1*B; transcendental 3*B*J; bytes 28*B*J + 16*B",
        "    simplified  operations 5*B*J; transcendental 0; bytes 20*B*J + 8*B",
        f"    at 10       operations {1110 / 500:.2f}, transcendental all, "
        f"bytes {2960 / 2080:.2f}, weighted {row.ratio('weighted', 10):.2f}",
    ]


def test_what_stays_has_one_line(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    double = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = 2 * x[n]")
    bench.show(bench.measure("double", double), 64)
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"    literal     {cost(double)}".replace(",", ";")
    ]


def test_formulas_are_evaluated(bench: ModuleType) -> None:
    assert bench.at({("B", "J"): 3.0, ("B",): 2.0, (): 1.0, ("3", "J"): 1.0}, 10) == 351


def test_every_program_is_there(bench: ModuleType) -> None:
    names = [name for name, _ in bench.programs()]
    assert len(names) == len(set(names))
    assert {"lib.softmax.backward", "problems.kl", "examples.mlp_classifier", "corpus.ctc"} <= set(
        names
    )
