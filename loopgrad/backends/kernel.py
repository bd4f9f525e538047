"""A compiled program that is called with NumPy arrays, and what a backend has to offer for it.

    Kernel(*arguments)  --bind-->  BoundCall  --Runner.run-->  results

All that a call can do wrong is found while binding (`binding.py`) or allocating (`memory.py`), the
same way for every backend; a backend only ever sees arrays that fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.backends import memory
from loopgrad.backends.binding import Arguments, Binder, element_dtype
from loopgrad.backends.shapes import Shaped
from loopgrad.diagnostics import listing
from loopgrad.ir.nodes import Program


@dataclass(frozen=True)
class Task:
    """What a backend gets to make a runner of, once for a program.

    `optimize` is False where the literal loops, in their order, have to be run. `schedule` is what
    the user has chosen of how else they run (`schedule/choices.py`). `origin` is a name for the program
    and all that was found out about it, where it has one (`cache/answers.py`).
    """

    facts: Facts
    safety: Safety
    optimize: bool
    schedule: str = ""
    origin: str = ""


@dataclass
class BoundCall:
    """One call: everything a runner needs, converted and checked.

    `dtype` is the floating type of the call, float32 or float64. `extents` has the value of every
    name of `facts.extents`, sizes and the defined ones too; none is negative. `constants` has an
    `int` (that fits int64) or a `float` for every constant. `shapes` holds every tensor of
    `facts.tensors`, `arrays` the inputs and results: all arrays are C-contiguous, aligned and of
    native byte order; floating ones of `dtype`, integer ones int64, `bool` inputs np.bool_. A tensor
    with a zero extent has no element to point at. Inputs must not be written. Results are allocated
    but not initialised; where temporaries are is the runner's affair.
    `kept` is for the runner: what it keeps there it finds again in calls that differ from this one
    in the contents of their arrays alone.
    `checked` is True where a constant breaks `safety.positive`: then nothing is proved, every
    subscript is checked and every computed tensor tracked.
    """

    bound: Arguments
    arrays: dict[str, NDArray[Any]]
    checked: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.bound.dtype

    @property
    def extents(self) -> dict[str, int]:
        return self.bound.extents

    @property
    def constants(self) -> dict[str, int | float]:
        return self.bound.constants

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.bound.shapes

    @property
    def kept(self) -> dict[Any, Any]:
        return self.bound.kept


class Runner(Protocol):
    """A program, compiled. May be run by several threads at once."""

    def run(self, call: BoundCall) -> None:
        """Fills the results of `call.arrays`.

        Raises the errors of `backends/errors.py`; what the arrays then hold is of no interest.
        """

    def begin(self, call: BoundCall) -> None:
        """Begins with what `run` of such a call waits for; its results have no arrays yet."""

    def scratch(self, call: BoundCall) -> int | None:
        """The bytes that `run` takes beside the call's arrays; None where every temporary is kept
        whole, or they are too many to count."""

    def shortcut(self) -> Shortcut | None:
        """Something that knows calls again, where the backend has such."""


class Shortcut(Protocol):
    """Makes calls that it knows by the types and shapes of their arguments, in no time.

    call: returns what the kernel's call does, or None for a call that has to go the long way.
    run: likewise what `Kernel.execute` does.
    """

    call: Callable[..., Any]
    run: Callable[..., Any]

    def learn(self, call: BoundCall, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Remembers a call that has just succeeded.

        The arguments are exact arrays, which were taken as they are, floats and integers, and maybe
        `out`, which was written directly. If the call is forgotten one day, `tuple(named)` is taken
        out of `call.kept[LEARNT]`.
        """


LEARNT = "learnt"  # in `BoundCall.kept`: the names of arguments with which a shortcut has learnt it


def _not_known(*arguments: Any, **named: Any) -> None:
    """For a kernel that has no shortcut, or not yet."""


class Backend(Protocol):
    """A module or an object that makes runners."""

    def prepare(self, task: Task) -> Runner:
        """The runner of a program. Work that depends on the element type may wait for the first
        call of each type."""


class Kernel:
    """A program, compiled: call it with NumPy arrays.

    Inputs come in the order of the header or by name, dotted names as `**{"p.grad": g}`; sizes and
    constants by keyword. Floating inputs may be anything that NumPy makes real numbers of; the
    call's element type is `np.result_type` of those that are arrays, float32 or float64. `int`
    inputs take any integers or booleans, `bool` inputs booleans. Returns a new array, a tuple of
    arrays where the program has several results, of shape () where a result is a scalar.

    `out=` as in NumPy: an array of the result's shape and type, or a tuple with one, or None, for
    each result; it is written and returned. It may overlap inputs, not itself or another result's.
    (Where the program has an argument named `out`, the keyword is that argument.)

    A kernel that `compile` made is pickled as its program and choices, and compiled where it is read.

    Raises TypeError or ValueError, naming the argument, for what does not fit; MemoryError, with
    the bytes needed, before computing what memory cannot hold; and, from the loops, IndexError,
    ZeroDivisionError or ValueError, naming the statement. Inputs are never written. Several threads
    may call a kernel at once.

    >>> import loopgrad as lg, numpy as np
    >>> kernel = lg.compile(lg.program("scale(x[N], a = 2.0) -> y[N]:\\n    y[n] = a * x[n]"))
    >>> kernel([1, 2, 3])
    array([2., 4., 6.])
    >>> kernel(x=np.float32([1, 2, 3]), a=10)
    array([10., 20., 30.], dtype=float32)
    """

    def __init__(self, task: Task, runner: Runner):
        self.task = task
        self.runner = runner
        # What makes it again in another process, as in `__reduce__`.
        self.recipe: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._binder = Binder(task.facts, task.safety)
        self._results = tuple(r.name for r in task.facts.program.results)
        tensors = task.facts.tensors.values()
        self._computed = {t.name: t.element for t in tensors if t.role != "input"}
        self._dtypes_of: dict[np.dtype[Any], dict[str, np.dtype[Any]]] = {}
        self._has_out = all(a.name != "out" for a in task.facts.program.arguments)
        self._inputs = self._binder.input_names
        self._shortcut: Shortcut | None = None
        self._learns = True
        # What the shortcut makes of arguments: what calls return; what `execute` does.
        self.call_known: Callable[..., Any] = _not_known
        self.run_known: Callable[..., Any] = _not_known

    @property
    def program(self) -> Program:
        """The program, with nothing left out: loops, ranges, bounds."""
        return self.task.facts.program

    def __repr__(self) -> str:
        return f"<loopgrad kernel of `{self.program.name}`>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.recipe is None:
            raise TypeError(
                f"this part of a derivative of `{self.program.name}` cannot be pickled; pickle the program"
            )
        return self.recipe

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        found = self.call_known(*arguments, **named)
        if found is not None:
            return found
        inputs = dict(named)
        out = inputs.pop("out", None) if self._has_out else None
        destinations = self._destinations(out)
        call = self.bind(arguments, inputs, destinations)
        self._run(call, arguments, named, inputs, destinations)
        results = tuple(map(self._delivered, self._results, repeat(call), destinations))
        return results if len(results) > 1 else results[0]

    def execute(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Makes a call of which more is of interest than its results. Without `out`.

        Returns what its arguments come to (`Arguments`), the inputs as arrays of the types that were
        computed with, and the results: `(bound, input, ..., result, ...)`.
        """
        found: tuple[Any, ...] | None = self.run_known(*arguments, **named)
        if found is not None:
            return found
        destinations = (None,) * len(self._results)
        call = self.bind(arguments, named, destinations)
        self._run(call, arguments, named, named, destinations)
        return (call.bound, *[call.arrays[name] for name in (*self._inputs, *self._results)])

    def begin(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Begins with the code for a call that is going to be made, of a kernel of this program."""
        given = {name: value for name, value in named.items() if name != "out" or not self._has_out}
        bound, arrays = self._binder.bind(arguments, given)
        self.runner.begin(BoundCall(bound, dict(arrays), bound.checked))

    def begin_with(
        self,
        shaped: Mapping[str, Shaped],
        numbers: Mapping[str, Any],
        dtype: np.dtype[Any],
    ) -> None:
        """The same for a call with inputs of these shapes. numbers: its sizes and constants. dtype: the
        floating type."""
        bound = self._binder.of_shapes(shaped, numbers, lambda: dtype)
        self.runner.begin(BoundCall(bound, {}, bound.checked))

    def bound(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Arguments:
        """What the arguments of a call would come to: the shapes of all tensors, and the floating type."""
        return self._binder.bind(arguments, named)[0]

    def _run(
        self,
        call: BoundCall,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        inputs: Mapping[str, Any],
        destinations: Sequence[NDArray[Any] | None],
    ) -> None:
        """Runs it. The second time that a call is like another, the shortcut learns it.

        inputs: `named` but for `out`.
        """
        again = bool(call.kept)
        self.runner.run(call)
        if again and self._learns:
            learnt = call.kept.setdefault(LEARNT, set())
            names = tuple(named)
            if names not in learnt:
                learnt.add(names)
                usual = len(named) == len(inputs) or self._is_written(named["out"], call)
                if usual and call.bound.plain:
                    self._learn(call, arguments, named)

    def _is_written(self, out: Any, call: BoundCall) -> bool:
        """Is it exact arrays that were all computed into directly?"""
        given = out if type(out) is tuple else (out,)
        results = [call.arrays[name] for name in self._results]
        return len(given) == len(results) and all(
            type(a) is np.ndarray and a is b for a, b in zip(given, results, strict=True)
        )

    def _learn(self, call: BoundCall, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        if self._shortcut is None:
            self._shortcut = self.runner.shortcut()
        if self._shortcut is None:
            self._learns = False
            return
        self._shortcut.learn(call, arguments, named)
        self.call_known, self.run_known = self._shortcut.call, self._shortcut.run

    def bind(
        self,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        destinations: Sequence[NDArray[Any] | None],
    ) -> BoundCall:
        """The call, ready to run: arguments checked and converted, results allocated.

        A destination, one for each result, is computed into directly where its layout allows.
        """
        bound, inputs = self._binder.bind(arguments, named)
        dtypes = self._dtypes(bound.dtype)
        arrays = dict(inputs)
        call = BoundCall(bound, arrays, bound.checked)
        for name, out in zip(self._results, destinations, strict=True):
            if out is not None:
                self._check_destination(name, out, bound.shapes[name], dtypes[name])
                if _is_plain(out, dtypes[name]) and not _overlaps(out, arrays.values()):
                    arrays[name] = out
        if not bound.small:
            self._refuse_what_cannot_fit(call, dtypes)
        missing = {n: bound.shapes[n] for n in self._results if n not in arrays}
        purpose = f"{self.program.name}: what it returns"
        arrays.update(memory.allocate(purpose, missing, dtypes))
        return call

    def _refuse_what_cannot_fit(self, call: BoundCall, dtypes: Mapping[str, np.dtype[Any]]) -> None:
        watched = self._computed if call.checked else self.task.safety.tracked
        shapes = {n: s for n, s in call.shapes.items() if n not in call.arrays}
        sizes = {n: dtypes[n].itemsize + 8 * (n in watched) for n in shapes}

        def needed() -> int | None:
            scratch = self.runner.scratch(call)
            returned = (n for n in self._results if n in shapes)
            whole = sum(dtypes[n].itemsize * math.prod(shapes[n]) for n in returned)
            return None if scratch is None else whole + scratch

        purpose = f"{self.program.name}: what it computes"
        memory.refuse_what_cannot_fit(purpose, shapes, sizes, needed)

    def _dtypes(self, floating: np.dtype[Any]) -> dict[str, np.dtype[Any]]:
        """Of the computed tensors."""
        known = self._dtypes_of.get(floating)
        if known is None:
            known = {name: element_dtype(e, floating) for name, e in self._computed.items()}
            self._dtypes_of[floating] = known
        return known

    def _destinations(self, out: Any) -> tuple[NDArray[Any] | None, ...]:
        """`out=` as one array or None for each result."""
        count = len(self._results)
        if out is None:
            return (None,) * count
        outs = tuple(out) if isinstance(out, tuple | list) else (out,)
        if len(outs) != count:
            raise ValueError(
                f"{self.program.name}: `out` needs {count} array{'s' * (count > 1)}, for "
                f"{listing(self._results)}, got {len(outs)}"
            )
        for name, one in zip(self._results, outs, strict=True):
            if one is not None and not isinstance(one, np.ndarray):
                raise TypeError(
                    f"{self.program.name}: `out` for `{name}` has to be a NumPy array, got "
                    f"{type(one).__name__}"
                )
        arrays = [one for one in outs if one is not None]
        if len(arrays) > 1 and any(np.may_share_memory(a, b) for a, b in combinations(arrays, 2)):
            raise ValueError(f"{self.program.name}: the arrays of `out` overlap in memory")
        return outs

    def _check_destination(
        self, name: str, out: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        what = f"{self.program.name}: `out` for `{name}`"
        if out.shape != shape:
            raise ValueError(f"{what} has to have shape {shape}, got {out.shape}")
        if out.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{what} has to be of type {dtype.name}, got {out.dtype.name}")
        if not out.flags.writeable:
            raise ValueError(f"{what} is read-only")
        if not out.flags.c_contiguous and _overlaps_itself(out):
            raise ValueError(
                f"{what} has elements that share memory (shape {out.shape}, strides {out.strides} bytes), so "
                "none could keep its value; give an array whose elements are all apart, as np.empty makes"
            )

    def _delivered(
        self, name: str, call: BoundCall, destination: NDArray[Any] | None
    ) -> NDArray[Any]:
        computed = call.arrays[name]
        if destination is None or destination is computed:
            return computed
        destination[...] = computed
        return destination


def _is_plain(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Whether a backend may write it: its type native, no gaps, no copy of another class."""
    flags = array.flags
    return array.dtype == dtype and flags.c_contiguous and flags.aligned


def _overlaps_itself(array: NDArray[Any]) -> bool:
    """Do two of its elements have a byte in common, as `as_strided` and `sliding_window_view` can make it?"""
    if not array.size:
        return False
    axes = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    reach = array.itemsize  # of the elements along the axes so far, in bytes
    for stride, n in axes:
        if stride < reach:
            break
        reach += stride * (n - 1)
    else:
        return False
    if array.size * array.itemsize > sum(s * (n - 1) for s, n in axes) + array.itemsize:
        return True  # more bytes than there is room for, so what follows takes little more than the array
    offsets = np.zeros(1, np.int64)
    for stride, n in axes:
        offsets = (offsets[:, None] + stride * np.arange(n)).reshape(-1)
    offsets.sort()
    return bool((np.diff(offsets) < array.itemsize).any())


def _overlaps(array: NDArray[Any], others: Any) -> bool:
    return any(np.may_share_memory(array, other) for other in others)
