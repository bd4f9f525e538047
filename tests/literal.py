"""The literal loops as code: what code under a schedule has to come to.

`lg.compile(program, optimize=False)` without LLVM's passes, which take twice as long as the rest of it and
change no number. With them literal code is compared in test_llvm.py, and of whole programs in tests/programs.
"""

from __future__ import annotations

import loopgrad as lg
from loopgrad.backends.kernel import BoundCall, Kernel
from loopgrad.backends.llvm import Compiled, LLVMRunner
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.passes import FINAL
from loopgrad.backends.llvm.writing.layout import Variant


class _Runner(LLVMRunner):
    def _variant(self, variant: Variant, call: BoundCall) -> Compiled:
        if variant not in self._compiled:
            text, _, layout = self.emitted(variant)
            self._compiled[variant] = Compiled(layout, engine.compile_text(text, FINAL))
        return self._compiled[variant]


def literally(program: lg.Program) -> Kernel:
    """A kernel of the program's loops as they stand; the same one again for whoever asks."""
    kept = program.__dict__
    if "_literally" not in kept:
        task = lg.compile(program, optimize=False).task
        kept["_literally"] = Kernel(task, _Runner(task))
    found: Kernel = kept["_literally"]
    return found
