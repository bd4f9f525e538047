"""Large programs, of which what overflows or cancels is made stable piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Program
from loopgrad.ir.walk import computed_tensors
from loopgrad.stable import stabilize
from loopgrad.stable.differing import parts
from loopgrad.stable.gate import Gate
from loopgrad.stable.joint import stable_pair
from tests.effort import EFFORT

# Of x[B,D] to y[B,D], each a few statements.
LAYERS = {
    "linear": """
    for b, e, d:  y[b,e] += W[e,d] * x[b,d]""",
    "tanh": """
    for b, d:  y[b,d] = tanh(x[b,d]) + 0.5 * x[b,d]""",
    "norm": """
    for b, d:  m[b] += x[b,d] / D
    for b, d:  v[b] += (x[b,d] - m[b])**2 / D
    for b, d:  y[b,d] = (x[b,d] - m[b]) / sqrt(v[b] + 1e-3)""",
    "softmax": """
    for b, d:  Z[b] += exp(x[b,d])
    for b, d:  y[b,d] += exp(x[b,d]) / Z[b]""",
    "attention": """
    for b, c, d:  s[b,c] += x[b,d] * x[c,d] / sqrt(D)
    for b, c:  Z[b] += exp(s[b,c])
    for b, c, d:  y[b,d] += exp(s[b,c]) / Z[b] * x[c,d]""",
    "softplus": """
    for b, d:  y[b,d] = log(1 + exp(x[b,d]))""",
    "swish": """
    for b, d:  y[b,d] = x[b,d] / (1 + exp(-x[b,d]))""",
    "log of a sum": """
    for b, d:  Z[b] += exp(x[b,d])
    for b, d:  y[b,d] = x[b,d] - log(Z[b])""",
    "two results": """
    for b, d:  e[b,d] = exp(x[b,d])
    for b, d:  Z[b] += e[b,d]
    for b, d:  p[b,d] = e[b,d] / Z[b]
    for b:  H[b] += log(Z[b])
    for b, d:  y[b,d] = p[b,d] * H[b]""",
}
LOSS = """
    for b, d:  Z[b] += exp(x[b,d])
    for b:  L += log(Z[b]) - x[b,t[b]]"""


def network(names: Sequence[str]) -> Program:
    """The layers, one after the other, and a loss."""
    lines, weights, last = [], [], "x"
    for number, text in enumerate([*(LAYERS[name] for name in names), LOSS]):
        own = {name: f"{name}{number}" for name in "mvZsepHWy"} | {"x": last}
        for line in text.strip().splitlines():
            lines.append("    " + _named(line.strip(), own))
        if "W[" in text:
            weights.append(f"W{number}[D,D]")
        last = own["y"]
    header = ", ".join(["x[B,D]", "int t[B]", *weights])
    return lg.program("\n".join([f"network({header}) -> L:", *lines]))


def _named(line: str, names: dict[str, str]) -> str:
    """With other tensors; their names are single letters before a bracket."""
    found = ""
    for here, after in zip(line, line[1:] + " ", strict=True):
        found += names.get(here, here) if after == "[" else here
    return found


def arguments(program: Program, rng: np.random.Generator, scale: float = 1.0) -> list[np.ndarray]:
    sizes = {"B": 3, "D": 4}
    found = []
    for i in program.inputs:
        shape = [sizes[e.name] for e in i.extents]  # type: ignore[union-attr]
        drawn = rng.integers(0, 3, shape) if i.kind == "int" else scale * rng.normal(size=shape)
        found.append(drawn)
    return found


DEEP = ["linear", "norm", "attention", "tanh", "linear", "norm", "attention", "linear"]


def test_all_but_the_pieces_stays_as_it_is_written() -> None:
    literal = infer(network(DEEP)).program
    stable = infer(stabilize(network(DEEP))).program
    untouched = [s for s in literal.statements if s in stable.statements]
    names = {s.target.tensor for s in literal.statements if s not in untouched}
    assert names == {"Z2", "y2", "Z6", "y6", "Z8", "L"}
    text = " ".join(str(stable).split())
    assert "Z2'[b] += exp(s2[b,c] - Z2.shift[b])" in text
    assert "Z6'[b] += exp(s6[b,c] - Z6.shift[b])" in text


def test_pieces_that_are_alike_are_proved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Program] = []
    is_equal = Gate.is_equal

    def counted(gate: Gate, new: Program) -> bool:
        asked.append(gate.literal.program)
        return is_equal(gate, new)

    monkeypatch.setattr(Gate, "is_equal", counted)
    stabilize(network(DEEP))
    assert sorted(len(program.statements) for program in asked) == [2, 2]  # an attention; the loss


def test_a_piece_that_a_certificate_refuses_stays_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_equal = Gate.is_equal

    def refusing(gate: Gate, new: Program) -> bool:
        of_loss = any(i.kind == "int" for i in gate.literal.program.inputs)
        return not of_loss and is_equal(gate, new)

    monkeypatch.setattr(Gate, "is_equal", refusing)
    program = network(DEEP)
    found = stabilize(program)
    kept = [s for s in infer(program).program.statements if s.target.tensor in ("Z8", "L")]
    assert len(kept) == 2 and set(kept) < set(infer(found).program.statements)
    assert "Z2'[b] += exp(s2[b,c] - Z2.shift[b])" in " ".join(str(found).split())
    x = arguments(program, np.random.default_rng(3))
    np.testing.assert_allclose(found(*x), lg.compile(program, backend="interpret")(*x), rtol=1e-9)


def test_a_backward_reads_what_its_forward_has_by_then() -> None:
    program = network(DEEP)
    first, second = stable_pair(program, program.backward())
    assert first is not None
    made = set(computed_tensors(infer(first).program))
    assert {"Z2'", "Z2.shift", "Z6'", "Z6.shift"} <= {i.name for i in second.inputs} & made


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_any_size(dtype: type[np.floating]) -> None:
    program = network(DEEP)
    rng = np.random.default_rng(5)
    x = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arguments(program, rng, 300.0)]
    loss, pullback = lg.vjp(program, *x)
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in pullback(dtype(1)) if g is not None)


@settings(max_examples=5 * EFFORT, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(LAYERS)), min_size=4, max_size=7), st.integers(0, 99))
def test_networks_are_what_is_written(names: list[str], seed: int) -> None:
    program = network(names)
    rng = np.random.default_rng(seed)
    x = arguments(program, rng)
    seed_of = np.float64(rng.normal())
    loss, pullback = lg.vjp(program, *x)
    np.testing.assert_allclose(loss, lg.compile(program, backend="interpret")(*x), rtol=1e-9)
    backward = program.backward(recompute=True)
    expected = lg.compile(backward, backend="interpret")(*x, seed_of)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = [g for g in pullback(seed_of) if g is not None]
    for ours, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-7, atol=1e-9 * np.abs(right).max() + 1e-12)


def test_parts_return_what_is_read_elsewhere() -> None:
    head = "f(x[N]) -> y[N]:\n"
    old = (
        head
        + "    for n:  a[n] = 2 * x[n]\n    for n:  b[n] = a[n] + a[n]\n    for n:  y[n] = b[n] * x[n]"
    )
    new = (
        head
        + "    for n:  c[n] = 4 * x[n]\n    for n:  b[n] = c[n]\n    for n:  y[n] = b[n] * x[n]"
    )
    found = parts([infer(lg.program(old)), infer(lg.program(new))])
    assert found is not None
    ((before, after),) = found
    assert [i.name for i in before.inputs] == [i.name for i in after.inputs] == ["x"]
    assert [r.name for r in before.results] == [r.name for r in after.results] == ["b"]
    assert [*computed_tensors(before)] == ["a", "b"]
    assert [*computed_tensors(after)] == ["c", "b"]


def test_no_part_is_cut_where_some_of_a_tensor_is_read_before_the_rest_is_there() -> None:
    text = """f(x[T]) -> y, z:
    a[0] = {}
    y = a[0] * x[0]
    for 1 <= t < T:  a[t] = 3 * x[t]
    for t:  z += a[t]"""
    one, other = (infer(lg.program(text.format(value))) for value in ("2 * x[0]", "x[0] + x[0]"))
    assert parts([one, other]) is None
