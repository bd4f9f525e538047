"""LLVM itself, through llvmlite: this machine's processor, optimisation, code in memory."""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from loopgrad.backends.llvm.functions import C_LIBRARY, C_PREFIX, c_symbol
from loopgrad.backends.llvm.text import Module

LEVEL = 2  # of optimisation: 3 takes up to twice as long, for code no faster

_lock = threading.Lock()


@dataclass(frozen=True)
class Code:
    """A compiled entry function, which takes three packed arrays and the record.

    Calling it releases the GIL. `keep` owns the memory that its code is in.
    """

    run: Any
    keep: Any


def new_module(real: str) -> Module:
    """An empty module for this machine, computing in "double" or "float"."""
    version = llvm.llvm_version_info[0]
    machine = _machine()
    return Module(real, version, version >= 17, machine.has_fma, machine.attributes)


@lru_cache(maxsize=256)
def compile_text(text: str, entry: str) -> Code:
    """Machine code of a module's text. `entry` is `i32 (arrays, integers, reals, record)`.

    Kept, since the same program is often made again, and many differ in names alone.
    """
    with _lock:
        if C_PREFIX in text:
            _find_c_functions()
        machine = _machine().create()
        module = optimized(text, machine)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        address = engine.get_function_address(entry)
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p
    )
    return Code(kind(address), engine)


def optimized(text: str, machine: Any | None = None) -> Any:
    """The module after LLVM's passes."""
    machine = machine or _machine().create()
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    if hasattr(llvm, "create_pass_builder"):
        _run_passes(module, machine)
    else:
        _run_old_passes(module, machine)
    return module


def _run_passes(module: Any, machine: Any) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    options.loop_vectorization = True
    options.loop_interleaving = True
    options.loop_unrolling = True
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def _run_old_passes(module: Any, machine: Any) -> None:
    """llvmlite 0.43 has LLVM's former pass manager only."""
    builder = llvm.create_pass_manager_builder()
    builder.opt_level = LEVEL
    builder.loop_vectorize = True
    builder.inlining_threshold = 225
    passes = llvm.create_module_pass_manager()
    machine.add_analysis_passes(passes)
    builder.populate(passes)
    passes.run(module)


@dataclass(frozen=True)
class Machine:
    """The processor that this process runs on."""

    cpu: str
    features: str
    has_fma: bool
    wide_vectors: bool

    def create(self) -> Any:
        target = llvm.Target.from_default_triple()
        # Features beside the name: virtual machines misname their processors.
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=LEVEL, jit=True
        )

    @property
    def attributes(self) -> str:
        """Of every function."""
        return "nounwind" + (' "prefer-vector-width"="512"' if self.wide_vectors else "")


@cache
def _machine() -> Machine:
    if tuple(map(int, llvmlite.__version__.split(".")[:2])) < (0, 45):
        llvm.initialize()  # later versions do it themselves, and refuse to be asked
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # not known for this kind of processor
        features = llvm.FeatureMap()
    arm = llvm.get_default_triple().partition("-")[0] in ("aarch64", "arm64")
    return Machine(
        cpu=llvm.get_host_cpu_name(),
        features=features.flatten(),
        has_fma=arm or bool(features.get("fma")),
        wide_vectors=bool(features.get("avx512f")),
    )


@cache
def _find_c_functions() -> None:
    """Gives LLVM the addresses of the C library's functions, under names of our own."""
    library = _c_library()
    for operation in C_LIBRARY:
        for real, name in (("double", operation), ("float", operation + "f")):
            function = getattr(library, name)
            address = ctypes.cast(function, ctypes.c_void_p).value
            llvm.add_symbol(c_symbol(operation, real), address)


def _c_library() -> ctypes.CDLL:
    if sys.platform == "win32":
        return ctypes.CDLL("ucrtbase")
    process = ctypes.CDLL(None)
    if all(hasattr(process, name) for name in C_LIBRARY):
        return process
    from ctypes.util import find_library  # slow: may start a compiler to ask it

    return ctypes.CDLL(find_library("m"))
