"""Canaries: bytes that nobody owns, around every array of a call and between all that its scratch memory holds.

Within `watched()` compiled code gets arrays with a margin on either side, and scratch memory with a gap in
front of every tensor, row, panel and copy of each thread, and of each phase. Nothing may have been written
there when the call ends. Read as floating numbers the bytes are none, so that a result shows who reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from loopgrad.backends.formulas import evaluate
from loopgrad.backends.kernel import BoundCall
from loopgrad.backends.llvm import LLVMRunner, Prepared
from loopgrad.backends.llvm.calling import calls
from loopgrad.backends.llvm.writing import scratch
from loopgrad.backends.llvm.writing.scratch import ALIGNMENT, BYTES, Placed
from loopgrad.backends.recycling import aligned
from loopgrad.cache import files

GAP = 4096  # bytes: more than a row of what tests are called with
CANARY = 0xFF


class Trespass(AssertionError):
    """Compiled code has written where it owns nothing."""


@contextmanager
def watched() -> Iterator[list[int]]:
    """Watches the calls of programs that are compiled within it; yields how many bytes lay in gaps, a call."""
    seen: list[int] = []
    runs = LLVMRunner._runs

    def watching(runner: LLVMRunner, known: Prepared, call: BoundCall) -> bool:
        fenced = {n: Fenced(n, call.arrays[n]) for n in known.compiled.layout.passed}
        block = Block(known, call)
        one = LLVMRunner(runner.task)
        one._scratch = block  # type: ignore[assignment]
        inside = {**call.arrays, **{n: f.array for n, f in fenced.items()}}
        try:
            return runs(one, known, replace(call, arrays=inside))
        finally:
            for name, each in fenced.items():
                each.check()
                if name in known.compiled.layout.returned:
                    call.arrays[name][...] = each.array
                elif not np.array_equal(each.inside, each.before):
                    raise Trespass(f"the input `{name}` has changed")
            seen.append(block.gaps)

    before = scratch.GAP, files.folder, calls.available
    scratch.GAP, files.folder, calls.available = GAP, lambda: None, lambda: False
    LLVMRunner._runs = watching  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        scratch.GAP, files.folder, calls.available = before
        LLVMRunner._runs = runs  # type: ignore[method-assign]


class Fenced:
    """A copy of an array, with canaries on either side."""

    def __init__(self, name: str, array: np.ndarray):
        self.name, size = name, array.nbytes
        memory = np.full(2 * GAP + size + ALIGNMENT, CANARY, np.uint8)
        first = aligned(memory) - memory.ctypes.data + GAP
        self.below, self.above = memory[:first], memory[first + size :]
        self.inside = memory[first : first + size]
        self.array = self.inside.view(array.dtype).reshape(array.shape)
        self.array[...] = array
        self.before = self.inside.copy()

    def check(self) -> None:
        for side, where in ((self.below, "below"), (self.above, "above")):
            if (side != CANARY).any():
                raise Trespass(f"{where} `{self.name}`, {places(side)}")


class Block:
    """The scratch memory of a call, all of it canaries at first."""

    def __init__(self, known: Prepared, call: BoundCall):
        values = {**call.extents, **call.constants}
        self.kept = list(spans(known.compiled.layout.placed, values, known.threads))
        self.gaps = 0

    @contextmanager
    def of(self, size: int) -> Iterator[int]:
        memory = np.full(size + GAP + ALIGNMENT, CANARY, np.uint8)
        yield aligned(memory)
        end = max((e for _, e, _ in self.kept), default=0)
        assert end <= size <= end + ALIGNMENT, "canaries lie elsewhere than the code believes"
        first, last, before = aligned(memory) - memory.ctypes.data, 0, "the beginning"
        for begin, end, name in [*self.kept, (size + GAP, 0, "the end")]:
            gap = memory[first + last : first + begin]
            if (gap != CANARY).any():
                raise Trespass(f"between {before} and {name}, {places(gap)}")
            self.gaps += len(gap)
            last, before = end, name


def places(gap: np.ndarray) -> str:
    written = np.flatnonzero(gap != CANARY)
    return f"bytes {written[0]} to {written[-1]} of {len(gap)}"


def spans(
    placed: Sequence[Sequence[Placed]], values: dict[str, Any], threads: int
) -> Iterator[tuple[int, int, str]]:
    """Where each begins and ends, as `scratch.py` has it: what all phases share, then each phase's threads."""
    shared, *phases = placed
    end = 0
    for copies, some in ((1, shared), *((threads, phase) for phase in phases)):
        for thread in range(copies):
            for each in (one for one in some if thread or not one.further):
                begin = end + GAP
                size = BYTES[each.kind] * math.prod(
                    max(0, evaluate(extent, values)) for extent in each.extents
                )
                end = begin + -(-size // ALIGNMENT) * ALIGNMENT
                name = f"{each.role} `{each.tensor}` of thread {thread}"
                yield begin, end if each.lines else begin + size, name
