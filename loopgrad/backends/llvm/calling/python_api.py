"""The functions of Python's and NumPy's own C interfaces that `calls.ll` calls.

They, and where an object keeps what, are what every extension module is compiled against. Even so
all that `calls.ll` takes for granted is looked at once in this process (`fits`), since nobody
compiles it for this Python. Where something differs, calls go the long way.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

PREFIX = "loopgrad_python_"
FUNCTIONS = """PyList_Size PyList_GetItem PyTuple_New PyTuple_Size PyTuple_GetItem PyTuple_SetItem
    PyUnicode_Compare PyLong_AsLongLongAndOverflow PyLong_FromLongLong PyObject_CallNoArgs
    PyEval_SaveThread PyEval_RestoreThread PyErr_Clear PyErr_Occurred PyErr_ExceptionMatches
    Py_IncRef Py_DecRef""".split()
NEW_ARRAY, SET_BASE = 94, 282  # where NumPy's table has PyArray_NewFromDescr, PyArray_SetBaseObject

# Flags of an array.
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400


def provide() -> None:
    """Gives LLVM their addresses."""
    for name in FUNCTIONS:
        address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
        llvm.add_symbol(PREFIX + name, address)
    llvm.add_symbol(f"{PREFIX}PyArray_NewFromDescr", _numpy_function(NEW_ARRAY))
    llvm.add_symbol(f"{PREFIX}PyArray_SetBaseObject", _numpy_function(SET_BASE))


@cache
def fits() -> bool:
    """Is this the Python and the NumPy that `calls.ll` is written for?"""
    return (
        sys.implementation.name == "cpython"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and object.__basicsize__ == 16
        and all(hasattr(ctypes.pythonapi, name) for name in FUNCTIONS)
        and _floats_are_where_they_should_be()
        and all(map(_is_laid_out, _probes()))
        and _makes_arrays()
        and _makes_views()
    )


def _words(value: object, count: int) -> list[int]:
    return list((ctypes.c_int64 * count).from_address(id(value)))


def _floats_are_where_they_should_be() -> bool:
    value = 1.25
    _, kind, bits = _words(value, 3)
    return kind == id(float) and bits == int(np.float64(value).view(np.int64))


def _probes() -> Iterator[np.ndarray[Any, Any]]:
    for dtype in (np.float32, np.float64, np.int64, np.bool_, ">f4"):
        array = np.zeros((3, 5, 7), dtype)
        yield from (array, array[1:], array[:, ::2], array.T, array[0, 0, 0:1].reshape(()))
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    yield frozen
    yield np.zeros(33, np.uint8)[1:].view(np.float64)  # not aligned


def _is_laid_out(array: np.ndarray[Any, Any]) -> bool:
    words = _words(array, 9)
    extents = list((ctypes.c_int64 * array.ndim).from_address(words[4])) if array.ndim else []
    flags = array.flags
    wanted = CONTIGUOUS * flags.c_contiguous | ALIGNED * flags.aligned | WRITEABLE * flags.writeable
    return (
        words[1] == id(np.ndarray)
        and words[2] == array.ctypes.data
        and words[3] & 0xFFFFFFFF == array.ndim
        and extents == list(array.shape)
        and words[7] == id(array.dtype)
        and words[8] & (CONTIGUOUS | ALIGNED | WRITEABLE) == wanted
    )


def _numpy_function(number: int) -> int:
    """The address of a function in NumPy's table, whose order is fixed."""
    if hasattr(np, "_core"):
        table = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined,unused-ignore]
    else:
        table = np.core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined,unused-ignore]
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    functions = ctypes.cast(pointer(table, None), ctypes.POINTER(ctypes.c_void_p))
    return functions[number] or 0


def _new_array() -> Callable[..., Any]:
    """NumPy's function, for Python."""
    return ctypes.PYFUNCTYPE(
        ctypes.py_object,
        ctypes.py_object,  # type
        ctypes.py_object,  # dtype, which it keeps
        ctypes.c_int,
        *[ctypes.c_void_p] * 3,
        ctypes.c_int,
        ctypes.c_void_p,
    )(_numpy_function(NEW_ARRAY))


def _made(data: int | None, flags: int) -> Any:
    """An array that it makes, at the address, if there is one."""
    dtype = np.dtype(np.float32)
    extents = (ctypes.c_int64 * 2)(3, 4)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dtype))
    return _new_array()(np.ndarray, dtype, 2, ctypes.addressof(extents), None, data, flags, None)


def _makes_arrays() -> bool:
    """Does NumPy's function make an array, of the references that it should take?"""
    array = _made(None, 0)
    return type(array) is np.ndarray and array.shape == (3, 4) and array.dtype is np.dtype("f4")


def _makes_views() -> bool:
    """And one that lies in another's memory, which lives as long?"""
    memory = np.zeros(64, np.uint8)
    set_base = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.py_object)(
        _numpy_function(SET_BASE)
    )
    array = _made(memory.ctypes.data + 16, WRITEABLE)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    if set_base(array, memory) or array.base is not memory or not _is_laid_out(array):
        return False
    array[...] = 1
    return bool(array.flags.carray) and float(memory.view(np.float32).sum()) == 12
