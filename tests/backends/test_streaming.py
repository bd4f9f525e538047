"""Stores past the caches: which results, which rows, and that they are right wherever arrays begin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.fused import streaming
from loopgrad.backends.llvm.writing import layout
from tests.backends.test_trees import TREES, Tree, first, inputs, lanes, register, threads, widened


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 16, 64, 65, 128, 200, 531])
def test_stores_past_the_caches(dtype: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LARGE", 0)
    tree = TREES["softmax in one nest"]()
    given = inputs(tree.program, {"B": 3, "J": length}, dtype)
    wanted = lg.compile(tree.program, backend="interpret")(widened(given["x"]))
    with tree.compiled() as kernel:
        text = kernel.runner.text("float" if dtype == "float32" else "double")
        assert text.count("!nontemporal") == 2  # in both copies of the last loop's body
        for shift in (0, 1, 5):  # aligned, and not
            block = np.empty(3 * length + 64, dtype)
            start = -block.ctypes.data % 64 // block.itemsize + shift
            out = block[start : start + 3 * length].reshape(3, length)
            kernel(**given, out=out)
            np.testing.assert_allclose(out, wanted, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_several_rows_past_the_caches(vector_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of lines would leave by themselves, where a cache holds what is stored; whole ones do not."""
    monkeypatch.setattr(layout, "LARGE", 0)
    if this_machine().vector_bytes < vector_bytes:
        pytest.skip("this processor has no such vectors")
    lesser = replace(this_machine(), wide_vectors=vector_bytes == 64, vector_bytes=vector_bytes)
    monkeypatch.setattr(engine, "this_machine", lambda: lesser)
    tree = Tree(
        """f(x[B,J], w[B,J]) -> y[B,J], z[B,J]:
            for b, j:  s[b] += x[b,j]
            for b, j:  y[b,j] = x[b,j] * s[b]
            for b, j:  z[b,j] = w[b,j] * s[b]""",
        lambda s, y, z: threads("b", lanes("j", first(s)), lanes("j", y, z)),
        register("s"),
        started="y z",
    )
    given = inputs(tree.program, {"B": 3, "J": 200}, "float32")
    wanted = lg.compile(tree.program, backend="interpret")(**given)
    with tree.compiled() as kernel:
        assert ("!nontemporal" in kernel.runner.text("float")) == (vector_bytes == 64)
        for one, other in zip(kernel(**given), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 33, 200])
def test_several_stores_past_the_caches(
    length: int, sums: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of results that lie differently, too; what the same iteration reads again is in a register.

    Which elements a lane adds up hangs on no address: a sum is the same to the bit.
    """
    monkeypatch.setattr(layout, "LARGE", 0)
    monkeypatch.setattr(streaming, "LONG", 0)
    more = ", t[B]" if sums else ""
    tree = Tree(
        f"f(x[B,J]) -> y[B,J], z[B,J], n[B,J]{more}:\n"
        "    for b, j:  y[b,j] = x[b,j] * 2\n    for b, j:  z[b,j] = y[b,j] + 1\n"
        "    for b, j:  n[b,j] = x[b,j] * 3" + ("\n    for b, j:  t[b] += x[b,j]" if sums else ""),
        lambda y, z, n, *t: threads("b", lanes("j", y, z, n, *map(first, t))),
        started="y z n t",
    )
    given = inputs(tree.program, {"B": 3, "J": length}, "float32")
    wanted = lg.compile(tree.program, backend="interpret")(**given)
    with tree.compiled() as kernel:
        count = kernel.runner.text("float").count("!nontemporal")
        assert count and count % 3 == 0  # of all three, in each copy of the body
        totals = set()
        for shifts in ((0, 0, 0), (3, 3, 3), (3, 3, 4), (0, 9, 0)):
            blocks = [np.full(3 * length + 64, 5.0, np.float32) for _ in shifts]
            starts = [
                -b.ctypes.data % 64 // 4 + s + 16 for b, s in zip(blocks, shifts, strict=True)
            ]
            parts = [slice(s, s + 3 * length) for s in starts]
            out = [b[p].reshape(3, length) for b, p in zip(blocks, parts, strict=True)]
            found = kernel(**given, out=(*out, *([np.empty(3, np.float32)] if sums else ())))
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5)
            for block, part in zip(blocks, parts, strict=True):
                block[part] = 5
                assert (block == 5).all()  # nothing beside it
            totals.add(found[-1].tobytes() if sums else b"")
        assert len(totals) == 1
