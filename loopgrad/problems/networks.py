"""Problem 5: framework code. Part (a), the procedure that makes a recurrent network of any cell."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loopgrad import edf
from loopgrad.frontend.library import lib
from loopgrad.ir.nodes import Program
from loopgrad.problems.answers import Code, Evidence, Part, Worked

T, B, J, K = 7, 5, 4, 3
TOLERANCE = 1e-12
CELLS = ("rnn_cell", "ugrnn_cell", "gru_cell", "lstm_cell", "mingru_cell")
OVER_TIME = "over_time(h[T,B,J], w[T,B,J]) -> L[B]:\n    for t, b, j:  L[b] += w[t,b,j] * h[t,b,j]"
AT_ONE_TIME = "at_one_time(h[B,J], w[B,J]) -> L[B]:\n    for b, j:  L[b] += w[b,j] * h[b,j]"


def solve(programs: Mapping[str, Program]) -> Worked:
    return Worked(
        "Problem 5. Writing framework code",
        (programs["ugrnn_cell"],),
        (
            Part("(a) The procedure, for any CELL", Code(procedure())),
            written_down(),
            same_as_over_time(programs["ugrnn_cell"], programs["ugrnn"]),
            any_cell(),
        ),
    )


def procedure() -> str:
    """The text of the procedure as it runs, without its documentation."""
    source = inspect.getsource(edf.RNN)
    documentation = f'    """{edf.RNN.__doc__}"""\n'
    return textwrap.dedent(source.replace(documentation, "")).rstrip()


def written_down() -> Evidence:
    """What the procedure builds of a cell that writes down what it is given."""
    lines: list[str] = []

    def CELL(Phi: str, X: str, H: str) -> str:
        lines.append(f"h_{len(lines)} = CELL({Phi}, {X}, {H})")
        return f"h_{len(lines) - 1}"

    H = edf.RNN(CELL, "Phi", [f"X[{t}]" for t in range(4)], "ZERO")
    before = ["ZERO", *H]
    expected = [f"h_{t} = CELL(Phi, X[{t}], {before[t]})" for t in range(4)]
    claim = "What it builds, for a CELL that writes down what it is given"
    return Evidence(claim, tuple(lines), lines == expected and [f"h_{t}" for t in range(4)] == H)


def same_as_over_time(cell: Program, program: Program) -> Evidence:
    """A chain of cells against the program over time: values, and gradients of a random loss."""
    rng = np.random.default_rng(0)
    Phi = edf.initial(cell, rng, J=J, K=K)
    X = [edf.Input(f"x_{t}", rng.normal(size=(B, K))) for t in range(T)]
    ZERO = edf.Input("ZERO", np.zeros((B, J)))
    weights = rng.normal(size=(T, B, J))
    At = edf.component(AT_ONE_TIME)
    H = edf.RNN(cell, Phi, X, ZERO)
    losses = [At(h, edf.Input("w", w)) for h, w in zip(H, weights, strict=True)]
    _run(edf.Sum(*losses))
    chain = {
        "h": np.stack([h.value for h in H]),
        "x.grad": np.stack([x.grad for x in X]),
        **{f"{name}.grad": p.grad for name, p in Phi.parameters().items()},
    }
    xs = edf.Input("x", np.stack([x.value for x in X]))
    h = edf.component(program)(Phi, xs, ZERO)
    _run(edf.component(OVER_TIME)(h, edf.Input("w", weights)))
    whole = {
        "h": h.value,
        "x.grad": xs.grad,
        **{f"{name}.grad": p.grad for name, p in Phi.parameters().items()},
    }
    differences = {name: _difference(chain[name], whole[name]) for name in chain}
    lines = [f"{name:8}  {difference:.0e}" for name, difference in differences.items()]
    claim = (
        f"A chain of {T} cells and `{program.name}`, the same recurrence as one program over time: "
        "the largest relative differences"
    )
    return Evidence(claim, tuple(lines), max(differences.values()) <= TOLERANCE)


def any_cell() -> Evidence:
    """Cells of the library and one of a user, each gradient against numerical derivatives."""
    cells: dict[str, tuple[Any, edf.Package, int]] = {
        name: (lib[name], edf.initial(lib[name], 0, J=J, K=K), J) for name in CELLS
    }
    cells["a function"] = _users_cell()
    lines, passed = [], True
    for name, (cell, Phi, width) in cells.items():
        report = _verified(cell, Phi, width)
        passed &= bool(report)
        lines.append(f"{name:11}  {len(report.comparisons)} gradients, {len(report.wrong)} wrong")
    claim = "Networks of other cells, every gradient against numerical derivatives"
    return Evidence(claim, tuple(lines), passed)


def _users_cell() -> tuple[Any, edf.Package, int]:
    Affine, Tanh = edf.component(lib["affine"]), edf.component(lib["tanh_layer"])

    def CELL(Phi: Any, X: Any, H: Any) -> Any:
        return Tanh(edf.Add(Affine(Phi.h, H), Affine(Phi.x, X)))

    initial = edf.initial(lib["affine"], 0, I=J, J=J), edf.initial(lib["affine"], 1, I=K, J=J)
    return CELL, edf.Package(h=initial[0], x=initial[1]), J


def _verified(cell: Any, Phi: edf.Package, width: int) -> edf.Report:
    rng = np.random.default_rng(0)
    X = [edf.Input(f"x_{t}", rng.normal(size=(B, K))) for t in range(3)]
    H: Sequence[Any] = edf.outputs(edf.RNN(cell, Phi, X, edf.Zeros(X[0], size=width)))
    w = edf.Input("w", rng.normal(size=(B, width)))
    At = edf.component(AT_ONE_TIME)
    return edf.Model(edf.Sum(*(At(h, w) for h in H))).verify()


def _run(loss: edf.Value) -> None:
    model = edf.Model(loss)
    model.forward()
    model.backward()


def _difference(one: Any, other: Any) -> float:
    scale = float(np.max(np.abs(other), initial=0.0)) or 1.0
    return float(np.max(np.abs(one - other), initial=0.0)) / scale
