"""The compiled backend: a program becomes machine code through LLVM.

    Task --schedule--> Scheduled --emit--> LLVM text --engine--> code, once for each element type

Sizes and constants are arguments of the code: one compilation serves them all.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from loopgrad import forks
from loopgrad.backends.kernel import LEARNT, BoundCall, Shortcut, Task
from loopgrad.backends.llvm.writing.layout import (
    ASLEEP,
    CONSTANT_BITS,
    ENDLESS,
    EXTENT_BITS,
    GAVE_UP,
    RECORD_HEAD,
    ErrorSite,
    Layout,
    Variant,
    is_large,
    most_elements,
)
from loopgrad.backends.llvm.writing.scratch import TOO_LARGE
from loopgrad.backends.recycling import Scratch
from loopgrad.backends.thread_count import get_num_threads
from loopgrad.tuning import Tuned

if TYPE_CHECKING:
    from loopgrad.backends.llvm.calling.proving import Constants
    from loopgrad.backends.llvm.calling.shaping import Fitted, Shaping
    from loopgrad.backends.llvm.compiling.ahead import Ahead
    from loopgrad.backends.llvm.compiling.engine import Code
    from loopgrad.backends.llvm.compiling.passes import Passes
    from loopgrad.backends.llvm.writing.scratch import Placed
    from loopgrad.backends.llvm.writing.text import Module
    from loopgrad.schedule import Phase, Scheduled


# Values of its constants for which a program is compiled; for further ones, once for all.
MOST_SPECIAL = 16


class LLVMBackend:
    """Compiles programs; nothing is compiled before the first call with an element type."""

    def prepare(self, task: Task) -> LLVMRunner:
        return LLVMRunner(task)


class Compiled:
    """A variant's code, and how the arguments of a call are packed for it.

    As bytes, which are quicker to make and to pass than arrays are.
    """

    def __init__(self, layout: Layout, code: Code):
        self.layout, self.code = layout, code
        self.arrays = Struct(f"{len(layout.passed)}P")
        self.integers = Struct(f"={len(layout.integers)}q")
        self.reals = Struct(f"={len(layout.real_constants)}d")
        self.record = ctypes.c_int64 * layout.record_length

    def prepared(self, call: BoundCall, threads: int) -> Prepared:
        layout = self.layout
        integers = self.integers.pack(*[value(call) for value in layout.integers])
        reals = self.reals.pack(*[call.constants[c] for c in layout.real_constants])
        return Prepared(self, integers, reals, threads, self.code.scratch(integers, threads))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What calls have in common that differ in the contents of their arrays alone."""

    compiled: Compiled
    integers: bytes
    reals: bytes
    threads: int
    scratch: int  # bytes


class LLVMRunner:
    """One program's compiled variants. May be run by several threads at once."""

    _lock = threading.RLock()  # one for all: LLVM compiles one at a time anyway

    def __init__(self, task: Task):
        self.task = task
        self._compiled: dict[Variant, Compiled] = {}
        # Constants and extents for whose values code is made.
        self._shaping: Shaping | None = None
        self._known: list[Fitted] = []  # those values
        # For constants that break what was taken of them; None where nothing is gained.
        self._proved: dict[Constants, LLVMRunner | None] = {}
        self._scratch = Scratch()

    def run(self, call: BoundCall) -> None:
        """Fills the results of `call`; raises the errors of `backends/errors.py`."""
        known = self.prepared(call)
        if not self._runs(known, call):
            # Slower code finds what is wrong and raises it, or does without what faster code needs.
            literal = self._variant(replace(self._variant_of(call), literal=True, large=True), call)
            self._runs(literal.prepared(call, known.threads), call)

    def _runs(self, known: Prepared, call: BoundCall) -> bool:
        """Runs the code; False where it gives up."""
        compiled = known.compiled
        layout, record = compiled.layout, compiled.record()
        arrays = compiled.arrays.pack(*[id(call.arrays[name]) for name in layout.passed])
        with self._scratch.of(known.scratch) as scratch:
            given = arrays, known.integers, known.reals, record, scratch, known.threads
            failed = compiled.code.run(*given)
            if failed == ASLEEP:
                from loopgrad.backends.llvm.threading import pool

                pool.wake()
                failed = compiled.code.run(*given)
        if failed and failed != GAVE_UP:
            details = np.array(record, np.int64)
            raise self._sites(layout)[details[0] - 1](details[RECORD_HEAD:])
        return not failed

    def begin(self, call: BoundCall) -> None:
        """Begins with the code that a call needs: LLVM generates it in threads of their own."""
        threads = get_num_threads()
        if not call.checked:  # else it is proved anew
            variant = self._special(self._variant_of(call), call, threads)
            with self._lock, Tuned():
                _begin(self.task, variant, call)

    def scratch(self, call: BoundCall) -> int | None:
        """The bytes that `run` takes beside the call's arrays; None for too many to count."""
        size = self.prepared(call).scratch
        return size if size < TOO_LARGE else None

    def shortcut(self) -> Shortcut | None:
        from loopgrad.backends.llvm.calling import calls

        return calls.Shortcut(self) if calls.available() else None

    def prepared(self, call: BoundCall) -> Prepared:
        known: Prepared | None = call.kept.get(self)
        threads = get_num_threads()
        if known is None or known.threads != threads:
            known = self.prepared_for(call, threads)
            call.kept[self] = known
            call.kept.pop(LEARNT, None)  # it was with another number of threads
        return known

    def prepared_for(self, call: BoundCall, threads: int) -> Prepared:
        """The same for a number of threads of the caller's own."""
        if call.checked and self.task.optimize:
            found = self._prepared_by_another(call, threads)
            if found is not None:
                return found
        variant = self._special(self._variant_of(call), call, threads)
        return self._variant(variant, call).prepared(call, threads)

    def _prepared_by_another(self, call: BoundCall, threads: int) -> Prepared | None:
        """By a runner for which all is proved, for the call's constants."""
        from loopgrad.backends.llvm.calling.proving import constants_of, proved_for, unchecked

        constants = constants_of(self.task, call)
        if constants not in self._proved:
            if len(self._proved) >= MOST_SPECIAL:
                return None
            task = proved_for(self.task, constants)
            self._proved[constants] = LLVMRunner(task) if task else None
        runner = self._proved[constants]
        own = unchecked(runner.task, call) if runner else None
        return runner.prepared_for(own, threads) if runner and own else None

    def _variant_of(self, call: BoundCall) -> Variant:
        """For any constants, windows and rows. Where there is nothing in some direction, optimised loops may
        never come to a division by 0 that is one as written; and take hours to do nothing."""
        real = "float" if call.dtype == np.float32 else "double"
        extents = call.extents.values()
        wide = any(e >= 2**EXTENT_BITS for e in extents) or any(
            isinstance(c, int) and abs(c) >= 2**CONSTANT_BITS for c in call.constants.values()
        )
        large = call.checked or wide or is_large(call)
        literal = min(extents, default=1) == 0 and (max(extents) >= ENDLESS or self._divides)
        return Variant(real, call.checked, wide, literal, large=large or literal)

    @cached_property
    def _divides(self) -> bool:
        """By an integer that may be 0?"""
        from loopgrad.ir.nodes import Apply, Number
        from loopgrad.ir.walk import all_statements, statement_expressions, subexpressions

        statements = all_statements(self.task.facts.program.statements)
        nodes = (n for s in statements for e in statement_expressions(s) for n in subexpressions(e))
        return any(
            isinstance(n, Apply)
            and n.operation in ("//", "%")
            and not isinstance(n.operands[1], Number)
            for n in nodes
        )

    def _special(self, variant: Variant, call: BoundCall, threads: int) -> Variant:
        """The variant for constants, windows and rows of the call; for any where others had their turn."""
        if not self.task.optimize or variant.checked or variant.wide or variant.literal:
            return variant
        sizes = {**call.constants, **call.extents}
        found = self._fitted(sizes, call.shapes.values(), threads)
        if found and found not in self._known:
            if len(self._known) >= MOST_SPECIAL:
                return variant
            self._known.append(found)
        return _made_for(found, variant)

    def _fitted(
        self, sizes: Mapping[str, Any], shapes: Iterable[Sequence[int]], threads: int
    ) -> Fitted:
        """For what code is made at these sizes, as far as they are known. shapes: of the tensors."""
        if self._shaping is None:
            from loopgrad.backends.llvm.calling.shaping import shaping_of

            self._shaping = shaping_of(self.task)
        return self._shaping.fitted(sizes, most_elements(shapes), threads)

    def _variant(self, variant: Variant, call: BoundCall) -> Compiled:
        """The code; the call is the first that needs it, perhaps."""
        found = self._compiled.get(variant)
        if found is None:
            with self._lock, Tuned():
                found = self._compiled.get(variant)
                if found is None:
                    found = self._compiled[variant] = _compile(self.task, variant, call)
        return found

    def _sites(self, layout: Layout) -> list[ErrorSite]:
        """The places that may fail, which are known once the text is written."""
        with self._lock, Tuned():
            if not layout.sites:
                _emit(self.task, layout)
        return layout.sites

    def text(
        self,
        real: str = "double",
        optimized: bool = False,
        sizes: Mapping[str, Any] | None = None,
    ) -> str:
        """The LLVM text of the program, to be looked at. sizes: as in `explained`; None for any."""
        from loopgrad.backends.llvm.compiling import engine

        text, passes = self.written(real, sizes)
        return str(engine.optimized(text, passes)) if optimized else text

    def explained(
        self, real: str, sizes: Mapping[str, Any]
    ) -> tuple[Scheduled, tuple[tuple[Placed, ...], ...]]:
        """The program as scheduled; and what is in scratch memory: for all phases, then each phase's own.

        sizes: of extents, as far as they are known, and the values of constants.
        """
        variant = self._at(real, sizes)
        return _scheduled(self.task, variant), self.emitted(variant)[2].placed

    def assembly(self, real: str = "double", sizes: Mapping[str, Any] | None = None) -> str:
        """The machine's instructions for the program. sizes: as in `explained`; None for any."""
        from loopgrad.backends.llvm.compiling import engine

        return engine.assembly(*self.written(real, sizes))

    def written(self, real: str, sizes: Mapping[str, Any] | None = None) -> tuple[str, Passes]:
        """The text, and the passes for it."""
        variant = Variant(real, False, False) if sizes is None else self._at(real, sizes)
        return self.emitted(variant)[:2]

    def _at(self, real: str, sizes: Mapping[str, Any]) -> Variant:
        """What a call of these sizes would run."""
        from loopgrad.backends.llvm.calling.shaping import known_shapes

        shapes = known_shapes(self.task.facts, sizes)
        return _made_for(
            self._fitted(sizes, shapes, get_num_threads()), Variant(real, False, False)
        )

    def emitted(self, variant: Variant) -> tuple[str, Passes, Layout]:
        """The text of a variant, the passes for it, and what it takes, with the places that may fail."""
        layout = Layout(self.task, variant)
        return *_emit(self.task, layout), layout


forks.hold("compiling", LLVMRunner._lock)


def _made_for(found: Fitted, variant: Variant) -> Variant:
    return replace(
        variant,
        constants=found.constants,
        about=found.about,
        copies=found.copies,
        few=found.few,
        together=found.together,
        abreast=found.abreast,
    )


def _begin(task: Task, variant: Variant, call: BoundCall) -> None:
    """Begins with code that `_compile` will be asked for, perhaps; it is kept with the program until then."""
    from loopgrad.backends.llvm.compiling import known

    if not known.is_kept(task, variant):
        text, passes, ahead = _begun(task, Layout(task, variant), call)
        ahead.goes_on(text)
        _foreseen(task)[variant, task.optimize, task.schedule] = text, passes, ahead


def _foreseen(task: Task) -> dict[tuple[Variant, bool, str], tuple[str, Passes, Ahead]]:
    """What was begun with of the program's code, and not asked for yet."""
    found: dict[tuple[Variant, bool, str], tuple[str, Passes, Ahead]]
    found = task.facts.program.__dict__.setdefault("_foreseen", {})
    return found


def _compile(task: Task, variant: Variant, call: BoundCall) -> Compiled:
    from loopgrad.backends.llvm.compiling import known

    layout = Layout(task, variant)
    return Compiled(layout, known.code(task, variant, lambda: _begun(task, layout, call)))


def _scheduled(task: Task, variant: Variant) -> Scheduled:
    """What code of a variant is generated from."""
    from loopgrad.schedule import default
    from loopgrad.schedule.choices import choices_of

    plain = variant.checked or variant.wide or variant.literal or not task.optimize
    facts, safety = task.facts, task.safety
    if plain:
        return default.literal(facts, safety)
    from loopgrad.backends.llvm.calling.shaping import short_rows
    from loopgrad.schedule.specializing import made_for

    values = dict(variant.constants)
    rows = short_rows(facts) & values.keys()
    choices = replace(
        choices_of(task.schedule),
        sizes=variant.about,
        copies=variant.copies,
        few=variant.few,
        together=variant.together,
    )

    return made_for(facts, safety, values, rows, choices)


def _begun(task: Task, layout: Layout, call: BoundCall) -> tuple[str, Passes, Ahead]:
    """The text, the passes for it, and its code, of which some is being generated already."""
    from loopgrad.backends.llvm.compiling.ahead import Ahead
    from loopgrad.backends.llvm.fused.phase import wants_threads
    from loopgrad.backends.llvm.products import wanted as products
    from loopgrad.backends.llvm.threading import pool

    begun = _foreseen(task).pop((layout.variant, task.optimize, task.schedule), None)
    if begun is not None:
        return begun
    scheduled = _scheduled(task, layout.variant)
    ahead = Ahead(_passes_for(scheduled), _want_their_own(scheduled))
    written = _written(scheduled, layout, ahead)
    ahead.ended()
    if get_num_threads() > 1:  # what it will call, while its own code is generated
        products.begin(layout.variant.real, scheduled.phases)
        sizes = {**call.constants, **call.extents}
        if any(wants_threads(phase, sizes) for phase in scheduled.phases):
            pool.begin()
    return *written, ahead


def _emit(task: Task, layout: Layout) -> tuple[str, Passes]:
    """The text, and the passes for it; `layout` is filled with the places that may fail."""
    return _written(_scheduled(task, layout.variant), layout)


def _written(
    scheduled: Scheduled, layout: Layout, ahead: Ahead | None = None
) -> tuple[str, Passes]:
    from loopgrad.backends.llvm import emit
    from loopgrad.backends.llvm.compiling import engine

    module = engine.new_module(layout.variant.real)
    passes = _passes_for(scheduled)
    # LLVM makes vectors of its own where lanes are not written, and knows no permutations of their loops.
    module.looks_up = module.looks_up and not passes.vectorize
    if ahead is None:
        return emit.emit(scheduled, layout, module), passes

    def wrote(module: Module, phase: Phase, functions: Collection[str]) -> None:
        ahead.wrote(module, functions, _passes_of(phase))

    module.declaring = ahead.declares
    return emit.emit(scheduled, layout, module, wrote), passes


def _passes_for(scheduled: Scheduled) -> Passes:
    """Those of a whole: what its most demanding phase needs."""
    from loopgrad.backends.llvm.compiling.passes import EXPLICIT, LITERAL, SINGLY

    wanted = [_passes_of(phase) for phase in scheduled.phases]
    return next((one for one in (LITERAL, SINGLY) if one in wanted), EXPLICIT)


def _want_their_own(scheduled: Scheduled) -> bool:
    """Do some phases want other passes than others do? What is no tree is written last, and goes with all."""
    from loopgrad.backends.llvm.compiling.passes import EXPLICIT
    from loopgrad.schedule.tree import Fused

    trees = all(isinstance(phase, Fused) for phase in scheduled.phases)
    wanted = {_passes_of(phase) for phase in scheduled.phases}
    return trees and len(wanted) > 1 and EXPLICIT in wanted


def _passes_of(phase: Phase) -> Passes:
    from loopgrad.backends.llvm.compiling.passes import EXPLICIT, LITERAL, SINGLY
    from loopgrad.schedule.loops.singles import has_no_lanes, runs_singly
    from loopgrad.schedule.tree import Fused

    if not isinstance(phase, Fused) or has_no_lanes(phase.body):
        return LITERAL
    return SINGLY if runs_singly(phase.body) else EXPLICIT


def prepare(task: Task) -> LLVMRunner:
    """The backend's door for `pipeline`."""
    return LLVMBackend().prepare(task)
