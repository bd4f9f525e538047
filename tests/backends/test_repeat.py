"""How many iterations are in whole groups, where there are some, none, or fewer than none."""

from __future__ import annotations

import ctypes

import pytest

from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.writing.repeat import whole_groups
from loopgrad.backends.llvm.writing.text import Body


@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_iterations_in_whole_groups(size: int) -> None:
    body = Body(engine.new_module("double"), "groups", "i64 @groups(i64 %lower, i64 %upper)")
    body.do(f"ret i64 {whole_groups(body, '%lower', '%upper', size)}")
    body.finish()
    loaded = engine.load(body.module.text())
    groups = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 3)(loaded.address("groups"))
    for length in (-(2**62), -size - 1, -size, -1, 0, 1, size - 1, size, 3 * size + 1, 2**62):
        for lower in (-5, 0, 7):
            assert groups(lower, lower + length) == lower + max(length, 0) // size * size


def test_a_size_that_is_no_power_of_two_is_refused() -> None:
    body = Body(engine.new_module("double"), "groups", "void @groups(i64 %n)")
    with pytest.raises(AssertionError):
        whole_groups(body, "0", "%n", 6)
