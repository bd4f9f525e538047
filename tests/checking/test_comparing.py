"""A fault at one place inside a long statement is told as that place, whatever the order of terms."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.checking.comparing import compared
from loopgrad.ir.nodes import Accumulate

pytestmark = pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")

# In the layer's literal backward: what is written, in the place of what is right; and what is said.
FAULTS = {
    "a term in a root": (
        "layer_norm",
        "γ[j] * rsqrt(v[b] + eps)",
        "γ[j] * rsqrt(v[b])",
        "missing term",
        "the term `+ eps` is missing",
    ),
    "a factor that is a function": (
        "causal_attention",
        "p.grad[b,h,t,u] * exp(s[b,h,t,u] - m[b,h,t]) / Z[b,h,t]",
        "p.grad[b,h,t,u] / Z[b,h,t]",
        "missing factor",
        "the factor `exp(s[b,h,t,u] - m[b,h,t])` is missing",
    ),
    "one of two that then add the same": (
        "kl_divergence",
        "D.grad[b] * log(P[b,n] / Q[b,n])",
        "D.grad[b]",
        "missing factor",
        "the factor `log(P[b,n] / Q[b,n])` is missing",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_place_is_named(name: str) -> None:
    layer, right, wrong, kind, said = FAULTS[name]
    forward = getattr(lg.lib, layer)
    text = str(forward.backward())
    assert text.count(right) >= 1
    answer = lg.check(forward, text.replace(right, wrong, 1))
    (finding,) = answer.findings
    assert (finding.kind, finding.message.partition(":")[0]) == (kind, said)
    assert finding.right is not None and right in finding.right
    assert answer.mended is not None and lg.check(forward, answer.mended)


def statement(value: str) -> Accumulate:
    text = f"f(x[N], y[N], z[N]) -> w[N]:\n    for n:  w[n] += {value}"
    (found,) = lg.program(text).statements
    assert isinstance(found, Accumulate)
    return found


VALUES = [
    ("y[n] * (z[n] + x[n])", "(x[n] - z[n]) * y[n]", "sign"),
    ("x[n] * y[n] / exp(z[n])", "y[n] * exp(z[n]) * x[n]", "wrong operation"),
    ("tanh(z[n] * x[n]) + y[n]", "y[n] + tanh(x[n])", "superfluous factor"),
    ("y[n] - (x[n] + z[n])", "y[n] - x[n]", "superfluous term"),
    ("exp(x[n]) / (1 + y[n])", "exp(x[n]) / (1 + y[n])**2", "wrong power"),
    ("x[n] + y[n] * tanh(z[n])", "x[n] + y[n] * exp(z[n])", "wrong function"),
    ("x[n] + y[n] * z[n]", "x[n] + y[n] * log(z[n])", "wrong function"),
    ("x[n] + y[n] * 3", "x[n] + y[n] * 5", "wrong number"),
    ("x[n] * (y[n] - z[n])", "x[n] * (y[n] - y[n])", "wrong tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("mine", "right", "kind"), VALUES)
def test_kinds(mine: str, right: str, kind: str) -> None:
    found = compared(statement(mine), statement(right))
    assert found is not None and found.kind == kind
    assert compared(found.statement, statement(right)) is None


def test_what_is_not_one_place() -> None:
    assert compared(statement("x[n]"), statement("y[n] * z[n]")) is None
    assert compared(statement("x[n] * y[n]"), statement("y[n] * x[n]")) is None
    assert compared(statement("x[n] * tanh(y[n])"), statement("z[n] * exp(y[n])")) is None
