"""`loopgrad run`: arrays from files, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from tests.cli.conftest import Run

S = np.array([[1.0, 2.0, 3.0], [0.5, -0.5, 4.0]])


def softmax(s: np.ndarray) -> np.ndarray:
    e = np.exp(s)
    return np.asarray(e / e.sum(1, keepdims=True))


def test_from_npy_to_npy(run: Run) -> None:
    np.save("s.npy", S)
    assert run("run", "layers.loops:softmax", "s=s.npy", "-o", "p.npy") == ("", "", 0)
    np.testing.assert_allclose(np.load("p.npy"), softmax(S), rtol=1e-12)


@pytest.mark.parametrize("backend", ["llvm", "interpret"])
def test_both_backends(run: Run, backend: str) -> None:
    np.save("s.npy", S.astype(np.float32))
    run("run", "layers.loops:softmax", "s=s.npy", "-o", "p.npy", "--backend", backend)
    p = np.load("p.npy")
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, softmax(S), rtol=1e-6)


def test_several_results_go_into_an_archive_by_name(run: Run) -> None:
    rng = np.random.default_rng(0)
    np.savez("inputs.npz", x=rng.normal(size=(4, 2)), W=rng.normal(size=(3, 2)))
    Path("back.loops").write_text(
        run("derive", "layers.loops:affine", "--recompute").out, encoding="utf-8"
    )
    np.save("seed.npy", rng.normal(size=(4, 3)))
    said = run(
        "run",
        "back.loops",
        "x=inputs.npz:x",
        "W=inputs.npz:W",
        "c=[1,2,3]",
        "y.grad=seed.npy",
        "-o",
        "grads.npz",
    )
    if said.status:  # an input that the backward does not read is not one of it
        said = run(
            "run",
            "back.loops",
            "x=inputs.npz:x",
            "W=inputs.npz:W",
            "y.grad=seed.npy",
            "-o",
            "grads.npz",
        )
    assert said == ("", "", 0)
    grads, inputs = np.load("grads.npz"), np.load("inputs.npz")
    assert set(grads) == {"x.grad", "W.grad", "c.grad"}
    np.testing.assert_allclose(grads["W.grad"], np.load("seed.npy").T @ inputs["x"] / 4)


def test_lists_numbers_sizes_and_constants(run: Run) -> None:
    said = run("run", "layers.loops:counts", "w=[0,2,2]", "K=4", "scale=3")
    assert said.out == "n[4] int64:\n[3, 0, 6, 0]\ntotal int64: 4\n"


def test_tables_of_text(run: Run) -> None:
    np.savetxt("s.txt", S)
    np.savetxt("s.csv", S, delimiter=",")
    for file in ("s.txt", "s.csv"):
        assert run("run", "layers.loops:softmax", f"s={file}", "-o", "p.csv").status == 0
        np.testing.assert_allclose(np.loadtxt("p.csv", delimiter=","), softmax(S), rtol=1e-12)
    for column_or_row in ("1\n0\n1\n", "1 0 1\n", "1,0,1"):
        said = run("run", "layers.loops:counts", "w=-", "K=2", stdin=column_or_row)
        assert said.out.startswith("n[2] int64:\n[1, 2]\n")
    assert run("run", "layers.loops:softmax", "s=-", stdin="0 0\n").out.endswith("[[0.5, 0.5]]\n")


def test_large_results_are_summarised(run: Run) -> None:
    np.save("s.npy", np.zeros((50, 4)))
    said = run("run", "layers.loops:softmax", "s=s.npy")
    assert said.out == "p[50,4] float64: 0.25 to 0.25, mean 0.25\n"
    np.save("s.npy", np.zeros((0, 4)))
    assert run("run", "layers.loops:softmax", "s=s.npy").out == "p[0,4] float64: no elements\n"


def test_a_result_may_have_any_name(run: Run) -> None:
    text = (
        "f(x[N]) -> file[N], x'.grad:\n    for n:  file[n] += x[n]\n    for n:  x'.grad += x[n]\n"
    )
    assert run("run", "-", "x=[1,2]", "-o", "o.npz", stdin=text).status == 0
    assert dict(np.load("o.npz").items()).keys() == {"file", "x'.grad"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s=nowhere.npy"], "s: cannot read `nowhere.npy`: there is no such file"),
        (["s=bad.npy"], "s: `bad.npy` is no array that NumPy can read"),
        (["s=pickled.npy"], "pickled.npy"),
        (["s=text.npy"], "`text.npy`"),
        (["s=bad.npz"], "`bad.npz` is no .npz archive"),
        (["s=two.npz"], "`two.npz` holds `a` and `b`: say which, as in two.npz:a"),
        (["s=two.npz:c"], "no `c`"),
        (["s=words.txt"], "`words.txt` holds no table of numbers"),
        (["s=strings.npy"], "`strings.npy` holds <U1, and numbers are needed"),
        (["s=[[1,2],[3]]"], "no rectangular list of numbers"),
        (["s=[__import__('os')]"], "is no list of numbers"),
        (["s=[1,2"], "is no list of numbers"),
        (["s=[1,2,3]"], "needs 2 axes, got 1 axis"),
        (["s=."], "is a directory"),
        (["s"], "`s` is no NAME=VALUE; softmax takes `s`"),
        (["S=[[1]]"], "no argument `S`, did you mean `s`?"),
        (["s=[[1]]", "s=[[2]]"], "`s` is given twice"),
        ([], "`s[B,J]`"),
        (["s=[[1]]", "-o", "p.pdf"], "has to end in .npz, .npy, .txt or .csv"),
        (["s=[[1]]", "-o", "nowhere/p.npy"], "cannot write `nowhere/p.npy`"),
        (["s=[[1]]", "--backend", "gpu"], "'llvm', 'interpret'"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], message: str) -> None:
    Path("bad.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    np.save("pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    Path("text.npy").write_text("1 2 3")
    Path("bad.npz").write_bytes(b"PK\x03\x04garbage")
    np.savez("two.npz", a=S, b=S)
    np.save("strings.npy", np.array(["a"]))
    Path("words.txt").write_text("one two\n")
    said = run("run", "layers.loops:softmax", *arguments)
    assert (said.out, said.status) == ("", 2)
    assert message in said.err
    assert said.err.startswith("error: ")


def test_errors_of_the_loops_themselves(run: Run) -> None:
    said = run("run", "layers.loops:counts", "w=[0,7]", "K=3")
    assert said.status == 2
    assert "7" in said.err and "`n`" in said.err
    several = run("run", "layers.loops:counts", "w=[0]", "K=3", "-o", "o.npy")
    assert several.err == "error: there are 2 results: write them to an .npz, not to `o.npy`\n"
    huge = run("run", "layers.loops:counts", "w=[0]", "K=1000000000000000")
    assert huge.status == 2
    assert "memory" in huge.err


def test_nothing_is_left_of_a_failed_write(run: Run) -> None:
    before = sorted(p.name for p in Path().iterdir())
    run("run", "layers.loops:softmax", "s=[[1]]", "-o", "nowhere/p.npy")
    assert sorted(p.name for p in Path().iterdir()) == before


def test_the_interpreter_agrees_with_a_call(run: Run) -> None:
    program = lg.load("layers.loops").counts
    n, total = program([1, 1], K=2, scale=2)
    said = run("run", "layers.loops:counts", "w=[1,1]", "K=2", "scale=2", "--backend", "interpret")
    assert said.out == f"n[2] int64:\n[{n[0]}, {n[1]}]\ntotal int64: {total}\n"
