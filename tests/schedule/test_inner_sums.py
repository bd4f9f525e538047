"""Sums within sums are products, in the order that is less work; guards that data decide keep them so."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.nodes import Extent
from loopgrad.pipeline import stable
from loopgrad.schedule import Scheduled
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.tree import Fused, Product, Scope, steps
from tests.effort import sample

LINEAR = """\
linear(q[T,D], k[U,D], v[U,E]) -> y[T,E]:
    for t, e, u, d:  y[t,e] += q[t,d] * k[u,d] * v[u,e]
"""
CHAIN = """\
chain(A[I,J], B[J,K], C[K,L]) -> y[I,L]:
    for i, l, j, k:  y[i,l] += A[i,j] * B[j,k] * C[k,l]
"""
MASKED = """\
masked(x[B,I], W[O,I], m[B,O]) -> y[B,O]:
    for b, o, i:  y[b,o] += x[b,i] * W[o,i] * m[b,o]
"""
FORM = """\
form(x[B,I], W[I,J], z[B,J]) -> y[B]:
    for b, i, j:  y[b] += x[b,i] * W[i,j] * z[b,j]
"""
SHORT = """\
short(q[B,T,D], k[B,T,D], v[B,T,E]) -> y[B,T,E]:
    for b, t, u <= t, d:  s[b,t,u] += q[b,t,d] * k[b,u,d] / sqrt(D)
    for b, t, u <= t:     Z[b,t]   += exp(s[b,t,u])
    for b, t, u <= t, e:  y[b,t,e] += exp(s[b,t,u]) / Z[b,t] * v[b,u,e]
"""
BIASED = """\
biased(q[B,T,H,D], k[B,T,H,D], v[B,T,H,D], bias[H,T,T]) -> y[B,T,H,D]:
    for b, h, t, u, d:       s[b,h,t,u] += q[b,t,h,d] * k[b,u,h,d] / sqrt(D)
    for b, h, t, u:          s[b,h,t,u] += bias[h,t,u]
    for b, h, t, u <= t:     m[b,h,t]   max= s[b,h,t,u]
    for b, h, t, u <= t:     Z[b,h,t]   += exp(s[b,h,t,u] - m[b,h,t])
    for b, h, t, u <= t, d:  y[b,t,h,d] += exp(s[b,h,t,u] - m[b,h,t]) / Z[b,h,t] * v[b,u,h,d]
"""
LENGTHS = """\
lengths(q[B,T,D], k[B,T,D], v[B,T,D], int length[B]) -> y[B,T,D]:
    for b, t, u, d:  s[b,t,u] += q[b,t,d] * k[b,u,d] / sqrt(D)       if u < length[b]
    for b, t, u:     Z[b,t]   += exp(s[b,t,u])                       if u < length[b]
    for b, t, u, d:  y[b,t,d] += exp(s[b,t,u]) / Z[b,t] * v[b,u,d]   if u < length[b]
"""
PROJECTED = """\
projected(x[B,T,I], param Wq[D,I], param Wk[D,I], param Wv[E,I]) batch B -> y[B,T,E]:
    for b, t, d, i:       q[b,t,d] += Wq[d,i] * x[b,t,i]
    for b, t, d, i:       k[b,t,d] += Wk[d,i] * x[b,t,i]
    for b, t, e, i:       v[b,t,e] += Wv[e,i] * x[b,t,i]
    for b, t, u <= t, d:  s[b,t,u] += q[b,t,d] * k[b,u,d] / sqrt(D)
    for b, t, u <= t:     Z[b,t]   += exp(s[b,t,u])
    for b, t, u <= t, e:  y[b,t,e] += exp(s[b,t,u]) / Z[b,t] * v[b,u,e]
"""
SEEN = """\
seen(q[B,T,D], k[U,D], v[U,E], bool see[U]) -> y[B,T,E]:
    for b, t, u, d:  s[b,t,u] += q[b,t,d] * k[u,d]
    for b, t, u, e:  y[b,t,e] += tanh(s[b,t,u]) * v[u,e]   if see[u]
"""
CENTRED = """\
centred(x[N,J], m[J], C[I,J]) -> y[I]:
    for n, i, j:  y[i] += C[i,j] * (x[n,j] - m[j])
"""
CANONICAL = """\
canonical(x[B,I,J,K], A[I,R], B2[J,R], C[K,R], D[O,R]) -> y[B,O]:
    for b, o, r, i, j, k:  y[b,o] += D[o,r] * A[i,r] * B2[j,r] * C[k,r] * x[b,i,j,k]
"""
TUCKER = """\
tucker(G[P,Q,R], A[I,P], B[J,Q], C[K,R]) -> T[I,J,K]:
    for i, j, k, p, q, r:  T[i,j,k] += G[p,q,r] * A[i,p] * B[j,q] * C[k,r]
"""


def scheduled(program: lg.Program, **sizes: int) -> Scheduled:
    return optimized(infer(program), validate(program), Choices(sizes=tuple(sizes.items())))


def products(schedule: Scheduled) -> int:
    trees = [phase.body for phase in schedule.phases if isinstance(phase, Fused)]
    return sum(isinstance(step, Product) for tree in trees for step in steps(tree))


def test_the_order_is_that_of_less_work():
    long = show(scheduled(lg.program(LINEAR), T=1024, U=1024, D=16, E=16))
    assert "product:  inner[e,d] = v[u,e] * k[u,d]" in long
    assert "product:  y[t,e] = q[t,d] * inner[e,d]" in long
    short = show(scheduled(lg.program(LINEAR), T=16, U=16, D=1024, E=1024))
    assert "product:  inner[t,u] = q[t,d] * k[u,d]" in short
    assert "product:  y[t,e] = inner[t,u] * v[u,e]" in short


def test_a_call_tells_the_sizes():
    rng = np.random.default_rng(1)
    linear = lg.program(LINEAR)
    for tall, wide in [(300, 9), (9, 300), (40, 40)]:
        q, k, v = (rng.standard_normal((tall + i // 2, wide + i // 2)) for i in (0, 0, 0))
        np.testing.assert_allclose(linear(q, k, v), q @ (k.T @ v), rtol=1e-9)


@pytest.mark.parametrize("text", [LINEAR, CHAIN, MASKED, FORM], ids=lambda text: text.split("(")[0])
def test_several_factors_run_as_products_alone(text: str):
    """But for the rest of a sum: no loop over all of the indices is left."""
    program = lg.program(text)
    everything = {r.index for s in program.statements for r in s.ranges}
    for one in (program, program.backward()):
        schedule = scheduled(one)
        assert products(schedule)
        assert not any(everything <= found for found in loops(schedule)), show(schedule)


def loops(schedule: Scheduled) -> list[set[str]]:
    """The indices of the loops around each step that is no product."""
    from loopgrad.schedule.tree import Blocks, Over, Step

    found: list[set[str]] = []

    def visit(nodes: Any, around: set[str]) -> None:
        for node in nodes:
            if isinstance(node, Over | Blocks):
                visit(node.body, around | {node.index})
            elif isinstance(node, Step):
                found.append(around)

    for phase in schedule.phases:
        if isinstance(phase, Fused):
            visit(phase.body, set())
    return found


def test_what_one_factor_alone_holds_is_summed_for_all_loops_around_it():
    centred = lg.program(CENTRED)
    for one in (centred, centred.backward()):
        everything = {r.index for s in one.statements for r in s.ranges}
        assert not any(everything <= found for found in loops(scheduled(one)))
    assert "inner[j] += x[n,j] - m[j]" in show(scheduled(centred))


def test_the_order_is_that_of_least_work_in_the_end():
    """The sum that leaves least is not the first of the best order; a product as it is may be several."""
    sizes = {"B": 64, "I": 16, "J": 16, "K": 16, "R": 64, "O": 256}
    assert "inner[b,r,i,j] = C[k,r] * x[b,i,j,k]" in show(scheduled(lg.program(CANONICAL), **sizes))
    small = dict.fromkeys("PQR", 16) | dict.fromkeys("IJK", 64)
    assert products(scheduled(lg.program(TUCKER), **small)) == 3


ATTENTION = [SHORT, BIASED, LENGTHS, PROJECTED, *(
    str(lg.lib[name])
    for name in ("attention", "causal_attention", "rotary_attention", "alibi_attention")
)]  # fmt: skip


@pytest.mark.parametrize("text", ATTENTION, ids=lambda text: text.split("(")[0])
def test_no_gradient_of_attention_keeps_all_scores(text: str):
    """However it is written: a thread has the scores of some rows at a time."""
    program = lg.program(text)
    schedule = scheduled(stable(program.backward(recompute=True)))
    times = {Extent("T"), Extent("U")}
    for phase in schedule.phases:
        assert isinstance(phase, Fused)
        for buffer in phase.buffers:
            known = schedule.tensors[buffer.tensor].role != "result"
            if known and buffer.scope in (Scope.ROW, Scope.PARTIAL, Scope.PROGRAM):
                assert sum(axis.extent in times for axis in buffer.axes) < 2, buffer
    assert products(schedule) >= 5


SIZES = {
    LINEAR: "T D U E", CHAIN: "I J K L", MASKED: "B I O", FORM: "B I J", SHORT: "B T D E",
    BIASED: "B T H D", LENGTHS: "B T D", PROJECTED: "B T I D E", SEEN: "B T D U E",
    CENTRED: "N J I", CANONICAL: "B I J K R O", TUCKER: "P Q R I J K",
}  # fmt: skip


def inputs_of(program: lg.Program, sizes: dict[str, int], rng: np.random.Generator) -> list[Any]:
    found: list[Any] = []
    for one in program.inputs:
        shape = tuple(sizes[str(e.name)] for e in one.extents)  # type: ignore[union-attr]
        match one.kind:
            case "int":
                found.append(
                    rng.integers(1, sizes["T"] + 1, shape) if sizes["T"] else np.zeros(shape, int)
                )
            case "bool":
                found.append(rng.random(shape) < 0.6)
            case _:
                found.append(rng.standard_normal(shape))
    return found


@pytest.mark.parametrize("text", sample(list(SIZES), 3), ids=lambda text: text.split("(")[0])
def test_values_and_gradients_are_the_literal_loops(text: str):
    program, names = lg.program(text), SIZES[text].split()
    rng = np.random.default_rng(len(text))
    cases = [dict(zip(names, (2, 5, 3, 4, 6, 7), strict=False)), dict.fromkeys(names, 1)]
    cases += [{**cases[0], name: 0} for name in names]
    cases += [dict(zip(names, (1, 19, 2, 17, 18, 3), strict=False))]
    literal = lg.compile(program, backend="interpret")
    backward = program.backward(recompute=True)
    pulled = lg.compile(backward, backend="interpret")
    for sizes in cases:
        inputs = inputs_of(program, sizes, rng)
        if sizes.get("T", 1) == 0 and "length" in text:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = literal(*inputs)
            seed = rng.standard_normal(want.shape)
            got, pull = lg.vjp(program, *inputs, batch=False)
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
            gradients = [g for g in pull(seed) if g is not None]
            wanted = pulled(*inputs, seed)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for one, other in zip(gradients, wanted, strict=True):
            scale = sizes["B"] if "param" in text and one.ndim == 2 else 1
            np.testing.assert_allclose(one, other * scale, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_what_a_guard_leaves_out_may_be_no_number(bad: float):
    """Neither side of a product may spoil it there; where the other side does, the literal loops run."""
    rng = np.random.default_rng(3)
    program = lg.program(SEEN)
    see = np.array([True, False, True, False, True, True])
    q, k, v = (
        rng.standard_normal((2, 5, 3)),
        rng.standard_normal((6, 3)),
        rng.standard_normal((6, 4)),
    )
    clean = program(q, k, v, see)
    for hidden, fault in itertools.product(["k", "v"], [1, 3]):
        bent = {"k": k.copy(), "v": v.copy()}
        bent[hidden][fault] = bad
        np.testing.assert_allclose(program(q, bent["k"], bent["v"], see), clean, rtol=1e-12)
    v[0, 1] = bad
    want = lg.compile(program, backend="interpret")(q, k, v, see)
    np.testing.assert_allclose(program(q, k, v, see), want, rtol=1e-12)
    assert not np.isfinite(want[..., 1]).any() and np.isfinite(want[..., 0]).all()


def test_factors_that_are_integers_stay_together() -> None:
    """Their product is exact, or refused: no real number stands for it on the way."""
    text = """\
counts(int n[T,E], int m[U,E], p[T,U]) -> y[T]:
    for t, u, e:  y[t] += n[t,e] * m[u,e] * p[t,u]
"""
    program = lg.program(text)
    assert products(scheduled(program)) == 0
    n, m = np.full((3, 4), 3), np.full((5, 4), 2**40)
    p = np.random.default_rng(2).standard_normal((3, 5))
    np.testing.assert_allclose(program(n, m, p), (n @ m.T * p).sum(1), rtol=1e-12)
    with pytest.raises(ValueError, match="too large for int64"):
        program(n * 2**30, m, p)
