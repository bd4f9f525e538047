"""What the machine allows, measured in the same run: copying, products; and memory, as it is handed out.

A layer's bound is the time to copy its bytes (each input read once, each result written once), or to
do its multiplications at the speed of the vendor's product, whichever is longer.
"""

from __future__ import annotations

import ctypes
import math
import operator
import threading
from collections.abc import Callable, Iterator

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Constant,
    Extent,
    Index,
    Number,
    Program,
    Read,
    Reduction,
)
from loopgrad.ir.walk import accumulates, indices_of
from loopgrad.peers.problem import Problem

STREAMED = 1 << 25  # bytes of a working set, from which non-temporal copies are of interest
SIDE = 1024  # of the product

# ---------------------------------------------------------------------------------------- allocation

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_pages() -> bool:
    """From now on freed memory stays with the process: nobody pays for page faults any more.

    For glibc's allocator, which PyTorch, JAX and NumPy take their arrays from; False where it is another.
    """
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def peak_bytes(call: Callable[[], object]) -> int | None:
    """How far memory in use rises above what it was, while `call` runs; None where it cannot be asked."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the high-water mark starts anew
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name + ":"))
    return 1024 * int(line.split()[1])


# --------------------------------------------------------------------------------------------- bounds


def copies(total: int, threads: int) -> dict[str, Callable[[], object]]:
    """Copying so that `total` bytes are read or written: plainly, and (where large) past the caches."""
    count = max(16, total // 2 // 4)
    source, target = np.ones(count, np.float32), np.empty(count, np.float32)
    found: dict[str, Callable[[], object]] = {"copy": _plain(source, target)}
    if total >= STREAMED:
        # The C library's memcpy writes past the caches from a size on, so each half has to be large.
        found["streamed copy"] = _streamed(source, target, threads)
    return found


def _plain(source: np.ndarray, target: np.ndarray) -> Callable[[], object]:
    try:
        import torch
    except ImportError:
        return lambda: np.copyto(target, source)
    a, b = torch.from_numpy(source), torch.from_numpy(target)
    return lambda: b.copy_(a)


def _streamed(source: np.ndarray, target: np.ndarray, threads: int) -> Callable[[], object]:
    part = math.ceil(source.nbytes / threads / 64) * 64
    pieces = [
        (target.ctypes.data + at, source.ctypes.data + at, min(part, source.nbytes - at))
        for at in range(0, source.nbytes, part)
    ]

    def run() -> None:
        # Keeps the arrays alive; ctypes gives up the interpreter's lock meanwhile.
        assert source.nbytes == target.nbytes
        workers = [threading.Thread(target=ctypes.memmove, args=p) for p in pieces[1:]]
        for worker in workers:
            worker.start()
        ctypes.memmove(*pieces[0])
        for worker in workers:
            worker.join()

    return run


def product(dtype: str) -> tuple[Callable[[], object], float]:
    """The vendor's product of two square matrices, and the operations that it does."""
    a = np.ones((SIDE, SIDE), dtype)
    operations = 2.0 * SIDE**3
    try:
        import torch
    except ImportError:
        out = np.empty_like(a)
        return (lambda: np.matmul(a, a, out=out)), operations
    t, result = torch.from_numpy(a), torch.empty(SIDE, SIDE, dtype=getattr(torch, dtype))
    return (lambda: torch.mm(t, t, out=result)), operations


def bytes_moved(problem: Problem) -> dict[str, int]:
    """Inputs read once and results written once: forward, backward alone, and both after each other."""
    size = problem.real.itemsize
    elements = {n: math.prod(shape) for n, shape in problem.shapes.items()}

    def total(names: list[str]) -> int:
        return sum(
            problem.inputs[n].nbytes if n in problem.inputs else size * elements[n] for n in names
        )

    found = {"forward": total([*problem.inputs, *problem.results])}
    if problem.seeds:
        backward = problem.backward().simplify()
        read = [i.name for i in backward.inputs]
        names = [n.removesuffix(".grad") if n not in elements else n for n in read]
        written = [r.name.removesuffix(".grad") for r in backward.results]
        found["backward"] = total(names + written)
        found["both"] = found["forward"] + found["backward"]
    return found


def multiplications(problem: Problem) -> dict[str, float]:
    """Operations of the statements that are contractions, two for each multiply and add."""
    found = {"forward": _contracted(problem.program, problem)}
    if problem.seeds:
        found["backward"] = _contracted(problem.backward().simplify(), problem)
        found["both"] = found["forward"] + found["backward"]
    return found


def iterations(program: Program, problem: Problem) -> float:
    """How often the program's statements run, all together."""
    return sum(times for _, times in _times(program, problem))


def turns(program: Program, problem: Problem) -> Iterator[float]:
    """How often each block over time of the program runs."""
    values = {**problem.extents, **problem.constants}
    for blocks, _ in accumulates(infer(program).program.statements):
        if blocks:
            yield _points([r for block in blocks for r in block.ranges], values)


def _contracted(program: Program, problem: Problem) -> float:
    return sum(
        2.0 * len(_terms(statement.value)) * times
        for statement, times in _times(program, problem)
        if _is_contraction(statement)
    )


def _times(program: Program, problem: Problem) -> Iterator[tuple[Accumulate, float]]:
    """Each statement, and how often it runs."""
    values = {**problem.extents, **problem.constants}
    for blocks, statement in accumulates(infer(program).program.statements):
        ranges = [r for block in blocks for r in block.ranges] + list(statement.ranges)
        yield statement, _points(ranges, values)


def _is_contraction(statement: Accumulate) -> bool:
    if statement.reduction not in (Reduction.ADD, Reduction.SUBTRACT):
        return False
    written = {n for s in statement.target.subscripts for n in indices_of(s)}
    if all(r.index in written for r in statement.ranges):
        return False
    factors = [f for term in _terms(statement.value) for f in _factors(term)]
    sets = {indices_of(f) for f in factors if isinstance(f, Read)}
    return len(sets) > 1 and any(not s <= written for s in sets) and any(s & written for s in sets)


def _terms(e):
    match e:
        case Apply("+" | "-", (left, right)):
            return _terms(left) + _terms(right)
    return [e]


def _factors(e):
    match e:
        case Apply("*", (left, right)):
            return _factors(left) + _factors(right)
        case Apply("/", (left, _)):
            return _factors(left)
        case Apply("neg", (inside,)):
            return _factors(inside)
    return [e]


def _points(ranges, values) -> float:
    """How many iterations; a bound that hangs on another index counts with that index at its middle."""
    total, middles = 1.0, dict(values)
    for r in ranges:
        lower, upper = _value(r.lower, middles), _value(r.upper, middles)
        total *= max(0.0, upper - lower)
        middles[r.index] = (lower + upper - 1) / 2
    return total


def _value(e, values) -> float:
    match e:
        case Number(value):
            return value
        case Index(name) | Extent(name) | Constant(name):
            return values[name]
        case Apply(operation, operands) if operation in _COMPUTED:
            return _COMPUTED[operation](*(_value(o, values) for o in operands))
    return 1.0


_COMPUTED: dict[str, Callable[..., float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv,
    "%": operator.mod, "neg": operator.neg, "max": max, "min": min,
}  # fmt: skip
