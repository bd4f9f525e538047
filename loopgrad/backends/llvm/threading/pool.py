"""The door of compiled code to its threads, which are not there before somebody needs them.

Compiled code calls the function that the variable `@loopgrad_pool` points at. Where that is null, it returns
ASLEEP, having done part of its work or none; Python then wakes the pool and runs the code once more. So a
process whose programs are small starts sooner, and has no pool.
"""

from __future__ import annotations

import ctypes

import llvmlite.binding as llvm

from loopgrad.backends.llvm.compiling import symbols
from loopgrad.backends.llvm.writing.text import Body

POOL = "loopgrad_pool"

_function = ctypes.c_void_p(None)


def provide() -> None:
    """Makes the variable known to LLVM."""
    llvm.add_symbol(POOL, ctypes.addressof(_function))


def begin() -> None:
    """Begins to make what `wake` loads, for a call that will want it."""
    from loopgrad.backends.llvm.threading import threads  # not needed where code is kept

    threads.begin()


def wake() -> None:
    """Loads `loopgrad_parallel` (threads.py), and points at it."""
    symbols.require(["loopgrad_parallel"])
    _function.value = llvm.address_of_symbol("loopgrad_parallel")


def call(body: Body, function: str, context: str, threads: str, asleep: str) -> None:
    """Calls `function(context, thread, threads)` for every thread; goes to the block `asleep` if there is
    no pool."""
    pointer = body.module.pointer
    byte = pointer("i8")
    part = pointer(f"void ({byte}, i64, i64)")
    kind = pointer(f"void ({part}, {byte}, i64)")
    body.module.declare(f"@{POOL} = external global {kind}")
    found = body.value(f"load {kind}, {pointer(kind)} @{POOL}")
    label = body.fresh("awake")
    body.branch(body.value(f"icmp eq {kind} {found}, null"), asleep, label)
    body.start(label)
    body.do(f"call void {found}({part} {function}, {byte} {context}, i64 {threads})")
