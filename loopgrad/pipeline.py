"""The way of a program from its notation to a kernel: the list of passes, in order.

Each pass is a function of the program that asks the ones before it, and whose answer is kept with
the program; so the list below is also what happens, whichever pass is asked first.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

from loopgrad import forks
from loopgrad.analysis.facts import Facts, Safety
from loopgrad.backends import foreseen
from loopgrad.backends.kernel import Backend, Kernel, Task
from loopgrad.cache.answers import ORIGIN, PROOFS, kept
from loopgrad.diagnostics import ProgramWarning, listing, render, suggestion
from loopgrad.ir.memo import elsewhere, is_final, once_per_program
from loopgrad.ir.nodes import Accumulate, Index, Number, Program, Range, Read, Reduction
from loopgrad.tuning import Tuned

# What they find out goes along with a program, also from an earlier process: then they are not loaded.
unfold: Callable[[Program], Program] = elsewhere("loopgrad.frontend.unfold", "unfold")
infer: Callable[[Program], Facts] = elsewhere("loopgrad.analysis.infer", "infer")
validate: Callable[[Program], Safety] = elsewhere("loopgrad.analysis.validity", "validate")


@dataclass(frozen=True)
class Pass:
    """A stage: its name, what it does, and the function that does it."""

    name: str
    description: str
    function: Callable[[Program], Any]


PASSES = (
    Pass("unfold", "equations, Einstein capitals and calls become loops", unfold),
    Pass("infer", "ranges, extents and element types that the writer left out", infer),
    Pass("validate", "the rules of the notation: proved, broken, or left to the call", validate),
)

# Name -> module with `prepare(task)`, imported when first asked for.
BACKENDS = {
    "llvm": "loopgrad.backends.llvm",
    "interpret": "loopgrad.backends.interpreter",
}

# Held while something is derived or compiled: threads that ask for the same thing share it.
BUILDING = threading.RLock()
forks.hold("building", BUILDING)


def verify(program: Program, *, warn: bool = True) -> Program:
    """Runs every pass over the program, which is returned.

    Raises ProgramError, with all that was found, where it breaks a rule for every input. Warns
    (ProgramWarning) of what is allowed and probably not meant, once for a program.

    >>> import loopgrad as lg
    >>> from loopgrad.pipeline import verify
    >>> verify(lg.program("double(x[N]) -> y[N]:\\n    y[n] = 2 * x[n]")).name
    'double'
    """
    for stage in PASSES:
        stage.function(program)
    if warn and not program.__dict__.get("_warned"):
        object.__setattr__(program, "_warned", True)
        from loopgrad.analysis.unused import unused

        for diagnostic in unused(program):
            warnings.warn(render(diagnostic), ProgramWarning, stacklevel=_callers_level())
    return program


def _callers_level() -> int:
    """The `stacklevel` that shows a warning of `verify` at the line that called this package."""
    here = os.path.dirname(__file__)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        level, frame = level + 1, frame.f_back
    return level


def compile(
    program: Program | str, backend: str = "llvm", optimize: bool = True, schedule: str = ""
) -> Kernel:
    """The program as a function of NumPy arrays; see `Kernel` for its arguments and results.

    backend: "llvm" compiles to machine code, once for an element type, when first called;
        "interpret" is the literal reference, slow and plainly right.
    optimize: False runs the literal loops, in their order. True runs a form of them that neither
        overflows nor cancels, where there is one (`loopgrad.stable.stabilize` shows it). "interpret"
        is always literal.
    schedule: what to do otherwise than the compiler would, in words with commas between them, of
        optimised compiled code: `parallel INDEX`, `vector INDEX`, `rows N` (of a product at a time),
        `no fusion`, `no products`, `no sharing`. `loopgrad explain` shows the indices and what comes of it
        (docs/compiler.md).

    The kernel is kept with the program, so that asking again costs nothing. Raises ProgramError for
    a program that breaks a rule, ValueError for a backend there is none of, and for a choice of
    schedule that there is none of.

    >>> import loopgrad as lg
    >>> lg.compile("double(x[N]) -> y[N]:\\n    y[n] = 2 * x[n]", backend="interpret")([1.0, 2.0])
    array([2., 4.])
    """
    program = as_program(program)
    if backend not in BACKENDS:
        meant = suggestion(backend, BACKENDS)
        hint = f"did you mean {meant!r}?" if meant else f"there are {listing(list(BACKENDS))}"
        raise ValueError(f"no backend {backend!r}; {hint}")
    if not isinstance(schedule, str):
        raise TypeError(f"a schedule is chosen in words, got {type(schedule).__name__}")
    if schedule and not (optimize and backend == "llvm"):
        raise ValueError("a schedule is of optimised compiled code; literal loops have none")
    kernels: dict[tuple[str, bool, str], Kernel] = program.__dict__.setdefault("_kernels", {})
    key = (backend, bool(optimize), schedule)
    with BUILDING, Tuned():
        if key not in kernels:
            _prove(program)
            runs = stable(program) if optimize and backend != "interpret" else program
            if schedule:
                _refuse_what_is_no_choice(schedule, runs)
            kernels[key] = _kernel(infer(runs), runs, backend, bool(optimize), schedule)
            kernels[key].recipe = compile, (program, *key)
        return kernels[key]


def compile_to_call(program: Program, arguments: Sequence[Any], named: Mapping[str, Any]) -> Kernel:
    """As `compile`; it is going to be called with these."""

    def begin(form: Program) -> None:
        _kernel(infer(form), form, "llvm", True).begin(arguments, named)

    with foreseen.expecting(arguments, named, begin):
        return compile(program)


def _prove(program: Program) -> None:
    """As `verify`; from an earlier process, where one has done it."""
    memory = program.__dict__
    if not all(name in memory for name in PROOFS):
        same = kept("proved", program, lambda: verify(program, warn=False))
        known = {name: same.__dict__[name] for name in (*PROOFS, ORIGIN) if name in same.__dict__}
        memory.update(known | memory)


def _refuse_what_is_no_choice(schedule: str, program: Program) -> None:
    from loopgrad.schedule.choices import choices_of
    from loopgrad.schedule.default import literal
    from loopgrad.schedule.fusing import refuse_unknown_indices

    loops = literal(infer(program), validate(program))
    refuse_unknown_indices(loops, choices_of(schedule))


def stable(program: Program) -> Program:
    """The program that runs in its stead: equal in real numbers, and neither overflows nor cancels."""
    found = None if is_final(program) else _stable_form(program)
    return program if found is None else found


@once_per_program
def _stable_form(program: Program) -> Program | None:
    """The form, from an earlier process where one has found it; None for the program itself."""
    return kept("stable", program, lambda: _found_form(program))


def _found_form(program: Program) -> Program | None:
    from loopgrad.stable.stabilize import stabilized  # not needed to read a program

    foreseen.begin(infer(program).program)
    found = stabilized(program, foreseen.begin_code)
    if found is not None:
        validate(found)  # kept with it
    return found


def compile_returning(
    program: Program,
    results: Sequence[str],
    extra: Sequence[str],
    copies: Mapping[str, str] | None = None,
) -> Kernel:
    """The program with its results and further computed tensors, which a derived program reads.

    Those stay temporaries in one respect: their extents come from what is written to them, and
    count as 0 where that is nothing at all (`d[t]` for `t < T-1`, at T = 0).
    copies: tensors that are stored a second time -> the names of their copies, further results too.
    """
    copies = dict(copies or {})
    extra = (*extra, *copies.values())
    if not extra:
        return compile(program)
    wanted = (*results, *extra)

    def widened() -> Program:
        from loopgrad.analysis.tidy import asking_for

        base = copying(program, copies) if copies else program
        return verify(asking_for(base.returning(*wanted), infer(program)), warn=False)

    runs = kept("returning", (program, wanted, sorted(copies.items())), widened)
    facts = infer(runs)
    tensors = {
        name: replace(tensor, role="temporary") if name in extra else tensor
        for name, tensor in facts.tensors.items()
    }
    return _kernel(replace(facts, tensors=tensors), runs, "llvm", True)


def copying(program: Program, copies: Mapping[str, str]) -> Program:
    """The program that copies tensors too, into those of the names given."""
    facts = infer(program)
    statements = []
    for name, copy in copies.items():
        extents = facts.tensors[name].extents
        indices = [f"i{axis}.kept" for axis in range(len(extents))]
        subscripts = tuple(map(Index, indices))
        ranges = tuple(Range(i, Number(0), e) for i, e in zip(indices, extents, strict=True))
        statements.append(
            Accumulate(Read(copy, subscripts), Reduction.SET, Read(name, subscripts), ranges)
        )
    return replace(facts.program, statements=(*facts.program.statements, *statements))


def _kernel(
    facts: Facts, program: Program, backend: str, optimize: bool, schedule: str = ""
) -> Kernel:
    origin = program.__dict__.get(ORIGIN, "")
    task = Task(facts, validate(program), optimize, schedule, origin)
    return Kernel(task, cast(Backend, importlib.import_module(BACKENDS[backend])).prepare(task))


def as_program(program: Program | str) -> Program:
    """The program itself, or the one of a text. Raises TypeError for anything else."""
    if isinstance(program, Program):
        return program
    if isinstance(program, str):
        return _parsed(program)
    raise TypeError(f"a loopgrad program or its text is needed, got {type(program).__name__}")


@lru_cache(maxsize=64)
def _parsed(text: str) -> Program:
    """One program for a text, so that what is kept with it is found again."""
    from loopgrad.frontend.library import program

    return program(text)
