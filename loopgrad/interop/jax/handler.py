"""The one function of ours that XLA calls (handler.ll), and its registration."""

from __future__ import annotations

import ctypes
import re
import threading
from functools import cache
from pathlib import Path
from typing import Any

import jax

from loopgrad.backends import thread_count
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.passes import AS_WRITTEN
from loopgrad.backends.llvm.writing.layout import ARRAY_HEAD
from loopgrad.interop.jax.sites import Site, Table, read

TARGET = "loopgrad"  # the name by which XLA programs call it

# The attributes of an operation. XLA sorts them by name: handler.ll takes the first and the second.
TEXT, NUMBER = "call", "site"

_SLOW = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p
)

_table = Table()
_messages = threading.local()  # the last of each thread, for as long as XLA may copy it
_forever: list[object] = []  # compiled code calls it


def enter(site: Site) -> Site:
    """Makes the site known to XLA's calls."""
    _register()
    site = _table.add(site)
    _publish(_table.address)
    return site


def _publish(address: int) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_int64)(_functions()["loopgrad_xla_table"])(address)


@cache
def _register() -> None:
    functions = _functions()
    slow = _SLOW(_again)
    _forever.append(slow)
    kinds = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    setup = ctypes.CFUNCTYPE(None, *kinds)(functions["loopgrad_xla_setup"])
    major, minor = _version()
    setup(ctypes.cast(slow, ctypes.c_void_p), thread_count.address(), major | minor << 32)
    _publish(_table.address)
    capsule = jax.ffi.pycapsule(ctypes.c_void_p(functions["loopgrad_xla"]))
    jax.ffi.register_ffi_target(TARGET, capsule, platform="cpu", api_version=1)


def _version() -> tuple[int, int]:
    """Of the FFI that this XLA has, as its header says. Raises RuntimeError for one with another layout."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        text = header.read_text(encoding="utf-8")
        found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
        major, minor = int(found["MAJOR"]), int(found["MINOR"])
    except (OSError, KeyError):
        return 0, 1  # without a header the first that there was; XLA says if it is too old
    if major != 0:
        raise RuntimeError(
            f"lg.jax knows version 0 of XLA's typed FFI, and this jaxlib has {major}.{minor}; "
            "a later loopgrad may know it"
        )
    return major, minor


@cache
def _functions() -> dict[str, int]:
    names = ("loopgrad_xla", "loopgrad_xla_setup", "loopgrad_xla_table")
    return dict(engine.library(_text(), names, AS_WRITTEN))


def _text() -> str:
    text = Path(__file__).with_name("handler.ll").read_text(encoding="utf-8")
    text = text.replace("ARRAY_HEAD", str(ARRAY_HEAD))
    if engine.new_module("double").opaque_pointers:
        pointers = (
            *("i32 (i64, i64, i64, i64, i64, i64)*", "i64 (i64, i64, i64, i64)*", "i64 (i64)*"),
            *("[72 x i8]*", "i64*", "i32*"),
        )
        for typed in pointers:
            text = text.replace(typed, "ptr")
    return text


def _again(number: int, text: int, length: int, elements: int) -> int:
    """A call that the code alone cannot do: its site is not known here, or it failed, or lacks something.

    Returns 0, or the address of what is wrong, in words.
    """
    try:
        site = _table.site(number)
        if site is None:
            site = enter(read(ctypes.string_at(text, length).decode()))
        count = len(site.names) + len(site.results)
        addresses: Any = (ctypes.c_int64 * count).from_address(elements) if count else ()
        site.run(tuple(addresses))
    except BaseException as error:  # whatever it is, XLA alone can carry it to the caller
        words = f"{type(error).__name__}: {error}".encode()
        _messages.last = ctypes.create_string_buffer(words)
        return ctypes.addressof(_messages.last)
    return 0
