"""`vjp`, `value_and_grad` and `jvp`: what they take and return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loopgrad.diagnostics import listing, suggestion
from loopgrad.functions.losses import Joint, Pulled
from loopgrad.functions.reverse import reverse_of
from loopgrad.functions.shared import Array, Batch, kept_with
from loopgrad.functions.tangents import Tangent
from loopgrad.ir.nodes import Extent, Input, Program, Result
from loopgrad.ir.printer import show_expression
from loopgrad.pipeline import as_program


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
    none of it and computes it again. Where the backward would find something small in what it keeps, as
    the winners of wide windows, the forward finds and keeps that instead.

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
    found = reverse.execute(inputs, named)
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
    joint = kept_with(program, Joint, names, batch)
    if joint.kernel is not None:
        if has_aux:
            return joint.one_with_more if single else joint.several_with_more
        return joint.one if single else joint.several
    return kept_with(program, Pulled, names, batch, single, has_aux)


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
    tangent = kept_with(program, Tangent, moving)
    given = {i.name: t for i, t in zip(program.inputs, tangents, strict=True) if t is not None}
    return tangent(primals, given, constants)


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
    if not differentiable:
        raise ValueError(f"{program.name} has no differentiable input")
    if not names:
        raise ValueError(
            f"`wrt` names no input of {program.name}; there are {listing(differentiable)}"
        )
    return names


def _refuse_what_is_no_loss(program: Program, batch: Batch, has_aux: bool) -> None:
    results = [_with_extents(r) for r in program.results]
    over = program.batch if batch is None else batch
    extents = program.results[0].extents
    if (len(results) > 1) is not has_aux or extents not in ((), (Extent(str(over)),)):
        allowed = f"a scalar or of shape [{over}]" if over else "a scalar"
        needs = f"a first result, {allowed}, and others" if has_aux else f"one result, {allowed}"
        mend = " (has_aux=True takes several)" if len(results) > 1 and not has_aux else ""
        raise ValueError(
            f"value_and_grad needs {needs}; {program.name} returns {listing(results)}{mend}"
        )


def _with_extents(result: Result) -> str:
    extents = ",".join(map(show_expression, result.extents))
    return f"{result.name}[{extents}]" if extents else result.name


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
