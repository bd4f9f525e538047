"""LLVM's optimisation of a module: which passes run, by what kind of code it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llvmlite
import llvmlite.binding as llvm

# Up to llvmlite 0.44 LLVM takes an option once in a process, and what is set stays.
TAKES_OPTIONS = tuple(map(int, llvmlite.__version__.split(".")[:2])) >= (0, 45)


@dataclass(frozen=True)
class Passes:
    """level: of optimisation and of code generation, 0 to 3.
    vectorize: whether LLVM looks for vectors itself.
    only: these passes, in order, in place of all those of the level.
    thorough: whether code generation looks for cheaper addresses in loops (LLVM's strength reduction), and
        for a better order of instructions.
    """

    level: int
    vectorize: bool
    only: tuple[str, ...] | None = None
    thorough: bool = True


# Scalar loops, of which LLVM makes vectors: literal ones, and those of trees without lanes.
# Level 3 takes up to twice as long, for code no faster.
LITERAL = Passes(level=2, vectorize=True)
# Vectors are written out, loops are in their final form. All of level 1 take five times as long, and the
# code is no faster; with none at all it is slower by a quarter. Addresses are a row and an index, as the
# processor takes them: to look for others is a quarter to two fifths of the time to generate the code. It
# would give each loop a block before it, where constants are loaded; so that is asked for. Instructions are
# written in an order that suits, and processors find their own: another tenth of the time.
EXPLICIT = Passes(
    level=1,
    vectorize=False,
    only=("always_inliner", "sroa", "instruction_combine", "simplify_cfg", "loop_simplify"),
    thorough=False,
)
# The same with loops over single values, or with bounds that take long: to take out of them what is the
# same each time pays.
SINGLY = Passes(level=1, vectorize=False)
# Short and in its final form: passes would take some 40 ms to save a few nanoseconds.
AS_WRITTEN = Passes(level=0, vectorize=False, thorough=False)
# Every instruction is the one that is wanted.
FINAL = Passes(level=1, vectorize=False, only=(), thorough=False)
# Code for a while, until that of FINAL is there: it takes two fifths of the time, and computes the same.
SOON = Passes(level=0, vectorize=False, only=(), thorough=False)


class Optimizer:
    """Runs the passes over one parsed module, in place. `machine` is LLVM's target machine.

    What that takes is there beforehand: to prepare it, LLVM is called a dozen times, and after each call a
    thread may wait for Python.
    """

    def __init__(self, machine: Any, passes: Passes):
        self._machine, self._passes = machine, passes
        self._manager: Any = None
        if passes.only != () and hasattr(llvm, "create_pass_builder"):
            options = llvm.create_pipeline_tuning_options(speed_level=passes.level)
            options.loop_vectorization = passes.vectorize
            options.loop_interleaving = passes.vectorize
            options.loop_unrolling = passes.vectorize
            options.slp_vectorization = False
            self._builder = llvm.create_pass_builder(machine, options)
            self._manager = _manager_of(passes.only) or self._builder.getModulePassManager()

    def run(self, module: Any) -> None:
        """May be called once."""
        if self._manager is not None:
            try:
                _run(self._manager, module, self._builder)
            finally:
                _free(self._manager)
                self._manager = None
        elif self._passes.only != ():
            _optimize_by_old_manager(module, self._machine, self._passes)


def _run(manager: Any, module: Any, builder: Any) -> None:
    """As `manager.run`, where that may be without llvmlite's lock: modules share no context."""
    run = getattr(llvm.ffi.lib.LLVMPY_RunNewModulePassManager, "_cfn", None)
    if run is None or llvm.llvm_version_info[0] < 17:
        manager.run(module, builder)
    else:
        run(manager, module, builder)


def _free(manager: Any) -> None:
    """Frees LLVM's object, which llvmlite (0.50 and before) forgets: 90 kB a module."""
    kind = type(manager)
    if kind._dispose is llvm.ffi.ObjectRef._dispose:
        llvm.newpassmanagers.NewPassManager._dispose(manager)
        manager.detach()


def _manager_of(names: tuple[str, ...] | None) -> Any:
    """A manager of these passes; None where llvmlite, as before 0.47, has not all of them."""
    if names is None:
        return None
    manager = llvm.create_new_module_pass_manager()
    for name in names:
        add = getattr(manager, f"add_{name}_pass", None)
        if add is None:
            return None
        add()
    return manager


def _optimize_by_old_manager(module: Any, machine: Any, passes: Passes) -> None:
    """llvmlite 0.43 has LLVM's former pass manager only."""
    builder = llvm.create_pass_manager_builder()
    builder.opt_level = passes.level
    builder.loop_vectorize = passes.vectorize
    builder.disable_unroll_loops = not passes.vectorize
    builder.inlining_threshold = 225
    manager = llvm.create_module_pass_manager()
    machine.add_analysis_passes(manager)
    builder.populate(manager)
    manager.run(module)
