"""Derivatives as functions of arrays: `vjp`, `jvp` and `value_and_grad`, as in JAX.

Each derives a program once, compiles it, and keeps both with the program that it was asked of.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.backends import recycling
from loopgrad.backends.binding import Arguments
from loopgrad.backends.kernel import Kernel
from loopgrad.cache.answers import kept
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import (
    Extent,
    Input,
    Program,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import fresh_name
from loopgrad.pipeline import (
    BUILDING,
    as_program,
    compile,
    compile_returning,
    infer,
    stable,
    validate,
)

Array = NDArray[Any]
Batch = str | Literal[False] | None
Answer = TypeVar("Answer")

# Elements that a pullback may keep, whatever else there is.
MUCH = 2**22

ZERO = -1  # in place of a gradient's number: nothing depends on the input


def vjp(
    program: Program | str, /, *inputs: Any, batch: Batch = None, **named: Any
) -> tuple[Any, Callable[..., tuple[Array | None, ...]]]:
    """The results of a call, and a function from their gradients to those of the inputs.

    inputs, named: the arguments of the call, as `program(...)` takes them.
    batch: the extent over which gradients of parameters are averaged, by default the program's
        own; False gives sums, the mathematical adjoint.

    Returns `(results, pullback)`. `results` is what `program(...)` returns. `pullback(*seeds)`
    takes an array for each result, of its shape (a number for a scalar, None for an integer result,
    which has no gradient); seeds are cast to the type of their result. It returns a tuple with one
    entry for each input, in the order of the header: an array of the input's shape, zeros where no
    result depends on it, or None for an `int` or `bool` input. It may be called again: it keeps
    what it needs, and later changes to the arrays do not matter. Where what the forward computes on
    the way is much larger than its inputs and results, as attention's scores are, the pullback keeps
    none of it and computes it again.

    Raises ProgramError where the program cannot be differentiated, TypeError or ValueError for
    arguments and seeds that do not fit.

    >>> import loopgrad as lg
    >>> square = lg.program("square(x[N]) -> y[N]:\\n    y[n] = x[n] ** 2")
    >>> y, pullback = lg.vjp(square, [1.0, 2.0, 3.0])
    >>> y
    array([1., 4., 9.])
    >>> pullback([1, 10, 100])
    (array([  2.,  40., 600.]),)
    """
    program = as_program(program)
    reverse = reverse_of(program, inputs, named, batch)
    found = reverse.forward.execute(inputs, named)
    bound, saved = found[0], reverse.saved(found)

    def pullback(*seeds: Any) -> tuple[Array | None, ...]:
        """The gradients of the inputs, given those of the results."""
        return reverse.gradients(bound, saved, seeds)

    return reverse.results_of(found), pullback


def value_and_grad(
    program: Program | str,
    wrt: str | Sequence[str] | None = None,
    batch: Batch = None,
    has_aux: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """A function of the program's arguments that returns `(value, gradient)`.

    The program has to have one result, a scalar. Under `batch B` it may be of shape [B], a loss
    for each example: then each gets the seed 1, gradients of parameters are averaged over the batch
    and those of other inputs are those of each example's own loss.

    wrt: a differentiable input's name, for which the gradient is an array; several, for a tuple of
        arrays; None for all differentiable inputs, an array where there is one, else a tuple.
    batch: as for `vjp`.
    has_aux: the loss is the program's first result, and the others, such as the state that a
        recurrence ends in, come with it, as in JAX: `((value, aux), gradient)`, where `aux` is an
        array, or a tuple of several.

    Raises ValueError for a result that is no scalar and a name that is no differentiable input,
    ProgramError where the program cannot be differentiated.

    >>> import loopgrad as lg
    >>> loss = lg.program("loss(x[N], y[N]) -> L:\\n    L += (x[n] - y[n]) ** 2")
    >>> value, gradient = lg.value_and_grad(loss, wrt="x")([1.0, 2.0], [0.0, 0.0])
    >>> value, gradient
    (array(5.), array([2., 4.]))
    """
    program = as_program(program)
    names = _wanted(program, wrt)
    _refuse_what_is_no_loss(program, batch, has_aux)
    single = isinstance(wrt, str) or (wrt is None and len(names) == 1)
    joint = _kept(program, Joint, names, batch)
    if joint.kernel is not None:
        if has_aux:
            return joint.one_with_more if single else joint.several_with_more
        return joint.one if single else joint.several
    return _kept(program, Pulled, names, batch, single, has_aux)


def jvp(
    program: Program | str, primals: Sequence[Any], tangents: Sequence[Any], /, **constants: Any
) -> tuple[Any, Any]:
    """The results of a call, and their derivatives along a direction: forward mode.

    primals: the inputs, in the order of the header.
    tangents: an array for each, of its shape; None for no change, as `int` and `bool` inputs need.
    constants: sizes and constants, by keyword.

    Returns `(results, tangents)`: each an array, or a tuple where the program has several results.
    The tangent of an integer result is None.

    Raises ProgramError where the program cannot be differentiated, TypeError or ValueError for
    arguments that do not fit.

    >>> import loopgrad as lg
    >>> square = lg.program("square(x[N]) -> y[N]:\\n    y[n] = x[n] ** 2")
    >>> lg.jvp(square, ([1.0, 2.0, 3.0],), ([1, 1, 10],))
    (array([1., 4., 9.]), array([ 2.,  4., 60.]))
    """
    program = as_program(program)
    primals, tangents = _as_sequence("primals", primals), _as_sequence("tangents", tangents)
    _match_tangents(program, primals, tangents)
    moving = tuple(
        i.name for i, tangent in zip(program.inputs, tangents, strict=True) if tangent is not None
    )
    tangent = _kept(program, Tangent, moving)
    given = {i.name: t for i, t in zip(program.inputs, tangents, strict=True) if t is not None}
    return tangent(primals, given, constants)


# ----------------------------------------------------------------------------------- reverse mode


class Reverse:
    """A program and its backward, compiled: the first returns what the second reads.

    A call is as quick as its two kernels: where each array comes from and goes to is known before.
    keeps: whether the backward may run later, when the caller has changed inputs and results. Then
        the forward stores what it reads of those a second time, which is cheaper in its loops than
        after them.
    """

    def __init__(
        self, program: Program, wrt: tuple[str, ...] | None, batch: Batch, keeps: bool = True
    ):
        self.program = program
        self.inputs = tuple(i.name for i in program.inputs)
        self.differentiable = {i.name for i in program.inputs if i.differentiable}
        self.results = tuple(r.name for r in program.results)
        self.integer = _integer_tensors(infer(program))
        backward: Program | None = None
        if self._has_gradients():
            program, backward = self._differentiated(wrt, batch)
        facts = infer(program)
        read = [i.name for i in backward.inputs] if backward else []
        residuals = [name for name in read if name in facts.tensors]
        extra = [n for n in residuals if n not in self.inputs and n not in self.results]
        self._extra = extra
        self.outgrows = any(outgrows(facts, name, self.results) for name in extra)
        held = [
            n for n in residuals if n not in extra and facts.tensors[n].element is ElementType.FLOAT
        ]
        copies: dict[str, str] = {}
        if keeps and held:
            program = program if extra else stable(program)
            copies = _copies(infer(program), held)
            residuals = [copies.get(name, name) for name in residuals]
            read = [copies.get(name, name) for name in read]
        self.forward = compile_returning(program, self.results, extra, copies)
        extra = [*extra, *copies.values()]
        self.backward = compile(backward) if backward else None
        seeds = [n for n in read if n not in residuals]
        given = [*residuals, *(derived_name(result, "grad", seeds) for result in self.results)]
        self._ordered = _picker([given.index(name) for name in read])
        self._seeded = [(i, n) for i, n in enumerate(self.results) if n not in self.integer]
        arrays = ["", *self.inputs, *self.results, *extra]  # what a call of the forward comes to
        self.shared = _picker([arrays.index(name) for name in residuals])
        self._frozen = [i for i, name in enumerate(residuals) if name not in extra]
        self._first = 1 + len(self.inputs)
        self._single = len(self.results) == 1
        written = [r.name for r in backward.results] if backward else []
        self._several = len(written) > 1
        self._places = [self._place(name, written) for name in self.inputs]
        self._whole = self._places == list(range(len(written)))
        self._numbered = backward is not None and bool(backward.sizes or backward.constants)
        self._key = object()

    def _differentiated(self, wrt: tuple[str, ...] | None, batch: Batch) -> tuple[Program, Program]:
        return derived_pair(self.program, wrt, batch)

    def keeps_much(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> bool:
        """Are the tensors that a call keeps for its pullback large, and most of what there is?"""
        shapes = self.forward.shapes(inputs, named)
        kept = sum(math.prod(shapes[name]) for name in self._extra)
        rest = sum(math.prod(shapes[name]) for name in (*self.inputs, *self.results))
        return is_much(kept, rest)

    def _has_gradients(self) -> bool:
        return bool(self.differentiable) and not self.integer.issuperset(self.results)

    def _place(self, name: str, written: Sequence[str]) -> int | None:
        """An input's gradient among the results of the backward; ZERO, or None for no gradient."""
        if name not in self.differentiable:
            return None
        gradient = derived_name(name, "grad", written)
        return ZERO if gradient is None else written.index(gradient)

    def results_of(self, found: tuple[Any, ...]) -> Any:
        """What the program returns, of what its forward's `execute` did."""
        if self._single:
            return found[self._first]
        return found[self._first : self._first + len(self.results)]

    def saved(self, found: tuple[Any, ...]) -> Sequence[Array]:
        """What the backward reads of the forward's tensors, for later.

        As copies of those that the caller holds too and may change before the pullback; of floating
        ones the forward has made them.
        """
        arrays = [*self.shared(found)]
        for i in self._frozen:
            arrays[i] = recycling.copy(arrays[i], arrays[i].dtype)
        return arrays

    def gradients(
        self, bound: Arguments, saved: Sequence[Array], seeds: Sequence[Any]
    ) -> tuple[Array | None, ...]:
        """An array for each input, None for those that are not differentiable."""
        given = self._ordered([*saved, *self._seeds(bound, seeds)])
        arrays: tuple[Array, ...] = ()
        backward = self.backward
        if backward is not None:
            found = None if self._numbered else backward.call_known(*given)
            if found is None:
                found = backward(*given, **self._kept(bound).numbers)
            arrays = found if self._several else (found,)
        if self._whole:
            return arrays
        return tuple(
            place if place is None else arrays[place] if place >= 0 else self._zeros(i, bound)
            for i, place in enumerate(self._places)
        )

    def of_loss(self, bound: Arguments) -> Sequence[Array]:
        """The seeds of a loss: 1, and 0 of what comes with it."""
        return self._kept(bound).of_loss

    def _zeros(self, place: int, bound: Arguments) -> Array:
        return np.zeros(bound.shapes[self.inputs[place]], bound.dtype)

    def _kept(self, bound: Arguments) -> _Kept:
        kept: _Kept | None = bound.kept.get(self._key)
        if kept is None:
            numbers: dict[str, int | float] = {}
            if self.backward is not None:
                program = self.backward.program
                numbers = {size.name: bound.extents[size.name] for size in program.sizes}
                numbers.update((c.name, bound.constants[c.name]) for c in program.constants)
            of_loss = tuple(
                np.full(bound.shapes[name], float(not place), bound.dtype)
                for place, name in enumerate(self.results)
            )
            kept = bound.kept[self._key] = _Kept(numbers, of_loss)
        return kept

    def _seeds(self, bound: Arguments, seeds: Sequence[Any]) -> Sequence[Any]:
        """An array for each floating result."""
        if len(seeds) != len(self.results):
            raise TypeError(
                f"{self.program.name}: the pullback takes one seed for each result "
                f"({listing(self.results)}), got {len(seeds)}"
            )
        cast = [*seeds]
        shapes, dtype = bound.shapes, bound.dtype
        for i, name in self._seeded:
            seed = seeds[i]
            if (
                type(seed) is not np.ndarray
                or seed.dtype is not dtype
                or seed.shape != shapes[name]
            ):
                cast[i] = _cast("seed", name, seed, bound)
        return cast


def reverse_of(
    program: Program,
    inputs: Sequence[Any],
    named: Mapping[str, Any],
    batch: Batch = None,
    keeps: bool = True,
) -> Reverse:
    """What runs a call of the program and its backward, and keeps little in between; see `Reverse`."""
    reverse = _kept(program, Reverse, None, batch, keeps)
    if reverse.outgrows and reverse.keeps_much(inputs, named):
        return _kept(program, Again, None, batch, keeps)
    return reverse


class Again(Reverse):
    """The same, with a backward that computes again what it reads, but for inputs."""

    def _differentiated(self, wrt: tuple[str, ...] | None, batch: Batch) -> tuple[Program, Program]:
        return self.program, self.program.backward(wrt, batch, recompute=True)


def is_much(kept: int, rest: int) -> bool:
    """Is it too much to keep, beside what there is in any case? Both in elements."""
    return kept > MUCH and kept > 4 * rest


def outgrows(facts: Facts, tensor: str, results: Sequence[str]) -> bool:
    """Has the tensor axes that no input and no result has together?"""
    axes = Counter(facts.tensors[tensor].extents)
    known = (t for t in facts.tensors.values() if t.role == "input" or t.name in results)
    return not any(axes <= Counter(t.extents) for t in known)


class Joint:
    """A loss and its gradients in one kernel, where each input asked for has one.

    Nothing is kept between a forward and a backward, and what both compute is computed once.
    """

    def __init__(self, program: Program, names: tuple[str, ...], batch: Batch):
        self._made_of = program, names, batch
        both = kept("joint", (program, names, batch), lambda: _joint(program, names, batch))
        self.kernel: Kernel | None = None if both is None else compile(both)
        self.values = len(program.results)

    def __reduce__(self) -> tuple[Callable[..., Joint], tuple[Any, ...]]:
        program, names, batch = self._made_of
        return _kept, (program, Joint, names, batch)

    def one(self, *inputs: Any, **named: Any) -> tuple[Array, Any]:
        """`(value, gradient)`."""
        assert self.kernel is not None
        found: tuple[Array, Array] = self.kernel(*inputs, **named)
        return found

    def several(self, *inputs: Any, **named: Any) -> tuple[Array, Any]:
        """`(value, (gradient, ...))`."""
        assert self.kernel is not None
        value, *gradients = self.kernel(*inputs, **named)
        return value, tuple(gradients)

    def one_with_more(self, *inputs: Any, **named: Any) -> tuple[Any, Any]:
        """`((value, aux), gradient)`."""
        values, gradients = self.several_with_more(*inputs, **named)
        return values, gradients[0]

    def several_with_more(self, *inputs: Any, **named: Any) -> tuple[Any, Any]:
        """`((value, aux), (gradient, ...))`."""
        assert self.kernel is not None
        found = self.kernel(*inputs, **named)
        return (found[0], _unpacked(found[1 : self.values])), tuple(found[self.values :])


class Pulled:
    """A loss and its gradients by a forward and a backward, where one kernel does not give them."""

    def __init__(
        self, program: Program, names: tuple[str, ...], batch: Batch, single: bool, has_aux: bool
    ):
        self._made_of = program, names, batch, single, has_aux
        self._single, self._has_aux = single, has_aux
        self._reverse = reverse = _kept(program, Reverse, names, batch, False)
        self._pick = _picker([reverse.inputs.index(name) for name in names])

    def __reduce__(self) -> tuple[Callable[..., Pulled], tuple[Any, ...]]:
        program, *choices = self._made_of
        return _kept, (program, Pulled, *choices)

    def __call__(self, *inputs: Any, **named: Any) -> tuple[Any, Any]:
        reverse = self._reverse
        found = reverse.forward.execute(inputs, named)
        bound = found[0]
        all_gradients = reverse.gradients(bound, reverse.shared(found), reverse.of_loss(bound))
        gradients = self._pick(all_gradients)
        results = reverse.results_of(found)
        value = (results[0], _unpacked(results[1:])) if self._has_aux else results
        return value, gradients[0] if self._single else gradients


@dataclass(frozen=True, slots=True)
class _Kept:
    """What calls that differ in the contents of their arrays alone have in common."""

    numbers: Mapping[str, int | float]  # the sizes and constants of the backward
    of_loss: tuple[Array, ...]


def _copies(facts: Facts, names: Sequence[str]) -> dict[str, str]:
    """Names for copies of the tensors."""
    taken = {*facts.tensors, *facts.extents, *facts.constants}
    return {name: fresh_name(f"{name}.kept", taken) for name in names}


def derived_pair(
    program: Program, wrt: tuple[str, ...] | None, batch: Batch
) -> tuple[Program, Program]:
    """What runs as forward and as backward; from an earlier process, where one has derived them."""
    first, second = kept("pair", (program, wrt, batch), lambda: _derived_pair(program, wrt, batch))
    if first is None:
        object.__setattr__(
            second, "primal", program
        )  # ours alone so far, and all known of it stays
    return first or program, second


def _joint(program: Program, names: tuple[str, ...], batch: Batch) -> Program | None:
    """The loss and its gradients, in the order of the names; None where some are always zero."""
    from loopgrad.grad.seeding import loss_and_gradients  # loaded by those who differentiate

    backward = program.returning(program.results[0].name).backward(names, batch)
    gradients = [derived_name(name, "grad", [r.name for r in backward.results]) for name in names]
    if None in gradients or len(gradients) != len(backward.results):
        return None
    both = loss_and_gradients(program.unfold(), backward)
    ordered = {r.name: r for r in both.results}
    wanted = (*(r.name for r in program.results), *(name for name in gradients if name))
    both = replace(both, results=tuple(ordered[name] for name in wanted))
    validate(both)  # kept with it
    return both


def _derived_pair(
    program: Program, wrt: tuple[str, ...] | None, batch: Batch
) -> tuple[Program | None, Program]:
    """No first program where it is the one given, which its backward then does not name."""
    from loopgrad.stable.joint import stable_pair  # loaded by those who differentiate

    backward = program.backward(wrt, batch)
    # Stable together: the backward reads what the forward may hold, such as `Z'` for `Z`.
    pair = stable_pair(program, backward)
    first, second = pair or (None, replace(backward, primal=None))
    for each in (first, second):
        if each is not None:
            validate(each)  # kept with it
    return first, second


# ----------------------------------------------------------------------------------- forward mode


class Tangent:
    """A program and its forward mode, compiled into one where that computes the results too."""

    def __init__(self, program: Program, moving: tuple[str, ...]):
        self.program = program
        self.results = tuple(r.name for r in program.results)
        derived = program.forward_mode(moving) if moving else None
        facts = infer(program)
        self.integer = _integer_tensors(facts)
        if derived is None:
            self.tangents: dict[str, str | None] = dict.fromkeys(self.results)
            self.inputs: dict[str, str | None] = {}
            self.kernel = None
            return
        written = [r.name for r in derived.results if r.name not in self.results]
        self.tangents = {name: derived_name(name, "dot", written) for name in self.results}
        read = [i.name for i in derived.inputs if i.name not in facts.tensors]
        self.inputs = {name: derived_name(name, "dot", read) for name in moving}
        self.kernel = compile(derived)

    def __call__(
        self, primals: Sequence[Any], tangents: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        bound, *arrays = compile(self.program).execute(primals, constants)
        moved = self._derivatives(bound, arrays, tangents)
        found = [self._tangent(name, bound, moved) for name in self.results]
        return _unpacked(arrays[len(self.program.inputs) :]), _unpacked(found)

    def _derivatives(
        self, bound: Arguments, arrays: Sequence[Array], tangents: Mapping[str, Any]
    ) -> Mapping[str, Array]:
        """By name. What the derived program reads beside the tangents is the forward's."""
        primal = dict(zip([i.name for i in self.program.inputs], arrays, strict=False))
        values: dict[str, Any] = {}
        for name, tangent in tangents.items():
            array = _cast("tangent", name, tangent, bound)
            dotted = self.inputs[name]
            if dotted is not None:
                values[dotted] = array
        if self.kernel is None:
            return {}
        program = self.kernel.program
        for i in program.inputs:
            values.setdefault(i.name, primal.get(i.name))
        values.update((size.name, bound.extents[size.name]) for size in program.sizes)
        values.update((c.name, bound.constants[c.name]) for c in program.constants)
        found = self.kernel(**values)
        names = [r.name for r in program.results]
        return dict(zip(names, found if len(names) > 1 else [found], strict=True))

    def _tangent(self, name: str, bound: Arguments, moved: Mapping[str, Array]) -> Array | None:
        if name in self.integer:
            return None
        dotted = self.tangents[name]
        return np.zeros(bound.shapes[name], bound.dtype) if dotted is None else moved[dotted]


# ---------------------------------------------------------------------------------------- helpers


def _integer_tensors(facts: Facts) -> frozenset[str]:
    tensors = facts.tensors.values()
    return frozenset(t.name for t in tensors if t.element is not ElementType.FLOAT)


def _kept(program: Program, make: Callable[..., Answer], *arguments: Hashable) -> Answer:
    """`make(program, *arguments)`, made once, for as long as the program lives."""
    key = (make, *arguments)
    try:
        found: Answer = program.__dict__["_derived"][key]
        return found
    except KeyError:
        pass
    with BUILDING:
        known: dict[Hashable, Any] = program.__dict__.setdefault("_derived", {})
        if key not in known:
            known[key] = make(program, *arguments)
        answer: Answer = known[key]
        return answer


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes the items at the places."""
    match places:
        case []:
            return lambda items: ()
        case [place]:
            return lambda items: (items[place],)
    return itemgetter(*places)


def derived_name(name: str, suffix: str, among: Sequence[str]) -> str | None:
    """`x.grad`, or `x.grad2`, ... where that was taken, of the names; None without one."""
    stem = f"{name}.{suffix}"
    found = (n for n in among if (n.startswith(stem) and n[len(stem) :].isdecimal()) or n == stem)
    return next(found, None)


def _unpacked(arrays: Sequence[Any]) -> Any:
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def _cast(kind: str, name: str, value: Any, bound: Arguments) -> Array:
    """A seed or a tangent of a floating tensor, in the type of the call."""
    shape, dtype = bound.shapes[name], bound.dtype
    what = f"the {kind} of `{name}`"
    if value is None:
        raise TypeError(f"{what} has to be an array of shape {shape}, got None")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} has to hold real numbers, got {array.dtype.name}")
    if array.shape != shape:
        raise ValueError(f"{what} has to have shape {shape}, got {array.shape}")
    return array.astype(dtype, copy=False)


def _wanted(program: Program, wrt: str | Sequence[str] | None) -> tuple[str, ...]:
    differentiable = [i.name for i in program.inputs if i.differentiable]
    names = tuple(differentiable) if wrt is None else (wrt,) if isinstance(wrt, str) else wrt
    if not isinstance(names, tuple | list):
        raise TypeError(f"`wrt` has to be an input's name, or several, got {wrt!r}")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`wrt` has to hold names of inputs, got {name!r}")
        if name not in differentiable:
            meant = suggestion(name, differentiable)
            hint = f"did you mean `{meant}`?" if meant else f"there are {listing(differentiable)}"
            raise ValueError(f"{program.name} has no differentiable input `{name}`; {hint}")
    if not names:
        raise ValueError(f"{program.name} has no differentiable input")
    return names


def _refuse_what_is_no_loss(program: Program, batch: Batch, has_aux: bool) -> None:
    results = [f"{r.name}[{','.join(map(show_expression, r.extents))}]" for r in program.results]
    over = program.batch if batch is None else batch
    extents = program.results[0].extents
    if (len(results) > 1) is not has_aux or extents not in ((), (Extent(str(over)),)):
        allowed = f"a scalar or of shape [{over}]" if over else "a scalar"
        needs = f"a first result, {allowed}, and others" if has_aux else f"one result, {allowed}"
        mend = " (has_aux=True takes several)" if len(results) > 1 and not has_aux else ""
        raise ValueError(
            f"value_and_grad needs {needs}; {program.name} returns {listing(results)}{mend}"
        )


def _as_sequence(name: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, tuple | list):
        raise TypeError(
            f"`{name}` has to be a tuple or a list, one for each input, got {type(values).__name__}"
        )
    return values


def _match_tangents(program: Program, primals: Sequence[Any], tangents: Sequence[Any]) -> None:
    inputs = program.inputs
    for what, values in (("primals", primals), ("tangents", tangents)):
        if len(values) != len(inputs):
            names = listing([i.name for i in inputs])
            raise TypeError(
                f"{program.name}: `{what}` needs one entry for each input ({names}), "
                f"got {len(values)}"
            )
    for i, tangent in zip(inputs, tangents, strict=True):
        if tangent is not None and not i.differentiable:
            raise TypeError(
                f"{program.name}: `{i.name}` is {_article(i)}, which has no tangent: give None"
            )


def _article(i: Input) -> str:
    return f"{'an' if i.kind == 'int' else 'a'} `{i.kind}` input"
