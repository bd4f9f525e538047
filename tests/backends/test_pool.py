"""The pool of threads is there when first somebody needs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.threading import pool

TEXT = """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""
SMALL, LARGE = np.ones((2, 3)), np.linspace(-1, 1, 200_000).reshape(200, 1000)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = lg.get_num_threads()
    lg.set_num_threads(2)
    yield
    lg.set_num_threads(before)


def test_work_for_several_threads_wakes_it_and_is_done_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken = []

    def wake() -> None:
        woken.append(True)
        wake_it()

    wake_it = pool.wake
    monkeypatch.setattr(pool, "wake", wake)
    softmax = lg.program(TEXT)
    expected = softmax(LARGE)
    woken.clear()
    for _ in range(3):  # the first time by the long way, then by the short one
        pool._function.value = None
        softmax(SMALL)
        assert not woken
        np.testing.assert_array_equal(softmax(LARGE), expected)
        assert woken.pop()
        np.testing.assert_array_equal(softmax(LARGE), expected)
        assert not woken


def test_results_given_are_right_after_the_second_run() -> None:
    """What the first run left in them counts for nothing."""
    program = lg.program("f(x[B,J]) -> y[B,J], z[J]:\n    y[b,j] = exp(x[b,j])\n    z[j] += y[b,j]")
    expected = program(LARGE)
    out = np.full_like(expected[0], 7.0), np.full_like(expected[1], 7.0)
    pool._function.value = None
    program(LARGE, out=out)
    for found, wanted in zip(out, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_process_whose_programs_are_small_has_no_pool() -> None:
    code = f"""
import sys, numpy as np, loopgrad as lg
lg.set_num_threads(2)
softmax = lg.program({TEXT!r})
softmax(np.ones((2, 3)))
print("loopgrad.backends.llvm.threading.threads" in sys.modules)
softmax(np.ones((2000, 1000)))
print("loopgrad.backends.llvm.threading.threads" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
