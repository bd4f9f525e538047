"""`loopgrad bench`: ourselves, and what is said where other libraries are missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from loopgrad.commands.bench import shown
from tests.cli.conftest import Run

QUICK = ("--rounds", "2", "--seconds", "0.1")


def test_a_program_without_peers(run: Run) -> None:
    said = run("bench", "layers.loops:softmax", "B=4", "J=5", "--against", "none", *QUICK)
    assert (said.err, said.status) == ("", 0)
    lines = said.out.splitlines()
    assert lines[0] == "softmax: B = 4, J = 5; float32, forward and backward"
    assert all(word in said.out for word in ("forward", "backward", "both", "loopgrad", "µs"))


def test_missing_libraries_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    said = run("bench", "layers.loops:affine", "B=4", "J=5", "I=3", *QUICK)
    assert said.status == 0
    assert "- torch: torch is not installed: pip install torch\n" in said.out
    assert "- jax: jax is not installed: pip install jax\n" in said.out


def test_inputs_from_files_fix_extents(run: Run) -> None:
    np.save("s.npy", np.ones((2, 3), np.float32))
    said = run("bench", "layers.loops:softmax", "s=s.npy", "--against", "none", *QUICK)
    assert said.out.startswith("softmax: B = 2, J = 3; float32")


def test_a_program_without_gradients(run: Run) -> None:
    said = run("bench", "layers.loops:counts", "N=5", "K=6", "scale=2", "--against", "none", *QUICK)
    assert said.status == 0
    assert "backward" not in said.out.splitlines()[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["B=4"], "softmax needs the extent `J`: say J=64"),
        (["B"], "`B` is no NAME=VALUE; softmax has `B` and `J`"),
        (["b=4", "J=2"], "softmax has no extent or input `b`, did you mean `B`?"),
        (["B=four", "J=2"], "B: `four` is no number"),
        (["B=4", "J=2", "--against", "tensorflow"], "no library `tensorflow`; there are"),
        (["B=4", "J=2", "--rounds", "0"], "0 is not in the range"),
        (["s=[[1,2]]", "B=3"], "`B` is 3"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], message: str) -> None:
    said = run("bench", "layers.loops:softmax", *arguments)
    assert (said.out, said.status) == ("", 2)
    assert message in said.err


def test_times_have_three_digits_and_a_unit() -> None:
    assert [shown(s) for s in (1.5, 0.0123, 0.25, 4.2e-5, 3e-7, None)] == [
        "1.50 s", "12.3 ms", "250 ms", "42.0 µs", "0.30 µs", ""
    ]  # fmt: skip
