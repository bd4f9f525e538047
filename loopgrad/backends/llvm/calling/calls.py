"""Calls in well below a microsecond: Python functions that are compiled code.

A kernel's `Shortcut` remembers what calls came to. Its two functions (calls.ll) compare their
arguments with that, and run the code where all is as it was; otherwise they return None, and the
kernel goes the long way, through `binding.py`, which raises all errors.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopgrad import forks
from loopgrad.backends import memory, recycling, thread_count
from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.backends.kernel import LEARNT
from loopgrad.backends.llvm.calling import python_api
from loopgrad.backends.llvm.calling.python_api import ALIGNED, CONTIGUOUS, WRITEABLE
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.passes import AS_WRITTEN
from loopgrad.ir.nodes import Accumulate, Block, Program, Statement

if TYPE_CHECKING:
    from loopgrad.backends.kernel import BoundCall
    from loopgrad.backends.llvm import LLVMRunner, Prepared

MOST_ENTRIES = 8  # the last learnt
MOST_ARRAYS, MOST_RECORD = 64, 64

SHORT = 20_000  # iterations; at most some ten microseconds
HEAD = 19  # words of a block before its arguments
ARRAY, FLOAT, INTEGER, TUPLE = range(4)
OUT = "out"

_METH_FASTCALL, _METH_KEYWORDS = 0x80, 0x02
_double = Struct("=d")
_bits = Struct("=q")


class Shortcut:
    """The calls of one kernel that are known by the types and shapes of their arguments.

    call: returns what the kernel's call does, or None.
    run: returns what the kernel's `execute` does, or None.
    """

    call: Callable[..., Any]
    run: Callable[..., Any]
    _lock = threading.RLock()  # one for all: it is held for a moment

    def __init__(self, runner: LLVMRunner) -> None:
        self._runner = runner
        self._entries: list[Any] = [None]
        self._in_use = np.zeros(1, np.int64)  # whether a call has what all entries share: scratch
        self._scratch = np.empty(0, np.uint8)
        self.call, self.run = (make(self._entries) for make in _makers())
        _shortcuts.add(self)

    def learn(self, call: BoundCall, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """As kernel.py's `Shortcut` has it. The last learnt is the first that is compared."""
        prepared = self._runner.prepared(call)
        releases_gil = is_long(self._runner.task.facts.program, call)
        with self._lock:
            shared = (self._in_use, self._own_scratch(prepared.scratch))
            entry = _entry(call, arguments, named, prepared, releases_gil, shared)
            if entry is None:
                return
            forgotten = self._entries[MOST_ENTRIES:]
            self._entries[:] = [None, entry, *self._entries[1:MOST_ENTRIES]]
        for _, bound, names, *_ in forgotten:
            bound.kept.get(LEARNT, set()).discard(names)

    def _own_scratch(self, size: int) -> NDArray[np.uint8]:
        """For the calls to come, grown in steps that double; none where scratch is large."""
        if size >= recycling.LEAST:
            return np.empty(0, np.uint8)
        needed = size + recycling.ALIGNMENT
        if self._scratch.size < needed:
            self._scratch = np.empty(max(needed, 2 * self._scratch.size), np.uint8)
        return self._scratch


_shortcuts: weakref.WeakSet[Shortcut] = weakref.WeakSet()


def _forked() -> None:
    """In a child: whoever used scratch is not here."""
    for shortcut in list(_shortcuts):
        shortcut._in_use[0] = 0


forks.hold("learning", Shortcut._lock)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _entry(
    call: BoundCall,
    arguments: Sequence[Any],
    named: Mapping[str, Any],
    prepared: Prepared,
    releases_gil: bool,
    shared: tuple[NDArray[np.int64], NDArray[np.uint8]],
) -> tuple[Any, ...] | None:
    """As calls.ll reads it; None for a call that is not worth it, or has too many arrays."""
    layout = prepared.compiled.layout
    inputs = layout.inputs
    results = [call.arrays[name] for name in layout.returned]
    out = _is_out(named, results)
    if len(layout.passed) > MOST_ARRAYS or layout.record_length > MOST_RECORD:
        return None
    if not call.bound.small and not (out and prepared.scratch < memory.ALWAYS_FITS):
        return None  # whether memory is there has to be asked each time
    places = {name: place for place, name in enumerate(inputs)}
    words = [
        *(
            word
            for n, a in zip(inputs, arguments, strict=False)
            for word in _argument(places[n], a)
        ),
        *(
            word
            for n, v in named.items()
            for word in (
                _out(len(inputs), v) if n == OUT and out else _argument(places.get(n, 0), v, n)
            )
        ),
    ]
    in_use, scratch = shared
    take = partial(recycling.empty, (prepared.scratch,), scratch.dtype)
    integers, reals = (
        np.frombuffer(b or bytes(8), np.int64) for b in (prepared.integers, prepared.reals)
    )
    makers = [_maker_of(r) for r in results]
    tail = [word for r, maker in zip(results, makers, strict=True) for word in _result(r, maker)]
    head = [
        len(arguments),
        len(named),
        in_use.ctypes.data,
        int(releases_gil),
        prepared.compiled.code.address,
        integers.ctypes.data,
        reals.ctypes.data,
        recycling.aligned(scratch),
        prepared.threads,
        len(inputs),
        len(results),
        HEAD + len(words),
        id(np.ndarray),
        int(out),
        HEAD + len(words) + len(tail),
        thread_count.address(),
        id(Exception),
        0 if scratch.size else id(take),
        id(scratch.dtype),
    ]
    sizes = [call.arrays[name].nbytes for name in layout.passed]
    block = np.array([*head, *words, *tail, *sizes], np.int64)
    # What the block points at lives as long as the entry.
    values = [v for v in named.values() if type(v) in (int, float)]
    dtypes = [a.dtype for a in (*arguments, *named.values(), *results) if type(a) is np.ndarray]
    owned = (integers, reals, shared, take, prepared, makers, dtypes, values)
    return (block, call.bound, tuple(named), *owned)


def is_long(program: Program, call: BoundCall) -> bool:
    """Whether other Python threads should not have to wait for it."""
    values: dict[str, int | float] = {**call.constants, **call.extents}
    try:
        return sum(_iterations(s, values) for s in program.statements) > SHORT
    except (FormulaError, KeyError):  # a bound that hangs on indices or on contents of arrays
        return True


def _iterations(statement: Statement, values: Mapping[str, int | float]) -> int:
    inner = 1
    if isinstance(statement, Block):
        inner = sum(_iterations(s, values) for s in statement.body)
    for each in statement.ranges if isinstance(statement, Accumulate | Block) else ():
        if each.lower is None or each.upper is None:
            return SHORT + 1
        inner *= max(0, evaluate(each.upper, values) - evaluate(each.lower, values))
    return inner


def _is_out(named: Mapping[str, Any], results: Sequence[NDArray[Any]]) -> bool:
    """Is there an argument `out`, of the arrays that are the results?"""
    out = named.get(OUT)
    given = out if type(out) is tuple else (out,)
    return len(given) == len(results) and all(a is b for a, b in zip(given, results, strict=True))


def _maker_of(result: NDArray[Any]) -> Callable[[], NDArray[Any]] | None:
    """What makes arrays like it, where NumPy does not: recycled ones."""
    if result.nbytes < recycling.LEAST:
        return None
    return partial(recycling.empty, result.shape, result.dtype)


def _result(result: NDArray[Any], maker: Callable[[], NDArray[Any]] | None) -> list[int]:
    if maker is None:
        return [id(result.dtype), result.ndim, *result.shape]
    return [0, 1, id(maker)]


def _argument(place: int, value: Any, name: str | None = None, flags: int = 0) -> list[int]:
    """The words of one; `place` and further `flags` are for an array."""
    named = 0 if name is None else id(name)
    if type(value) is float:
        (bits,) = _bits.unpack(_double.pack(value))
        return [id(float), named, bits, FLOAT, 0, 0, 0]
    if type(value) is int:
        return [id(int), named, value, INTEGER, 0, 0, 0]
    flags |= CONTIGUOUS | ALIGNED
    head = [id(np.ndarray), named, id(value.dtype), ARRAY, place, flags]
    return [*head, value.ndim, *value.shape]


def _out(first: int, value: Any) -> list[int]:
    """The words of `out`, an array or a tuple; `first` is the place of the first result."""
    if type(value) is not tuple:
        return _argument(first, value, OUT, WRITEABLE)
    items = (_argument(first + i, array, None, WRITEABLE) for i, array in enumerate(value))
    head = [id(tuple), id(OUT), len(value), TUPLE, 0, 0, 0]
    return [*head, *(word for item in items for word in item)]


# ------------------------------------------------------------------------------ Python functions


class _Method(ctypes.Structure):
    """`PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def available() -> bool:
    """Whether this Python can be given such functions."""
    return python_api.fits()


@cache
def _makers() -> tuple[Callable[[list[Any]], Any], ...]:
    """For each of the two functions, what makes it of its entries."""
    names = ("loopgrad_call", "loopgrad_run")
    addresses = engine.library(text(), names, AS_WRITTEN)
    return tuple(maker(name, addresses[name]) for name in names)


def maker(name: str, address: int) -> Callable[[Any], Any]:
    """What makes a Python function of the code at an address; its `self` is what it is made of."""
    flags = _METH_FASTCALL | _METH_KEYWORDS
    method = _Method(name.encode(), address, flags, None)
    _forever.append(method)
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return lambda entries: new(ctypes.addressof(method), entries, None)


_forever: list[_Method] = []  # Python functions point at them


def text(*behind: str) -> str:
    """The module of calls.ll, and of further files behind it."""
    here = Path(__file__)
    files = ("calls.ll", *behind)
    text = "".join(here.with_name(name).read_text(encoding="utf-8") for name in files)
    text = text.replace("MOST_ARRAYS", str(MOST_ARRAYS)).replace("MOST_RECORD", str(MOST_RECORD))
    text = text.replace("LONG_ARRAY", str(recycling.LONG))
    text = text.replace("ALIGNMENT", str(recycling.ALIGNMENT)).replace("HEAD_BYTES", str(8 * HEAD))
    text = text.replace("WRITEABLE", str(WRITEABLE))
    if engine.new_module("double").opaque_pointers:
        for typed in ("i32 (i64, i64, i64, i64, i64, i64)*", "i64*", "i32*"):
            text = text.replace(typed, "ptr")
    return text
