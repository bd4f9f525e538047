"""Calls of compiled code on memory that others own, by its addresses.

Another framework has its tensors, and its number of threads. A `Plan` is for calls that differ in
the contents of their tensors alone: from addresses to a call of the code takes a third of a
microsecond (addresses.ll).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends import recycling
from loopgrad.backends.llvm.calling import calls
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.passes import AS_WRITTEN
from loopgrad.backends.llvm.writing.layout import ASLEEP

if TYPE_CHECKING:
    from loopgrad.backends.kernel import BoundCall, Kernel


class Addressed:
    """The plans of one kernel; they share what is needed on the way."""

    def __init__(self, kernel: Kernel):
        self._runner: Any = kernel.runner
        self._program = kernel.program
        self._in_use = np.zeros(1, np.int64)
        self._scratch = np.empty(0, np.uint8)
        _living.add(self)

    def plan(self, call: BoundCall, threads: int) -> Callable[..., int] | None:
        """A function of addresses: of the elements of each input, then of each result.

        call: what the calls are like. The elements lie as in its arrays: in C order, without gaps.
        It returns 0 where the code has done its work; for what else it may return see `fails`. None
        where this Python cannot have such functions, or there are too many arrays.
        """
        if not calls.available():
            return None
        prepared = self._runner.prepared_for(call, threads)
        layout = prepared.compiled.layout
        if len(layout.passed) > calls.MOST_ARRAYS or layout.record_length > calls.MOST_RECORD:
            return None
        scratch = self._own(prepared.scratch)
        take = partial(recycling.empty, (prepared.scratch,), scratch.dtype)
        integers, reals = (
            np.frombuffer(b or bytes(8), np.int64) for b in (prepared.integers, prepared.reals)
        )
        block = np.zeros(calls.HEAD + len(layout.passed), np.int64)
        block[2:10] = [
            self._in_use.ctypes.data,
            int(calls.is_long(self._program, call)),
            prepared.compiled.code.address,
            integers.ctypes.data,
            reals.ctypes.data,
            recycling.aligned(scratch),
            threads,
            len(layout.passed),
        ]
        block[16:18] = [id(Exception), 0 if scratch.size else id(take)]
        block[calls.HEAD :] = [call.arrays[name].itemsize - 1 for name in layout.passed]
        owned = (block, self._in_use, scratch, take, integers, reals, prepared)
        function: Callable[..., int] = _maker()(owned)
        return function

    def _own(self, size: int) -> NDArray[np.uint8]:
        """Scratch for the plans to come; none where it is large."""
        if size >= recycling.LEAST:
            return np.empty(0, np.uint8)
        needed = size + recycling.ALIGNMENT
        if self._scratch.size < needed:
            self._scratch = np.empty(max(needed, 2 * self._scratch.size), np.uint8)
        return self._scratch


@cache
def _maker() -> Callable[[tuple[Any, ...]], Any]:
    """What makes a Python function of a plan's words, and of what they point at."""
    text = calls.text("addresses.ll").replace("NOT_READY", "-1")
    name = "loopgrad_by_address"
    return calls.maker(name, engine.library(text, [name], AS_WRITTEN)[name])


def fails(code: Callable[..., int], given: Sequence[int]) -> int:
    """Calls a plan. Where the answer is not 0, a call of the kernel says why, or goes another way."""
    failed = code(*given)
    if failed == ASLEEP:
        from loopgrad.backends.llvm.threading import pool

        pool.wake()
        failed = code(*given)
    return failed


_living: weakref.WeakSet[Addressed] = weakref.WeakSet()


def _forked() -> None:
    """In a child: whoever used scratch is not here."""
    for addressed in list(_living):
        addressed._in_use[0] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
