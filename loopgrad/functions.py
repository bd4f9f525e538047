"""Derivatives as functions of arrays: `vjp`, `jvp` and `value_and_grad`, as in JAX.

Each derives a program once, compiles it, and keeps both with the program that it was asked of.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.backends.kernel import BoundCall, Kernel
from loopgrad.cache.answers import kept
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.memo import final, remember
from loopgrad.ir.nodes import Extent, Input, Program
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression
from loopgrad.pipeline import BUILDING, as_program, compile, compile_returning

Array = NDArray[Any]
Batch = str | Literal[False] | None
Answer = TypeVar("Answer")


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
    what it needs, and later changes to the arrays do not matter.

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
    reverse = _kept(program, ("reverse", None, batch), lambda: Reverse(program, None, batch))
    call = reverse.forward.execute(inputs, named)
    residuals = reverse.residuals_of(call, frozen=True)
    results = _unpacked([call.arrays[name] for name in reverse.results])

    def pullback(*seeds: Any) -> tuple[Array | None, ...]:
        """The gradients of the inputs, given those of the results."""
        return reverse.gradients(call, residuals, seeds)

    return results, pullback


def value_and_grad(
    program: Program | str, wrt: str | Sequence[str] | None = None, batch: Batch = None
) -> Callable[..., tuple[Array, Any]]:
    """A function of the program's arguments that returns `(value, gradient)`.

    The program has to have one result, a scalar. Under `batch B` it may be of shape [B], a loss
    for each example: then each gets the seed 1, gradients of parameters are averaged over the batch
    and those of other inputs are those of each example's own loss.

    wrt: a differentiable input's name, for which the gradient is an array; several, for a tuple of
        arrays; None for all differentiable inputs, an array where there is one, else a tuple.
    batch: as for `vjp`.

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
    _refuse_what_is_no_loss(program, batch)
    key = ("reverse", names, batch)
    reverse = _kept(program, key, lambda: Reverse(program, names, batch))
    single = isinstance(wrt, str) or (wrt is None and len(names) == 1)

    def value_and_gradient(*inputs: Any, **named: Any) -> tuple[Array, Any]:
        call = reverse.forward.execute(inputs, named)
        value = call.arrays[reverse.results[0]]
        seed = np.ones(value.shape, value.dtype)
        found = reverse.gradients(call, reverse.residuals_of(call, frozen=False), (seed,))
        by_name = dict(zip(reverse.inputs, found, strict=True))
        gradients = tuple(by_name[name] for name in names)
        return value, gradients[0] if single else gradients

    return value_and_gradient


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
    tangent = _kept(program, ("tangent", moving), lambda: Tangent(program, moving))
    given = {i.name: t for i, t in zip(program.inputs, tangents, strict=True) if t is not None}
    return tangent(primals, given, constants)


# ----------------------------------------------------------------------------------- reverse mode


class Reverse:
    """A program and its backward, compiled: the first returns what the second reads."""

    def __init__(self, program: Program, wrt: tuple[str, ...] | None, batch: Batch):
        self.program = program
        self.inputs = tuple(i.name for i in program.inputs)
        self.differentiable = {i.name for i in program.inputs if i.differentiable}
        self.results = tuple(r.name for r in program.results)
        self.integer = _integer_tensors(infer(program))
        self.backward_program: Program | None = None
        if self._has_gradients():
            program, self.backward_program = _differentiated(program, wrt, batch)
        facts = infer(program)
        read = [i.name for i in self.backward_program.inputs] if self.backward_program else []
        self.residuals = tuple(name for name in read if name in facts.tensors)
        self.seeds = {
            result: _derived(result, "grad", [n for n in read if n not in facts.tensors])
            for result in self.results
        }
        written = [r.name for r in self.backward_program.results] if self.backward_program else []
        self.gradient_names = {name: _derived(name, "grad", written) for name in self.inputs}
        extra = [n for n in self.residuals if n not in self.inputs and n not in self.results]
        self.forward = compile_returning(program, self.results, extra)
        self.backward = compile(self.backward_program) if self.backward_program else None

    def _has_gradients(self) -> bool:
        return bool(self.differentiable) and not self.integer.issuperset(self.results)

    def residuals_of(self, call: BoundCall, frozen: bool) -> dict[str, Array]:
        """What the backward reads of the forward's tensors.

        Frozen: as copies, of those that the caller holds too and may change before the pullback.
        """
        shared = {*self.inputs, *self.results} if frozen else set()
        return {
            name: call.arrays[name].copy() if name in shared else call.arrays[name]
            for name in self.residuals
        }

    def gradients(
        self, call: BoundCall, residuals: Mapping[str, Array], seeds: Sequence[Any]
    ) -> tuple[Array | None, ...]:
        """An array for each input, None for those that are not differentiable."""
        given = self._seeds(call, seeds)
        arrays: Mapping[str, Array] = {}
        if self.backward is not None:
            arrays = _run(self.backward, {**residuals, **given}, call)
        return tuple(self._gradient(name, call, arrays) for name in self.inputs)

    def _gradient(self, name: str, call: BoundCall, arrays: Mapping[str, Array]) -> Array | None:
        if name not in self.differentiable:
            return None
        gradient = self.gradient_names[name]
        return np.zeros(call.shapes[name], call.dtype) if gradient is None else arrays[gradient]

    def _seeds(self, call: BoundCall, seeds: Sequence[Any]) -> dict[str, Array]:
        if len(seeds) != len(self.results):
            raise TypeError(
                f"{self.program.name}: the pullback takes one seed for each result "
                f"({listing(self.results)}), got {len(seeds)}"
            )
        cast = {}
        for result, seed in zip(self.results, seeds, strict=True):
            name = self.seeds[result]
            if result not in self.integer:
                array = _cast(f"the seed of `{result}`", seed, call.arrays[result])
                if name is not None:
                    cast[name] = array
        return cast


def _differentiated(
    program: Program, wrt: tuple[str, ...] | None, batch: Batch
) -> tuple[Program, Program]:
    """What runs as forward and as backward; from an earlier process, where one has derived them."""
    first, facts, second = kept(
        "pair", (program, wrt, batch), lambda: _derived_pair(program, wrt, batch)
    )
    if first is None:
        return program, replace(second, primal=program)
    remember(infer, first, facts)
    return final(first), final(second)


def _derived_pair(
    program: Program, wrt: tuple[str, ...] | None, batch: Batch
) -> tuple[Program | None, Facts | None, Program]:
    """No first program where it is the one given, which its backward then does not name."""
    from loopgrad.stable.joint import stable_pair  # loaded by those who differentiate

    backward = program.backward(wrt, batch)
    # Stable together: the backward reads what the forward may hold, such as `Z'` for `Z`.
    pair = stable_pair(program, backward)
    if pair is None:
        return None, None, replace(backward, primal=None)
    return pair[0], infer(pair[0]), pair[1]


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
        self.tangents = {name: _derived(name, "dot", written) for name in self.results}
        read = [i.name for i in derived.inputs if i.name not in facts.tensors]
        self.inputs = {name: _derived(name, "dot", read) for name in moving}
        self.kernel = compile(derived)

    def __call__(
        self, primals: Sequence[Any], tangents: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        forward = compile(self.program).execute(primals, constants)
        values = _unpacked([forward.arrays[name] for name in self.results])
        moved = self._derivatives(forward, tangents)
        return values, _unpacked([self._tangent(name, forward, moved) for name in self.results])

    def _derivatives(self, call: BoundCall, tangents: Mapping[str, Any]) -> Mapping[str, Array]:
        given: dict[str, Array] = {}
        for name, tangent in tangents.items():
            array = _cast(f"the tangent of `{name}`", tangent, call.arrays[name])
            dotted = self.inputs[name]
            if dotted is not None:
                given[dotted] = array
        return {} if self.kernel is None else _run(self.kernel, given, call)

    def _tangent(self, name: str, call: BoundCall, moved: Mapping[str, Array]) -> Array | None:
        if name in self.integer:
            return None
        dotted = self.tangents[name]
        return np.zeros(call.shapes[name], call.dtype) if dotted is None else moved[dotted]


# ---------------------------------------------------------------------------------------- helpers


def _run(kernel: Kernel, given: Mapping[str, Array], call: BoundCall) -> Mapping[str, Array]:
    """A derived program's arrays: what is not given (inputs, sizes, constants) is the forward's."""
    program, values = kernel.program, dict[str, Any](given)
    for i in program.inputs:
        values.setdefault(i.name, call.arrays.get(i.name))
    values.update((size.name, call.extents[size.name]) for size in program.sizes)
    values.update((constant.name, call.constants[constant.name]) for constant in program.constants)
    return kernel.execute((), values).arrays


def _integer_tensors(facts: Facts) -> frozenset[str]:
    tensors = facts.tensors.values()
    return frozenset(t.name for t in tensors if t.element is not ElementType.FLOAT)


def _kept(program: Program, key: Hashable, make: Callable[[], Answer]) -> Answer:
    """What was derived of a program, for as long as it lives."""
    known: dict[Hashable, Any] = program.__dict__.setdefault("_derived", {})
    with BUILDING:
        if key not in known:
            known[key] = make()
        answer: Answer = known[key]
        return answer


def _derived(name: str, suffix: str, among: Sequence[str]) -> str | None:
    """`x.grad`, or `x.grad2`, ... where that was taken, of the names; None without one."""
    stem = f"{name}.{suffix}"
    found = (n for n in among if (n.startswith(stem) and n[len(stem) :].isdecimal()) or n == stem)
    return next(found, None)


def _unpacked(arrays: list[Any]) -> Any:
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def _cast(what: str, value: Any, like: Array) -> Array:
    """A seed or a tangent in the type of the array that it belongs to."""
    if value is None:
        raise TypeError(f"{what} has to be an array of shape {like.shape}, got None")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} has to hold real numbers, got {array.dtype.name}")
    if array.shape != like.shape:
        raise ValueError(f"{what} has to have shape {like.shape}, got {array.shape}")
    return array.astype(like.dtype)


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


def _refuse_what_is_no_loss(program: Program, batch: Batch) -> None:
    results = [f"{r.name}[{','.join(map(show_expression, r.extents))}]" for r in program.results]
    over = program.batch if batch is None else batch
    extents = program.results[0].extents
    if len(results) > 1 or extents not in ((), (Extent(str(over)),)):
        allowed = f"a scalar or of shape [{over}]" if over else "a scalar"
        raise ValueError(
            f"value_and_grad needs one result, {allowed}; {program.name} returns {listing(results)}"
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
