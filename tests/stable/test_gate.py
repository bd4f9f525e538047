"""What the gate lets through: equal programs that are better somewhere and worse nowhere."""

from __future__ import annotations

import time
from decimal import localcontext
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.memo import is_final
from loopgrad.ir.nodes import Apply
from loopgrad.ir.walk import accumulates, subexpressions
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.stable import stabilize
from loopgrad.stable.cases import ALL_WORLDS, as_floats
from loopgrad.stable.gate import ALIKE, Gate, _improves, _kindest, _worsens, error_of
from loopgrad.stable.joint import stable_pair
from loopgrad.stable.singles import Singles

CORPUS = lg.load(Path(__file__).parents[1] / "programs" / "corpus.loops")

SOFTMAX = """f(s[B,J]) -> p[B,J]:
    for b, j:  Z[b] += exp(s[b,j])
    for b, j:  p[b,j] = exp(s[b,j]) / Z[b]"""
SHIFTED = """f(s[B,J]) -> p[B,J]:
    for b, j:  m[b] max= s[b,j]
    for b, j:  Z[b] += exp(s[b,j] - m[b])
    for b, j:  p[b,j] = exp(s[b,j] - m[b]) / Z[b]"""


def passes(before: str, after: str) -> bool:
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        gate, form = Gate(infer(lg.program(before))), lg.program(after)
        return gate.gains(form) and gate.is_equal(form)


def test_a_better_form_passes() -> None:
    assert passes(SOFTMAX, SHIFTED)


def test_the_same_form_is_not_better() -> None:
    assert not passes(SOFTMAX, SOFTMAX)
    assert not passes(SHIFTED, SHIFTED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m[b] max= s[b,j]", "m[b] max= 2 * s[b,j]"),  # equal, and overflows less, and cancels
        ("s[b,j] - m[b]) / Z[b]", "s[b,j] - m[b]) / (Z[b] + 1e-9)"),  # nearly equal
        ("/ Z[b]", "/ Z[b] / 3 * J"),  # equal at J = 3 alone
    ],
)
def test_what_is_worse_or_not_equal_does_not_pass(old: str, new: str) -> None:
    assert old in SHIFTED
    assert not passes(SOFTMAX, SHIFTED.replace(old, new))


def test_a_form_that_loses_digits_does_not_pass() -> None:
    written = """f(x[B,J]) -> v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  v[j] += (x[b,j] - μ[j])**2 / B"""
    one_pass = """f(x[B,J]) -> v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  q[j] += x[b,j]**2 / B
    for j:     v[j] = q[j] - μ[j]**2"""
    assert not passes(written, one_pass)


def test_draws_end_only_where_the_others_cannot_change_that_a_form_is_worse() -> None:
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(300):
        sizes = rng.choice([0.0, 1e-8, 1e-6, 4e-6, 1e-3, np.inf], size=(12, 3, 2))
        draws: list[list[list[float]]] = sizes.tolist()
        for count in range(1, 12):
            if _worsens(_kindest(draws[:count], 12 - count)):
                ended += 1
                assert _worsens(np.median(sizes, axis=0).tolist())
    assert ended > 100


def test_what_is_alike_is_no_better() -> None:
    """Of two results next to each other, neither has an error that is much smaller, whatever is right."""
    rng = np.random.default_rng(0)
    alike = 0
    for _ in range(2000):
        exact = rng.normal(size=4) * 10.0 ** rng.integers(-3, 4)
        one, other = (
            exact + rng.normal(size=4) * abs(exact).max() * 10.0 ** rng.integers(-9, 2)
            for _ in range(2)
        )
        if rng.random() < 0.7:
            other = one * (1 + 1e-7 * rng.normal(size=4))
        if error_of(one, other) < ALIKE:
            alike += 1
            assert not _improves([[error_of(one, exact)], [error_of(other, exact)]])
    assert alike > 1000


def test_a_move_that_hangs_on_a_size_is_none() -> None:
    """The sum of all logs moves by as many constants as there are rows."""
    from loopgrad.stable import stabilize

    program = lg.program("""f(s[B,J], int y[B]) -> L:
    for b, j:  Z[b] += exp(s[b,j])
    for b:     L += log(Z[b])
    for b:     l -= s[b,y[b]]
    L += l / 2""")
    s = np.random.default_rng(0).normal(size=(7, 3))
    stable = stabilize(program)
    y = np.arange(7) % 3
    expected = lg.compile(program, optimize=False)(s, y)
    np.testing.assert_allclose(lg.compile(stable, optimize=False)(s, y), expected, rtol=1e-12)


CONVOLUTIONS = """
net(x[B,C,X,Y], int label[B], param k1[O1,C,3,3], param c1[O1], param k2[O2,O1,3,3], param c2[O2],
    param k3[O3,O2,3,3], param c3[O3], param W[J,O3,X,Y]) batch B -> L[B]:
    a1 = conv2d(x, k1, c1, padding=1)
    for b, o, m, n:  r1[b,o,m,n] = {0}
    a2 = conv2d(r1, k2, c2, padding=1)
    for b, o, m, n:  r2[b,o,m,n] = {1}
    a3 = conv2d(r2, k3, c3, padding=1)
    for b, o, m, n:  r3[b,o,m,n] = {2}
    for b, j, o, m, n:  s[b,j] += W[j,o,m,n] * r3[b,o,m,n]
    L = softmax_cross_entropy(s, label)
"""


@pytest.mark.parametrize("function", ["{0} * sigmoid({0})", "softplus({0})"])
def test_a_network_of_convolutions_does_not_take_long(function: str) -> None:
    """About a second; sizes of the gate's inputs are small where many loops are nested."""
    layers = [function.format(f"a{k}[b,o,m,n]") for k in (1, 2, 3)]
    network = lg.program(CONVOLUTIONS.format(*layers))
    backward = network.backward()
    before = time.process_time()
    stable_pair(network, backward)
    assert time.process_time() - before < 6


@pytest.mark.parametrize("name", ["attention", "causal_attention", "silu"])
def test_no_form_is_looked_for_alone_where_there_is_none_together(name: str) -> None:
    program = lg.lib[name]
    first, second = stable_pair(program, program.backward())
    assert first is None
    assert is_final(second)
    assert second == program.backward()


def test_none_is_looked_for_alone_where_none_passes_for_both() -> None:
    """Here products of exponentials may become one in the backward, which the forward's inputs do not bear."""
    program = lg.lib.gaussian_mixture
    first, second = stable_pair(program, program.backward())
    assert first is None
    assert is_final(second)
    assert stabilize(program.backward()) != program.backward()


def test_inputs_are_such_that_results_are_numbers() -> None:
    """At the first sizes that are drawn there is no path: the sum over all of them is 0, in every form."""
    program = CORPUS["ctc"]
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        gate = Gate(infer(program))
        assert gate.case is not None
        loss = as_floats(gate.case.run(gate.literal, Singles, ALL_WORLDS)["loss"])
    assert np.isfinite(loss[0])
    labels, even = np.array([1, 2, 2, 3]), np.zeros((500, 4))
    paths, loss = (program(lp, labels) for lp in (even, np.float32(even - 3)))
    assert loss == pytest.approx(1500 + paths, rel=1e-6)


def test_exponentials_are_not_put_into_loops_that_they_do_not_hang_on() -> None:
    """`Kr[j,n]`, made of exponentials, would be computed again for each t and b."""
    text = str(lg.lib.s4d.unfold()).replace("param dt", "param s").replace("param λ", "param r")
    head, body = text.split("y[T,B,J]:\n")
    own = "    for j:  dt[j] = exp(s[j])\n    for j, n:  λ[j,n] = -exp(r[j,n])\n"
    program = lg.program(f"{head}y[T,B,J]:\n{own}{body}")
    for _, statement in accumulates(infer(stabilize(program)).program.statements):
        called = [n for n in subexpressions(statement.value) if isinstance(n, Apply)]
        if any(node.operation == "exp" for node in called):
            assert {r.index for r in statement.ranges} <= {"j", "n"}


def test_what_is_computed_again_in_a_large_loop_must_not_cost_four_times_as_much() -> None:
    """`exp(l[b,k] - c2[b])` and `exp(-logσ[k,d])**2` as one would be taken for each b, k and d."""
    backward = lg.lib.gaussian_mixture.backward().simplify()
    for _, statement in accumulates(infer(stabilize(backward)).program.statements):
        called = [n for n in subexpressions(statement.value) if isinstance(n, Apply)]
        if any(node.operation == "exp" for node in called):
            assert len(statement.ranges) < 3
