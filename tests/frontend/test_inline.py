"""Calls into the callee's statements: what is printed, what is computed, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.frontend import inline
from loopgrad.ir.nodes import Block, Call, Program, Range, Read
from tests.frontend.test_unfold import program, run, unfolds

RNG = np.random.default_rng(11)

CELL = """
        cell(W[J,J'], x[B,J], h[B,J]) -> h'[B,J]:
            a[b,j] = tanh(W[j,J'] * h[b,J'] + x[b,j])
            h'[b,j] = a[b,j]**2
"""
RNN = (
    CELL
    + """
        rnn(W[J,J], x[T,B,J], h0[B,J]) -> h[T+1,B,J]:
            for b, j:  h[0,b,j] = h0[b,j]
            for t < T:
                h[t+1,B,J] = cell(W, x[t,B,J], h[t,B,J])
"""
)
SOFTMAX = """
        normal(s[N]) -> p[N]:
            for n:  Z    += exp(s[n])
            for n:  p[n] = exp(s[n]) / Z
"""


# ------------------------------------------------------------------------------ what is printed


def test_constants_of_a_call_are_worked_out() -> None:
    """As one would write it: code for `1*n + 0` and the like is not what is made for `n`."""
    f = lg.program(
        """f(x[B,C,X,Y], param k[O,C,3,3], param c[O]) batch B -> L[B]:
        y = conv2d(x, k, c, padding = 1)
        for b, o, m, n:  L[b] += y[b,o,m,n]**2"""
    )
    text = str(f.unfold())
    assert "x[b, i, m+dx-1, n+dy-1]" in text
    assert "if 0 <= m + dx - 1 < X and 0 <= n + dy - 1 < Y" in text
    x, k, c = RNG.normal(size=(2, 3, 5, 4)), RNG.normal(size=(2, 3, 3, 3)), RNG.normal(size=2)
    y = lg.lib.conv2d(x, k, c, padding=1)
    assert np.allclose(f(x, k, c), (y**2).sum((1, 2, 3)))


def test_a_call_in_a_block_over_time() -> None:
    """The slices are read and written in place; temporaries get the block's index as an axis."""
    unfolds(
        RNN,
        """
        for b, j:  h[0,b,j] = h0[b,j]
        for t < T:
            for b, j, j':  a1[t,b,j]  += W[j,j'] * h[t,b,j']
            for b, j:      a1[t,b,j]  += x[t,b,j]
            for b, j:      a[t,b,j]   = tanh(a1[t,b,j])
            for b, j:      h[t+1,b,j] = a[t,b,j]**2
        """,
    )
    w, x, h = RNG.normal(size=(2, 2)), RNG.normal(size=(4, 3, 2)), RNG.normal(size=(3, 2))
    expected = [h]
    for t in range(4):
        expected.append(np.tanh(expected[-1] @ w.T + x[t]) ** 2)
    assert np.allclose(run(RNN, w, x, h), expected)


def test_nested_calls() -> None:
    unfolds(
        """
        center(x[N]) -> y[N]:
            m = mean[n](x[n])
            y[n] = x[n] - m
        rows(x[T,N]) -> y[T,N]:
            for t:  y[t,N] = center(x[t,N])
        top(x[B,T,N], h0[T,N]) -> z[B,T,N]:
            for b:
                for t, n:  a[b,t,n] = x[b,t,n] + (z[b-1,t,n] if b > 0 else h0[t,n])
                z[b,T,N] = rows(a[b,T,N])
        """,
        """
        for b:
            for t, n:  a[b,t,n] = x[b,t,n] + (z[b-1,t,n] if b > 0 else h0[t,n])
            for t, n:  m[b,t]   += a[b,t,n] / N
            for t, n:  z[b,t,n] = a[b,t,n] - m[b,t]
        """,
    )


def test_a_loop_around_a_call_and_computed_tensors_as_arguments() -> None:
    unfolds(
        SOFTMAX
        + """
        two(s[B,J], r[B,J]) -> q[B,J], w[B,J]:
            z[b,j] = 2 * s[b,j]
            q[b,J] = normal(z[b,J])
            for b:  w[b,J] = normal(r[b,J])
        """,
        """
        for b, j:  z[b,j] = 2 * s[b,j]
        for b, n:  Z[b]   += exp(z[b,n])
        for b, n:  q[b,n] = exp(z[b,n]) / Z[b]
        for b, n:  Z2[b]  += exp(r[b,n])
        for b, n:  w[b,n] = exp(r[b,n]) / Z2[b]
        """,
    )


def test_several_results_into_elements() -> None:
    unfolds(
        """
        moments(x[N]) -> m, v:
            m = mean[n](x[n])
            v = mean[n]((x[n] - m)**2)
        norm(x[B,N]) -> y[B,N]:
            for b:  m[b], v[b] = moments(x[b,N])
            y[b,n] = (x[b,n] - m[b]) / sqrt(v[b])
        """,
        """
        for b, n:  m[b]   += x[b,n] / N
        for b, n:  v[b]   += (x[b,n] - m[b])**2 / N
        for b, n:  y[b,n] = (x[b,n] - m[b]) / sqrt(v[b])
        """,
    )


def test_indices_are_renamed_apart() -> None:
    """The callee's `n` means nothing where `n` is a tensor, or the loop around the call."""
    unfolds(
        SOFTMAX
        + """
        f(n[K,J], p[J,K]) -> q[K,J], r[J,K]:
            for k:  q[k,J] = normal(n[k,J])
            for n':  r[n',K] = normal(p[n',K])
        """,
        """
        for k, n':    Z[k]      += exp(n[k,n'])
        for k, n':    q[k,n']   = exp(n[k,n']) / Z[k]
        for n', n'':  Z2[n']    += exp(p[n',n''])
        for n', n'':  r[n',n''] = exp(p[n',n'']) / Z2[n']
        """,
    )


def test_scalars_constants_and_sizes() -> None:
    text = """
        f(x[N], c, int k, size M, eps = 0.5, p = 2) -> z[M,N]:
            for m < M, n:  z[m,n] = c * x[n]**p + eps * x[k] + m / M
        g(x[B,N], e[B], int w[B], size K, a = 3) -> u[B,K,N], v[2,B]:
            for b:  u[b,K,N] = f(x[b,N], exp(e[b]), w[b], M=K, p=a)
            v = f(e, 2, 1, M=2, eps=1)
        """
    x, e, w = RNG.normal(size=(2, 3)), RNG.normal(size=2), np.array([2, 0])
    u, v = run(text, x, e, w, K=4)
    m = np.arange(4)[None, :, None]
    picked = x[np.arange(2), w][:, None, None]
    assert np.allclose(u, np.exp(e)[:, None, None] * x[:, None] ** 3 + 0.5 * picked + m / 4)
    assert np.allclose(v, 2 * e**2 + e[1] + np.arange(2)[:, None] / 2)


def test_a_scalar_argument_is_computed_once() -> None:
    unfolds(
        """
        f(x[N], c) -> z[N]:
            for n:  z[n] = x[n] * c + c
        g(x[N,M], e[N], int k[N]) -> z[N,M], y[N,M], u[N,M]:
            for n:  z[n,M] = f(x[n,M], e[n])
            for n:  y[n,M] = f(x[n,M], exp(e[n]) * 2)
            for n:  u[n,M] = f(x[n,M], k[n])
        """,
        """
        for n, n':  z[n,n'] = x[n,n'] * e[n] + e[n]
        for n:      c[n]    = exp(e[n]) * 2
        for n, n':  y[n,n'] = x[n,n'] * c[n] + c[n]
        for n, n':  u[n,n'] = x[n,n'] * (1.0 * k[n]) + 1.0 * k[n]
        """,
    )


def test_integers_given_for_reals_are_real() -> None:
    """`max=` over nothing is -inf, and not the least integer, whatever the caller passes."""
    text = """
        largest(x[N]) -> m:
            for n:  m max= x[n]
        f(int w[N]) -> m:
            m = largest(w)
        """
    assert run(text, np.array([3, 5, 4])) == 5.0
    assert run(text, np.array([], dtype=np.int64)) == -np.inf


def test_blocks_in_the_callee() -> None:
    scan = """
        scan(x[T], int n) -> s[T]:
            for t < n:
                s[t] = (s[t-1] if t > 0 else 0) + x[t]
    """
    text = (
        scan
        + """
        g(x[B,T], int length[B]) -> y[B,T]:
            for b:  y[b,T] = scan(x[b,T], length[b])
        """
    )
    unfolds(
        text,
        """
        for b:
            for t < length[b]:
                y[b,t] = (y[b,t-1] if t > 0 else 0) + x[b,t]
        """,
    )
    x, length = RNG.normal(size=(3, 4)), np.array([4, 0, 2])
    expected = [[*np.cumsum(r[:n]), *np.zeros(4 - n)] for r, n in zip(x, length, strict=True)]
    assert np.allclose(run(text, x, length), expected)
    text = (
        scan
        + """
        g(x[B,T]) -> y[B,T]:
            for b:  y[b,T] = scan(x[b,T], T)
        """
    )
    unfolds(
        text,
        """
        for t < T:
            for b:  y[b,t] = (y[b,t-1] if t > 0 else 0) + x[b,t]
        """,
    )


def test_a_result_is_copied_where_writing_it_in_place_would_differ() -> None:
    """A `max=` result into part of a tensor: the elements that no call sets have to stay 0."""
    text = """
        largest(x[N]) -> m:
            for n:  m max= x[n]
        f(x[B,N]) -> y[B], z[B], w[B]:
            for 1 <= b < B:  y[b] = largest(x[b,N])
            for b:  z[b] = largest(x[b,N])
            w = shifted(x)
        """
    shifted = """
        shifted(x[B,N]) -> y[B]:
            y[b] = 1 + sum[n](x[b,n])
    """
    x = -1 - RNG.random((3, 2))
    y, z, w = run(shifted + text, x)
    assert np.array_equal(y, [0, *x[1:].max(axis=1)])
    assert np.array_equal(z, x.max(axis=1))
    assert np.allclose(w, 1 + x.sum(axis=1))


def test_convolutions_chained() -> None:
    """Ranges that the callee's declared results gave are written where nothing else gives them."""
    text = """
        conv(x[B,X], w[DX], stride = 1) -> y[B, (X-DX)//stride + 1]:
            for b, i, d:  y[b,i] += x[b,stride*i+d] * w[d]
        net(x[B,X], w[DX], v[DY]) -> z[B, ((X-DX)//2+1-DY)//3+1]:
            y = conv(x, w, stride=2)
            z = conv(y, v, stride=3)
        """
    unfolds(
        text,
        """
        for b, i <= (X-DX)//2, d:  y[b,i] += x[b, 2*i+d] * w[d]
        for b, i, d:               z[b,i] += y[b, 3*i+d] * v[d]
        """,
    )
    x, w, v = RNG.normal(size=(2, 20)), RNG.normal(size=3), RNG.normal(size=2)
    y = np.array([[row[2 * i : 2 * i + 3] @ w for i in range(9)] for row in x])
    z = np.array([[row[3 * i : 3 * i + 2] @ v for i in range(3)] for row in y])
    assert np.allclose(run(text, x, w, v), z)


def test_library_calls_of_a_cell_over_time_check_their_extents() -> None:
    """`J'` has to be `J`: a `local` makes the call check what the cell's header said."""
    text = (
        CELL
        + """
        rnn(W[J,J'], x[T,B,J], h0[B,J]) -> h[T,B,J]:
            for t:
                for b, j:  hp[t,b,j] = h[t-1,b,j] if t > 0 else h0[b,j]
                h[t,B,J] = cell(W, x[t,B,J], hp[t,B,J])
        """
    )
    unfolded = program(text).unfold()
    assert "local hp[T,B,J]" in str(unfolded)
    x, h = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(3, 4))
    assert run(text, RNG.normal(size=(4, 4)), x, h).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="J"):
        run(text, RNG.normal(size=(4, 2)), x, h)


def test_gradients_go_through_calls() -> None:
    rnn = program(RNN)
    inputs = [RNG.normal(size=s) for s in ((2, 2), (3, 2, 2), (2, 2))]
    directions = [RNG.normal(size=i.shape) for i in inputs]
    seed = RNG.normal(size=(4, 2, 2))
    _, pullback = lg.vjp(rnn, *inputs)
    slope = sum((g * d).sum() for g, d in zip(pullback(seed), directions, strict=True))
    step = 1e-6
    ahead, behind = (
        (rnn(*(i + s * d for i, d in zip(inputs, directions, strict=True))) * seed).sum()
        for s in (step, -step)
    )
    assert np.isclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)


def test_comments_and_places() -> None:
    text = (
        SOFTMAX
        + """
        f(s[N]) -> p[N]:
            # by hand
            p = normal(s)
        """
    )
    unfolded = program(text).unfold()
    assert all(s.span is not None and s.span.text == "p = normal(s)" for s in unfolded.statements)
    assert unfolded.statements[0].comments.above == (" by hand",)


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("w = f(y, x)", "axes|axis"),
        ("w = f(y)", "`y`"),
        ("w, v = f(y, y)", "result"),
        ("w = f(y, y, eps=3)", "eps"),
        ("w = f(y, z)", "`N`|`M`"),
        ("w = g2(y, y)", "integer values for `int k`"),
        ("w = g3(y, y)", "size|`Q`"),
        ("w = g4(y, 2.5 * 2)", "integer"),
        ("w = g5(y, stride=1.5)", "integer"),
        ("w = g5(y, stride=y[0])", "fixed|constant"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(call: str, words: str) -> None:
    text = f"""
        f(x[N], y[N]) -> z[N]:
            for n:  z[n] = x[n] + y[N-1-n]
        g2(x[N], int k[N]) -> z[N]:
            for n:  z[n] = x[k[n]]
        g3(x[N], y[N], size Q) -> z[N]:
            for n:  z[n] = x[n] + y[N-1-n] + Q
        g4(x[N], int k) -> z[N]:
            for n:  z[n] = x[n] * k
        g5(x[N], stride = 1) -> z[N]:
            for n:  z[n] = x[n] * stride
        main(x[N,M], y[M], z[N]) -> w[M]:
            {call}
        """
    with pytest.raises(lg.ProgramError, match=words) as error:
        program(text).unfold()
    assert error.value.line == 12
    assert error.value.diagnostics[0].help


@pytest.mark.parametrize(
    ("main", "line", "words"),
    [
        ("main(x[N], k[4]) -> z[N-2]:\n    z = conv(x, k)", 4, "needs axis 0 of `k` to be `3`"),
        ("main(x[N], k[K]) -> z[N-2]:\n    z = conv(x, k)", 4, "nothing would check that `K` is"),
        ("main(x[N], k[3]) -> z[N-1]:\n    z = conv(x, k)", 4, "its result `z` to be `N - 2`"),
        ("main(x[N], k[3]) -> z[M]:\n    z = conv(x, k)", 4, "nothing would check that `M` is"),
    ],
)
def test_extents_that_do_not_agree_are_refused(main: str, line: int, words: str) -> None:
    text = "conv(x[N], k[3]) -> z[N-2]:\n    for n, i:  z[n] += x[n+i] * k[i]\n" + main
    with pytest.raises(lg.ProgramError, match=words) as error:
        program(text).unfold()
    assert error.value.line == line


def test_calls_that_multiply_are_refused_before_they_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inline, "MOST_INLINED", 100)
    texts = ["f0(x[N]) -> y[N]:\n    y[n] = x[n] + 1"]
    for k in range(1, 24):
        texts.append(f"f{k}(x[N]) -> y[N]:\n    a = f{k - 1}(x)\n    y = f{k - 1}(a)")
    with pytest.raises(lg.ProgramError, match="statements"):
        program("\n".join(texts)).unfold()


def test_programs_built_by_hand_are_checked_too() -> None:
    callee: Program = program("f(x[N]) -> y[N]:\n    y[n] = x[n]")
    wrong: Any = Call((Read("z"),), callee, (Read("x"), Read("x")))
    caller = program("g(x[N]) -> z[N]:\n    z[n] = x[n]")
    broken = Program(caller.name, caller.arguments, caller.results, (wrong,))
    with pytest.raises(lg.ProgramError, match="takes 1 argument"):
        broken.unfold()
    in_block = Program(
        caller.name, caller.arguments, caller.results, (Block((Range("t"),), (wrong,)),)
    )
    with pytest.raises(lg.ProgramError, match="takes 1 argument"):
        in_block.unfold()


def test_an_axis_without_a_name_is_given_one_to_be_passed() -> None:
    text = (
        "turn(R[D,D'], v[D]) -> y[D]:\n    y[i] = R[i,D'] * v[D']\n"
        "f(R[3,3], v[N,3]) -> z[N,3]:\n    for n:\n        z[n,3] = turn(R, v[n,3])\n"
    )
    with pytest.raises(lg.ProgramError, match=r"needs a name .*`p\[N,D\]` for `p\[N,3\]`"):
        program(text).unfold()
    mended = text.replace("[3,3]", "[D,D']").replace("[n,3]", "[n,D]").replace("[N,3]", "[N,D]")
    assert program(mended).unfold()


def test_a_temporary_of_a_later_call_is_no_index_of_an_earlier_one() -> None:
    text = """
first(x[B,M]) -> y[B,M]:
    for b, m:  y[b,m] += tanh(x[b,m])

second(x[B,J]) -> y[B,J]:
    for b, j:  m[b]   max= x[b,j]
    for b, j:  y[b,j] += exp(x[b,j] - m[b])

both(x[B,M]) -> z[B,M]:
    y = first(x)
    z = second(y)
"""
    both = lg.program(text)
    for derived in both.unfold(), both.backward(), both.backward(recompute=True):
        assert lg.program(str(derived)) == derived
