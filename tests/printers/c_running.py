"""C that was printed, compiled by the system's compiler and called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.backends.kernel import Kernel
from loopgrad.exporting.objects import object_file
from loopgrad.ir.operations import ElementType
from loopgrad.printers.c import c_files
from loopgrad.printers.c_functions import Exported, Function

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
STRICT = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1", "-ffp-contract=off"]


class Compiled:
    """The functions of some programs, as a shared object."""

    def __init__(
        self,
        folder: Path,
        functions: Sequence[Exported],
        real: str,
        *options: str,
        by_llvm: bool = False,
    ):
        """by_llvm: the object that LLVM makes, linked by the compiler."""
        if COMPILER is None:
            pytest.skip("this system has no C compiler")
        header, source = c_files("printed", functions, real)
        (folder / "printed.h").write_text(header, encoding="utf-8")
        (folder / "printed.c").write_text(source, encoding="utf-8")
        library = folder / "printed.so"
        what = "printed.o" if by_llvm else "printed.c"
        if by_llvm:
            (folder / what).write_bytes(object_file(functions, real))
        command = [COMPILER, *STRICT, *options, "-shared", "-fPIC", what, "-o", str(library), "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.source, self.real = source, np.dtype(np.float32 if real == "float" else np.float64)
        self._library = ctypes.CDLL(str(library))
        self._made = {each.name: Function(each, real) for each in functions}

    def call(
        self, name: str, inputs: Mapping[str, Any], numbers: Mapping[str, Any]
    ) -> tuple[int, tuple[Any, ...]]:
        """What the function returns, and what it writes."""
        made = self._made[name]
        program = made.exported.program
        kernel: Kernel = lg.compile(program, backend="interpret")
        given = {k: v for k, v in numbers.items() if k in {a.name for a in program.arguments}}
        bound, arrays = kernel._binder.bind([], {**inputs, **given})
        results, passed = {}, []
        values = {**bound.extents, **bound.constants}
        for argument in made.arguments:
            if argument.of in arrays:
                array = arrays[argument.of]  # in C order, as a backend gets it
                array = array.astype(self.real) if array.dtype.kind == "f" else array
                if argument.type.endswith("*"):
                    passed.append((array, array.ctypes.data_as(ctypes.c_void_p)))
                else:
                    passed.append((None, _scalar(argument.type, array[()])))
            elif argument.of in values and not argument.type.endswith("*"):
                passed.append((None, _scalar(argument.type, values[argument.of])))
            else:
                floating = infer(program).tensors[argument.of].element is ElementType.FLOAT
                array = np.full(bound.shapes[argument.of], -77, self.real if floating else np.int64)
                results[argument.of] = array
                passed.append((array, array.ctypes.data_as(ctypes.c_void_p)))
        code = getattr(self._library, name)(*(value for _, value in passed))
        return code, tuple(results[r.name] for r in program.results)


def _scalar(kind: str, value: Any) -> Any:
    types: dict[str, Any] = {"int64_t": ctypes.c_int64, "double": ctypes.c_double}
    types |= {"float": ctypes.c_float, "uint8_t": ctypes.c_uint8}
    return types[kind](value)
