"""`lg.jax.function`: the arguments of a call, as JAX has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from loopgrad.interop.jax import differentiating, primitive, sites  # noqa: F401 (its rules)
from loopgrad.interop.operators import Operator, plain
from loopgrad.ir.nodes import Default, Input, Program, Size
from loopgrad.pipeline import as_program

# The kinds of types that a kind of input takes, as in backends/binding.py.
ACCEPTED = {"input": "fiub", "param": "fiub", "int": "iub", "bool": "b"}


def function(program: Program | str) -> Function:
    """The program as a function of JAX arrays.

    It may be under `jit`, `grad`, `jvp`, `jacfwd`, `jacrev`, `hessian`, `vmap`, `lax.scan`, `checkpoint`,
    `pmap` and `shard_map`, in any order and to any depth. Inputs come in the order of the header or by
    name, dotted names as `**{"p.grad": g}`; sizes and constants by keyword, as Python's numbers: they are
    no arrays, and a function that is jitted has them as `static_argnames`. Floating inputs are float32
    or float64 after JAX's promotion, `int` inputs any integers. It returns an array, a tuple where the
    program has several results. Gradients are the mathematical adjoint: those of parameters are summed
    over a `batch`, not averaged.

    It runs on CPUs, as a call that XLA compiles in. What a loop finds wrong while it runs (a subscript
    out of range) is a `jax.errors.JaxRuntimeError`, as are all errors of XLA's calls.

    Raises TypeError or ValueError, naming the argument, for what does not fit, when JAX traces the call;
    ProgramError where a program breaks a rule, or cannot be differentiated and is.

    >>> import jax, jax.numpy as jnp
    >>> import loopgrad as lg
    >>> square = lg.jax.function("square(x[N]) -> y[N]:\\n    y[n] = x[n] ** 2")
    >>> jax.grad(lambda x: square(x).sum())(jnp.array([1.0, 2.0, 3.0]))
    Array([2., 4., 6.], dtype=float...)
    """
    return Function(as_program(program))


class Function:
    """A program as a function of JAX; see `lg.jax.function`."""

    def __init__(self, program: Program):
        self.program = program
        self._operator: Operator = plain(program)
        self._binder = sites.binder_of(self._operator)
        self.__name__ = self.__qualname__ = program.name
        self.__doc__ = str(program)

    def __repr__(self) -> str:
        return f"<loopgrad function of JAX `{self.program.name}`>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and self.program == other.program

    def __hash__(self) -> int:
        return hash((Function, self.program))

    def __reduce__(self) -> tuple[Any, ...]:
        return function, (self.program,)

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        given = self._binder.by_name(arguments, named)
        arrays = {i.name: self._array(i, given[i.name]) for i in self.program.inputs}
        real = self._real(given, arrays)
        values = {n: v for n, v in given.items() if n not in arrays}
        for argument in self.program.arguments:
            if isinstance(argument, Size | Default) and argument.name in values:
                self._refuse_what_is_traced(argument, values[argument.name])
        bound = self._binder.of_shapes(arrays, values, lambda: np.dtype(real))
        operands = [self._converted(i, arrays[i.name], real) for i in self.program.inputs]
        numbers = sites.for_numbers(self._operator, bound)
        found = primitive.bind(operands, self._operator, numbers, real)
        return tuple(found) if len(found) > 1 else found[0]

    def _array(self, i: Input, value: Any) -> jax.Array:
        """The argument as an array of JAX, of a type that its kind allows."""
        what = f"argument `{self._binder.labels[i.name]}`"
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError, OverflowError) as error:
            got = type(value).__name__
            raise self._error(
                TypeError, f"{what} has to be an array, got {got}: {error}"
            ) from error
        kind = _kind(array.dtype)
        if kind not in ACCEPTED[i.kind]:
            needs = {
                "int": "is an `int` tensor and needs integers (or booleans)",
                "bool": "is a `bool` tensor and needs booleans",
            }.get(i.kind, "needs real numbers (float32 or float64)")
            raise self._error(TypeError, f"{what} {needs}, got {array.dtype.name}")
        if i.kind == "int" and isinstance(value, np.ndarray) and not _fits(value, array.dtype):
            raise self._error(
                ValueError,
                f"{what} holds integers that do not fit {array.dtype.name}, the integers of JAX "
                'without jax.config.update("jax_enable_x64", True)',
            )
        if i.kind == "int" and array.dtype == np.uint64:
            raise self._error(
                TypeError, f"{what} is uint64, of which not all fit int64: give it as int64"
            )
        for extent in array.shape:
            if not isinstance(extent, int):
                raise self._error(
                    TypeError,
                    f"{what} has the extent `{extent}`; extents have to be numbers when JAX traces a "
                    "call, symbolic ones (of jax.export) are not known then",
                )
        return array

    def _real(self, given: Mapping[str, Any], arrays: Mapping[str, jax.Array]) -> str:
        """The floating type of the call: JAX's promotion of the floating inputs."""
        floating = [i for i in self.program.inputs if i.differentiable]
        values = [_weak(given[i.name], arrays[i.name]) for i in floating]
        default = jax.dtypes.canonicalize_dtype(np.float64)
        dtype = jnp.result_type(*values) if values else default
        if _kind(dtype) != "f":
            return str(default.name)
        if dtype in (np.float32, np.float64):
            return str(dtype.name)
        narrow = next(i for i in floating if arrays[i.name].dtype == dtype)
        raise self._error(
            TypeError,
            f"argument `{self._binder.labels[narrow.name]}` is {dtype.name}, and nothing promotes it; "
            "float32 and float64 can be computed with: give it as `.astype(jnp.float32)`",
        )

    def _converted(self, i: Input, array: jax.Array, real: str) -> jax.Array:
        if i.kind == "bool":
            return array
        if i.kind == "int":
            wide = array.dtype in (np.dtype(np.int64), np.dtype(np.uint32))
            return array if wide else array.astype(np.int32)
        return array.astype(real)

    def _refuse_what_is_traced(self, argument: Size | Default, value: Any) -> None:
        if isinstance(value, jax.core.Tracer):
            what = "size" if isinstance(argument, Size) else "constant"
            raise self._error(
                TypeError,
                f"{what} `{argument.name}` has to be a number when JAX traces the call, and is traced "
                f"itself: make it static, as by jax.jit(..., static_argnames={argument.name!r}), or an "
                "input of the program",
            )

    def _error(self, kind: type[Exception], message: str) -> Exception:
        return kind(f"{self.program.name}: {message}")


def _kind(dtype: Any) -> str:
    """As NumPy's, bfloat16 and its like included."""
    if jnp.issubdtype(dtype, jnp.floating):
        return "f"
    return str(np.dtype(dtype).kind) if dtype != jax.dtypes.float0 else "V"


def _fits(integers: NDArray[Any], dtype: Any) -> bool:
    """JAX would cut off what does not, without a word."""
    if integers.size == 0 or dtype.kind == "b":
        return True
    limits = np.iinfo(dtype)
    return bool(limits.min <= integers.min() and integers.max() <= limits.max)


def _weak(value: Any, array: jax.Array) -> Any:
    """A number of Python's as such: it is weak in promotion."""
    return value if isinstance(value, bool | int | float) else array
