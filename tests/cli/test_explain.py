"""`loopgrad explain`: a program as it is scheduled, and what that comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopgrad as lg
from tests.cli.conftest import Run

SCALED = """\
scaled(x[N], y[N]) -> z[N]:
    for n:  a[n] = exp(x[n])
    for n:  z[n] += a[n] * y[n]
"""
WINDOWS = "windows(x[N], w[K]) -> y[N-K+1]:\n    for n, k:  y[n] += x[n+k] * w[k]\n"


@pytest.fixture
def scaled(run: Run) -> Run:
    Path("scaled.loops").write_text(SCALED, encoding="utf-8")
    return run


def test_loops_where_what_is_and_what_it_costs(run: Run) -> None:
    said = run("explain", "layers.loops:softmax")
    assert (said.err, said.status) == ("", 0)
    assert said.out.startswith(
        "softmax runs in a form that neither overflows nor cancels:\n\nsoftmax("
    )
    assert "for b < B parallel:\n    for j < J vector:  Z.max[b] max= s[b,j]\n" in said.out
    assert "    # reads s; writes p: 8*B*J bytes\n" in said.out
    assert "in registers: Z.max" in said.out
    assert said.out.endswith(
        "inputs 4*B*J bytes; results 4*B*J bytes\n"
        "beside those, memory 0 bytes; each thread 4*J bytes\n"
        "operations as written: 8*B*J + 3*B; exp and the like: 2*B*J\n"
        "work 8*B*J + 3*B: operations of the graph\n"
        "span 2*ceil(log2(J)) + 9: the longest chain of operations\n"
        "its backward, as derived: work 12*B*J; span ceil(log2(J)) + 6\n"
    )


def test_numbers_at_sizes(run: Run) -> None:
    said = run("explain", "layers.loops:softmax", "B=4096", "J=1000", "--dtype", "float64")
    assert "reads s; writes p: 16*B*J bytes = 65.5 MB" in said.out
    threads = lg.get_num_threads()
    assert f"each thread 8*J bytes\nin all {8 * threads:.1f} kB with {threads} thread" in said.out
    assert "ms of one thread" in said.out
    assert "span 2*ceil(log2(J)) + 9 = 29: the longest chain of operations\n" in said.out
    assert ": work / span\nintensity 0.5: operations a byte" in said.out


def test_little_work_is_one_thread_s(run: Run) -> None:
    asked = ("explain", "layers.loops:softmax", "J=100")
    assert "; one thread, too little for more; about" in run(*asked, "B=2").out
    assert "; threads share b; about" in run(*asked, "B=2000").out


def test_products_are_packed(run: Run) -> None:
    said = run("explain", "layers.loops:affine", "J=10", "I=20", "B=30")
    assert "product:  y[b,j] += x[b,i] * W[j,i]" in said.out
    assert (
        "W[j,i] packed for products by each thread: 4*(0 if I*((J+15)//16*16) >= 262144 "
        "else I*((J+15)//16*16)) bytes = 1.3 kB" in said.out
    )


def test_the_backward(run: Run) -> None:
    said = run("explain", "layers.loops:affine", "--backward")
    assert said.out.startswith("affine.backward(")
    assert "product:  W.grad[j,i] = " in said.out


def test_choices(scaled: Run) -> None:
    fused = scaled("explain", "scaled.loops")
    apart = scaled("explain", "scaled.loops", "--schedule", "no fusion")
    assert "\n    # in registers: a\n" in fused.out and "beside those, memory 0 bytes" in fused.out
    assert "beside those, memory 4*N bytes" in apart.out


def test_what_runs_as_written_says_why(run: Run) -> None:
    said = run("explain", "layers.loops:counts")
    assert "    # as written: `n` adds up integers\n" in said.out


def test_code(run: Run) -> None:
    assert "define" in run("explain", "layers.loops:softmax", "--llvm").out
    assert "ret" in run("explain", "layers.loops:softmax", "--asm").out


def test_code_is_that_of_the_sizes_and_of_the_choices(scaled: Run) -> None:
    code = ("explain", "scaled.loops", "--llvm")
    assert scaled(*code).out != scaled(*code, "--schedule", "no fusion").out
    Path("windows.loops").write_text(WINDOWS, encoding="utf-8")
    windows = ("explain", "windows.loops", "--llvm")
    one, other = (scaled(*windows, f"K={size}").out for size in (2, 3))
    assert one != other != scaled(*windows).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["B"], "`B` is no EXTENT=VALUE, such as B=64"),
        (["B=x"], "`B=x` is no EXTENT=VALUE"),
        (["K=4"], "softmax has no extent `K`: there are `B` and `J`"),
        (["b=4"], "softmax has no extent `b`, did you mean `B`?"),
        (["--schedule", "vectors j"], "did you mean `vector`?"),
        (["--schedule", "vector q"], "there are loops over `b` and `j`"),
        (["--llvm", "--asm"], "--llvm and --asm exclude each other"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], message: str) -> None:
    said = run("explain", "layers.loops:softmax", *arguments)
    assert said.status == 2
    assert message in said.err


def test_no_gradients(run: Run) -> None:
    Path("whole.loops").write_text(
        "whole(int w[N]) -> c:\n    for n:  c += w[n]\n", encoding="utf-8"
    )
    assert "whole has no gradients" in run("explain", "whole.loops", "--backward").err
